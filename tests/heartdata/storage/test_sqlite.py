"""Databases are read as they are, also while another process writes, and nothing is left beside them."""

import sqlite3
from pathlib import Path

import pytest

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


def test_damage(path: Path):
    assert damage(path) == ""
    assert damage(path.with_name("absent.db")) != ""
    path.write_bytes(b"no database at all" * 100)
    assert "not a database" in damage(path)
