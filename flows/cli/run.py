"""`heartbeat run`: one flow run in this process, with progress in the terminal."""

import contextlib
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.local.environment import prepare
from flows.local.servers import HOST, PREFECT_PORT, is_healthy, knows_run, port_is_free, prefect_api
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.sources.base import check_source
from heartdata.storage.store import Store

OTHER_PREFECT_PORT, OTHER_MLFLOW_PORT = 4210, 5010  # where another store's servers have the usual ones

logger = logging.getLogger("heartbeat")


@dataclass(frozen=True)
class Ran:
    """A flow run that ended well: what it returned, its page, and whether a Prefect server goes on running."""

    result: Any
    page: str
    server_runs: bool
    console: Console


def run_pipeline(config: RunConfig, verbose: bool = False) -> None:
    """Run the flow and show its summary. Raises `HeartbeatError`; anything unforeseen becomes one, logged in full."""

    def load() -> Any:
        from flows.pipeline import heartbeat

        return heartbeat

    ran = run_flow(load, config, config, verbose)
    from flows.cli.console import show

    summary = ran.result
    where = where_to_look(Store(config.store).uri, summary.model_url, summary.run_id, ran.page, ran.server_runs)
    show(summary, ran.console, where)


def run_flow(load: Callable[[], Any], config: Any, run: RunConfig, verbose: bool) -> Ran:
    """Run the flow that ``load`` imports on ``config``, with progress in the terminal, beside a server where none is.

    ``run`` names the source and the store. Raises `HeartbeatError`; anything unforeseen becomes one, logged in full.
    """
    check_source(run.source)
    store = Store(run.store).open()
    log = prepare(store, verbose)
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    aside = "" if store.uri == str(store.root) else f", local files in {store.root}"
    console.print(f"[bold]heartbeat[/bold]: source {run.source.name}, output in {store.uri}{aside}")
    with prefect_api(store) as temporary:
        if temporary:  # links open in `heartbeat up`, which shows the same database: PREFECT_HOME is in the store
            port = PREFECT_PORT if port_is_free(PREFECT_PORT) else OTHER_PREFECT_PORT
            os.environ.setdefault("PREFECT_UI_URL", f"http://{HOST}:{port}")
        doing = "loading" if temporary is None else "starting a temporary Prefect server"
        if not console.is_terminal:
            console.print(f"  {doing}")
        with console.status(doing):
            from prefect.utilities.urls import url_for

            from flows.cli.console import Terminal
            from tasks.engine import progress

            flow = load()
            if temporary:
                temporary.wait_ready()
        pages: list[str] = []
        flow = flow.with_options(on_completion=[lambda _flow, run, _: pages.append(url_for(run) or "")])
        try:
            with _in_a_sentence(log), Terminal(console) as terminal:
                progress.begin(terminal)
                result = flow(config)
        finally:
            progress.begin(None)
    return Ran(result, pages[0], temporary is None, console)


@contextlib.contextmanager
def _in_a_sentence(log: Path) -> Iterator[None]:
    """Whatever is raised becomes a `HeartbeatError`."""
    try:
        yield
    except HeartbeatError:
        raise
    except OSError as error:
        logger.exception("run failed")
        raise HeartbeatError(f"reading or writing failed ({error}): mend that and run again; log: {log}") from error
    except Exception as error:
        logger.exception("run failed")
        text = (str(error).splitlines() or [""])[0]
        raise HeartbeatError(f"the run failed unexpectedly ({type(error).__name__}: {text}); log: {log}") from error


def where_to_look(store: str, model_url: str, run_id: str, flow_url: str, prefect_runs: bool) -> dict[str, str]:
    """The addresses of a run's pages by name, after what starts the servers that are not running.

    An MLflow that does not know the run belongs to another store: this one's is then to be started on other ports.
    """
    mlflow, _, page = model_url.partition("/#")
    start = {}
    if not (prefect_runs and knows_run(mlflow, run_id)):
        command = up_command(store)
        mlflow_taken = is_healthy(f"{mlflow}/health")
        if (prefect_runs and mlflow_taken) or f":{OTHER_PREFECT_PORT}/" in flow_url:
            command += f" --prefect-port {OTHER_PREFECT_PORT}"
        if mlflow_taken:
            command += f" --mlflow-port {OTHER_MLFLOW_PORT}"
            model_url = f"http://{HOST}:{OTHER_MLFLOW_PORT}/#{page}"
        start = {"First start": command}
    pages = {"Prefect UI": flow_url, "MLflow UI": model_url}
    return {"Prefect UI": flow_url, **start, **pages} if prefect_runs else {**start, **pages}


def up_command(store: str) -> str:
    """`heartbeat up` for ``store``, as one types it in the present folder."""
    return shlex.join([program("heartbeat"), "up", "--store", store])


def program(name: str) -> str:
    """A program of this environment, as one types it in the present folder."""
    path = Path(sys.executable).with_name(name)
    if not path.is_file() or shutil.which(name) == str(path):
        return name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
