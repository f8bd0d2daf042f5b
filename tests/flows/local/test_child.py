"""Processes that are watched: why one did not start, starting it again, its log, and that nothing of it is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import free_port, wait_until

from flows.local import child as children
from flows.local import guard
from flows.local.child import Child, is_healthy, kept_running, logged_reason
from heartdata.errors import HeartbeatError

TIMEOUT_S = 60
NOWHERE = "http://127.0.0.1:1"
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked", flush=True)
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
print("pid", os.getpid(), flush=True)
http.server.HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""
WITH_GRANDCHILD = """
import subprocess, sys
held = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("pid", held.pid, flush=True)
held.wait()
"""


def child(code: str, log: Path, health: str | None = NOWHERE, **options: Any) -> Child:
    return Child("Some server", [sys.executable, "-c", code], health, log, **options)


def logged_pids(log: Path) -> list[int]:
    """The processes that have said who they are, in the order of their start."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("pid ")]


LOGS = {
    "Traceback (most recent call last):\n  File x\nalembic.util.exc.CommandError: no such revision\n\nERROR:    Application "
    "startup failed. Exiting.\nServer stopped!\n": "alembic.util.exc.CommandError: no such revision",
    "INFO: hello\nERROR:    [Errno 98] address already in use\nServer stopped!\n": "[Errno 98] address already in use",
    "sqlalchemy.exc.DatabaseError: file is not a database\n(Background on this error at: https://sqlalche.me/e/20/4xp6)":
    "sqlalchemy.exc.DatabaseError: file is not a database",
    "Killed\n\n": "Killed",
    '2026/11/30 07:30:03 INFO: 127.0.0.1:54822 - "GET /health HTTP/1.1" 200 OK': "",
    "OSError: of yesterday\n" + 60 * "warning: slow\n": "warning: slow",
    "": "",
}  # fmt: skip


