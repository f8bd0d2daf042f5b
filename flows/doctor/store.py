"""Checks of a store: writable, owned, with file locks, enough disk, databases intact and of the installed versions."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from flows.doctor.finding import Finding
from heartdata.errors import StoreError
from heartdata.storage.migrations import schema_state
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
    """The store can be opened by this version, and written to; of one in a bucket only that it can be read."""
    absent = Finding("warning", f"there is no store {store.uri} yet", f"heartbeat run --store {store.uri}")
    if is_remote(store.uri):
        try:
            store.check_version()
        except FileNotFoundError:
            return absent
        return Finding("ok", f"the store {store.uri} can be read")
    if not is_store(store.root):
        if store.root.is_dir() and any(store.root.iterdir()):
            return Finding("warning", f"{store.uri} is no store of heartbeat", "name the store with --store")
        above = next(path for path in (store.root, *store.root.parents) if path.exists())
        if not (above.is_dir() and os.access(above, os.W_OK)):
            text = f"no store can be made at {store.uri}: {above} is no folder that you can write to"
            return Finding("problem", text, "name another with --store")
        return absent
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


def database(path: Path, program: str, store: str) -> Finding:
    """A database is intact, and its tables are of the installed program."""
    try:
        fault = damage(path)
    except sqlite3.OperationalError as error:
        remedy = "look again when no run is in progress; what a killed one left unfinished, the next run takes back"
        return Finding("warning", f"{path} cannot be read now ({error})", remedy)
    if fault:
        return Finding("problem", f"{path} is damaged ({fault})", "heartbeat restore FILE --store NEW, of a backup")
    try:
        with read_only(path) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError):
        return Finding("problem", f"{path} is no database of {program}", f"move {path} away, or restore a backup")
    state = schema_state(program.lower(), revision)
    if state == "newer":
        return Finding(
            "problem", f"{path} was made by a newer version of {program}", f"install that version of {program}"
        )
    if state == "older":
        return Finding("problem", f"{path} is of an older version of {program}", f"heartbeat upgrade --store {store}")
    return Finding("ok", f"{path.name} is intact, and of the installed {program}")


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
