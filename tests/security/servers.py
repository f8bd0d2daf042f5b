"""Real servers on free ports of loopback, started as docker/compose.yaml and `heartbeat up` start them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from helpers import free_port, wait_until

from flows.local.servers import is_healthy


@contextmanager
def started(folder: Path, health: str, *command: str, **environment: str) -> Iterator[str]:
    """A server of this environment, in ``folder``; yields its address. ``{port}`` in the command: its port."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    arguments = [part.format(port=port) for part in command]
    values: Mapping[str, str] = {**os.environ, **environment}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=folder, env=values, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_until(lambda: process.poll() is not None or is_healthy(f"http://{address}{health}"), command[0])
            assert process.poll() is None, (folder / "server.log").read_text()
            yield address
        finally:
            os.killpg(process.pid, 15)
            process.wait(60)


def prefect_server(folder: Path) -> Iterator[str]:
    """Prefect, with the settings of docker/compose.yaml."""
    with started(
        folder, "/api/health", "prefect", "server", "start", "--host", "127.0.0.1", "--port", "{port}",
        PREFECT_HOME=str(folder), PREFECT_UI_API_URL="/api", PREFECT_SERVER_CSRF_PROTECTION_ENABLED="true",
        PREFECT_API_URL="",
    ) as address:  # fmt: skip
        yield address


def mlflow_server(folder: Path) -> Iterator[str]:
    """MLflow, with its artifacts in a folder."""
    with started(
        folder, "/health", "mlflow", "server", "--host", "127.0.0.1", "--port", "{port}", "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", (folder / "kept").as_uri(),
        "--allowed-hosts", "127.0.0.1:{port}", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    ) as address:  # fmt: skip
        yield address
