"""Which Prefect server a run uses: the environment's, that of this store's `heartbeat up`, or a temporary one."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import http_server

from flows.local import servers
from flows.local.servers import is_healthy, prefect_api, running_api
from heartdata.errors import ConfigError, HeartbeatError
from heartdata.storage.store import Store

TEMPORARY = "a temporary server"


@pytest.fixture(autouse=True)
def temporary_server(monkeypatch) -> SimpleNamespace:
    """In place of the temporary server, which is not started; PREFECT_API_URL is unset."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    server = SimpleNamespace(name=TEMPORARY, process=SimpleNamespace(poll=lambda: 0), stop=lambda: None)
    monkeypatch.setattr(servers, "prefect_server", lambda *_, **__: server)
    yield server
    os.environ.pop("PREFECT_API_URL", None)


@pytest.fixture
def other(request) -> Iterator[str]:
    """The API of a healthy Prefect server; ``request.param``: its response to any request but the health check."""
    with http_server(lambda path: b"true" if path == "/api/health" else request.param) as url:
        yield f"{url}/api"


def used(store: Store) -> str:
    with prefect_api(store) as temporary:
        return temporary.name if temporary else os.environ["PREFECT_API_URL"]


def announce(store: Store, api: str) -> None:
    store.workpath("up.json").write_text(json.dumps({"api": api, "id": "ours", "store": store.uri}))


@pytest.mark.parametrize(
    "other", [None, b'{"value": "another store"}', b"[]", b"no JSON"], indirect=True, ids=["404", "id", "list", "text"]
)
def test_a_server_that_does_not_confirm_the_stores_id_is_not_used(other: str, store: Store):
    assert is_healthy(f"{other}/health")
    announce(store, other)
    assert used(store) == TEMPORARY


@pytest.mark.parametrize("other", [b'{"value": "ours"}'], indirect=True)
def test_only_the_announced_server_is_used_unless_the_user_names_one(other: str, store: Store, monkeypatch):
    assert used(store) == TEMPORARY
    os.environ.pop("PREFECT_API_URL")
    announce(store, other)
    assert used(store) == other
    monkeypatch.setenv("PREFECT_API_URL", "http://server.example.org/api")
    assert used(store) == "http://server.example.org/api"


@pytest.mark.parametrize("other", [b'{"value": "ours"}'], indirect=True)
def test_a_copied_store_does_not_use_the_server_of_the_original(other: str, store: Store, tmp_path: Path):
    announce(store, other)
    shutil.copytree(store.root, tmp_path / "copy")
    assert used(Store(tmp_path / "copy").open()) == TEMPORARY


def test_a_stale_or_damaged_announcement_is_ignored(store: Store):
    announce(store, f"http://127.0.0.1:{servers.free_port()}/api")
    assert used(store) == TEMPORARY
    store.workpath("up.json").write_text("[]")
    assert running_api(store) is None


def test_a_server_that_does_not_speak_http_is_not_used(store: Store):
    def greet(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(1024)
                connection.sendall(b"SSH-2.0-x\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, args=(listener,))
        thread.start()
        api = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        assert not is_healthy(f"{api}/health")
        announce(store, api)
        assert used(store) == TEMPORARY
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


LOGS = {
    "Traceback (most recent call last):\n  File x\nalembic.util.exc.CommandError: no such revision\n\nERROR:    Application "
    "startup failed. Exiting.\nServer stopped!\n": "alembic.util.exc.CommandError: no such revision",
    "INFO: hello\nERROR:    [Errno 98] address already in use\nServer stopped!\n": "[Errno 98] address already in use",
    "sqlalchemy.exc.DatabaseError: file is not a database\n(Background on this error at: https://sqlalche.me/e/20/4xp6)":
    "sqlalchemy.exc.DatabaseError: file is not a database",
    "Killed\n\n": "Killed",
    "": "",
}  # fmt: skip


@pytest.mark.parametrize(("logged", "reason"), LOGS.items(), ids=[reason[:30] for reason in LOGS.values()])
def test_the_reason_in_a_log_is_its_last_exception(logged: str, reason: str):
    assert servers.logged_reason(logged) == reason


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
    server = servers.Server("Some server", [sys.executable, "-c", code], "http://127.0.0.1:1", log)
    with pytest.raises(HeartbeatError, match=f"the Some server did not start .*{reason}.*: see .*server.log"):
        server.wait_ready()
    assert "Fatal Python error" not in log.read_text(encoding="utf-8")


def test_a_server_that_runs_and_does_not_answer_is_not_said_to_have_failed_by_its_log(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(servers, "START_TIMEOUT_S", 0.3)
    code = "import time; print('all is well', flush=True); time.sleep(60)"
    server = servers.Server("Some server", [sys.executable, "-c", code], "http://127.0.0.1:1", tmp_path / "server.log")
    with pytest.raises(HeartbeatError, match=r"did not answer at http://127.0.0.1:1 within 0.3 s: run again, or see "):
        server.wait_ready()
    assert server.process.poll() is not None


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/api", "Connection refused|connection attempts failed"),
        ("127.0.0.1:9", "."),
        ("http://me:secret@{server}/api", "it requires another login: set PREFECT_API_KEY"),
    ],
)
def test_a_prefect_server_that_cannot_be_used_is_reported_with_its_variable(url: str, reason: str, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with http_server(lambda path: (401, b"")) as server:
        url = url.format(server=server.removeprefix("http://"))
        monkeypatch.setenv("PREFECT_API_URL", url)
        with (
            temporary_settings({PREFECT_API_URL: url}),
            pytest.raises(ConfigError, match=f"cannot be used .*({reason}).*: correct PREFECT_API_URL or") as raised,
        ):
            servers.check_api()
    assert "secret" not in str(raised.value)


def test_a_blank_address_of_prefect_is_none(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("PREFECT_API_URL", " ")
    with prefect_api(Store(tmp_path).open()) as temporary:
        assert temporary
        assert os.environ["PREFECT_API_URL"].startswith("http://127.0.0.1:")


def test_a_variable_that_prefect_cannot_read_is_reported():
    code = "from flows.local.servers import load_prefect; load_prefect()"
    environment = {**os.environ, "PREFECT_LOGGING_LEVEL": "LOUD"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "ConfigError: Prefect cannot use the value 'LOUD' of 'level' in its LoggingSettings" in run.stderr


def test_the_prefect_server_runs_outside_the_current_folder(tmp_path: Path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "logs" / "server.log"
    started: list[Path] = []
    monkeypatch.setattr(servers, "Server", lambda *_, folder, **__: started.append(folder))
    servers.prefect_server(1, log, ui=False)
    assert started == [log.parent]


def test_a_server_runs_in_its_folder(tmp_path: Path):
    code = "import os; print(os.getcwd())"
    command = [sys.executable, "-c", code]
    server = servers.Server("Some server", command, "http://127.0.0.1:1", tmp_path / "a.log", folder=tmp_path)
    with pytest.raises(HeartbeatError, match=str(tmp_path)):
        server.wait_ready()
    assert (tmp_path / "a.log").read_text(encoding="utf-8").strip() == str(tmp_path)
