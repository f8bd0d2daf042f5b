"""The flow `prune`: what the settings `retention` do not keep is removed from a store, its registry and its databases."""

from prefect import flow
from prefect.artifacts import create_table_artifact

from heartdata.config import RunConfig
from heartdata.storage.store import Store
from heartdata.storage.usage import sizes_by_kind, stored_files
from tasks import prune as tasks
from tasks.engine.failure_notice import log_errors_once, open_store
from tasks.engine.progress import add_note, track
from tasks.engine.stage import uncached_task


@flow(name="prune")
def prune(config: RunConfig = RunConfig()) -> str:
    """Remove old versions, spectrograms, tables, results, logs and runs; returns a sentence that says what was freed."""
    log_errors_once()
    return remove_unneeded(config, open_store(config.store))


@uncached_task("prune")
def remove_unneeded(config: RunConfig, store: Store) -> str:
    """Remove what `heartbeat prune` would, and publish bytes before and after as a table."""
    with tasks.only_prune(store), track("prune") as advance:
        plan = tasks.plan_store(config, store)
        for sentence in tasks.remove(plan, config, store, advance):
            add_note(sentence)
        held = sizes_by_kind(stored_files(store))
        summary = tasks.freed(plan, held)
        advance(1, 1, summary)
    create_table_artifact(tasks.rows_after(plan, held), key="heartbeat-prune", description=summary)
    return summary
