"""Server processes on loopback that end when the process that started them ends, however it ends."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store, atomic_write

HOST = "127.0.0.1"
PREFECT_PORT = 4200
UP_FILE = "up.json"  # which server a running `heartbeat up` has started for a store
ID_VARIABLE = "heartbeat_up"  # Prefect variable that holds the same id as that file
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 10


def is_healthy(url: str) -> bool:
    """Whether a server answers 200 at ``url``."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (OSError, http.client.HTTPException):
        return False


def knows_run(mlflow: str, run_id: str) -> bool:
    """Whether the MLflow at this address keeps the run (one that asks who we are is believed)."""
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
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bound(probe, port)


def _bound(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind((HOST, port))
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


class Server:
    """One server process. ``health`` is a URL that answers 200 once it is ready."""

    def __init__(self, name: str, command: Sequence[str], health: str, log: Path) -> None:
        self.name, self.health, self.log = name, health, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.local.servers", *command],
                stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self) -> None:
        """Raise `HeartbeatError` when the server ends or does not answer in time."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_healthy(self.health):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise HeartbeatError(f"the {self.name} did not start: see {self.log}")
            time.sleep(0.2)

    def stop(self) -> None:
        """End the process and its children; harmless when they have ended."""
        if self.process.stdin:
            self.process.stdin.close()  # the guardian below sees the end of its input
        try:
            self.process.wait(STOP_TIMEOUT_S + 5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def prefect_server(port: int, log: Path, ui: bool) -> Server:
    """Prefect's API (and UI) on loopback."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    return Server("Prefect server", command + ([] if ui else ["--no-ui"]), f"http://{HOST}:{port}/api/health", log)


def mlflow_server(port: int, tracking_uri: str, log: Path) -> Server:
    """MLflow's UI on loopback, on the store that runs are recorded in."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
               "--backend-store-uri", tracking_uri, "--allowed-hosts", f"{HOST}:{port},localhost:{port}"]  # fmt: skip
    return Server("MLflow UI", command, f"http://{HOST}:{port}/health", log)


@contextlib.contextmanager
def announced(store: Store, api: str) -> Iterator[None]:
    """Let `prefect_api` find the server at ``api``, which must have PREFECT_API_URL and be ready."""
    from prefect.variables import Variable

    file, up_id = store.workpath(UP_FILE), uuid.uuid4().hex
    Variable.set(ID_VARIABLE, up_id, overwrite=True)
    with atomic_write(file) as output:
        output.write(json.dumps({"api": api, "id": up_id}).encode())
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def running_api(store: Store) -> str | None:
    """The address of the Prefect API that a running `heartbeat up` serves for this store.

    Another store's server may have the same port by now, so the server has to confirm the id.
    """
    try:
        up = json.loads(store.workpath(UP_FILE).read_bytes())
        with urllib.request.urlopen(f"{up['api']}/variables/name/{ID_VARIABLE}", timeout=2) as response:
            return up["api"] if json.load(response)["value"] == up["id"] else None
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
        KeyError,
        TypeError,
    ):  # no file, no server, or one of something else
        return None


@contextlib.contextmanager
def prefect_api(store: Store) -> Iterator[Server | None]:
    """Set PREFECT_API_URL: what the environment says, else this store's `heartbeat up`, else a temporary server.

    Yields the temporary server, which may still be starting, or None. Prefect must not be imported before.
    """
    if "PREFECT_API_URL" in os.environ:
        yield None
        return
    if running := running_api(store):
        os.environ["PREFECT_API_URL"] = running
        yield None
        return
    port = free_port()
    os.environ["PREFECT_API_URL"] = f"http://{HOST}:{port}/api"
    server = prefect_server(port, store.workpath("logs/prefect-server.log"), ui=False)
    try:
        yield server
    finally:
        if "prefect" in sys.modules and server.process.poll() is None:
            _send_what_is_queued()
        server.stop()


def _send_what_is_queued() -> None:
    """Logs and events leave in batches: wait for the last ones before their server ends."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)


def _guard(command: Sequence[str]) -> int:
    """Run ``command`` until it ends or our standard input does (whoever holds its other end has ended)."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

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
    sys.exit(_guard(sys.argv[1:]))
