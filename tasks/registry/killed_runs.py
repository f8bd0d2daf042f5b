"""Mark MLflow runs that a killed process left open as KILLED, when the next run on this machine starts."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from socket import gethostname
from typing import Any

from heartdata.config import RegistryConfig
from heartdata.settings import sha256_json
from heartdata.storage.store import Store
from tasks.registry.client import connect, is_empty, pages

PROCESS_TAG = "heartbeat.process"


def process_tag(process: int | None = None) -> dict[str, str]:
    """The tag that names a run's process (by default this one) for `end_killed_runs`: machine, id, start time."""
    process = os.getpid() if process is None else process
    return {PROCESS_TAG: f"{host_name()}:{process}:{_start_time(process)}"}


@cache
def host_name() -> str:
    """A name for this machine and, in a container, for its process ids: hosts may share a name, or its processes."""
    identity = [gethostname()]
    with suppress(OSError):
        identity.append(Path("/etc/machine-id").read_text(encoding="utf-8"))
    with suppress(OSError):
        identity.append(str(Path("/proc/self/ns/pid").readlink()))
    return f"{gethostname()}-{sha256_json(identity)[:12]}"


def end_killed_runs(config: RegistryConfig, store: Store) -> None:
    """Mark the open runs of processes of this machine that have ended.

    Leaves alone runs of other experiments, of other machines, of running processes, and those without a tag. A registry
    that cannot be reached is skipped: registration reports that.
    """
    if is_empty(config, store):
        return
    from mlflow.exceptions import MlflowException

    with suppress(MlflowException):
        client = connect(config, store)
        for run in killed_runs(client, config):
            client.set_terminated(run.info.run_id, "KILLED")


def killed_runs(client: Any, config: RegistryConfig) -> list[Any]:
    """The open runs of processes of this machine that have ended."""
    experiment = client.get_experiment_by_name(config.experiment)
    query = f"tags.`{PROCESS_TAG}` LIKE '{host_name()}:%' and attributes.status = 'RUNNING'"
    runs = pages(client.search_runs, [experiment.experiment_id], query) if experiment else ()
    return [run for run in runs if has_ended(run.data.tags.get(PROCESS_TAG, ""))]


def has_ended(tag: str) -> bool:
    """Whether a tag names a process of this machine that has ended; another process may have its id now."""
    host, _, rest = tag.partition(":")
    process, _, started = rest.partition(":")
    if host != host_name() or not process.isdigit():
        return False
    return not _exists(int(process)) or _start_time(int(process)) not in ("", started)


def _exists(process: int) -> bool:
    """Whether there is a process, also where that of another user is hidden in /proc, as in a systemd unit."""
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _start_time(process: int) -> str:
    """When a process started, in clock ticks since boot; empty without /proc."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux, or no such process
        return ""
    return text.rpartition(")")[2].split()[19]  # field 22 of proc(5); the name before it may have spaces
