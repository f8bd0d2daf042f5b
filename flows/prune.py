"""The flow `prune`: remove what the settings `retention` do not keep."""

from prefect import flow

from flows.cli.prune import prune_store
from heartdata.config import RunConfig
from tasks.engine.failure_notice import log_errors_once


@flow(name="prune")
def prune(config: RunConfig = RunConfig()) -> None:
    """Remove what the settings ``config.retention`` do not keep."""
    log_errors_once()
    prune_store(config, remove=True)
