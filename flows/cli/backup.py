"""`heartbeat backup` and `heartbeat restore`: a store as one file, without its recordings, and the store again from it."""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from flows.cli.console import bar, note, plain_console
from flows.cli.databases import (
    check_new,
    copy_database,
    copy_sqlite,
    databases,
    dump_name,
    is_sqlite,
    restore_postgresql,
)
from flows.cli.outputs import expanded
from heartdata.config import RegistryConfig, RunConfig
from heartdata.errors import HeartbeatError
from heartdata.sources.text import enumerated
from heartdata.storage.backup_archive import Archive, open_archive, write_archive
from heartdata.storage.remote import PROBE, is_remote
from heartdata.storage.schema_version import SCHEMA_VERSION
from heartdata.storage.store import Store, is_store
from heartdata.storage.usage import free_bytes
from tasks.engine.flow_runs import crash_unfinished
from tasks.registry.client import is_empty
from tasks.registry.locations import DATABASE, check_locations, end_open_runs, relocate, versions_without_files

MEGABYTE = 1e6
WORK, BUCKET = "work", "bucket"  # folders of an archive: a store's local files, and a bucket's objects
# What a run makes again, and what only this machine's processes need
LEFT_OUT = {"spectrograms", "made", "logs", "caches", "progress", "objects", "up.json"}
LEFT_OUT_ENDS = (".tmp", ".lock", "-wal", "-shm", "-journal", "prefect/profiles.toml")  # profiles may hold passwords
LEFT_OUT_BEGINS = (".unfinished-", "reproduce-", "concurrency_leases")
RECORDS = ("results/*", "accepted/last-*.json")  # name other files, which a run writes before them


def write_backup(file: Path, config: RunConfig) -> None:
    """Write the store of ``config`` to ``file``. Raises `HeartbeatError`."""
    store, console = existing_store(config), plain_console()
    if not is_empty(config.registry, store):
        check_locations(store)
    notes = archive_store(new_file(file, store), config.registry, store, console)
    for text in notes:
        console.print(note(text))


def existing_store(config: RunConfig) -> Store:
    """The store of ``config``. Raises `HeartbeatError` when there is none."""
    store = Store(config.store)
    if not is_remote(store.uri) and not is_store(store.root):
        raise HeartbeatError(f"there is no store {store.uri}: name one with --store")
    return store.open()


def new_file(file: Path, store: Store) -> Path:
    """The path of a file that is to be written. Raises `HeartbeatError` when it cannot be, or is in the store."""
    path = expanded(file).resolve()
    if path.exists():
        raise HeartbeatError(f"{file} is there already: name another file, as a backup is never overwritten")
    if path.is_relative_to(store.root):
        raise HeartbeatError(
            f"{file} is in the store that it would be a backup of: name a file elsewhere, best on another disk"
        )
    if not path.parent.is_dir():
        raise HeartbeatError(f"there is no folder {path.parent}: make it, or name a file elsewhere")
    return path


def archive_store(file: Path, registry: RegistryConfig, store: Store, console: Console) -> list[str]:
    """Write the archive and say how large it is; returns what a person should know of it. Raises `HeartbeatError`."""
    from tasks.prune import only_prune

    used, notes = databases(registry, store)
    about = {"schema": SCHEMA_VERSION, "store": store.uri, "made": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        with (
            only_prune(store),
            write_archive(file, about) as archive,
            tempfile.TemporaryDirectory(dir=file.parent, prefix=".unfinished-") as folder,
            bar(console, "backup") as advance,
        ):
            # before the files: each version in a copy then has its files in the archive
            copy = Path(folder, "copy")
            for database in used:
                copy_database(database, store, copy)
                archive.add(f"{WORK}/{database.file}" if database.file else dump_name(database.library), copy)
                copy.unlink()
            # one that is no longer used, or for a server elsewhere, has secrets and a journal as well
            names = {database.file for database in used}
            others = [name for name in _files(store) if name not in names and is_sqlite(store.workpath(name))]
            for name in others:
                copy_sqlite(store.workpath(name), copy)
                archive.add(f"{WORK}/{name}", copy)
                copy.unlink()
            records = _records(store)
            for name in records:
                archive.add(f"{WORK}/{name}", store.workpath(name))
            copied = {*names, *others, *records}
            files = [name for name in _files(store) if name not in copied]
            for done, name in enumerate(files, 1):
                archive.add(f"{WORK}/{name}", store.workpath(name))
                advance(done, len(files), name)
            for name in _objects(store):
                archive.add(f"{BUCKET}/{name}", store.local(name))
    except FileNotFoundError as error:
        raise HeartbeatError(f"{error.filename} was removed during the backup: back up again") from error
    except (OSError, sqlite3.Error) as error:
        raise HeartbeatError(f"the backup {file} could not be written ({error}): mend that, and try again") from error
    console.print(
        f"Backup      {file}, {file.stat().st_size / MEGABYTE:.1f} MB, {len(archive.sums)} files", markup=False
    )
    console.print("            without the recordings, and without spectrograms, which the next run renders again")
    return notes


def restore_backup(file: Path, config: RunConfig) -> None:
    """Make the store of ``config`` from the backup ``file``. Raises `HeartbeatError`."""
    store, console = Store(config.store), plain_console()
    path = expanded(file)
    if not path.is_file():
        raise HeartbeatError(f"there is no file {file}: name a backup that `heartbeat backup` wrote")
    try:
        _check_empty(store)
        with open_archive(path) as archive:
            _check_fits(archive, store)
            store.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=store.root, prefix=".unfinished-") as unpacked:
                _unpack(archive, Path(unpacked), config.registry, store, console)
        missing: list[str] = []
        if store.workpath(DATABASE).is_file():
            relocate(store)
            end_open_runs(store)
            missing = versions_without_files(store)
        for database in databases(config.registry, store)[0]:
            if database.library == "prefect" and database.file:
                crash_unfinished(store.workpath(database.file), "this run was in progress when the backup was made")
    except (OSError, sqlite3.Error) as error:
        raise HeartbeatError(f"{file} could not be restored ({error}): mend that, and try again") from error
    made = f"made {archive.about.get('made')} of {archive.about.get('store')} by heartbeat {archive.about.get('heartbeat')}"
    console.print(f"Restored    {store.uri}, {len(archive.members)} files of the backup {made}", markup=False)
    console.print("            The next run renders the spectrograms again; recordings are read where they were.")
    console.print(
        "            Webhooks in MLflow and blocks in Prefect that you made yourself are not in a backup: make them again"
    )
    if missing:
        console.print(
            note(
                f"versions without files in the backup, which cannot be used: {enumerated(missing, 3)}; restore an earlier backup if you "
                "need them"
            )
        )


