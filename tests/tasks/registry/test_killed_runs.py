"""MLflow runs of killed processes are marked as KILLED; others are not touched."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from socket import gethostname

import pytest
from helpers import registry

from heartdata.config import RegistryConfig, RunConfig
from heartdata.storage.store import Store
from tasks.engine.failure_notice import run_store
from tasks.registry.client import experiment_of, is_empty
from tasks.registry.killed_runs import PROCESS_TAG, end_killed_runs, has_ended, host_name, process_tag


def killed_process() -> dict[str, str]:
    """The tag of a process that was killed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    tag = process_tag(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return tag


def another_process_of_this_id() -> dict[str, str]:
    return {PROCESS_TAG: f"{host_name()}:{os.getpid()}:1"}


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        (killed_process, "KILLED"),
        pytest.param(
            another_process_of_this_id,
            "KILLED",
            marks=pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="start times are read from /proc"),
        ),
        (process_tag, "RUNNING"),
        (
            lambda: {PROCESS_TAG: f"{gethostname()}:" + killed_process()[PROCESS_TAG].partition(":")[2]},
            "RUNNING",
        ),  # cloned
        (lambda: {PROCESS_TAG: "another-" + killed_process()[PROCESS_TAG]}, "RUNNING"),
        (lambda: {PROCESS_TAG: killed_process()[PROCESS_TAG].replace(":", "-else:", 1)}, "RUNNING"),
        (dict, "RUNNING"),
        (lambda: {PROCESS_TAG: f"{host_name()}:x"}, "RUNNING"),
    ],
)
def test_only_runs_of_ended_processes_of_this_machine_are_ended(registry_store: Store, tag, status: str):
    config = RegistryConfig()
    client = registry(registry_store.root)
    run = client.create_run(experiment_of(client, config, registry_store), tags=tag())
    elsewhere = client.create_run(client.create_experiment("of another project"), tags=tag())
    with run_store(RunConfig(store=str(registry_store.root))):
        assert client.get_run(run.info.run_id).info.status == status
    assert client.get_run(elsewhere.info.run_id).info.status == "RUNNING"


def test_all_pages_of_runs_are_marked_but_not_finished_ones(registry_store: Store, monkeypatch):
    config, client, tag = RegistryConfig(), registry(registry_store.root), killed_process()
    experiment = experiment_of(client, config, registry_store)
    done = client.create_run(experiment, tags=tag).info.run_id
    client.set_terminated(done)
    for _ in range(5):
        client.create_run(experiment, tags=tag)
    search = type(client).search_runs
    monkeypatch.setattr(type(client), "search_runs", lambda *a, **k: search(*a, **{**k, "max_results": 2}))
    end_killed_runs(config, registry_store)
    monkeypatch.undo()
    assert sorted(r.info.status for r in client.search_runs([experiment])) == ["FINISHED"] + ["KILLED"] * 5


def test_an_empty_store_gets_no_registry(store: Store):
    end_killed_runs(RegistryConfig(), store)
    assert is_empty(RegistryConfig(), store)


def test_a_process_of_another_user_that_proc_hides_runs(monkeypatch):
    def refuse(process: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)  # as under ProtectProc=invisible of the systemd units
    monkeypatch.setattr("tasks.registry.killed_runs._start_time", lambda process: "")
    assert not has_ended(f"{host_name()}:{os.getpid()}:1")
