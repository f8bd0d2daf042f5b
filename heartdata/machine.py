"""What a figure was measured on: processor, cores, memory, versions of the packages that matter, and the code's commit."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from git import Repo

PACKAGES = ("torch", "torchvision", "fastai", "librosa", "soxr", "numpy", "scipy", "scikit-learn")
PROJECT = Path(__file__).parents[1]


def machine() -> str:
    """Cores, processor, memory and system."""
    import psutil

    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores of {processor()}, {memory_gib:.0f} GiB, {platform.system()} {platform.machine()}"


def processor() -> str:
    """The processor's name."""
    for command in (["lscpu"], ["sysctl", "machdep.cpu.brand_string"]):
        if shutil.which(command[0]):
            shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout
            facts = dict(line.split(":", 1) for line in shown.splitlines() if ":" in line)
            for name in ("Model name", "machdep.cpu.brand_string"):
                if name in facts:
                    return facts[name].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of Python, heartbeat and the PACKAGES."""
    return {"Python": platform.python_version()} | {name: version(name) for name in ("heartbeat", *PACKAGES)}


def commit() -> str:
    """Hash of the commit that this code is checked out at; "" where it is installed as a package, or git cannot tell."""
    return _of_checkout(lambda checkout: checkout.head.commit.hexsha)


def is_changed(folders: Sequence[str]) -> bool:
    """Whether files in these folders of the checkout differ from its commit; False where there is none to tell."""
    return bool(
        _of_checkout(lambda checkout: checkout.git.status("--porcelain", "--untracked-files=no", "--", *folders))
    )


def _of_checkout(asked: Callable[["Repo"], str]) -> str:
    """What ``asked`` says of the repository that this code is the root of; "" where there is none, or it is damaged."""
    try:
        from git import GitError, Repo  # looks for the program git
    except ImportError:
        return ""
    try:
        with Repo(PROJECT) as checkout:
            return asked(checkout)
    except (GitError, ValueError, OSError):  # ValueError: no commit yet
        return ""