@pytest.mark.parametrize(("logged", "reason"), LOGS.items(), ids=[reason[:30] for reason in LOGS.values()])
def test_the_reason_in_a_log_is_its_last_exception(logged: str, reason: str):
    assert logged_reason(logged) == reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise OSError(28, 'No space left on device')", r"\(OSError: \[Errno 28\] No space left on device\)"),
        ("import signal, flows; print('unlike signal.py', signal.SIGINT)", r"\(unlike signal.py 2\)"),
        (
            "raise LookupError(\"Can't locate revision identified by 'f00'\")",
            r"made by a newer version of Some: use that",
        ),
    ],
)
def test_a_server_that_does_not_start_is_reported_with_its_reason(code: str, reason: str, tmp_path: Path, monkeypatch):
    (tmp_path / "signal.py").write_text("fs = 2000", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "server.log"
    log.write_text("ValueError: of an earlier start\n", encoding="utf-8")
    server = child(code, log)
    server.start()
    with pytest.raises(HeartbeatError, match=f"the Some server did not start .*{reason}.*: see .*server.log"):
        server.wait_ready()
    assert "Fatal Python error" not in log.read_text(encoding="utf-8")


def test_a_server_that_runs_and_does_not_answer_is_not_said_to_have_failed_by_its_log(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(children, "START_TIMEOUT_S", 0.3)
    code = "import time; print('all is well', flush=True); time.sleep(60)"
    server = child(code, tmp_path / "server.log")
    server.start()
    wait_until(lambda: server.log.exists() and "all is well" in server.log.read_text(encoding="utf-8"))
    with pytest.raises(HeartbeatError, match=r"did not answer at http://127.0.0.1:1 within 0.3 s: run again, or see "):
        server.wait_ready()
    assert server.process.poll() is not None


def test_a_server_runs_in_its_folder(tmp_path: Path):
    code = "import os; print(os.getcwd())"
    server = child(code, tmp_path / "a.log", folder=tmp_path)
    server.start()
    with pytest.raises(HeartbeatError, match=str(tmp_path)):
        server.wait_ready()
    assert (tmp_path / "a.log").read_text(encoding="utf-8").strip() == str(tmp_path)


def test_a_child_that_was_never_started_can_be_stopped(tmp_path: Path):
    child("", tmp_path / "a.log").stop()
    assert not (tmp_path / "a.log").exists()


def test_a_child_that_is_killed_starts_again_on_its_port_and_it_is_said(tmp_path: Path):
    port, log, said = free_port(), tmp_path / "a.log", list[str]()
    server = child(SERVER.replace("PORT", str(port)), log, f"http://127.0.0.1:{port}/")
    server.start()
    server.wait_ready()
    with kept_running([server], said.append):
        for kills in (1, 2):
            wait_until(lambda kills=kills: len(logged_pids(log)) == kills)
            os.kill(logged_pids(log)[-1], signal.SIGKILL)
        wait_until(lambda: len(logged_pids(log)) == 3 and is_healthy(server.health))
    server.stop()
    assert said == [
        f"the Some server ended (it was killed); it starts again in {delay_s} s; log: {log}" for delay_s in (1, 2)
    ]
    assert not is_healthy(server.health)


def test_a_child_that_answers_no_more_starts_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(children, "SILENCE_LIMIT_S", 10)
    monkeypatch.setattr(children, "PROBE_EVERY_S", 0.1)
    port, log, said = free_port(), tmp_path / "a.log", list[str]()
    server = child(SERVER.replace("PORT", str(port)), log, f"http://127.0.0.1:{port}/")
    server.start()
    server.wait_ready()
    with kept_running([server], said.append):
        asked = log.read_text(encoding="utf-8").count("asked")
        wait_until(lambda: log.read_text(encoding="utf-8").count("asked") > asked + 1)
        os.kill(logged_pids(log)[0], signal.SIGSTOP)
        wait_until(lambda: len(logged_pids(log)) == 2 and is_healthy(server.health))
    server.stop()
    assert [line.partition(";")[0] for line in said] == ["the Some server ended (it did not answer for 10 s)"]


def test_a_child_that_cannot_start_is_tried_for_ever(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(children, "LONGEST_DELAY_S", 0.1)
    said = list[str]()
    broken = child("raise OSError(28, 'No space left on device')", tmp_path / "a.log", health=None)
    broken.start()
    with kept_running([broken], said.append):
        wait_until(lambda: len(said) >= 3)
    broken.stop()
    assert {line.partition(";")[0] for line in said} == {
        "the Some server ended (OSError: [Errno 28] No space left on device)"
    }


def test_when_a_child_dies_all_that_it_has_started_ends(tmp_path: Path):
    log = tmp_path / "a.log"
    server = child(WITH_GRANDCHILD, log, health=None)
    server.start()
    (grandchild,) = wait_until(lambda: logged_pids(log))
    parent = psutil.Process(grandchild).parent()
    with kept_running([server], lambda _: None):
        parent.kill()
        wait_until(lambda: not psutil.pid_exists(grandchild))
    server.stop()


@pytest.mark.parametrize("grace_s", [0, 5])
def test_when_the_parent_is_killed_everything_ends(grace_s: float, tmp_path: Path):
    log = tmp_path / "a.log"
    code = (
        "import sys, time; from pathlib import Path; from flows.local.child import Child\n"
        f"Child('x', [sys.executable, '-c', {WITH_GRANDCHILD!r}], None, Path({str(log)!r}), grace_s={grace_s}).start()\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    (grandchild,) = wait_until(lambda: logged_pids(log))
    started = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    assert len(started) == 3
    wait_until(lambda: not any(process.is_running() for process in started))


def test_settings_reach_a_child_by_its_standard_input_alone(tmp_path: Path):
    code = "import sys, time; print(sys.stdin.read().upper(), flush=True); time.sleep(600)"
    server = child(code, tmp_path / "a.log", health=None, stdin_line='{"password": "secret"}')
    server.start()
    wait_until(lambda: '{"PASSWORD": "SECRET"}' in server.log.read_text(encoding="utf-8"))
    family = psutil.Process(server.process.pid)
    assert not any("secret" in part for each in (family, *family.children()) for part in each.cmdline())
    server.stop()


def test_connections_wait_while_a_child_with_a_listener_is_away(tmp_path: Path):
    import socket

    answer = (
        "import socket; waiting = socket.socket(fileno={fd}); connection, _ = waiting.accept()\n"
        "connection.sendall(b'hello'); connection.close()"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = socket.create_connection(listener.getsockname(), timeout=TIMEOUT_S)
        server = child(answer.replace("{fd}", str(listener.fileno())), tmp_path / "a.log", None, listener=listener)
        server.start()
        assert connection.recv(5) == b"hello"
        connection.close()
        server.stop()


def test_a_log_is_bounded(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(guard, "LOG_BYTES", 1000)
    with (tmp_path / "output").open("wb+") as output:
        output.writelines(b"line %04d \xff\n" % number for number in range(1000))
        output.seek(0)
        guard.copy_lines(output, str(tmp_path / "a.log"), echo=False)
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("a.log*")}
    assert set(sizes) == {"a.log", "a.log.1"}
    assert max(sizes.values()) <= 1000
    assert (tmp_path / "a.log").read_text(encoding="utf-8").splitlines()[-1].startswith("line 0999")


def test_one_whose_preparation_failed_is_stopped_without_another_error(tmp_path: Path):
    def fail() -> None:
        raise OSError("no space left")

    unstarted = child("", tmp_path / "log", prepare=fail)
    with pytest.raises(OSError, match="no space left"):
        unstarted.start()
    unstarted.stop()
    assert not unstarted.is_running
