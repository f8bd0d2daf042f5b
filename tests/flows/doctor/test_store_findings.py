"""Checks of a store, each on one that passes and on one that does not."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.doctor import store as stores
from heartdata.storage.locks import why_no_locks
from heartdata.storage.store import Store


def test_a_store_is_usable_where_it_can_be_opened(store: Store, tmp_path: Path, monkeypatch):
    assert stores.usable(store).level == "ok"
    absent = stores.usable(Store(tmp_path / "absent"))
    (tmp_path / "file").touch()
    assert stores.usable(Store(tmp_path / "file" / "store")).level == "problem"
    assert (absent.level, absent.remedy) == ("warning", f"heartbeat run --store {tmp_path / 'absent'}")
    assert not (tmp_path / "absent").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").touch()
    assert "is no store of heartbeat" in stores.usable(Store(tmp_path / "photos")).text
    monkeypatch.setattr(
        "tempfile.TemporaryFile", lambda **_: (_ for _ in ()).throw(OSError(30, "Read-only file system"))
    )
    found = stores.usable(store)
    assert (found.level, "Read-only file system" in found.text) == ("problem", True)


def test_a_mistyped_store_in_a_bucket_is_not_made(tmp_path: Path):
    store = Store(f"memory://{tmp_path.name}/mistyped")
    assert stores.usable(store).remedy == f"heartbeat run --store {store.uri}"
    assert stores.usable(store).level == "warning"
    assert stores.usable(store.open()).level == "ok"


def test_permissions(store: Store):
    names = [store.root, store.root / ".heartbeat", store.root / "absent"]
    assert [f.level for f in stores.permissions(names, os.getuid())] == ["ok"]
    assert [f.level for f in stores.permissions(names, os.getuid() + 1)] == ["problem", "problem"]
    names[1].chmod(0o666)
    (found,) = stores.permissions(names, os.getuid())
    assert (found.level, found.remedy) == ("problem", f"chmod o-w {names[1]}")


def test_file_locks(tmp_path: Path, monkeypatch):
    assert stores.file_locks(tmp_path, why_no_locks(tmp_path)).level == "ok"
    monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError(37, "No locks available")))
    found = stores.file_locks(tmp_path, why_no_locks(tmp_path))
    assert (found.level, "No locks available" in found.text) == ("problem", True)


@pytest.mark.parametrize(
    ("free", "nightly", "level"),
    [(50e9, None, "ok"), (50e9, 1e8, "ok"), (1e9, 1e8, "problem"), (2e9, 1.5e9, "problem"), (5e9, 1e9, "warning"), (5e9, 0, "ok")],
)  # fmt: skip
def test_disk(free: float, nightly: float | None, level: str):
    assert stores.disk(free, nightly).level == level


@pytest.fixture
def database(tmp_path: Path, monkeypatch) -> Path:
    """A database of revision b, which is the installed one, with a few pages of rows."""
    monkeypatch.setattr(
        stores, "schema_state", lambda _, revision: {"a": "older", "b": "current"}.get(revision, "newer")
    )
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES ('b')")
        connection.execute("CREATE TABLE rows (text)")
        connection.executemany("INSERT INTO rows VALUES (?)", [("x" * 2000,)] * 50)
        connection.execute("CREATE INDEX of_rows ON rows (text)")
    connection.close()
    return path


def test_a_database_is_of_the_installed_program(database: Path):
    assert stores.database(database, "MLflow", "/out").level == "ok"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'a'")
    older = stores.database(database, "MLflow", "/out")
    assert (older.level, older.remedy) == ("problem", "heartbeat upgrade --store /out")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'c'")
    newer = stores.database(database, "MLflow", "/out")
    assert (newer.level, "newer version of MLflow" in newer.text) == ("problem", True)


def test_a_database_that_is_written_to_is_not_called_damaged(database: Path, monkeypatch):
    monkeypatch.setattr("heartdata.storage.sqlite.WAIT_S", 0.1)
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        found = stores.database(database, "MLflow", "/out")
    assert (found.level, "cannot be read now (database is locked)" in found.text) == ("warning", True)


def test_a_damaged_database_is_noticed(database: Path, tmp_path: Path):
    content = bytearray(database.read_bytes())
    content[40_000:60_000] = os.urandom(20_000)
    database.write_bytes(content)
    found = stores.database(database, "MLflow", "/out")
    assert (found.level, "is damaged" in found.text) == ("problem", True)
    database.write_bytes(b"not a database" * 1000)
    assert "is damaged (file is not a database)" in stores.database(database, "MLflow", "/out").text
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE a (b)")
    assert "is no database of MLflow" in stores.database(tmp_path / "other.db", "MLflow", "/out").text


def test_the_newest_record_is_of_either_database(tmp_path: Path):
    assert stores.newest_record(tmp_path) is None
    (tmp_path / "prefect").mkdir()
    with sqlite3.connect(tmp_path / "prefect/prefect.db") as prefect:
        prefect.execute("CREATE TABLE flow_run (created)")
        prefect.execute("INSERT INTO flow_run VALUES ('2026-11-30 02:00:00.5')")
    assert stores.newest_record(tmp_path) == datetime(2026, 11, 30, 2, 0, 0, 500_000, tzinfo=UTC)
    with sqlite3.connect(tmp_path / "mlflow.db") as mlflow:
        mlflow.execute("CREATE TABLE runs (start_time)")
        mlflow.execute("INSERT INTO runs VALUES (1797000000000)")
    assert stores.newest_record(tmp_path) == datetime.fromtimestamp(1_797_000_000, UTC)
