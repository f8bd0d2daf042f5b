"""`heartbeat up`: keeps the Prefect server, the MLflow UI and the process that serves the deployments running."""

import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from flows.cli.console import note, plain_console
from flows.cli.databases import check_databases
from flows.cli.run import program_path
from flows.local.child import Child, is_healthy, kept_running
from flows.local.environment import prepare_environment
from flows.local.interrupted import end_killed, end_served
from flows.local.observed import UP_LOCK
from flows.local.servers import HOST, PREFECT_PORT, announced, load_prefect, mlflow_server, port_is_free, prefect_server
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.sources.base import check_source
from heartdata.storage.locks import exclusive
from heartdata.storage.store import Store
from tasks.registry.client import check_registry, is_empty, tracking_uri
from tasks.registry.database import make_database
from tasks.registry.locations import DATABASE

logger = logging.getLogger("heartbeat")
STOPPING_S = 5.0  # a service manager kills what does not stop soon


def serve_all(config: RunConfig, prefect_port: int, mlflow_port: int) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP. Raises `HeartbeatError` when a port is taken or a server does not start."""
    config = with_links_to(f"http://{HOST}:{mlflow_port}", config)
    check_source(config.source)
    store = Store(config.store).open()
    check_ports(prefect_port, mlflow_port)
    prepare_environment(store, verbose=True)
    check_databases(config.registry, store)
    check_registry(config.registry, store)
    if is_empty(config.registry, store):  # else MLflow's server and a first run would both make it
        make_database(store.workpath(DATABASE))
    console = plain_console()
    with lock_store(store), contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        os.environ["PREFECT_API_URL"] = f"http://{HOST}:{prefect_port}/api"
        load_prefect()
        from flows.deployments import served_deployments

        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        stack.enter_context(signals_interrupt())
        logs = store.workpath("logs")
        api_server = prefect_server(prefect_port, logs / "prefect-server.log", ui=True)
        stack.callback(api_server.close)
        mlflow_ui = mlflow_server(mlflow_port, tracking_uri(config.registry, store), logs / "mlflow-ui.log")
        for server in (api_server, mlflow_ui):
            stack.callback(server.stop)
            server.start()
        stack.callback(mlflow_ui.begin_stop)
        stack.callback(api_server.begin_stop)
        with console.status("starting the servers"):
            api_server.wait_ready()
            mlflow_ui.wait_ready()
            stack.enter_context(kept_running([api_server, mlflow_ui], partial(report, console)))
            # before anybody starts a run, which would have the settings of an earlier `up`
            for deployment in served_deployments(config):
                deployment.apply()
        stack.enter_context(announced(store, os.environ["PREFECT_API_URL"]))
        from flows.automations import install

        notices = install(config.notice)
        introduce(config, prefect_port, mlflow_port, console)
        console.print(f"Notices      {notices}", markup=False)
        console.print("Press Ctrl-C to stop.")
        runner = deployments_runner(config, logs / "runner.log", partial(end_interrupted, console, store))
        stack.callback(try_to_end_interrupted, console, store)
        stack.callback(runner.stop)
        runner.start()
        with kept_running([runner], partial(report, console)):
            while True:
                time.sleep(1)
    with contextlib.suppress(OSError):
        console.print("Stopped.")


def check_ports(prefect_port: int, mlflow_port: int) -> None:
    """Raises `HeartbeatError` unless the ports are two and free."""
    if prefect_port == mlflow_port:
        raise HeartbeatError(f"--prefect-port and --mlflow-port are both {prefect_port}: choose two ports")
    for port, option in ((prefect_port, "--prefect-port"), (mlflow_port, "--mlflow-port")):
        if not port_is_free(port):
            raise HeartbeatError(
                f"port {port} is taken (another `heartbeat up`?): stop it, or choose another port with {option}"
            )


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP, as of a closed terminal, raise KeyboardInterrupt once; then they are ignored.

    So nothing interrupts the stopping. A script's background jobs would ignore SIGINT by default; `nohup` has SIGHUP ignored.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)

    def stop(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def deployments_runner(config: RunConfig, log: Path, prepare: Callable[[], None]) -> Child:
    """The process that serves the deployments, not yet started; when it has died, so have its flow runs."""
    command = [sys.executable, "-m", "flows.local.runner"]
    settings = json.dumps(config.model_dump(mode="json"))
    return Child("runner", command, None, log, stdin_line=settings, prepare=prepare, grace_s=0, echo=True)


def introduce(config: RunConfig, prefect_port: int, mlflow_port: int, console: Console) -> None:
    """Print what runs where."""
    api = os.environ["PREFECT_API_URL"]
    console.print(f"Source       {_source(config)}", markup=False)
    console.print(f"Prefect UI   http://{HOST}:{prefect_port}")
    console.print(f"Prefect API  {api}")
    console.print(f"MLflow UI    http://{HOST}:{mlflow_port}")
    console.print("Run a deployment now, from another shell:")
    prefect = ("" if prefect_port == PREFECT_PORT else f"PREFECT_API_URL={api} ") + shlex.quote(program_path("prefect"))
    console.print(f"             {prefect} deployment run heartbeat/full-pipeline --watch", markup=False)
    parameters = "--param data=/FOLDER/OR/TABLE --param out=/FILE.parquet"
    console.print(f"             {prefect} deployment run score/new-recordings {parameters} --watch", markup=False)
    if config.split.redraws_test:
        text = (
            f"split.strategy={config.split.strategy} draws another test part when recordings are added, so few subjects stay "
            "held out to compare models on: set split.strategy=hash from the first night on (docs/splits.md)"
        )
        console.print(note(text))


def lock_store(store: Store) -> contextlib.AbstractContextManager[None]:
    """Lock a store against a second `heartbeat up`. Raises `HeartbeatError`.

    Two on one store would mark each other's runs as crashed.
    """
    taken = f"another `heartbeat up` serves {store.uri}: stop it, or choose another store with --store"
    return exclusive(store.workpath(UP_LOCK), taken)


def report(console: Console, line: str) -> None:
    """Log a line and print it with the time."""
    logger.warning(line)
    with contextlib.suppress(OSError):  # the terminal was closed
        console.print(note(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {line}"))


def end_interrupted(console: Console, store: Store) -> None:
    """Mark runs whose processes have ended as crashed, and say how many. Call while no deployment is served."""
    if ended := end_served("heartbeat up, or its runner, ended during this run", store) + end_killed():
        report(console, f"marked as crashed: {ended} interrupted runs")


def try_to_end_interrupted(console: Console, store: Store) -> None:
    """The same while stopping: where the server does not answer soon, the next start does it."""
    if not is_healthy(f"{os.environ['PREFECT_API_URL']}/health", STOPPING_S):
        logger.warning("interrupted runs are not marked as crashed yet: the Prefect server does not answer")
        return
    try:
        end_interrupted(console, store)
    except Exception as error:  # Prefect's and httpx's
        logger.warning("interrupted runs are not marked as crashed yet: %s", error)


def with_links_to(ui_url: str, config: RunConfig) -> RunConfig:
    """``config`` with links to registered models at ``ui_url``, unless the user has set another."""
    if "ui_url" in config.registry.model_fields_set:
        return config
    return config.model_copy(update={"registry": config.registry.model_copy(update={"ui_url": ui_url})})


def _source(config: RunConfig) -> str:
    """The source's name, and its data as named from the current folder."""
    data = getattr(config.source, "data", None)
    if data is None:
        return config.source.name
    path = Path(data).expanduser()
    return f"{config.source.name}, {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}"
