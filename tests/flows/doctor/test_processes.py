"""Checks of what runs, each on facts that pass and on facts that do not."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from helpers import wait_until

from flows.doctor import processes
from flows.local.observed import (
    Up,
    flow_run_processes,
    orphaned_servers,
    running_up,
)
from flows.local.servers import PREFECT_PORT
from heartdata.storage.locks import holders
from heartdata.storage.store import Store
from tasks.engine.flow_runs import NightlyRun
from tasks.registry.killed_runs import process_tag

UP = Up(7, datetime(2026, 11, 30, 2, tzinfo=UTC), "http://127.0.0.1:4200/api")


def test_ports():
    assert processes.port(PREFECT_PORT, "--prefect-port", True, None).level == "ok"
    assert processes.port(PREFECT_PORT, "--prefect-port", False, UP).level == "ok"
    taken = processes.port(PREFECT_PORT, "--prefect-port", False, None)
    assert (taken.level, taken.remedy) == ("warning", "heartbeat up --prefect-port 4210")


def test_serving():
    assert processes.serving(None).level == "ok"
    assert processes.serving(UP).level == "ok"
    silent = processes.serving(Up(7, None, None))
    assert (silent.level, "kill 7" in silent.remedy) == ("warning", True)


def test_the_runner_of_up(tmp_path: Path):
    now = datetime.now(UTC)
    before, just = now - timedelta(hours=1), now - timedelta(seconds=5)

    def level(up_since: datetime, started: datetime | None) -> str:
        return processes.runner(Up(7, up_since, "http://x"), started, now, tmp_path / "runner.log").level

    assert level(before, before) == "ok"
    assert level(just, None) == "ok"
    assert [level(before, each) for each in (None, just)] == ["problem", "problem"]


def test_locks_of_champions():
    assert processes.champion_locks([]).level == "ok"
    assert "process 7 holds x.lock" in processes.champion_locks([(Path("x.lock"), 7)]).text


def test_servers_that_nobody_stops():
    assert processes.servers([]).level == "ok"
    assert processes.servers([7, 8]).remedy == "kill 7 8"


def test_tracked_runs():
    assert processes.tracked_runs([], "/out").level == "ok"
    assert processes.tracked_runs(["demo"], "/out").text.startswith("run demo in MLflow is open")
    assert processes.tracked_runs(list("abcde"), "/out").text.startswith("runs a, b, c and 2 more in MLflow are open")


def test_flow_runs_without_a_process():
    def level(deployment: str | None, alive: set[str], *tags: str) -> str:
        run = NightlyRun("1", "wise-owl", "heartbeat", deployment, "RUNNING", "", None, None, tags)
        return processes.flow_runs([run], alive).level

    (running,) = process_tag().values()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as killed:
        (ended,) = process_tag(killed.pid).values()
        killed.kill()
    assert processes.flow_runs([], set()).level == "ok"
    assert level("full-pipeline", {"1"}) == "ok"
    assert level("full-pipeline", {"2"}) == "warning"
    assert level(None, set(), "a tag", running) == "ok"
    assert level(None, set(), "a tag", ended) == "warning"


def test_processes_of_runs_are_found():
    assert "run-17" not in flow_run_processes()
    script = ["-c", "print(flush=True); input()"]
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": "run-17"}
    command = [sys.executable, *script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as run:
        run.stdout.readline()
        assert "run-17" in flow_run_processes()
        run.communicate(b"\n")


def test_the_process_that_holds_the_lock_of_a_store_is_found(store: Store):
    assert running_up(store) is None
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(store.root / "up.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        up = running_up(store)
        holder.stdin.close()
    assert (up.process, up.api) == (holder.pid, None)
    assert up.since is not None
    assert running_up(store) is None


def test_a_lock_of_another_drive_with_the_same_inode_is_not_ours(tmp_path: Path):
    lock, table = tmp_path / "up.lock", tmp_path / "locks"
    lock.touch()
    table.write_text(f"1: FLOCK  ADVISORY  WRITE {os.getpid()} 00:19:{lock.stat().st_ino} 0 EOF\n")
    assert holders(lock, table) == []
    with lock.open():
        assert holders(lock, table) == [os.getpid()]


def test_a_server_that_outlived_what_started_it_is_found(store: Store):
    """A process that calls itself a server of the store, started by a shell that has ended."""
    environment = {**os.environ, "PREFECT_HOME": str(store.root / "prefect")}
    script = f"{sys.executable} -c 'import time; time.sleep(600)' prefect server start >/dev/null 2>&1 & echo $!"
    started = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environment)
    server = psutil.Process(int(started.stdout))
    try:
        wait_until(lambda: "server" in server.cmdline(), "its start")
        assert orphaned_servers(store) == ([server.pid] if server.ppid() == 1 else [])
        assert orphaned_servers(Store(store.root.parent / "other")) == []
    finally:
        server.kill()


def test_the_guard_of_a_server_is_no_server(store: Store):
    environment = {**os.environ, "PREFECT_HOME": str(store.root / "prefect")}
    command = f"{sys.executable} -c 'import time; time.sleep(600)' flows.local.guard mlflow server"
    started = subprocess.run(
        ["sh", "-c", f"{command} >/dev/null 2>&1 & echo $!"], capture_output=True, text=True, env=environment
    )
    guard = psutil.Process(int(started.stdout))
    try:
        wait_until(lambda: "server" in guard.cmdline(), "its start")
        assert orphaned_servers(store) == []
    finally:
        guard.kill()
