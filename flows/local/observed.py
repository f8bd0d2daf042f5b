"""What runs of a store on this machine, observed from outside: its `heartbeat up`, its servers, who holds its locks."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psutil

from flows.local.servers import API_VARIABLE, OBSERVER_TIMEOUT_S, is_healthy, running_api
from heartdata.settings import without_login
from heartdata.storage.locks import holders
from heartdata.storage.store import Store

UP_LOCK = "up.lock"
FLOW_RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"  # of the process that Prefect starts for a run
RUNNER = "flows.local.runner"
GUARD = "flows.local.guard"
SERVERS = {"prefect", "mlflow", "prefect.server.api.server:create_app", "mlflow.server.fastapi_app:app"}


@dataclass(frozen=True)
class Up:
    """The `heartbeat up` of a store: its process, since when it runs, and its Prefect API; None where it does not answer."""

    process: int
    since: datetime | None
    api: str | None


def running_up(store: Store) -> Up | None:
    """The process that holds the store's lock; None where nobody does."""
    for process in holders(store.workpath(UP_LOCK)):
        return Up(process, started(process), running_api(store, OBSERVER_TIMEOUT_S))
    return None


def started(process: int) -> datetime | None:
    """When a process started; None where there is none."""
    try:
        return datetime.fromtimestamp(psutil.Process(process).create_time(), UTC)
    except psutil.Error:
        return None


def runner_started(up: Up) -> datetime | None:
    """When the runner of `heartbeat up`, which executes its runs, was started last; None while there is none."""
    with suppress(psutil.Error):
        for process in psutil.Process(up.process).children(recursive=True):
            with suppress(psutil.Error):
                command = process.cmdline()
                if RUNNER in command and GUARD not in command:
                    return started(process.pid)
    return None


def prefect_api(up: Up | None) -> str | None:
    """The Prefect server that a run over this store would use; None: a temporary one."""
    return os.environ.get(API_VARIABLE, "").strip() or (up.api if up else None)


def answers(address: str, path: str) -> bool:
    """Whether a server answers at ``path`` of an address, whose own path is left out."""
    try:
        parts = urlsplit(without_login(address))
    except ValueError:
        return False
    return is_healthy(f"{parts.scheme}://{parts.netloc}{path}")


def flow_run_processes() -> set[str]:
    """The ids of the flow runs that have a process of their own on this machine."""
    return {run for _, environment in _environments() if (run := environment.get(FLOW_RUN_VARIABLE))}


def orphaned_servers(store: Store) -> list[int]:
    """The ids of the store's Prefect and MLflow servers that outlived what started them, which hold ports and databases."""
    home = str(store.root / "prefect")
    servers = [process for process, environment in _environments() if environment.get("PREFECT_HOME") == home]
    orphans = []
    for process in servers:
        with suppress(psutil.Error):  # it has ended meanwhile
            command = set(process.cmdline())
            # their guards name it, too, and are children of `heartbeat up`, in a container process 1
            if process.ppid() == 1 and command & SERVERS and GUARD not in command:
                orphans.append(process.pid)
    return orphans


def _environments() -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield process, process.environ()
