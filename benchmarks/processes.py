"""Runs of the command `heartbeat` as processes of their own, which can be killed: forked with the heavy libraries loaded.

Prefect reads the environment, which `heartbeat` prepares for each store: it is loaded beforehand only where HEARTBEAT_STORE
names the one store of all commands.
"""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).parents[1]
LIMIT_S = 900
FINISHED = (0, 3, 5)  # exit statuses of runs: done, nothing new, not promoted
LAZILY_LOADED = (
    "matplotlib.pyplot", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store",
    "prefect.server.services.db_vacuum",
)  # fmt: skip
PYTHONPATH = os.pathsep.join([str(PROJECT / "benchmarks" / "site"), str(PROJECT)])


@dataclass(frozen=True)
class Command:
    """A started `heartbeat` command; what it prints is in ``log``, its exit status beside that once it has ended."""

    process: psutil.Process | None  # None: ended at once
    log: Path

    def is_running(self) -> bool:
        return self.process is not None and self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE

    def wait(self, limit_s: float = LIMIT_S) -> int | None:
        """The exit status, None of one that was killed. Raises TimeoutError."""
        deadline = time.monotonic() + limit_s
        while self.is_running():
            if time.monotonic() > deadline:
                raise TimeoutError(f"still running after {limit_s} s: {self.output[-2000:]}")
            time.sleep(0.05)
        status = self.log.with_suffix(".status")
        return int(status.read_text().split()[0]) if status.is_file() else None

    @property
    def cpu_s(self) -> float:
        """Seconds of computing of a command that has ended, NaN of one that was killed."""
        status = self.log.with_suffix(".status")
        return float(status.read_text().split()[1]) if status.is_file() else float("nan")

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.is_file() else ""

    def last_sentence(self) -> str:
        """What the command says last, on errors its sentence."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("heartbeat: ")]
        return (said or lines or ["nothing"])[-1].removeprefix("heartbeat: ")


class Launcher:
    """Starts `heartbeat` commands by fork; ``environment`` holds what must be set before Python starts, such as LD_PRELOAD."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
        preset = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": PYTHONPATH}
        preset["MLFLOW_CONFIGURE_LOGGING"] = "false"  # as `heartbeat` sets before it loads MLflow
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own | preset | dict(environment or {}), cwd=PROJECT,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._process.stdout.readline()  # everything is loaded

    def start(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Command:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.with_suffix(".status").unlink(missing_ok=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([list(arguments), str(log), dict(environment or {})]) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        try:
            return Command(psutil.Process(pid), log)
        except psutil.NoSuchProcess:
            return Command(None, log)

    def run(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Command:
        """Start a command and wait until it ends."""
        command = self.start(arguments, log, environment)
        command.wait()
        return command

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *_: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _become(arguments: list[str], log: Path) -> None:
    """Make this forked process the command `heartbeat` with ``arguments``."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdin, sys.argv = open(0, closefd=False), ["heartbeat", *arguments]  # noqa: SIM115, PTH123
    from flows.cli.main import main

    status: Any = 1
    try:
        main()
        status = 0
    except SystemExit as error:
        status = error.code or 0
    except BaseException:
        traceback.print_exc()
    log.with_suffix(".status").write_text(f"{status} {sum(os.times()[:4])}")
    sys.exit(status)


def _load_prefect() -> None:
    """Load Prefect, which reads the environment, and all of the project, prepared for the one store of all commands."""
    import importlib
    import logging
    import pkgutil

    from flows.local.environment import prepare_environment
    from heartdata.storage.store import Store

    prepare_environment(Store(os.environ["HEARTBEAT_STORE"]))
    import flows
    import heartdata
    import tasks

    packages = [pkgutil.walk_packages(p.__path__, f"{p.__name__}.") for p in (heartdata, tasks, flows)]
    for name in (*LAZILY_LOADED, *(module.name for package in packages for module in package)):
        importlib.import_module(name)
    logging.getLogger().handlers.clear()  # each command has a log of its own


def fork_commands() -> None:
    """For each line of stdin, fork a process that becomes the command that it names."""
    import signal

    import alembic.command  # noqa: F401
    import captum.attr  # noqa: F401
    import fastai.vision.all  # noqa: F401
    import git  # noqa: F401
    import great_expectations  # noqa: F401
    import librosa
    import mlflow.pyfunc  # noqa: F401
    import sklearn.ensemble
    import sklearn.model_selection  # noqa: F401

    librosa.filters.mel(sr=2000, n_fft=256)  # numba compiles it at its first call
    if "HEARTBEAT_STORE" in os.environ:
        _load_prefect()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    sys.stdout.write("loaded\n")
    sys.stdout.flush()
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            arguments, log, environment = json.loads(line)
            os.environ.update(environment)
            _become(arguments, Path(log))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    fork_commands()
