"""Which Prefect server a run uses: the environment's, that of this store's `heartbeat up`, or one of its own."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from flows.local import servers
from flows.local.servers import is_healthy, prefect_api, running_api
from heartdata.storage.store import Store

OWN = "a temporary server"


@pytest.fixture(autouse=True)
def own_server(monkeypatch) -> SimpleNamespace:
    """Stands for the temporary server, which is not started; PREFECT_API_URL is unset."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    server = SimpleNamespace(name=OWN, process=SimpleNamespace(poll=lambda: 0), stop=lambda: None)
    monkeypatch.setattr(servers, "prefect_server", lambda *_, **__: server)
    yield server
    os.environ.pop("PREFECT_API_URL", None)


@pytest.fixture
def other(request) -> Iterator[str]:
    """The API of a Prefect server that is up; ``request.param``: what it answers when asked for its store's id."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = b"true" if self.path == "/api/health" else request.param
            self.send_response(200 if content is not None else 404)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def used(store: Store) -> str:
    with prefect_api(store) as temporary:
        return temporary.name if temporary else os.environ["PREFECT_API_URL"]


def announce(store: Store, api: str) -> None:
    store.workpath("up.json").write_text(json.dumps({"api": api, "id": "ours"}))


@pytest.mark.parametrize(
    "other", [None, b'{"value": "another store"}', b"[]", b"no JSON"], indirect=True, ids=["404", "id", "list", "text"]
)
def test_a_server_that_does_not_confirm_the_stores_id_is_not_used(other: str, store: Store):
    assert is_healthy(f"{other}/health")
    announce(store, other)
    assert used(store) == OWN


@pytest.mark.parametrize("other", [b'{"value": "ours"}'], indirect=True)
def test_the_server_of_this_stores_up_is_used_on_whatever_port(other: str, store: Store):
    announce(store, other)
    assert used(store) == other


@pytest.mark.parametrize("other", [b'{"value": "ours"}'], indirect=True)
def test_a_server_that_no_up_of_this_store_announced_is_not_used(other: str, store: Store):
    assert is_healthy(f"{other}/health")
    assert used(store) == OWN


@pytest.mark.parametrize("other", [b'{"value": "ours"}'], indirect=True)
def test_the_users_own_server_wins(other: str, store: Store, monkeypatch):
    announce(store, other)
    monkeypatch.setenv("PREFECT_API_URL", "http://server.example.org/api")
    assert used(store) == "http://server.example.org/api"


def test_an_up_that_was_killed_is_forgotten(store: Store):
    announce(store, f"http://127.0.0.1:{servers.free_port()}/api")
    assert used(store) == OWN
    store.workpath("up.json").write_text("[]")
    assert running_api(store) is None


def test_what_does_not_speak_http_is_no_server(store: Store):
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
        assert used(store) == OWN
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
