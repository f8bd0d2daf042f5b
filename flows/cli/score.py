"""`heartbeat score`: predict every recording of a folder or table that a model has not predicted before."""

from pathlib import Path

from flows.cli.console import rich_table
from flows.cli.outputs import writable_file
from flows.cli.run import run_flow
from heartdata.config import RunConfig
from heartdata.serving.formats import check_format
from heartdata.sources.table import UnlabelledSource
from heartdata.storage.store import Store
from tasks.registry.client import refuse_empty_registry


def score_recordings(data: str, config: RunConfig, out: Path, model: str | None, verbose: bool = False) -> None:
    """Run the flow `score` and show what came out; see there. Raises `HeartbeatError`."""
    out = writable_file(out).resolve()
    check_format(out)
    refuse_empty_registry(config.registry, Store(config.store))
    as_read = config.model_copy(update={"source": UnlabelledSource.at(data, config.source)})
    run = run_flow("flows.score:score", config, as_read, verbose, data=data, out=str(out), model=model)
    run.console.print(rich_table(f"Predictions of {run.result.model}", run.result.counts))
    run.console.print(f"Written     {run.result.out}", markup=False)
