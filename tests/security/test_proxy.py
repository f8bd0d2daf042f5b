"""The reverse proxy on its own: who is let through, and what reaches the server behind it."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from proxy import DOMAIN, LOGIN, PASSWORD, TEMPLATE, Proxy, needs_nginx, proxy

pytestmark = needs_nginx


class Echo(BaseHTTPRequestHandler):
    """Answers with the path and the headers that arrived, and the number of bytes."""

    def do_GET(self) -> None:
        size = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        body = json.dumps({"path": self.path, "headers": dict(self.headers), "size": size}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def front(tmp_path_factory) -> Iterator[Proxy]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        with proxy(tmp_path_factory.mktemp("proxy"), prefect=address, mlflow=address, serve=address) as running:
            yield running
        server.shutdown()


@pytest.mark.parametrize("service", ["prefect", "mlflow", "serve"])
@pytest.mark.parametrize("path", ["/", "/api/health", "/health", "/api/2.0/mlflow-artifacts/artifacts/x", "/predict"])
def test_without_a_password_nothing_is_let_through(front: Proxy, service: str, path: str):
    for method in ("GET", "POST", "PUT"):
        reply = front.ask(service, path, method, login=False)
        assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, 'Basic realm="heartbeat"')
    assert front.ask(service, path, login=False, Authorization="Basic ZG9jdG9yOndyb25n").status == 401
    assert front.ask(service, path, login=False, Upgrade="websocket", Connection="Upgrade").status == 401


def test_what_is_let_through_carries_neither_the_password_nor_the_origin(front: Proxy):
    reply = front.ask("mlflow", "/a%20b?c=d", Origin=front.address("mlflow"))
    assert reply.status == 200
    echo = json.loads(reply.body)
    assert echo["path"] == "/a%20b?c=d"
    assert not {"Authorization", "Origin"} & echo["headers"].keys()
    assert echo["headers"]["Host"].startswith("127.0.0.1:")
    assert PASSWORD not in str(echo)
    assert reply.headers["X-Frame-Options"] == "SAMEORIGIN"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", f"https://serve.{DOMAIN}", f"http://mlflow.{DOMAIN}", "https://mlflow.heartbeat.localhost.evil.example"],
)  # fmt: skip
def test_pages_of_other_sites_are_refused(front: Proxy, origin: str):
    for method in ("GET", "POST"):
        assert front.ask("mlflow", "/", method, Origin=origin).status == 403
    assert front.ask("mlflow", "/", Origin=origin, Upgrade="websocket", Connection="Upgrade").status == 403


def test_other_names_are_refused(front: Proxy):
    for host in ("evil.example", "127.0.0.1", DOMAIN, ""):
        assert front.ask("mlflow", "/", Host=host).status in (400, 421)
    with pytest.raises(OSError, match="unrecognized name"):
        front.ask("mlflow", "/", server_name="evil.example")


@pytest.mark.parametrize(
    "path",
    ["/a/../b", "/a/%2e%2e/b", "/a/%2E./b", "/a/%252e%252e/b", "/a/%25252e%25252e%25252fb", "/a/..", "/..%2fb", "/..%5cb",
     "/x?path=../b", "/x?path=a%2f..%2fb", "/x?path=%252e%252e%252fb", "/x?y=1&path=a/.."],
)  # fmt: skip
def test_paths_that_lead_upwards_are_refused(front: Proxy, path: str):
    assert front.ask("mlflow", path).status == 400


@pytest.mark.parametrize("path", ["/a..b", "/a/...", "/v1..v2/x?version=1..2", "/.../x", "/.hidden"])
def test_other_dots_are_not(front: Proxy, path: str):
    assert json.loads(front.ask("mlflow", path).body)["path"] == path


def test_uploads_are_limited(front: Proxy):
    for service, megabytes in (("prefect", 16), ("serve", 64)):
        size = megabytes << 20
        echo = front.ask(service, "/", "POST", bytes(size))
        assert json.loads(echo.body)["size"] == size
        assert front.ask(service, "/", "POST", Content_Length=str(size + 1)).status == 413
    assert front.ask("mlflow", "/", "PUT", Content_Length=str((2 << 30) + 1)).status == 413


def test_plain_http_is_redirected_and_takes_no_password(front: Proxy):
    command = [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{redirect_url}",
        "-H",
        f"Authorization: {LOGIN['Authorization']}",
    ]
    for host, expected in ((f"mlflow.{DOMAIN}", f"308 {front.address('mlflow')}/x?y=1"), ("evil.example", "421 ")):
        url = f"http://127.0.0.1:{front.http_port}/x?y=1"
        assert subprocess.run([*command, "-H", f"Host: {host}", url], capture_output=True, text=True).stdout == expected


def test_the_docs_name_each_setting_of_the_template():
    docs = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    settings = set(re.findall(r"\$\{([A-Z_]+)\}", TEMPLATE.read_text()))
    assert settings
    assert all(f"`{name}`" in docs for name in settings)
