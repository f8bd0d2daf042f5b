"""Checks of a store, each on one that passes and on one that does not."""

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.doctor import installed
from flows.doctor import store as stores
from heartdata.storage.locks import why_no_locks
from heartdata.storage.store import Store


def test_a_store_is_usable_where_it_can_be_opened(store: Store, tmp_path: Path, monkeypatch):
    assert stores.usable(store).level == "ok"
    absent = stores.usable(Store(tmp_path / "absent"))
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
def database(tmp_path: Path) -> Path:
    """A database of revision b, with a few pages of rows."""
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
    assert stores.database(database, "MLflow", ["b", "a"], "/out").level == "ok"
    older = stores.database(database, "MLflow", ["c", "b", "a"], "/out")
    assert (older.level, older.remedy) == ("problem", "heartbeat upgrade --store /out")
    newer = stores.database(database, "MLflow", ["a"], "/out")
    assert (newer.level, "newer version of MLflow" in newer.text) == ("problem", True)


def test_a_damaged_database_is_noticed(database: Path, tmp_path: Path):
    content = bytearray(database.read_bytes())
    content[40_000:60_000] = os.urandom(20_000)
    database.write_bytes(content)
    found = stores.database(database, "MLflow", ["b"], "/out")
    assert (found.level, "is damaged" in found.text) == ("problem", True)
    database.write_bytes(b"not a database" * 1000)
    assert "is damaged (file is not a database)" in stores.database(database, "MLflow", ["b"], "/out").text
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE a (b)")
    assert "is no database of MLflow" in stores.database(tmp_path / "other.db", "MLflow", ["b"], "/out").text


def test_the_installed_revisions_are_known():
    for revisions in (installed.mlflow_revisions(), installed.prefect_revisions()):
        assert len(revisions) == len({*revisions}) > 30


def test_a_moved_store_is_noticed(tmp_path: Path):
    inside = [(tmp_path / "a b/mlflow-artifacts").as_uri(), str(tmp_path / "mlflow-artifacts/1"), "s3://bucket/x"]
    assert stores.artifacts(inside, tmp_path, str(tmp_path)).level == "ok"
    found = stores.artifacts([*inside, "file:///elsewhere/mlflow-artifacts"], tmp_path, "/out")
    assert found.level == "problem"
    assert "another folder, /elsewhere/mlflow-artifacts" in found.text


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
