"""Notices by webhook, and runs whose process has died, on a real Prefect server."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from helpers import tiny

from flows import automations
from flows.local.servers import free_port
from heartdata.config import NoticeConfig, RunConfig
from heartdata.errors import DataRefused, HeartbeatError
from heartdata.storage.store import Store

PROJECT = Path(__file__).parents[2]
TIMEOUT_S = 150
SECRET = "T0KEN-of-the-webhook"


def wait_until(condition, what: str):
    deadline = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.2)
    return value


@pytest.fixture
def receiver() -> Iterator[SimpleNamespace]:
    """A webhook on loopback: its ``url``, the notices it ``received``, and the ``status`` that it answers."""
    seen = SimpleNamespace(received=[], status=200)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            seen.received.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(seen.status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        seen.url = f"http://127.0.0.1:{server.server_port}/{SECRET}"
        yield seen
        server.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A Prefect server of its own: the address ``api``, the folder ``home`` with its database and log."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_UI_URL, temporary_settings

    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": api}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=home)
    try:
        wait_until(lambda: _healthy(api), "the Prefect server")
        with temporary_settings({PREFECT_API_URL: api, PREFECT_UI_URL: api.removesuffix("/api"), PREFECT_HOME: home}):
            yield SimpleNamespace(api=api, home=home, environment=environment)
    finally:
        process.terminate()
        process.wait()


def _healthy(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def client(server: SimpleNamespace) -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


def deploy_nightly(config: RunConfig) -> Any:
    """The id of the deployment heartbeat/full-pipeline, as `heartbeat up` makes it, with nothing that executes runs."""
    from flows.deployments import served_deployments

    return served_deployments(config)[0].apply()


def run_of(deployment: Any, client: Any, *states: Any) -> Any:
    """A run of a deployment that goes through these states; returns its name."""
    run = client.create_flow_run_from_deployment(deployment)
    for state in states:
        client.set_flow_run_state(run.id, state, force=True)
    return run


def failed(error: Exception) -> Any:
    """The state of a run whose flow raises ``error``."""
    from prefect.states import exception_to_failed_state

    return asyncio.run(exception_to_failed_state(error, message="Flow run encountered an exception:"))


@pytest.fixture
def installed(server: SimpleNamespace, receiver: SimpleNamespace, tmp_path: Path) -> Iterator[Any]:
    """heartbeat's automations with the receiver as webhook; yields the id of the nightly deployment."""
    automations.install(NoticeConfig(webhook_url=receiver.url))
    yield deploy_nightly(tiny(tmp_path))
    automations.install(NoticeConfig(webhook_url=None))


def test_each_end_of_a_run_that_needs_a_person_is_one_notice(
    installed: Any, receiver: SimpleNamespace, client: Any, server: SimpleNamespace
):
    from prefect.states import Cancelled, Completed, Crashed

    refusal = "nothing was trained: 3 recordings with label \"a<!channel>\" & more"
    runs = [
        run_of(installed, client, state)
        for state in (Completed(), Cancelled(message="no"), failed(DataRefused(refusal)),
                      failed(HeartbeatError("fix it")), Crashed(message="no heartbeat"))
    ]  # fmt: skip
    wait_until(lambda: len(receiver.received) >= 3, "three notices")
    time.sleep(2)
    notices = sorted((notice for _, notice in receiver.received), key=lambda notice: notice["event"])
    refused, crashed, stopped = notices
    assert refused == {
        "event": "data refused",
        "flow_run": runs[2].name,
        "reason": refusal,
        "link": f"{server.api.removesuffix('/api')}/runs/flow-run/{runs[2].id}",
        "text": f"heartbeat: data refused ({runs[2].name}): nothing was trained: 3 recordings with label "
        f"\"a&lt;!channel&gt;\" &amp; more {refused['link']}",
    }
    assert (stopped["event"], stopped["flow_run"], stopped["reason"]) == ("run failed", runs[3].name, "fix it")
    assert (crashed["event"], crashed["flow_run"], crashed["reason"]) == ("run crashed", runs[4].name, "no heartbeat")
