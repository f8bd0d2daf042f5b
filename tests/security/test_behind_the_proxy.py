"""Prefect, MLflow and `heartbeat serve` behind the reverse proxy: their pages and clients work, strangers are refused."""

import asyncio
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import beats, served_app, write_wav
from proxy import DOMAIN, LOGIN, PASSWORD, USER, Proxy, needs_nginx, proxy
from servers import mlflow_server, prefect_server
from untrained import untrained

from heartdata.storage.store import Store

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
MAX_BYTES = 1_000_000  # of a request to heartbeat serve
pytestmark = [needs_nginx, pytest.mark.slow]


@pytest.fixture(scope="module")
def mlflow_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def mlflow_address(mlflow_folder: Path) -> Iterator[str]:
    yield from mlflow_server(mlflow_folder)


@pytest.fixture(scope="module")
def prefect_address(tmp_path_factory) -> Iterator[str]:
    yield from prefect_server(tmp_path_factory.mktemp("prefect"))


@pytest.fixture(scope="module")
def serve_address(tmp_path_factory) -> Iterator[str]:
    from flows.http.app import create_app
    from flows.http.limits import Limits
    from heartdata.serving.predictor import Predictor

    store = Store(tmp_path_factory.mktemp("serve")).open()
    model = untrained(store)
    predictor = Predictor.load(store.local(model.weights.name), store.local(model.config.name))
    app = create_app(predictor, "models:/heartbeat/1", Limits(max_bytes=MAX_BYTES))
    with served_app(app) as address:
        yield address


@pytest.fixture(scope="module")
def front(tmp_path_factory, mlflow_address: str, prefect_address: str, serve_address: str) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    with proxy(folder, prefect=prefect_address, mlflow=mlflow_address, serve=serve_address) as running:
        yield running


ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
PATHS = {
    "prefect": ("/", "/api/health", "/api/admin/version", "/api/flow_runs/filter", "/ui-settings"),
    "mlflow": (
        "/",
        "/health",
        "/version",
        "/api/2.0/mlflow/experiments/search",
        f"{ARTIFACTS}/x",
        "/get-artifact?path=x",
    ),
    "serve": ("/", "/health", "/docs", "/predict", "/explain"),
}


@pytest.mark.parametrize("service", PATHS)
def test_pages_interfaces_and_artifacts_need_the_password(front: Proxy, service: str):
    for path in PATHS[service]:
        for method in ("GET", "POST", "PUT", "DELETE"):
            assert front.ask(service, path, method, login=False).status == 401
    assert front.ask(service, "/").status == 200
    assert front.ask(service, "/", Origin="https://evil.example").status == 403


ENVIRONMENT = {"PREFECT_API_AUTH_STRING": f"{USER}:{PASSWORD}", "MLFLOW_TRACKING_USERNAME": USER,
               "MLFLOW_TRACKING_PASSWORD": PASSWORD}  # fmt: skip
RESOLVED = """
import socket
ask = socket.getaddrinfo
def at_home(host, *args, **options):
    name = host.decode() if isinstance(host, bytes) else host
    return ask("127.0.0.1" if str(name).endswith(".localhost") else host, *args, **options)
socket.getaddrinfo = at_home
"""  # browsers resolve these names, the C library does not
EVENT = """
from prefect.events import emit_event
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
with get_client(sync_client=True) as client:
    client.read_flows(limit=1)
    client.create_flow_from_name("through the proxy")
emit_event("heartbeat.proxied", {"prefect.resource.id": "heartbeat"})
EventsWorker.drain_all(timeout=30)
"""
RUN = """
import mlflow
with mlflow.start_run():
    mlflow.log_text("kept", "a/b.txt")
print(mlflow.artifacts.load_text(mlflow.last_active_run().info.artifact_uri + "/a/b.txt"))
"""


def client(front: Proxy, code: str, **environment: str) -> subprocess.CompletedProcess:
    values = {
        **os.environ, "PREFECT_API_URL": f"{front.address('prefect')}/api", "MLFLOW_TRACKING_URI": front.address("mlflow"),
        "PREFECT_API_SSL_CERT_FILE": str(front.certificate), "SSL_CERT_FILE": str(front.certificate),
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(front.certificate), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "PREFECT_CLIENT_MAX_RETRIES": "0", **environment,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", RESOLVED + code], capture_output=True, text=True, env=values, timeout=300
    )


def events(front: Proxy) -> list[dict]:
    body = json.dumps({"filter": {"event": {"prefix": ["heartbeat."]}}}).encode()
    token = json.loads(front.ask("prefect", "/api/csrf-token?client=test").body)["token"]
    reply = front.ask(
        "prefect", "/api/events/filter", "POST", body, Content_Type="application/json", Prefect_Csrf_Token=token,
        Prefect_Csrf_Client="test",
    )  # fmt: skip
    assert reply.status == 200, reply.body
    return json.loads(reply.body)["events"]