def _check_empty(store: Store) -> None:
    is_used = any(store.root.iterdir()) if store.root.is_dir() else store.root.exists()
    if is_used or (is_remote(store.uri) and store.entries("")):
        raise HeartbeatError(f"{store.uri} is not empty: restore into a new store, named with --store")


def _check_fits(archive: Archive, store: Store) -> None:
    if (schema := archive.about.get("schema", 0)) > SCHEMA_VERSION:
        raise HeartbeatError(
            f"{archive.path} is of a store of a newer heartbeat (schema {schema}; this one knows {SCHEMA_VERSION}): install "
            f"heartbeat {archive.about.get('heartbeat')}"
        )
    if is_remote(store.uri) and not any(m.name.startswith(f"{BUCKET}/") for m in archive.members):
        raise HeartbeatError(f"{archive.path} is of a store in a folder: restore it into a folder, named with --store")
    is_moved = (old := archive.about.get("store")) != store.uri
    if is_moved and any(m.name == dump_name("mlflow") for m in archive.members):
        raise HeartbeatError(  # or `heartbeat prune` of this store would remove the original's files
            f"the registry in PostgreSQL of {archive.path} names files in {old}: move aside what is there, and restore it with --store {old}"
        )
    if (free := free_bytes(store.root)) < archive.size_bytes:
        raise HeartbeatError(
            f"{archive.size_bytes / MEGABYTE:.0f} MB are needed for {store.root} and {free / MEGABYTE:.0f} MB are free: "
            "name a store on another disk with --store"
        )


def _unpack(archive: Archive, folder: Path, registry: RegistryConfig, store: Store, console: Console) -> None:
    """Unpack in ``folder``, on the store's disk, and move into place what is then known to be whole."""
    with bar(console, "restore") as advance:
        done = 0

        def count(size_bytes: int) -> None:
            nonlocal done
            done += size_bytes
            advance(round(done / MEGABYTE), round(archive.size_bytes / MEGABYTE), "MB")

        archive.unpack(folder, count)
    dumps = sorted((folder / "databases").glob("*.dump"))
    servers = {database.library: database for database in databases(registry, store)[0] if database.uri}
    for dump in dumps:
        if dump.stem not in servers:
            raise HeartbeatError(
                f"{archive.path} holds a PostgreSQL database of {dump.stem}: name an empty one in the variable that named "
                "the old one"
            )
        check_new(servers[dump.stem])
    for dump in dumps:
        restore_postgresql(servers[dump.stem], dump)
    # without its marker, a bucket is no store: it comes last
    marker = folder / BUCKET / PROBE
    for path in sorted(path for path in (folder / BUCKET).rglob("*") if path.is_file() and path != marker):
        _put(path, path.relative_to(folder / BUCKET).as_posix(), store)
    for path in sorted((folder / WORK).iterdir(), reverse=True):  # the marker .heartbeat last
        _move(path, store.root / path.name)
    if marker.is_file():
        _put(marker, PROBE, store)


def _put(path: Path, name: str, store: Store) -> None:
    if is_remote(store.uri):
        with store.writing(name) as output, path.open("rb") as content:
            shutil.copyfileobj(content, output)
    else:
        _move(path, store.root / name)


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)


def _records(store: Store) -> list[str]:
    """The names of what is copied before the files that it names."""
    paths = [path for pattern in RECORDS for path in sorted(store.root.glob(pattern))]
    return [name for path in paths if path.is_file() and _is_kept(name := path.relative_to(store.root).as_posix())]


def _files(store: Store) -> list[str]:
    """The names of the other local files that a backup holds."""
    folders = sorted(p.name for p in store.root.iterdir() if p.is_dir() and p.name not in {*LEFT_OUT, "results"})
    names = [entry.name for folder in folders for entry in Store(store.root).entries(folder)]
    names += sorted(p.name for p in store.root.iterdir() if p.is_file() and p.name not in LEFT_OUT)
    return [name for name in names if _is_kept(name)]


def _objects(store: Store) -> Iterator[str]:
    """The names of a bucket's objects that a backup holds."""
    if is_remote(store.uri):
        for entry in store.entries(""):
            if entry.name.partition("/")[0] not in LEFT_OUT:
                yield entry.name


def _is_kept(name: str) -> bool:
    parts = name.split("/")
    return not name.endswith(LEFT_OUT_ENDS) and not any(part.startswith(LEFT_OUT_BEGINS) for part in parts)
