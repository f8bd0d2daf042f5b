"""`heartbeat up`: the Prefect server, the nightly deployment and the MLflow UI in one foreground process."""

import contextlib
import fcntl
import os
import signal
from pathlib import Path
from typing import Any, TextIO

from flows.cli.console import note, plain_console
from flows.cli.databases import check_prefect_database
from flows.cli.run import program
from flows.deployments import nightly_deployment, scoring_deployment
from flows.local.environment import prepare_environment
from flows.local.servers import HOST, PREFECT_PORT, announced, load_prefect, mlflow_server, port_is_free, prefect_server
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.sources.base import check_source
from heartdata.storage.store import Store
from tasks.registry.client import check_registry, tracking_uri


def serve_all(config: RunConfig, prefect_port: int, mlflow_port: int) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises `HeartbeatError` when a port is taken or a server does not start."""
    config = with_links_to(f"http://{HOST}:{mlflow_port}", config)
    check_source(config.source)
    store = Store(config.store).open()
    if prefect_port == mlflow_port:
        raise HeartbeatError(f"--prefect-port and --mlflow-port are both {prefect_port}: choose two ports")
    for port, option in ((prefect_port, "--prefect-port"), (mlflow_port, "--mlflow-port")):
        if not port_is_free(port):
            raise HeartbeatError(
                f"port {port} is taken (another `heartbeat up`?): stop it, or choose another port with {option}"
            )
    prepare_environment(store, verbose=True)
    check_registry(config.registry, store)
    check_prefect_database(store)
    lock = lock_store(store)
    os.environ["PREFECT_API_URL"] = f"http://{HOST}:{prefect_port}/api"
    load_prefect()
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    for number in (signal.SIGINT, signal.SIGTERM):  # a script's background jobs ignore SIGINT by default
        signal.signal(number, _stop)
    console = plain_console()
    with lock, contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        logs = store.workpath("logs")
        api_server = prefect_server(prefect_port, logs / "prefect-server.log", ui=True)
        stack.callback(api_server.stop)
        mlflow_ui = mlflow_server(mlflow_port, tracking_uri(config.registry, store), logs / "mlflow-ui.log")
        stack.callback(mlflow_ui.stop)
        with console.status("starting the servers"):
            api_server.wait_ready()
            mlflow_ui.wait_ready()
        stack.enter_context(announced(store, os.environ["PREFECT_API_URL"]))
        from prefect import serve

        deployment, scoring = nightly_deployment(config), scoring_deployment(config)
        if ended := end_interrupted(deployment.name) + end_interrupted(scoring.name):
            console.print(f"Marked as crashed: {ended} runs that were interrupted when `heartbeat up` last stopped")
        console.print(f"Source       {_source(config)}", markup=False)
        console.print(f"Prefect UI   http://{HOST}:{prefect_port}")
        console.print(f"Prefect API  {os.environ['PREFECT_API_URL']}")
        console.print(f"MLflow UI    http://{HOST}:{mlflow_port}")
        console.print(f"Deployment   heartbeat/{deployment.name}, {_when(deployment)}; run it now from another shell:")
        api = "" if prefect_port == PREFECT_PORT else f"PREFECT_API_URL={os.environ['PREFECT_API_URL']} "
        console.print(f"             {api}{program('prefect')} deployment run heartbeat/{deployment.name} --watch")
        console.print(f"Deployment   score/{scoring.name}, for new recordings; run it with")
        parameters = "--param data=/FOLDER/OR/TABLE --param out=/FILE.parquet"
        console.print(
            f"             {api}{program('prefect')} deployment run score/{scoring.name} {parameters} --watch"
        )
        if config.split.redraws_test:
            text = (
                f"split.strategy={config.split.strategy} draws another test part when recordings are added, so few subjects stay "
                "held out to compare models on: set split.strategy=hash from the first night on (docs/splits.md)"
            )
            console.print(note(text))
        console.print("Press Ctrl-C to stop.")
        serve(deployment, scoring, pause_on_shutdown=False, print_starting_message=False, limit=1)
    console.print("Stopped.")


def lock_store(store: Store) -> TextIO:
    """Lock a store against a second `heartbeat up`, until the returned file is closed. Raises `HeartbeatError`.

    Two on one store would mark each other's runs as crashed.
    """
    file = store.workpath("up.lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise HeartbeatError(
            f"another `heartbeat up` serves {store.uri}: stop it, or choose another store with --store"
        ) from error
    return file


def end_interrupted(name: str) -> int:
    """Mark unfinished runs of a served deployment as crashed; returns how many. Call before serving.

    Their processes have ended or are orphans. Left unfinished they would hold the deployment's only slot for ever, since
    the server does not keep leases across restarts, and every later run would be cancelled.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    unfinished = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": unfinished}}}),
            deployment_filter=DeploymentFilter.model_validate({"name": {"any_": [name]}}),
        )
        served = [run for run in runs if run.work_pool_name is None]  # a work pool's runs do not depend on us
        for run in served:
            client.set_flow_run_state(run.id, Crashed(message="heartbeat up was stopped during this run"))
    return len(served)


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


def _when(deployment: Any) -> str:
    return ", ".join(f"scheduled {s.schedule.cron!r} {s.schedule.timezone}" for s in deployment.schedules)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
