"""MLflow runs that a killed process left open: marked as KILLED when the next run of this machine starts."""

import os
from contextlib import suppress
from pathlib import Path
from socket import gethostname
from typing import Any

from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.registry.client import connect, is_empty

PROCESS_TAG = "heartbeat.process"


def process_tag(process: int | None = None) -> dict[str, str]:
    """Which process a run is of (this one unless given), for `end_killed_runs`: host, id, and when it started."""
    process = os.getpid() if process is None else process
    return {PROCESS_TAG: ":".join(filter(None, [gethostname(), str(process), _started(process)]))}


def end_killed_runs(config: RegistryConfig, store: Store) -> None:
    """Mark the open runs of processes of this machine that have ended, so that nobody waits for them.

    Runs of other experiments, of other machines, of processes at work, and those that name none are left alone. A
    registry that cannot be reached is left alone, too: registration says so.
    """
    if is_empty(config, store):
        return
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        client = connect(config, store)
        experiment = client.get_experiment_by_name(config.experiment)
        for run in _open_runs(client, experiment.experiment_id) if experiment else []:
            if _has_ended(run.data.tags.get(PROCESS_TAG, "")):
                client.set_terminated(run.info.run_id, "KILLED")


def _open_runs(client: Any, experiment: str) -> list[Any]:
    ours = f"tags.`{PROCESS_TAG}` LIKE '{gethostname()}:%' and attributes.status = 'RUNNING'"
    runs, token = [], None
    while True:
        page = client.search_runs([experiment], ours, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _has_ended(tag: str) -> bool:
    """Whether the process of a tag is one of this machine that is no more; another may have its id now."""
    host, _, rest = tag.partition(":")
    process, _, started = rest.partition(":")
    if host != gethostname() or not process.isdigit():
        return False
    return not _is_alive(int(process)) or bool(started and _started(int(process)) not in ("", started))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _started(process: int) -> str:
    """When a process started, in clock ticks since the machine did; empty where the system does not say."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:  # no Linux, or no such process
        return ""
    return text.rpartition(")")[2].split()[19]  # field 22 of proc(5); the name before may hold spaces
