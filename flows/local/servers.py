"""Local Prefect and MLflow servers that stop when the process that started them ends, even if it is killed."""

import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from heartdata.errors import ConfigError, HeartbeatError
from heartdata.storage.store import Store, atomic_write

HOST = "127.0.0.1"
PREFECT_PORT = 4200
API_VARIABLE = "PREFECT_API_URL"
UP_FILE = "up.json"  # in the store: address and id of the server that its `heartbeat up` runs
ID_VARIABLE = "heartbeat_up"  # Prefect variable with the same id
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 10
EXCEPTION = re.compile(r"(\w+\.)*\w*(Error|Exception|Exit)\b")  # begins the last line of a traceback


def is_healthy(url: str) -> bool:
    """Whether a server answers 200 at ``url``."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (OSError, http.client.HTTPException):
        return False


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


class Server:
    """One server process. ``health`` is a URL that answers 200 once it is ready; ``folder`` is its current folder."""

    def __init__(
        self, name: str, command: Sequence[str], health: str, log: Path, environment: Mapping[str, str] | None = None,
        folder: Path = Path(),
    ) -> None:  # fmt: skip
        self.name, self.health, self.log = name, health, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._log_start = output.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.local.servers", str(folder), *command],
                stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, "PYTHONSAFEPATH": "1", **(environment or {})},  # as python -P, for its children, too
            )  # fmt: skip

    def wait_ready(self) -> None:
        """Wait until the server answers. Raises `HeartbeatError` if it ends or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_healthy(self.health):
            if self.process.poll() is not None:
                self.stop()
                raise HeartbeatError(f"the {self.name} did not start ({self._reason()}): see {self.log}")
            if time.monotonic() > deadline:
                self.stop()
                raise HeartbeatError(
                    f"the {self.name} did not answer at {self.health} within {START_TIMEOUT_S} s: run again, or see {self.log}"
                )
            time.sleep(0.2)

    def _reason(self) -> str:
        """Why it did not start, by what it has logged."""
        logged = self.log.read_bytes()[self._log_start :].decode(errors="replace")
        if "Can't locate revision" in logged:
            program = self.name.split()[0]
            return f"its database was made by a newer version of {program}: use that version, or another store"
        return logged_reason(logged) or "it ended without a word"

    def stop(self) -> None:
        """Stop the process and its children, if they still run."""
        if self.process.stdin:
            self.process.stdin.close()  # see _guard
        try:
            self.process.wait(STOP_TIMEOUT_S + 5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def logged_reason(logged: str) -> str:
    """The line of a server's log that says why it ended: its last exception, else its last error, else its last line."""
    lines = [line for line in logged.splitlines() if line.strip()]
    exceptions = [line for line in lines if EXCEPTION.match(line)]
    errors = [line for line in lines if "error" in line.lower()]
    last = (exceptions or errors or lines or [""])[-1]
    return textwrap.shorten(last.removeprefix("ERROR:"), 200, placeholder=" ...")


def prefect_server(port: int, log: Path, ui: bool) -> Server:
    """Prefect's API (and UI) on loopback."""
    os.environ.pop("PREFECT_SERVER_API_BASE_PATH", None)  # of a server of the user's
    if secret := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        os.environ["PREFECT_API_AUTH_STRING"] = secret  # this process is its client
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    return Server(
        "Prefect server",
        command + ([] if ui else ["--no-ui"]),
        f"http://{HOST}:{port}/api/health",
        log,
        {name: os.environ.get(name, value) for name, value in own_pages_only(port).items()},
        folder=log.parent,
    )  # its alembic.ini puts the current folder, and a numpy.py in it, on Python's path


def own_pages_only(port: int) -> dict[str, str]:
    """Settings of Prefect's server without which a page of any site that somebody opens here could start runs."""
    return {
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    }


def mlflow_server(port: int, tracking_uri: str, log: Path) -> Server:
    """MLflow's UI on loopback, for the tracking store."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
               "--allowed-hosts", f"{HOST}:{port},localhost:{port}"]  # fmt: skip
    secret = {"MLFLOW_BACKEND_STORE_URI": tracking_uri}  # may hold a password, which `ps` would show as an option
    return Server("MLflow UI", command, f"http://{HOST}:{port}/health", log, secret)


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


def running_api(store: Store) -> str | None:
    """The address of the Prefect API of this store's `heartbeat up`, or None if it is not running.

    Another store's server may have taken over the port, so the server has to confirm the id.
    """
    try:
        up = json.loads(store.workpath(UP_FILE).read_bytes())
        if up["store"] != store.uri:  # this store is a copy
            return None
        with urllib.request.urlopen(f"{up['api']}/variables/name/{ID_VARIABLE}", timeout=2) as response:
            return up["api"] if json.load(response)["value"] == up["id"] else None
    except (OSError, http.client.HTTPException):  # no file, or no HTTP server
        return None
    except (ValueError, KeyError, TypeError):  # not our JSON
        return None


@contextlib.contextmanager
def prefect_api(store: Store) -> Iterator[Server | None]:
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
    try:
        yield server
    finally:
        if "prefect" in sys.modules and server.process.poll() is None:
            _flush_prefect()
        server.stop()


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
        shown = re.sub("//[^/@]*@", "//", url)
        raise ConfigError(
            f"Prefect cannot be used at {shown} ({reason}): correct {API_VARIABLE} or leave it unset"
        ) from error


def _flush_prefect() -> None:
    """Logs and events are sent in batches: wait for the last ones before the server stops."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)


def _guard(folder: str, *command: str) -> int:
    """Run ``command`` in ``folder`` until it ends, or until our standard input closes because the parent process has ended."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=folder)

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os._exit(_guard(*sys.argv[1:]))  # a normal exit would wait for the thread that reads our standard input
