"""Flow runs left unfinished by processes that were killed."""

import subprocess
import sys
from types import SimpleNamespace

from flows.local import interrupted
from flows.local.interrupted import end_killed, name_process
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
        assert ended == {True: "Crashed", False: "Running"}
