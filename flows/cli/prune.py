"""`heartbeat prune`: list, and on request remove, old versions of models, and spectrograms that nothing needs."""

from rich.console import Console

from flows.cli.console import plain_console
from flows.local.network import direct_loopback
from heartdata.config import RunConfig
from heartdata.dataset.prune import plan_prune
from heartdata.errors import HeartbeatError
from heartdata.storage.remote import is_remote
from heartdata.storage.store import Store
from tasks.registry.pruning import VersionPlan, plan_versions, removal_bytes, remove_run


def prune_store(config: RunConfig, remove: bool) -> None:
    """Show what can be removed from the store and its registry, and with ``remove`` remove it. Raises `HeartbeatError`."""
    from mlflow.exceptions import MlflowException

    console = plain_console()
    store = Store(config.store)
    if not (is_remote(store.uri) or store.root.is_dir()):
        raise HeartbeatError(f"there is no store {store.uri}: name one with --store")
    direct_loopback()
    try:
        with console.status("comparing"):
            versions = plan_versions(config.registry, store, config.retention.versions)
            shards = plan_prune(store, config.retention.data_sets, versions.data_sets)
            sizes = [removal_bytes(removal, config.registry, store) for removal in versions.removals]
        _show_kept(console, versions)
        console.print(
            f"{len(shards.kept_manifests)} data sets are kept, with {shards.kept_shards} shards of spectrograms"
        )
        files = [*versions.files, *shards.remove]
        rows = [(removal.title, size) for removal, size in zip(versions.removals, sizes, strict=True)]
        rows += [(entry.name, entry.size_bytes) for entry in files]
        for title, size in rows:
            console.print(f"  {size / 1e6:8.1f} MB  {title}", markup=False)
        if not rows:
            console.print("Nothing to remove")
            return
        what = (
            f"{len(versions.removals)} versions or runs and {len(files)} files of {_megabytes(sum(s for _, s in rows))}"
        )
        if not remove:
            console.print(f"{what} would be removed: add --yes to remove them")
            return
        before = _stored_bytes(store)
        for removal in versions.removals:
            remove_run(removal, config.registry, store)
        for entry in files:
            store.remove(entry.name)
    except (OSError, MlflowException) as error:
        raise HeartbeatError(f"reading or removing failed ({error}): fix that and run again") from error
    after = _stored_bytes(store)
    console.print(f"{what} removed: the store held {_megabytes(before)} and holds {_megabytes(after)}")


def _show_kept(console: Console, versions: VersionPlan) -> None:
    if versions.kept:
        reasons = ", ".join(f"{count} {why}" for why, count in versions.kept.items())
        console.print(f"{sum(versions.kept.values())} versions of models are kept ({reasons})", markup=False)


def _stored_bytes(store: Store) -> int:
    """The bytes of all files of the store, of a bucket's working folder as well."""
    entries = store.entries("")
    if is_remote(store.uri):
        entries += Store(store.root).entries("")
    return sum(entry.size_bytes for entry in entries)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
