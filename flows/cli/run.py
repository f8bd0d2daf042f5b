"""`heartbeat run`: one flow run in this process, with progress in the terminal."""

import contextlib
import logging
import os
import pkgutil
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from flows.cli.console import Terminal, note, plain_console, show, show_nothing_new
from flows.cli.databases import NAMES, check_databases
from flows.cli.exit_codes import ExitCode
from flows.cli.sentences import sentence_of
from flows.local.child import is_healthy, kept_running
from flows.local.environment import prepare_environment
from flows.local.interrupted import end_killed, name_process
from flows.local.servers import (
    API_VARIABLE,
    HOST,
    PREFECT_PORT,
    check_api,
    knows_run,
    load_prefect,
    port_is_free,
    prefect_api,
)
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.sources.base import check_source
from heartdata.storage.store import Store
from tasks.registry.client import check_registry, is_own

START = "To open Prefect and MLflow, run:"  # label of the command that starts the servers
START_MLFLOW = "To open MLflow, run:"  # where only that does not run
OTHER_PREFECT_PORT, OTHER_MLFLOW_PORT = 4210, 5010  # for when another store's servers have the usual ports

logger = logging.getLogger("heartbeat")


@dataclass(frozen=True)
class FinishedRun:
    """A flow run that succeeded: what the flow returned, its page in the UI, whether a server is running, notes shown."""

    result: Any
    url: str
    server_runs: bool
    console: Console
    notes: frozenset[str]


def run_pipeline(config: RunConfig, verbose: bool = False, typed: Sequence[str] = ()) -> None:
    """Run the flow `heartbeat` and show its summary; ``typed``: the options that the nightly run of `heartbeat up` needs.

    Exits as `ExitCode` says where the version is not new, or not the champion. Raises `HeartbeatError`.
    """
    with _earlier_report_named(Store(config.store).workpath("latest/report.html")):
        run = run_flow("flows.pipeline:heartbeat", config, config, verbose)
    summary = run.result
    from tasks.retrain import Waiting  # loads Prefect

    if isinstance(summary, Waiting):
        run.console.print(f"{summary.reason}\nFiles       {summary.page}", markup=False)
        raise typer.Exit(ExitCode.NOTHING_NEW)
    if summary.nothing_new:
        show_nothing_new(summary, run.console)
        raise typer.Exit(ExitCode.NOTHING_NEW)
    command = up_command(Store(config.store).uri, typed)
    links = where_to_look(command, summary.model_url, summary.run_id, run.url, run.server_runs)
    show(summary, run.console, links, run.notes)
    if summary.decision and summary.decision.outcome != "promoted":
        raise typer.Exit(ExitCode.GATES_NOT_PASSED)


def run_flow(entrypoint: str, parameter: Any, config: RunConfig, verbose: bool, **others: Any) -> FinishedRun:
    """Call a flow with its first parameter and the ``others``, with progress in the terminal; starts a Prefect server if none is running.

    ``entrypoint`` is module:flow, imported only once the environment is prepared; ``config`` names the source and the
    store. Raises `HeartbeatError`; an unexpected error becomes one and is logged in full.
    """
    check_source(config.source)
    store = Store(config.store).open()
    log = prepare_environment(store, verbose)
    own_registry = is_own(config.registry, store)
    check_databases(config.registry, store, ["mlflow"] if os.environ.get(API_VARIABLE) else NAMES)
    if not own_registry:
        check_registry(config.registry, store)
    console = plain_console()
    local = "" if store.uri == str(store.root) else f", local files in {store.root}"
    console.print(f"[bold]heartbeat[/bold]: source {config.source.name}, output in {store.uri}{local}")
    with prefect_api(store) as temporary:
        if temporary:  # links open in `heartbeat up`, which shows the same database: PREFECT_HOME is in the store
            port = PREFECT_PORT if port_is_free(PREFECT_PORT) else OTHER_PREFECT_PORT
            os.environ.setdefault("PREFECT_UI_URL", f"http://{HOST}:{port}")
        status = "starting a temporary Prefect server" if temporary else "loading"
        if not console.is_terminal:
            console.print(f"  {status}")
        with console.status(status):
            load_prefect()
            from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
            from prefect.utilities.urls import url_for

            from tasks.engine import progress

            flow = pkgutil.resolve_name(entrypoint)
            if own_registry:
                check_registry(config.registry, store)  # loads MLflow while the server starts
            if temporary:
                temporary.wait_ready()
            check_api()
            end_killed()
        urls: list[str] = []
        flow = flow.with_options(
            on_running=[name_process], on_completion=[lambda _flow, run, _: urls.append(url_for(run) or "")]
        )
        no_heartbeat = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None} if temporary else {}  # its end waits for a second
        own = [temporary] if temporary else []
        try:
            with (
                kept_running(own, logger.warning),
                _errors_as_sentences(log),
                Terminal(console) as terminal,
                temporary_settings(no_heartbeat),
            ):
                progress.begin(terminal)
                result = flow(parameter, **others)
        finally:
            progress.begin(None)
    return FinishedRun(result, urls[0], temporary is None, console, frozenset(terminal.notes))


@contextlib.contextmanager
def _earlier_report_named(page: Path) -> Iterator[None]:
    """On an error, say that the report in ``latest/`` is of an earlier run, if it is."""

    def state() -> tuple[int, int] | None:
        return (page.stat().st_ino, page.stat().st_mtime_ns) if page.is_file() else None

    before = state()
    try:
        yield
    except HeartbeatError:
        if before and state() == before:
            plain_console().print(note(f"{page} is of an earlier run"))
        raise


@contextlib.contextmanager
def _errors_as_sentences(log: Path) -> Iterator[None]:
    """Turn any exception into a `HeartbeatError`, and log an unexpected one in full."""
    try:
        yield
    except HeartbeatError:
        raise
    except Exception as error:
        logger.exception("run failed")
        raise sentence_of(error, str(log)) from error


def where_to_look(command: str, model_url: str, run_id: str, flow_url: str, prefect_runs: bool) -> dict[str, str]:
    """The addresses of a run's pages by name, with ``command``, which starts the servers, where they are not running.

    An MLflow server that does not know the run serves another store: the command then uses other ports.
    """
    mlflow, _, page = model_url.partition("/#")
    if prefect_runs and knows_run(mlflow, run_id):
        return {"Prefect UI": flow_url, "MLflow UI": model_url}
    mlflow_taken = is_healthy(f"{mlflow}/health")
    if (prefect_runs and mlflow_taken) or f":{OTHER_PREFECT_PORT}/" in flow_url:
        command += f" --prefect-port {OTHER_PREFECT_PORT}"
    if mlflow_taken:
        command += f" --mlflow-port {OTHER_MLFLOW_PORT}"
        model_url = f"http://{HOST}:{OTHER_MLFLOW_PORT}/#{page}"
    if prefect_runs:
        return {"Prefect UI": flow_url, START_MLFLOW: command, "MLflow UI": model_url}
    return {START: command, "Prefect UI": flow_url, "MLflow UI": model_url}


def up_command(store: str, options: Sequence[str] = ()) -> str:
    """`heartbeat up` with ``options`` for ``store``, as typed in the current folder."""
    return shlex.join([program("heartbeat"), "up", *options, "--store", store])


def program(name: str) -> str:
    """A program of this environment, as typed in this shell and folder."""
    path = Path(program_path(name))
    if shutil.which(name) == str(path):
        return name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def program_path(name: str) -> str:
    """A program of this environment, as typed in any shell and folder; its name where the environment has none."""
    path = Path(sys.executable).with_name(name)
    return str(path) if path.is_file() else name
