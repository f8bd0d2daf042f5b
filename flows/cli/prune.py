"""`heartbeat prune`: show, and on request remove, what the settings `retention` do not keep."""

from flows.cli.console import bar, note, plain_console, rich_table
from flows.local.environment import prepare_environment
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.storage.remote import is_remote
from heartdata.storage.store import Store
from heartdata.storage.usage import sizes_by_kind, stored_files


def prune_store(config: RunConfig, remove: bool) -> None:
    """Show what can be removed from the store and its registry, and with ``remove`` remove it. Raises `HeartbeatError`."""
    store = Store(config.store)
    if not (is_remote(store.uri) or store.root.is_dir()):
        raise HeartbeatError(f"there is no store {store.uri}: name one with --store")
    prepare_environment(store.open())
    console = plain_console()
    with console.status("loading"):
        from mlflow.exceptions import MlflowException

        from tasks import prune as tasks
    try:
        with tasks.only_prune(store):
            with console.status("comparing"):
                plan = tasks.plan_store(config, store)
            for removal, size in zip(plan.versions.removals, plan.version_bytes, strict=True):
                console.print(f"  {tasks.megabytes(size):>10}  {removal.title}", markup=False)
            if not remove:
                console.print(rich_table(store.uri, tasks.rows_before(plan)))
                console.print(
                    f"{plan.counts} would be removed, and old rows of the databases: add --yes to remove them"
                )
                return
            with bar(console, "removing") as advance:
                notes = tasks.remove(plan, config, store, advance)
            held = sizes_by_kind(stored_files(store))
    except (OSError, MlflowException) as error:
        raise HeartbeatError(f"reading or removing failed ({error}): fix that and run again") from error
    for sentence in notes:
        console.print(note(sentence))
    console.print(rich_table(store.uri, tasks.rows_after(plan, held)))
    console.print(tasks.freed(plan, held))
