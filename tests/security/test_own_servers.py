"""The servers that `heartbeat up` starts: on loopback alone, and of no use to pages of other sites."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import free_port, wait_until

from flows.local.servers import is_healthy

PROJECT = Path(__file__).parents[2]
SERVERS = ("prefect.server.api.server:create_app", "mlflow.server.fastapi_app:app")
LOOPBACK = {"127.0.0.1", "::1"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Iterator[tuple[psutil.Process, int, int]]:
    """`heartbeat up` on a store of its own: its process, and the ports of Prefect and MLflow."""
    folder = tmp_path_factory.mktemp("up")
    prefect, mlflow = free_port(), free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    command = [sys.executable, "-m", "flows.cli.main", "up", "--source", "demo", "--store", str(folder / "store"),
               "--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**environment, "PYTHONPATH": str(PROJECT)}, stdout=log, stderr=log
        )
        try:
            wait_until(
                lambda: process.poll() is not None or b"Press Ctrl-C" in (folder / "log").read_bytes(), "a start"
            )
            assert process.poll() is None, (folder / "log").read_text()
            wait_until(lambda: is_healthy(f"http://127.0.0.1:{prefect}/api/health"), "the Prefect server")
            yield psutil.Process(process.pid), prefect, mlflow
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def test_a_run_can_be_started_as_soon_as_it_says_so(up: tuple[psutil.Process, int, int]):
    process, port, _ = up
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/deployments/name/heartbeat/full-pipeline")
    deployed = json.load(connection.getresponse())
    assert deployed["parameters"]["config"]["store"] == process.cmdline()[process.cmdline().index("--store") + 1]


def family(process: psutil.Process) -> list[tuple[int, list[str], list[Any]]]:
    """The processes of a service: their ids, command lines, and where they listen."""
    found = []
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            listening = [c.laddr for c in each.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            found.append((each.pid, each.cmdline(), listening))
    return found


def test_all_of_them_listen_on_loopback_alone(up: tuple[psutil.Process, int, int]):
    process, *ports = up
    started = {*SERVERS, "flows.local.runner"}
    wait_until(lambda: started <= {word for _, words, _ in family(process) for word in words}, "all of them")
    listening = [address for _, _, addresses in family(process) for address in addresses]
    assert {address.ip for address in listening} <= LOOPBACK
    assert {address.port for address in listening} >= set(ports)


def ask(port: int, method: str, path: str, body: object = None, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    response.read()
    return response


FLOW = {"name": "of another site"}


def test_a_page_of_another_site_cannot_write_to_prefect(up: tuple[psutil.Process, int, int]):
    _, port, _ = up
    evil = "https://evil.example"
    assert ask(port, "POST", "/api/flows/", FLOW, Origin=evil).status == 403  # a browser sends it without asking first
    assert ask(port, "POST", "/api/flows/", FLOW, Origin=evil, Content_Type="application/json").status == 403
    token = ask(port, "GET", "/api/csrf-token?client=evil", Origin=evil)
    assert token.getheader("Access-Control-Allow-Origin") is None  # so the page cannot read it
    own = ask(port, "GET", "/api/csrf-token?client=own", Origin=f"http://127.0.0.1:{port}")
    assert own.getheader("Access-Control-Allow-Origin") == f"http://127.0.0.1:{port}"
    preflight = ask(
        port, "OPTIONS", "/api/flows/", Origin=evil, Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="prefect-csrf-token",
    )  # fmt: skip
    assert preflight.getheader("Access-Control-Allow-Origin") is None


def test_mlflow_refuses_other_hosts_and_pages(up: tuple[psutil.Process, int, int]):
    _, _, port = up
    search = "/api/2.0/mlflow/experiments/search"
    body = {"max_results": 1}
    assert ask(port, "POST", search, body, Content_Type="application/json").status == 200
    assert ask(port, "POST", search, body, Content_Type="application/json", Origin="https://evil.example").status == 403
    assert ask(port, "POST", search, body, Content_Type="application/json", Host="evil.example").status == 403