def test_prefects_client_and_its_events_work_with_the_password_alone(front: Proxy):
    refused = client(front, EVENT)
    assert refused.returncode
    assert "401" in refused.stderr
    done = client(front, EVENT, **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 60
    while not (found := events(front)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert [event["event"] for event in found] == ["heartbeat.proxied"]  # sent through a websocket


def test_a_websocket_needs_the_password_and_its_own_page(front: Proxy):
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    async def opened(**headers: str) -> int:
        tls = ssl.create_default_context(cafile=str(front.certificate))
        url = f"wss://prefect.{DOMAIN}:{front.https_port}/api/events/out"
        try:
            async with connect(
                url, ssl=tls, host="127.0.0.1", additional_headers=headers, subprotocols=["prefect"], proxy=None
            ):  # fmt: skip
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    assert asyncio.run(opened()) == 401
    assert asyncio.run(opened(**LOGIN, Origin="https://evil.example")) == 403
    assert asyncio.run(opened(**LOGIN)) == 101
    assert asyncio.run(opened(**LOGIN, Origin=front.address("prefect"))) == 101


def test_mlflows_client_and_its_artifacts_work_with_the_password_alone(front: Proxy):
    refused = client(front, RUN)
    assert refused.returncode
    assert "401" in refused.stderr
    done = client(front, RUN, **ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "kept" in done.stdout


UPWARDS = ("../secret", "a/../../secret", "%2e%2e/secret", "%2e%2e%2fsecret", "%252e%252e/secret", "%252e%252e%252fsecret",
           "..%5csecret")  # fmt: skip
ELSEWHERE = ("//etc/passwd", "%2fetc%2fpasswd", "file:///etc/passwd", "%00/../secret")


@pytest.fixture(scope="module")
def secret(mlflow_folder: Path) -> Path:
    """A file beside the folder of the artifacts."""
    path = mlflow_folder / "secret"
    path.write_text("root: of nobody's business")
    return path


@pytest.mark.parametrize("path", [*UPWARDS, *ELSEWHERE])
def test_names_of_artifacts_do_not_lead_out_of_their_folder(
    front: Proxy, mlflow_address: str, mlflow_folder: Path, secret: Path, path: str
):
    def without_proxy(method: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(mlflow_address, timeout=60)
        connection.putrequest(method, f"{ARTIFACTS}/{path}")
        connection.putheader("Content-Length", "7")
        connection.endheaders(b"planted")
        response = connection.getresponse()
        return response.status, response.read()

    before = secret.read_text()
    for method in ("GET", "PUT", "DELETE"):
        through = front.ask("mlflow", f"{ARTIFACTS}/{path}", method, b"planted")
        assert path in ELSEWHERE or through.status == 400
        assert b"root:" not in through.body + without_proxy(method)[1]
        written = [file for file in mlflow_folder.rglob("*") if file.is_file() and file.read_bytes() == b"planted"]
        assert all(file.is_relative_to(mlflow_folder / "kept") for file in written)
        assert secret.read_text() == before
    for query in ("get-artifact?run_uuid=x&path=", "ajax-api/2.0/mlflow-artifacts/artifacts?path="):
        assert b"root:" not in front.ask("mlflow", f"/{query}{path}").body


def test_the_limits_of_serve_hold_through_the_proxy(front: Proxy, tmp_path: Path):
    recording = write_wav(tmp_path / "a.wav", beats()).read_bytes()
    answered = front.ask(
        "serve", "/predict", "POST", recording, Content_Type="audio/wav", Origin=front.address("serve")
    )
    assert answered.status == 200
    assert json.loads(answered.body)["predictions"][0]["label"]
    refused = front.ask("serve", "/predict", "POST", bytes(MAX_BYTES + 1), Content_Type="audio/wav")
    assert (refused.status, json.loads(refused.body)["error"][:15]) == (413, "more than 1 MB:")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.is_file():
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", f"--host-resolver-rules=MAP *.{DOMAIN} 127.0.0.1"]
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield opened
        opened.close()


SHOWN = {
    "prefect": ("/runs", "Runs"),
    "mlflow": ("/#/experiments", "Experiments"),
    "serve": ("/", "Research use only"),
}


@pytest.mark.parametrize("service", SHOWN)
def test_the_pages_work_in_a_browser(front: Proxy, browser, service: str):
    path, text = SHOWN[service]
    context = browser.new_context(ignore_https_errors=True, http_credentials={"username": USER, "password": PASSWORD})
    page, failed = context.new_page(), []
    page.set_default_timeout(120_000)
    page.on("response", lambda r: failed.append((r.status, r.url)) if r.status >= 400 and DOMAIN in r.url else None)
    page.goto(front.address(service) + path)
    page.get_by_text(text).first.wait_for()
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{service}.png"))
    context.close()
    assert failed == []
