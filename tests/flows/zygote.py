"""Runs of a flow in forked processes with all libraries loaded: quick to start, free to kill.

Not multiprocessing's forkserver: there is one per process, and `tasks.engine.workers` uses it with its own preloads.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from heartdata.config import RunConfig


class Zygote:
    """Starts runs of a flow of ``flows.pipeline``; their stderr goes to ``log``."""

    def __init__(self, log: Path) -> None:
        from prefect.settings import PREFECT_API_URL

        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("ab"), text=True,
            env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()},
        )  # fmt: skip

    def start(self, config: RunConfig, flow: str = "prepare") -> int:
        """Start a run; returns its process id."""
        self._process.stdin.write(json.dumps({"flow": flow, "config": config.model_dump(mode="json")}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.stdin.close()
        self._process.wait()


def has_ended(pid: int) -> bool:
    """Whether a run is over."""
    return not Path(f"/proc/{pid}").exists()


def wait(pid: int, seconds: float) -> bool:
    """Whether a run ends within that time."""
    deadline = time.monotonic() + seconds
    while not has_ended(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def main() -> None:
    """For each line of stdin, fork a process that runs the flow named there with its configuration."""
    import fastai.vision.all  # noqa: F401
    import great_expectations  # noqa: F401
    import mlflow  # noqa: F401
    import sklearn.model_selection  # noqa: F401

    import flows.pipeline

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies: see has_ended
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                request = json.loads(line)
                getattr(flows.pipeline, request["flow"])(RunConfig.model_validate(request["config"]))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
