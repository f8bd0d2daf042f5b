"""Databases are read as they are, also while another process writes, and nothing is left beside them."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from heartdata.storage import sqlite
from heartdata.storage.sqlite import damage, read_only


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "my 100% #1.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE a (b)")
    connection.execute("INSERT INTO a VALUES (1)")
    connection.commit()
    connection.close()
    return path


def test_nothing_is_changed_or_left_beside_it(path: Path):
    before = path.read_bytes()
    with read_only(path) as database:
        assert database.execute("SELECT b FROM a").fetchone()["b"] == 1
        with pytest.raises(sqlite3.Error, match="readonly"):
            database.execute("INSERT INTO a VALUES (2)")
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_another_process_has_just_written_is_read(path: Path):
    writer = sqlite3.connect(path)
    writer.execute("INSERT INTO a VALUES (2)")
    writer.commit()  # into the write-ahead log
    with read_only(path) as database:
        assert [row["b"] for row in database.execute("SELECT b FROM a")] == [1, 2]
    writer.close()


@pytest.fixture
def without_log(tmp_path: Path, monkeypatch) -> Path:
    """A database in the journal mode that MLflow leaves it in."""
    monkeypatch.setattr(sqlite, "WAIT_S", 0.1)
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE a (b)")
        connection.executemany("INSERT INTO a VALUES (?)", [("x" * 1000,)] * 100)
    return path


def test_an_unfinished_change_is_not_read_nor_taken_for_damage(without_log: Path):
    with closing(sqlite3.connect(without_log)) as writer:
        writer.execute("PRAGMA cache_size = 2")  # pages are written before the transaction ends
        writer.execute("UPDATE a SET b = b || 'y'")
        with pytest.raises(sqlite3.OperationalError, match="locked"), read_only(without_log) as database:
            database.execute("SELECT b FROM a").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            damage(without_log)
        for path in (without_log, without_log.with_name("mlflow.db-journal")):  # what a killed process leaves
            shutil.copyfile(path, path.with_name(path.name.replace("mlflow", "killed")))
    with pytest.raises(sqlite3.OperationalError):
        damage(without_log.with_name("killed.db"))
    with read_only(without_log) as database:
        assert {row["b"] for row in database.execute("SELECT b FROM a")} == {"x" * 1000}
    assert damage(without_log) == ""


def test_damage(path: Path):
    assert damage(path) == ""
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        damage(path.with_name("absent.db"))
    path.write_bytes(b"no database at all" * 100)
    assert "not a database" in damage(path)
