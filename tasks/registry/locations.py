"""Where the registry in a store keeps files: MLflow records absolute paths, which are wrong once a store is moved or copied."""

import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from heartdata.errors import StoreError
from heartdata.storage.sqlite import WAIT_S, read_only
from heartdata.storage.store import Store

FOLDER = "mlflow-artifacts"  # in the store
DATABASE = "mlflow.db"
EXPERIMENTS = "experiments"
COLUMNS = (
    (EXPERIMENTS, "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
LOCATION = re.compile(rf"(?:file://)?(?P<root>/.*)/{FOLDER}(?P<rest>(/.*)?)")


@dataclass(frozen=True)
class Relocation:
    """How many locations were rewritten, and how many of them had files to fetch from the old place."""

    rewritten: int = 0
    fetched: int = 0


def check_locations(store: Store) -> None:
    """Raise `StoreError` when the registry in the store keeps files elsewhere: those of the store it was copied from.

    Also when its database is locked for long.
    """
    try:
        with closing(_connect(store, WAIT_S)) as connection:
            elsewhere = next((old for _, _, old, _ in _elsewhere(connection, store)), None)
    except sqlite3.OperationalError as error:
        raise StoreError(f"MLflow's database of {store.uri} cannot be read now ({error}): try again") from error
    if elsewhere:
        raise StoreError(
            f"the registry of {store.uri} keeps its files in {elsewhere}, so the store was moved or copied: type `heartbeat "
            f"upgrade --store {store.uri}` to make it a store of its own, or use it where it was"
        )


def relocate(store: Store) -> Relocation:
    """Let the registry in the store keep its files there; those that are only at the old place are copied.

    When it is interrupted, the registry is as before.
    """
    rewritten = fetched = 0
    with closing(_connect(store)) as connection, connection:
        for table, column, old, rest in list(_elsewhere(connection, store)):
            new, rewritten = store.workpath(FOLDER + rest), rewritten + 1
            if table != EXPERIMENTS and not new.exists():
                fetched += _fetch(Path(f"{old}{rest}"), new)
            values = [(new.as_uri(), value) for value in (f"file://{old}{rest}", Path(f"{old}{rest}").as_uri())]
            connection.executemany(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", values)
    return Relocation(rewritten, fetched)


def versions_without_files(store: Store) -> list[str]:
    """Versions of the registry in the store whose files should be in the store and are not, as ``heartbeat 7``."""
    with read_only(store.workpath(DATABASE)) as connection:
        rows = connection.execute(
            f"SELECT name, version, storage_location FROM model_versions WHERE storage_location LIKE '%/{FOLDER}/%' "
            "AND current_stage != 'Deleted_Internal' ORDER BY name, version"
        ).fetchall()
    return [
        f"{name} {version}"
        for name, version, place in rows
        if (location := LOCATION.fullmatch(place)) and not store.workpath(FOLDER + location["rest"]).exists()
    ]


def end_open_runs(store: Store) -> None:
    """Mark MLflow runs that were open when a backup was made as killed: their processes know nothing of this store."""
    with closing(_connect(store)) as connection, connection:
        connection.execute("UPDATE runs SET status = 'KILLED' WHERE status = 'RUNNING'")


def _connect(store: Store, timeout_s: float = 60) -> sqlite3.Connection:
    return sqlite3.connect(store.workpath(DATABASE), timeout=timeout_s)


def _elsewhere(connection: sqlite3.Connection, store: Store) -> Iterator[tuple[str, str, Path, str]]:
    """Each location in another folder: its table and column, that folder without links, and the path in it."""
    own = store.workpath(FOLDER).resolve()
    roots: dict[str, bool] = {}  # whether a folder is another
    for table, column in COLUMNS:
        try:
            rows = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE '%/{FOLDER}%'")
        except sqlite3.OperationalError as error:
            if str(error).startswith(("no such table", "no such column")):  # an older database lacks it
                continue
            raise
        for (value,) in rows:
            if not (location := LOCATION.fullmatch(value)):
                continue
            root = unquote(location["root"]) if value.startswith("file:") else location["root"]
            if root not in roots:
                roots[root] = Path(root, FOLDER).resolve() != own
            if roots[root]:
                yield table, column, Path(root, FOLDER), location["rest"]


def _fetch(old: Path, new: Path) -> bool:
    """Copy a folder as a whole; returns whether there was one."""
    if not old.is_dir():
        return False
    new.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=new.parent, prefix=".unfinished-") as folder:
        shutil.copytree(old, Path(folder, new.name))
        Path(folder, new.name).rename(new)
    return True
