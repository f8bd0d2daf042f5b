"""Pruning: which spectrogram shards can be removed because no kept manifest refers to them."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
from pydantic import Field

from heartdata.dataset.spectrogram_shards import FOLDER, index_name
from heartdata.errors import StoreError
from heartdata.settings import Settings
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Store, StoredFile

MANIFESTS = "manifest"
RECENT_S = 24 * 3600  # younger files may belong to a run in progress


class RetentionConfig(Settings):
    """What `heartbeat prune` keeps. Nothing younger than a day is ever removed."""

    versions: int = Field(
        default=10, ge=1, description="newest versions of each model, beside champions and their origins"
    )
    data_sets: int = Field(default=10, ge=1, description="newest data sets to keep spectrograms for")
    days: int = Field(
        default=90, ge=1, description="age at which runs in Prefect, results, logs and reports are removed"
    )
    nightly: bool = Field(default=False, description="`heartbeat up` prunes every night")


@dataclass(frozen=True)
class Plan:
    """Entries to remove, the manifests to keep, and how many shards these refer to."""

    remove: tuple[StoredFile, ...]
    kept_manifests: tuple[str, ...]
    kept_shards: int

    @property
    def size_bytes(self) -> int:
        """Bytes that removing frees."""
        return sum(entry.size_bytes for entry in self.remove)


def plan_prune(store: Store, keep: int, versions: Collection[str] = (), now_s: float | None = None) -> Plan:
    """What can be removed: shards, with indexes, that no kept manifest refers to, and unfinished files of killed runs.

    Kept are the ``keep`` newest manifests, those whose digest is in ``versions`` (data set versions of kept
    models), and every file younger than a day. Raises `StoreError` when a kept manifest cannot be read, since it is then
    unknown which shards it needs.
    """
    now_s = time.time() if now_s is None else now_s
    newest = sorted(store.entries(MANIFESTS), key=lambda e: (-e.modified_s, e.name))
    manifests = [e.name for e in newest if e.name.endswith(".parquet")]
    registered = {f"{MANIFESTS}/{version[:20]}.parquet" for version in versions}
    kept = manifests[:keep] + [name for name in manifests[keep:] if name in registered]
    shards = {shard for name in kept for shard in _shards_of(name, store)}
    needed = shards | {index_name(shard) for shard in shards}
    old = [e for e in store.entries(FOLDER) if now_s - e.modified_s > RECENT_S]
    remove = [e for e in old if _prunable(e.name) and e.name not in needed]
    return Plan(tuple(remove), tuple(kept), len(shards))


def _prunable(name: str) -> bool:
    """Whether a file in FOLDER is a shard, an index or unfinished, rather than the table of all indexes."""
    return len(PurePosixPath(name).parts) > 2 or name.endswith(".tmp")


def _shards_of(manifest: str, store: Store) -> set[str]:
    try:
        table = store.read_table(manifest, MANIFEST)
    except (OSError, pa.ArrowException, StoreError) as error:
        raise StoreError(
            f"{store.address(manifest)} cannot be read, so it is unknown which shards it needs ({error}): remove it or run the "
            "pipeline again, then prune"
        ) from error
    return set(table.column("shard").to_pylist())
