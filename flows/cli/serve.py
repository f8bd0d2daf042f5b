"""`heartbeat serve`: a registered model over HTTP, with a page to try a recording."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from flows.cli.console import note, plain_console
from flows.http.limits import LOOPBACK, Limits
from flows.local.environment import prepare_environment
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from tasks.registry.client import find_version, load_model, refuse_empty_registry

STOP_TIMEOUT_S = 5


def serve_model(model_uri: str | None, host: str, port: int, limits: Limits, config: RunConfig) -> None:
    """Serve until Ctrl-C or SIGTERM. ``model_uri``: as in `tasks.registry.client.find_version`.

    Raises `HeartbeatError` when the address cannot be used or there is no such model.
    """
    store = Store(config.store)
    refuse_empty_registry(config.registry, store)
    with _listening(host, port) as listener, contextlib.suppress(KeyboardInterrupt):
        for number in (signal.SIGINT, signal.SIGTERM):  # a script's background jobs ignore SIGINT by default
            signal.signal(number, _stop)
        log = prepare_environment(store.open())
        console = plain_console()
        uri, on_choice = find_version(model_uri, config.registry, store)
        if on_choice:
            console.print(note(on_choice))
        os.environ["OMP_NUM_THREADS"] = "1"  # requests are computed side by side, each in a thread
        with console.status("loading the model"):
            import torch

            from flows.http.app import create_app

            torch.set_num_threads(1)
            _, predictor = load_model(uri, config.registry, store)
            app = create_app(predictor, uri, limits, loopback_only=host in LOOPBACK)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        ready = (
            f"Model        {uri}, classes {', '.join(predictor.config.classes)}",
            f"Try it       {address}",
            f"API          {address}/docs",
            f"Shell        curl -F file=@recording.wav {address}/predict",
            f"Log          {log}",
            "Research use only; not a medical device. Press Ctrl-C to stop.",
        )
        server = _Server(app, lambda: console.print("\n".join(ready), markup=False))
        server.run(sockets=[listener])
        if not server.started:
            raise HeartbeatError(f"the server did not start: see {log}")
    plain_console().print("Stopped.")


class _Server(uvicorn.Server):
    """Calls ``on_ready`` once the application is warmed up."""

    def __init__(self, app: Any, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=STOP_TIMEOUT_S)
        )
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens, so that clients wait while the model is loaded. Raises `HeartbeatError`."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise HeartbeatError(
            f"cannot listen at {host} port {port} ({(error.strerror or 'no such address').partition(' (')[0]}): choose another with --port or --host"
        ) from error


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
