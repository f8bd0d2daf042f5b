"""What the files of a store take by kind, and by how much each kind grows in a night."""

from collections.abc import Iterable
from dataclasses import dataclass

from heartdata.storage.store import StoredFile

DAY_S = 24 * 3600.0
WINDOW_S = 7 * DAY_S
REST = "the rest"
DATABASES = "databases"
KINDS = {
    "spectrograms": "spectrograms",
    "models": "models",
    "initial": "models",
    "mlflow-artifacts": "MLflow artifacts",
    "mlflow.db": DATABASES,
    "mlflow.db-wal": DATABASES,
    "mlflow.db-shm": DATABASES,
    "prefect": DATABASES,
    "results": "results",
    "logs": "logs",
    "report": "reports",
    "latest": "reports",
    "plots": "reports",
    "data-docs": "reports",
}  # by what a file's name begins with


@dataclass(frozen=True)
class Usage:
    """Bytes of one kind of files. ``nightly_bytes``: about how many a night adds; None while the store is too young."""

    kind: str
    size_bytes: int
    nightly_bytes: float | None


def usage(files: Iterable[StoredFile], now_s: float) -> list[Usage]:
    """The kinds in the order of KINDS, then the rest.

    Growth is what was written in the last seven days and is still there, by day, without the store's first day, which
    computes everything. Databases are rewritten in place: theirs is their size over the store's age.
    """
    files = list(files)
    oldest_s = min((file.modified_s for file in files), default=now_s)
    begin_s = max(now_s - WINDOW_S, oldest_s + DAY_S)
    is_known = now_s - begin_s >= DAY_S
    sizes = dict.fromkeys([*KINDS.values(), REST], 0)
    recent = dict(sizes)
    for file in files:
        kind = KINDS.get(file.name.partition("/")[0], REST)
        sizes[kind] += file.size_bytes
        recent[kind] += file.size_bytes if file.modified_s >= begin_s else 0

    def nightly(kind: str) -> float | None:
        if not is_known:
            return None
        if kind == DATABASES:
            return sizes[kind] / ((now_s - oldest_s) / DAY_S)
        return recent[kind] / ((now_s - begin_s) / DAY_S)

    return [Usage(kind, size, nightly(kind)) for kind, size in sizes.items()]


def nightly_bytes(kinds: Iterable[Usage]) -> float | None:
    """About how many bytes a night adds to the store; None while that is unknown."""
    each = [kind.nightly_bytes for kind in kinds]
    return None if None in each else sum(size for size in each if size is not None)
