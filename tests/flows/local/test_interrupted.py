"""Flow runs left unfinished by processes that were killed."""

import subprocess
import sys
from types import SimpleNamespace

from flows.local import interrupted
from flows.local.interrupted import end_killed, end_served, name_process
from heartdata.storage.store import Store
from tasks.engine.flow_runs import read_all
from tasks.registry.killed_runs import process_tag


def test_runs_of_killed_processes_are_ended_and_others_are_not(prefect_server, monkeypatch):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    @flow
    def some_flow() -> None: ...

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        dead = process_tag(process.pid)
    states = {}
    with get_client(sync_client=True) as client:
        for owner in (dead, process_tag(), {}):
            run = client.create_flow_run(some_flow, state=Running(), tags=["mine"])
            if owner:
                monkeypatch.setattr(interrupted, "process_tag", lambda owner=owner: owner)
                name_process(some_flow, SimpleNamespace(id=run.id, tags=["mine"]), None)
            states[run.id] = owner
        assert end_killed() == 1
        assert end_killed() == 0
        ended = {owner == dead: client.read_flow_run(run).state.name for run, owner in states.items()}
        for run in states:
            client.delete_flow_run(run)
    assert ended == {True: "Crashed", False: "Running"}


def test_served_runs_of_the_store_are_ended_and_those_of_another_store_are_not(prefect_server, store: Store):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    @flow
    def served_flow() -> None: ...

    here, elsewhere = str(store.root), f"{store.root}-other"
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(served_flow), "served")
        runs = {
            client.create_flow_run_from_deployment(deployment, parameters=parameters, state=Running()).id: ours
            for parameters, ours in (
                ({"config": {"store": here}}, True),
                ({"settings": {"store": here}}, True),
                ({}, True),
                ({"config": {"store": elsewhere}}, False),
            )
        }
        assert end_served("stopped", store) == 3
        assert end_served("stopped", store) == 0
        ended = {run: client.read_flow_run(run).state.name == "Crashed" for run in runs}
        for run in runs:
            client.delete_flow_run(run)
        client.delete_deployment(deployment)
    assert ended == runs


def test_all_pages_are_read():
    pages = {0: [1, 2], 2: [3], 3: []}
    assert read_all(lambda offset, of: pages[offset], of="x") == [1, 2, 3]
