"""Old runs leave Prefect's database; what is free in SQLite files is given back unless they are in use."""

import datetime
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings

from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks import databases


@task
def nothing() -> None: ...


@flow(name="heartbeat")
def trivial() -> None:
    nothing()


def query(path: Path, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA foreign_keys = ON")
        rows = database.execute(statement).fetchall()
        database.commit()
        return rows


@pytest.fixture
def prefect_file(prefect_server, tmp_path: Path) -> Iterator[Path]:
    """A copy of the server's database with two runs of our flows and those of the tests' other flows."""
    runs = [trivial(return_state=True).state_details.flow_run_id for _ in range(2)]
    served = databases.sqlite_path(databases._prefect_url())
    path = tmp_path / "prefect.db"
    with closing(sqlite3.connect(served)) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
    query(path, f"DELETE FROM flow_run WHERE id NOT IN ({', '.join(repr(str(run)) for run in runs)})")
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=10)
    query(path, f"UPDATE flow_run SET end_time = '{long_ago:%Y-%m-%d %H:%M:%S.%f}' WHERE id = '{runs[0]}'")
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{path}"}):
        yield path


def test_runs_that_ended_long_ago_go_with_their_task_runs(prefect_file: Path):
    query(prefect_file, "DELETE FROM flow WHERE name != 'heartbeat'")
    assert databases.remove_old_runs(11) == ""
    assert query(prefect_file, "SELECT count(*) FROM flow_run") == [(2,)]
    assert databases.remove_old_runs(5) == ""
    assert query(prefect_file, "SELECT count(*) FROM flow_run") == [(1,)]
    assert query(prefect_file, "SELECT count(*) FROM task_run WHERE flow_run_id NOT IN (SELECT id FROM flow_run)") == [
        (0,)
    ]


def test_a_database_with_other_flows_is_left_alone(prefect_file: Path):
    query(
        prefect_file,
        "INSERT INTO flow (id, name, tags, labels) SELECT lower(hex(randomblob(16))), 'theirs', tags, labels FROM flow LIMIT 1",
    )
    assert "as it has runs of another flow" in databases.remove_old_runs(5)
    assert query(prefect_file, "SELECT count(*) FROM flow_run") == [(2,)]


@pytest.fixture
def large(store: Store, monkeypatch) -> Path:
    """An MLflow database of which most is free, beside no database of Prefect."""
    path = store.workpath("mlflow.db")
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (zeroblob(4000000)), (1)")
        database.commit()
        database.execute("DELETE FROM t WHERE x != 1")
        database.commit()
    monkeypatch.setattr(databases, "_prefect_url", lambda: f"sqlite:///{store.workpath('none.db')}")
    monkeypatch.setattr(databases, "WAIT_S", 0.1)
    return path


def test_what_is_free_is_given_back(large: Path, store: Store):
    assert databases.compact(RegistryConfig(), store) == []
    assert large.stat().st_size < 100_000
    assert query(large, "SELECT x FROM t") == [(1,)]
    size = large.stat().st_size
    assert databases.compact(RegistryConfig(), store) == []  # nothing is free
    assert large.stat().st_size == size


def test_a_file_in_use_stays_and_is_named(large: Path, store: Store):
    with closing(sqlite3.connect(large)) as other:
        other.execute("BEGIN IMMEDIATE")
        (sentence,) = databases.compact(RegistryConfig(), store)
    assert f"{large} was not made smaller (database is locked)" in sentence
    assert large.stat().st_size > 4_000_000
