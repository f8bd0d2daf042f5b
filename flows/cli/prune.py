"""`heartbeat data prune`: list, and on request remove, spectrogram shards that nothing needs."""

from flows.cli.console import plain_console
from flows.local.network import direct_loopback
from heartdata.config import RunConfig
from heartdata.dataset.prune import plan_prune
from heartdata.errors import HeartbeatError
from heartdata.storage.remote import is_remote
from heartdata.storage.store import Store
from tasks.registry.client import data_set_versions


def prune_store(config: RunConfig, keep: int, remove: bool) -> None:
    """Show what can be removed from the configured store, and with ``remove`` remove it. Raises `HeartbeatError`."""
    console = plain_console()
    store = Store(config.store)
    if not (is_remote(store.uri) or store.root.is_dir()):
        raise HeartbeatError(f"there is no store {store.uri}: name one with --store")
    direct_loopback()
    try:
        with console.status("comparing"):
            plan = plan_prune(store, keep, data_set_versions(config.registry, store))
        for entry in plan.remove if remove else ():
            store.remove(entry.name)
    except OSError as error:
        raise HeartbeatError(f"reading or removing failed ({error}): fix that and run again") from error
    console.print(f"{len(plan.kept_manifests)} data sets are kept, with {plan.kept_shards} shards of spectrograms")
    for entry in plan.remove:
        console.print(f"  {entry.size_bytes / 1e6:8.1f} MB  {entry.name}")
    if not plan.remove:
        console.print("Nothing to remove")
        return
    outcome = "removed" if remove else "would be removed: add --yes to remove them"
    console.print(f"{len(plan.remove)} files of {plan.size_bytes / 1e6:.1f} MB {outcome}")
