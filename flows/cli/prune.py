"""`heartbeat data prune`: remove spectrogram shards that nothing needs any more; shows what it would do first."""

from typing import TYPE_CHECKING

from rich.console import Console

from heartdata.dataset.prune import plan_prune
from heartdata.errors import HeartbeatError
from heartdata.storage.remote import is_remote
from heartdata.storage.store import Store

if TYPE_CHECKING:
    from heartdata.config import RunConfig


def prune_store(config: "RunConfig", keep: int, remove: bool) -> None:
    """Show what may go from the configured store, and with ``remove`` remove it. Raises `HeartbeatError`."""
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    with console.status("looking"):
        from tasks.registry.client import data_set_versions

        store = Store(config.store)
        if not (is_remote(store.uri) or store.root.is_dir()):
            raise HeartbeatError(f"there is no store {store.uri}: say which with --store")
        try:
            plan = plan_prune(store, keep, data_set_versions(config.registry, store))
            for entry in plan.remove if remove else ():
                store.remove(entry.name)
        except OSError as error:
            raise HeartbeatError(f"reading or removing failed ({error}): mend that and run again") from error
    console.print(f"{len(plan.kept_manifests)} data sets are kept, with {plan.kept_shards} shards of spectrograms")
    for entry in plan.remove:
        console.print(f"  {entry.size_bytes / 1e6:8.1f} MB  {entry.name}")
    done = "removed" if remove else "would be removed: say --yes to remove them"
    console.print(
        f"{len(plan.remove)} files of {plan.size_bytes / 1e6:.1f} MB {done}" if plan.remove else "Nothing to remove"
    )
