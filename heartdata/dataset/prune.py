"""Which spectrogram shards nothing needs any more: those that no kept manifest refers to."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa

from heartdata.dataset.spectrogram_shards import FOLDER, index_name
from heartdata.errors import StoreError
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Store, StoredFile, conform, read_parquet

MANIFESTS = "manifest"
RECENT_S = 24 * 3600  # a run that is at work may still need what is younger


@dataclass(frozen=True)
class Plan:
    """Entries to remove, the manifests that are kept, and the shards that these refer to."""

    remove: tuple[StoredFile, ...]
    kept_manifests: tuple[str, ...]
    kept_shards: int

    @property
    def size_bytes(self) -> int:
        """Bytes that removing gives back."""
        return sum(entry.size_bytes for entry in self.remove)


def plan_prune(store: Store, keep: int, versions: Collection[str] = (), now_s: float | None = None) -> Plan:
    """What may go: shards with their indexes that no kept manifest refers to, and what killed runs left unfinished.

    Kept are the ``keep`` newest manifests, those whose digest is in ``versions`` (data set versions of registered
    models), and every file younger than a day. Raises `StoreError` when a kept manifest cannot be read: nothing is
    removed on a guess.
    """
    now_s = time.time() if now_s is None else now_s
    newest = sorted(store.entries(MANIFESTS), key=lambda e: (-e.modified_s, e.name))
    manifests = [e.name for e in newest if e.name.endswith(".parquet")]
    named = {f"{MANIFESTS}/{version[:20]}.parquet" for version in versions}
    kept = [name for place, name in enumerate(manifests) if place < keep or name in named]
    shards = {shard for name in kept for shard in _shards_of(name, store)}
    needed = shards | {index_name(shard) for shard in shards}
    old = [e for e in store.entries(FOLDER) if now_s - e.modified_s > RECENT_S]
    remove = [e for e in old if _prunable(e.name) and e.name not in needed]
    return Plan(tuple(remove), tuple(kept), len(shards))


def _prunable(name: str) -> bool:
    """Whether a file below FOLDER is a shard, its index, or an unfinished one; not the table of all indexes."""
    return len(PurePosixPath(name).parts) > 2 or name.endswith(".tmp")


def _shards_of(manifest: str, store: Store) -> set[str]:
    try:
        table = conform(read_parquet(store.local(manifest)), MANIFEST, manifest)
    except (OSError, pa.ArrowException, StoreError) as error:
        raise StoreError(
            f"{store.address(manifest)} cannot be read, so it is not known which shards it needs ({error}): remove it, "
            "or run again, and prune then"
        ) from error
    return set(table.column("shard").to_pylist())
