"""What runs of a store on this machine, observed from outside: its `heartbeat up`, its servers, who holds its locks."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psutil

from flows.local.servers import API_VARIABLE, UP_FILE, is_healthy, running_api
from heartdata.storage.locks import holders
from heartdata.storage.store import Store

UP_LOCK = "up.lock"


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


def announced_api(store: Store) -> str | None:
    """The address that a `heartbeat up` has left in the store, running or not."""
    try:
        return json.loads(store.workpath(UP_FILE).read_bytes())["api"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def answers(address: str, path: str) -> bool:
    """Whether a server answers at ``path`` of an address, whose own path is left out."""
    parts = urlsplit(address)
    return is_healthy(f"{parts.scheme}://{parts.netloc}{path}")


def server_processes(store: Store) -> Iterator[psutil.Process]:
    """The processes of Prefect and MLflow servers that were started for this store, by their environment."""
    home = str(store.root / "prefect")
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT_HOME") == home and _is_server(process.cmdline()):
                yield process
        except psutil.Error:
            continue


def _is_server(command: list[str]) -> bool:
    return any(
        name in command for name in ("prefect", "mlflow", "prefect.server.api.server:create_app")
    ) or "mlflow.server" in " ".join(command)


def orphaned_servers(store: Store) -> list[int]:
    """The ids of the store's servers that outlived what started them, which hold ports and databases."""
    servers = {process.pid: process for process in server_processes(store)}
    return [pid for pid, process in servers.items() if process.ppid() == 1]
