"""What runs of a store on this machine, observed from outside: its `heartbeat up`, its servers, who holds its locks."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psutil

from flows.local.servers import API_VARIABLE, is_healthy, running_api
from heartdata.storage.locks import holders
from heartdata.storage.store import Store

UP_LOCK = "up.lock"
FLOW_RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"  # of the process that Prefect starts for a run
SERVERS = {"prefect", "mlflow", "prefect.server.api.server:create_app", "mlflow.server.fastapi_app:app"}
COMMANDS = {"run", "pretrain", "study", "score"}


@dataclass(frozen=True)
class Up:
    """The `heartbeat up` of a store: its process, since when it runs, and its Prefect API; None where it does not answer."""

    process: int
    since: datetime | None
    api: str | None


def running_up(store: Store) -> Up | None:
    """The process that holds the store's lock; None where nobody does."""
    for process in holders(store.workpath(UP_LOCK)):
        return Up(process, started(process), running_api(store))
    return None


def started(process: int) -> datetime | None:
    """When a process started; None where there is none."""
    try:
        return datetime.fromtimestamp(psutil.Process(process).create_time(), UTC)
    except psutil.Error:
        return None


def prefect_api(up: Up | None) -> str | None:
    """The Prefect server that a run over this store would use; None: a temporary one."""
    return os.environ.get(API_VARIABLE, "").strip() or (up.api if up else None)


def answers(address: str, path: str) -> bool:
    """Whether a server answers at ``path`` of an address, whose own path is left out."""
    parts = urlsplit(address)
    return is_healthy(f"{parts.scheme}://{parts.netloc}{path}")


def server_processes(store: Store) -> Iterator[psutil.Process]:
    """The processes of Prefect and MLflow servers that were started for this store, by their environment."""
    home = str(store.root / "prefect")
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT_HOME") == home and SERVERS & {*process.cmdline()}:
                yield process


def flow_run_processes() -> set[str]:
    """The ids of the flow runs that have a process of their own on this machine."""
    return {value for environment in _environments() if (value := environment.get(FLOW_RUN_VARIABLE))}


def _environments() -> Iterator[dict[str, str]]:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            yield process.environ()


def commands_run() -> bool:
    """Whether a command that runs a flow is at work on this machine, for whatever store."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if is_flow_command(process.cmdline()):
                return True
    return False


def is_flow_command(words: list[str]) -> bool:
    """Whether a command line is of `heartbeat run` or another command that runs a flow."""
    is_heartbeat = any(word.endswith(("heartbeat", "flows.cli.main")) for word in words[:3])
    return is_heartbeat and bool(COMMANDS & {*words})


def orphaned_servers(store: Store) -> list[int]:
    """The ids of the store's servers that outlived what started them, which hold ports and databases."""
    servers = {process.pid: process for process in server_processes(store)}
    return [pid for pid, process in servers.items() if process.ppid() == 1]
