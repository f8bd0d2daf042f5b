"""What is installed, and what that requires."""

import importlib.metadata
import subprocess
import sys

DISTRIBUTIONS = ("heartbeat", "prefect", "mlflow", "fastai", "torchvision")


def version(name: str) -> str | None:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def why_not_imported(module: str) -> str:
    """Why a module cannot be imported, tried in a process of its own; empty where it can."""
    tried = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True)
    return (tried.stderr.strip().splitlines() or ["it ended without a word"])[-1] if tried.returncode else ""


def requirements() -> dict[str, list[str]]:
    """What each of DISTRIBUTIONS that is installed requires."""
    return {name: importlib.metadata.requires(name) or [] for name in DISTRIBUTIONS if version(name)}
