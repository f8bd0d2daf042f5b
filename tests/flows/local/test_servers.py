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
from flows.local.servers import is_healthy, prefect_api, prefect_server, running_api
from heartdata.errors import ConfigError
from heartdata.storage.store import Store

TEMPORARY = "a temporary server"


@pytest.fixture(autouse=True)
def temporary_server(monkeypatch) -> SimpleNamespace:
    """In place of the temporary server, which is not started; PREFECT_API_URL is unset."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    nothing = dict.fromkeys(("start", "stop", "close"), lambda: None)
    server = SimpleNamespace(name=TEMPORARY, is_running=False, **nothing)
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


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/api", "Connection refused|connection attempts failed"),
        ("127.0.0.1:9", "."),
        ("http://me:secret@{server}/api", "it requires another login: set PREFECT_API_KEY"),
        ("http://me:a/secret@{server}/api", "."),
        ("http://me:secret@{server}/broken/api", "500"),
    ],
)
def test_a_prefect_server_that_cannot_be_used_is_reported_with_its_variable(url: str, reason: str, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with http_server(lambda path: (500 if "broken" in path else 401, b"")) as server:
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
    server = servers.prefect_server(servers.free_port(), log, ui=False)
    server.close()
    assert server.folder == log.parent


def test_a_login_that_our_server_would_not_require_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "name:password")
    with pytest.raises(ConfigError, match="PREFECT_SERVER_API_AUTH_STRING unset") as refusal:
        prefect_server(servers.free_port(), tmp_path / "log", ui=False)
    assert "password" not in str(refusal.value)
