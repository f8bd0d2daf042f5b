"""`heartbeat run`: one flow run in this process, with progress in the terminal."""

import logging

from rich.console import Console

from flows.environment import prepare
from flows.servers import prefect_api
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.store import Store

logger = logging.getLogger("heartbeat")


def run_pipeline(config: RunConfig, verbose: bool = False) -> None:
    """Run the flow and show its summary. Raises `HeartbeatError`; anything unforeseen becomes one, logged in full."""
    config.source.check()
    store = Store(config.store).open()
    log = prepare(store.root, verbose)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]heartbeat[/bold]: source {config.source.name}, output in {store.root}")
    with prefect_api(store.path("logs/prefect-server.log")) as temporary:
        with console.status("loading" if temporary is None else "starting a temporary Prefect server"):
            from flows.console import Terminal, show
            from flows.pipeline import heartbeat
            from tasks import progress

            if temporary:
                temporary.wait_ready()
        try:
            with Terminal(console) as terminal:
                progress.begin(terminal)
                summary = heartbeat(config)
        except HeartbeatError:
            raise
        except OSError as error:
            logger.exception("run failed")
            raise HeartbeatError(f"reading or writing failed ({error}): mend that and run again; log: {log}") from error
        except Exception as error:
            logger.exception("run failed")
            text = (str(error).splitlines() or [""])[0]
            raise HeartbeatError(f"the run failed unexpectedly ({type(error).__name__}: {text}); log: {log}") from error
        finally:
            progress.begin(None)
    show(summary, console)
