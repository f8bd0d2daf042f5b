"""Local Prefect and MLflow servers, and which Prefect server a run uses."""

import contextlib
import http.client
import io
import json
import os
import socket
import sys
import textwrap
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

from flows.local.child import START_TIMEOUT_S, Child, is_healthy
from heartdata.errors import ConfigError
from heartdata.settings import without_login, without_logins
from heartdata.storage.store import Store, atomic_write

HOST = "127.0.0.1"
PREFECT_PORT = 4200
API_VARIABLE = "PREFECT_API_URL"
GRACEFUL_S = 3  # open connections, as of a browser, are closed then
OBSERVER_TIMEOUT_S = 3  # of a command that only looks, as it does when the server is silent
UP_FILE = "up.json"  # in the store: address and id of the server that its `heartbeat up` runs
ID_VARIABLE = "heartbeat_up"  # Prefect variable with the same id


def knows_run(mlflow: str, run_id: str) -> bool:
    """Whether the MLflow server at this address has the run; one that requires a login is assumed to have it."""
    if not is_healthy(f"{mlflow}/health"):
        return False
    try:
        with urllib.request.urlopen(f"{mlflow}/api/2.0/mlflow/runs/get?run_id={run_id}", timeout=10):
            return True
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except OSError:
        return False


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the port."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port on which no server listens."""
    with socket.create_server((HOST, 0)) as probe:
        return probe.getsockname()[1]


def prefect_server(port: int, log: Path, ui: bool) -> Child:
    """Prefect's API (and UI) on loopback, not yet started.

    We listen on its port ourselves, so that requests wait while it is started again. Raises `OSError` if that is taken,
    `ConfigError` where it should require a login.
    """
    os.environ.pop("PREFECT_SERVER_API_BASE_PATH", None)  # of a server of the user's
    if os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        raise ConfigError(
            "the Prefect server that heartbeat starts requires no login, as it listens on this machine only: leave "
            "PREFECT_SERVER_API_AUTH_STRING unset, and put a proxy before it for others (docs/security.md)"
        )
    listener = socket.create_server((HOST, port), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvicorn takes an inherited socket for a local one
    # what `prefect server start --background` runs, which cannot inherit a socket
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--log-level", "warning",
               "--fd", str(listener.fileno()), "--timeout-graceful-shutdown", str(GRACEFUL_S)]  # fmt: skip
    return Child(
        "Prefect server",
        command,
        f"http://{HOST}:{port}/api/health",
        log,
        {
            "PREFECT__SERVER_FINAL": "1",
            "PREFECT_SERVER_UI_ENABLED": str(ui),
            **{name: os.environ.get(name, value) for name, value in own_pages_only(port).items()},
        },
        log.parent,  # its alembic.ini puts the current folder, and a numpy.py in it, on Python's path
        listener=listener,
    )


def own_pages_only(port: int) -> dict[str, str]:
    """Settings of Prefect's server without which a page of any site that somebody opens here could start runs."""
    return {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }


def mlflow_server(port: int, tracking_uri: str, log: Path) -> Child:
    """MLflow's UI on loopback, for the tracking store; not yet started."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
               "--allowed-hosts", f"{HOST}:{port},localhost:{port}",
               "--uvicorn-opts", f"--timeout-graceful-shutdown {GRACEFUL_S}"]  # fmt: skip
    environment = {
        "MLFLOW_BACKEND_STORE_URI": tracking_uri,  # may hold a password, which `ps` would show as an option
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes for evaluations of language models
    }
    return Child("MLflow UI", command, f"http://{HOST}:{port}/health", log, environment)


@contextlib.contextmanager
def announced(store: Store, api: str) -> Iterator[None]:
    """Let `running_api` find the server at ``api``, which must be ready and be PREFECT_API_URL."""
    from prefect.variables import Variable

    file, up_id = store.workpath(UP_FILE), uuid.uuid4().hex
    Variable.set(ID_VARIABLE, up_id, overwrite=True)
    with atomic_write(file) as output:
        output.write(json.dumps({"api": api, "id": up_id, "store": store.uri}).encode())
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def running_api(store: Store, timeout_s: float = START_TIMEOUT_S) -> str | None:
    """The address of the Prefect API of this store's `heartbeat up`, or None if it is not running.

    Another store's server may have taken over the port, so the server has to confirm the id. One that is being started
    again is waited for, up to ``timeout_s``.
    """
    try:
        up = json.loads(store.workpath(UP_FILE).read_bytes())
        if up["store"] != store.uri:  # this store is a copy
            return None
        with urllib.request.urlopen(f"{up['api']}/variables/name/{ID_VARIABLE}", timeout=timeout_s) as response:
            return up["api"] if json.load(response)["value"] == up["id"] else None
    except (OSError, http.client.HTTPException):  # no file, or no HTTP server
        return None
    except (ValueError, KeyError, TypeError):  # not our JSON
        return None


@contextlib.contextmanager
def prefect_api(store: Store) -> Iterator[Child | None]:
    """Set PREFECT_API_URL, if unset, to this store's `heartbeat up` or else to a temporary server.

    Yields the temporary server, which may still be starting, or None. Must run before Prefect is imported.
    """
    if os.environ.get(API_VARIABLE, "").strip():
        yield None
        return
    if running := running_api(store):
        os.environ[API_VARIABLE] = running
        yield None
        return
    port = free_port()
    os.environ[API_VARIABLE] = f"http://{HOST}:{port}/api"
    server = prefect_server(port, store.workpath("logs/prefect-server.log"), ui=False)
    server.start()
    try:
        yield server
    finally:
        if "prefect" in sys.modules and server.is_running:
            _flush_prefect()
        server.stop()
        server.close()


def load_prefect() -> None:
    """Import Prefect. Raises `ConfigError` when it cannot read a variable of the environment."""
    from pydantic import ValidationError

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it says the same in its own words
            import prefect.main  # noqa: F401
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"Prefect cannot use the value {first['input']!r} of {setting!r} in its {error.title} ({first['msg']}): "
            "correct the variable PREFECT_... that sets it, or leave it unset"
        ) from error


def check_api() -> None:
    """Ask the Prefect server once, without waiting long. Raises `ConfigError` if it cannot be used."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    url = os.environ[API_VARIABLE]
    try:
        with (
            temporary_settings({PREFECT_API_REQUEST_TIMEOUT: 10, PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True) as client,
        ):
            client.read_flows(limit=1)
    except Exception as error:  # Prefect's, httpx's, pydantic's
        reason = textwrap.shorten(str(error).partition("\n")[0] or type(error).__name__, 200, placeholder=" ...")
        if getattr(getattr(error, "response", None), "status_code", 0) in (401, 403):
            reason = "it requires another login: set PREFECT_API_KEY, or PREFECT_API_AUTH_STRING"
        elif type(error).__name__ == "InvalidURL":  # its text may hold a part of a password
            reason = "this is no address"
        raise ConfigError(
            f"Prefect cannot be used at {without_login(url)} ({without_logins(reason)}): correct {API_VARIABLE} or leave it unset"
        ) from error


def _flush_prefect() -> None:
    """Logs and events are sent in batches: wait for the last ones before the server stops."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)
