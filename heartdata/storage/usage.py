"""What the files of a store take by kind, by how much each kind grows in a night, and how much of the disk is free."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from heartdata.storage.remote import is_remote
from heartdata.storage.store import Store, StoredFile

DAY_S = 24 * 3600.0
WINDOW_S = 7 * DAY_S
IN_MLFLOW, RESULTS = "models and runs in MLflow", "cached results"
DATABASES = {"mlflow.db": "MLflow's database", "prefect": "Prefect's database"}  # rewritten in place
KINDS = {  # by the first part of a name
    "spectrograms": "spectrograms", "models": "weights", "initial": "initial weights", "progress": "checkpoints",
    "mlflow-artifacts": IN_MLFLOW, **DATABASES, "results": RESULTS, "logs": "logs", "report": "reports",
    "data-docs": "data docs", "calibrate": "data docs", "scores": "predictions", "champion-predictions": "predictions",
    "made": "unpacked and synthetic recordings", "latest": "latest run", "objects": "copies of objects",
}  # fmt: skip
TABLES, OTHER = "tables and plots", "other files"


@dataclass(frozen=True)
class Usage:
    """Bytes of one kind of files. ``nightly_bytes``: about how many a night adds; None while the store is too young."""

    kind: str
    size_bytes: int
    nightly_bytes: float | None


def stored_files(store: Store) -> list[StoredFile]:
    """All files of the store, of a bucket's working folder as well."""
    entries = store.entries("")
    return entries + Store(store.root).entries("") if is_remote(store.uri) else entries


def sizes_by_kind(files: Iterable[StoredFile]) -> dict[str, int]:
    """Bytes of the kinds of which there are files."""
    sizes: dict[str, int] = {}
    for file in files:
        sizes[_kind(file.name)] = sizes.get(_kind(file.name), 0) + file.size_bytes
    return sizes


def _kind(name: str) -> str:
    first, slash, _ = name.partition("/")
    return KINDS.get(first.removesuffix("-wal").removesuffix("-shm"), TABLES if slash else OTHER)


def usage(files: Iterable[StoredFile], now_s: float) -> list[Usage]:
    """All kinds, in the order of KINDS.

    Growth is what was written in the last seven days and is still there, by day, without the store's first day, which
    computes everything. Databases are rewritten in place: theirs is their size over the store's age.
    """
    files = list(files)
    oldest_s = min((file.modified_s for file in files), default=now_s)
    begin_s = max(now_s - WINDOW_S, oldest_s + DAY_S)
    is_known = now_s - begin_s >= DAY_S
    sizes = sizes_by_kind(files)
    recent = sizes_by_kind(file for file in files if file.modified_s >= begin_s)

    def nightly(kind: str) -> float | None:
        if not is_known:
            return None
        if kind in DATABASES.values():
            return sizes.get(kind, 0) / ((now_s - oldest_s) / DAY_S)
        return recent.get(kind, 0) / ((now_s - begin_s) / DAY_S)

    return [Usage(kind, sizes.get(kind, 0), nightly(kind)) for kind in dict.fromkeys([*KINDS.values(), TABLES, OTHER])]


def nightly_bytes(kinds: Iterable[Usage]) -> float | None:
    """About how many bytes a night adds to the store; None while that is unknown."""
    each = [kind.nightly_bytes for kind in kinds]
    return None if None in each else sum(size for size in each if size is not None)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder, which may not exist yet."""
    return shutil.disk_usage(existing(folder)).free
