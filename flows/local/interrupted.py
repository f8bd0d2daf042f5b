"""Flow runs whose processes have ended without a word: Prefect would show them as running for ever."""

import contextlib
from collections.abc import Iterator
from typing import Any

from heartdata.storage.store import Store
from tasks.engine.flow_runs import UNFINISHED, read_all
from tasks.registry.killed_runs import has_ended, process_tag


def end_served(message: str, store: Store) -> int:
    """Mark unfinished runs of the store's served deployments as crashed; returns how many. Call while none is served.

    Left unfinished they would hold the deployment's only slot, and later runs would be cancelled.
    """
    with _client() as client:
        # a work pool's runs do not depend on us, and those of another store on its own `heartbeat up`
        served = [
            run for run in _unfinished(client, deployed=True) if run.work_pool_name is None and _is_of(store, run)
        ]
        return _end(served, message, client)


def end_killed() -> int:
    """Mark unfinished runs of `heartbeat run` whose process on this machine has ended as crashed; returns how many."""
    with _client() as client:
        killed = [run for run in _unfinished(client, deployed=False) if any(map(has_ended, run.tags))]
        return _end(killed, "the process of this run was killed", client)


def name_process(_flow: Any, run: Any, _state: Any) -> None:
    """A flow's hook on running: name this process for `end_killed`."""
    with _client() as client:
        client.update_flow_run(run.id, tags=[*run.tags, *process_tag().values()])


@contextlib.contextmanager
def _client() -> Iterator[Any]:
    """A client that does not wait long."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        temporary_settings({PREFECT_API_REQUEST_TIMEOUT: 30, PREFECT_CLIENT_MAX_RETRIES: 2}),
        get_client(sync_client=True) as client,
    ):
        yield client


def _unfinished(client: Any, deployed: bool) -> list[Any]:
    from prefect.client.schemas.filters import FlowRunFilter

    wanted = {"state": {"type": {"any_": list(UNFINISHED)}}, "deployment_id": {"is_null_": not deployed}}
    return read_all(client.read_flow_runs, flow_run_filter=FlowRunFilter.model_validate(wanted))


def _is_of(store: Store, run: Any) -> bool:
    """Whether a run's settings name the store, or none."""
    settings = run.parameters.get("config") or run.parameters.get("settings") or {}
    return Store(settings.get("store") or store.uri).uri == store.uri


def _end(runs: list[Any], message: str, client: Any) -> int:
    from prefect.states import Crashed

    for run in runs:
        client.set_flow_run_state(run.id, Crashed(message=message))
    return len(runs)
