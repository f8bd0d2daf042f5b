"""Checks of a store: writable, owned, with file locks, enough disk, databases intact and of the installed versions."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flows.doctor.finding import Finding
from heartdata.errors import StoreError
from heartdata.storage.remote import is_remote
from heartdata.storage.sqlite import damage, read_only
from heartdata.storage.store import Store, is_store

WORLD_WRITABLE = 0o002
LEAST_FREE_BYTES = 1e9  # a network is 85 MB in `models/` and as much in MLflow; logs and a vacuum need room, too
FEW_NIGHTS = 14
NEWEST = {
    "prefect/prefect.db": "SELECT max(created) FROM flow_run",
    "mlflow.db": "SELECT max(start_time) FROM runs",
}


def usable(store: Store) -> Finding:
    """The store can be opened by this version, and written to."""
    if not is_remote(store.uri) and not is_store(store.root):
        if store.root.is_dir() and any(store.root.iterdir()):
            return Finding("warning", f"{store.uri} is no store of heartbeat", "name the store with --store")
        return Finding("warning", f"there is no store {store.uri} yet", f"heartbeat run --store {store.uri}")
    try:
        store.open()
    except StoreError as error:
        return Finding("problem", str(error))
    return Finding("ok", f"the store {store.uri} can be written")


def permissions(paths: Iterable[Path], user: int) -> Iterator[Finding]:
    """Files are this user's, and no other may change them."""
    others, open_to_all = [], []
    for path in paths:
        with suppress(FileNotFoundError):
            stat = path.stat()
            if stat.st_uid != user:
                others.append(path)
            if stat.st_mode & WORLD_WRITABLE:
                open_to_all.append(path)
    for path in others:
        yield Finding(
            "problem", f"{path} is of another user, so a night may not be able to change it", f"chown -R $USER {path}"
        )
    for path in open_to_all:
        yield Finding("problem", f"every user of this machine can change {path}", f"chmod o-w {path}")
    if not others and not open_to_all:
        yield Finding("ok", "the store's files are this user's, and no other can change them")


def file_locks(folder: Path, obstacle: str) -> Finding:
    """Files in the store can be locked, which keeps two processes from moving one champion."""
    if obstacle:
        return Finding(
            "problem", f"files in {folder} cannot be locked ({obstacle})", "use a store on a drive with file locks"
        )
    return Finding("ok", "files of the store can be locked")


def disk(free_bytes: float, nightly_bytes: float | None) -> Finding:
    """There is room for the coming nights."""
    text, remedy = f"{free_bytes / 1e9:.1f} GB of disk are free", "heartbeat prune, or a larger disk"
    if free_bytes < LEAST_FREE_BYTES + (nightly_bytes or 0):
        return Finding("problem", f"{text}, too little for a night", remedy)
    if nightly_bytes and (nights := free_bytes / nightly_bytes) < FEW_NIGHTS:
        return Finding("warning", f"{text}, enough for about {nights:.0f} nights", remedy)
    return Finding("ok", text)


def database(path: Path, program: str, known: list[str], store: str) -> Finding:
    """A database is intact, and its tables are of the installed program; ``known``: its revisions, newest first."""
    if fault := damage(path):
        return Finding("problem", f"{path} is damaged ({fault})", "heartbeat restore FILE --store NEW, of a backup")
    try:
        with read_only(path) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError):
        return Finding("problem", f"{path} is no database of {program}", f"move {path} away, or restore a backup")
    if revision not in known:
        return Finding(
            "problem", f"{path} was made by a newer version of {program}", f"install that version of {program}"
        )
    if revision != known[0]:
        return Finding("problem", f"{path} is of an older version of {program}", f"heartbeat upgrade --store {store}")
    return Finding("ok", f"{path.name} is intact, and of the installed {program}")


def artifacts_in(database: Path) -> set[str]:
    """The addresses that MLflow's experiments write to, and its runs and models are at."""
    queries = (
        "SELECT artifact_location FROM experiments WHERE experiment_id IN (SELECT experiment_id FROM runs)",
        "SELECT artifact_uri FROM runs WHERE lifecycle_stage = 'active'",
    )
    with read_only(database) as connection:
        return {row[0] for query in queries for row in connection.execute(query) if row[0]}


def artifacts(addresses: Iterable[str], root: Path, store: str) -> Finding:
    """MLflow's files are in the store, and not where it was before it was moved or copied."""
    local = {unquote(urlsplit(address).path) for address in addresses if urlsplit(address).scheme in ("", "file")}
    outside = sorted(path for path in local if not Path(path).resolve().is_relative_to(root))
    if outside:
        text = f"the registry names files in another folder, {outside[0]}: the store was moved or copied"
        return Finding("problem", text, f"heartbeat upgrade --store {store}")
    return Finding("ok", "the registry's files are in the store")


def newest_record(root: Path) -> datetime | None:
    """When the newest flow run was made or the newest MLflow run begun, by the store's databases."""
    times = []
    for name, query in NEWEST.items():
        if (root / name).is_file():
            with suppress(sqlite3.Error), read_only(root / name) as connection:
                (newest,) = connection.execute(query).fetchone()
                if isinstance(newest, str):
                    times.append(datetime.fromisoformat(newest).replace(tzinfo=UTC))
                elif newest:
                    times.append(datetime.fromtimestamp(newest / 1000, UTC))
    return max(times, default=None)
