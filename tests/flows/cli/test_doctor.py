"""`heartbeat doctor`: a sound store, one with faults, and its exit status."""

import sqlite3
from pathlib import Path

import pytest

from heartdata.storage.store import Store


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Without what takes seconds or depends on this machine, and has tests of its own."""
    monkeypatch.setattr("flows.doctor.installed.why_not_imported", lambda module: "")
    monkeypatch.setattr("flows.doctor.machine.available_memory_bytes", lambda: 8e9)
    monkeypatch.setattr("flows.cli.doctor.free_bytes", lambda folder: 1e12)


def test_a_sound_store_has_no_problems(heartbeat, store: Store):
    status, err, out = heartbeat("doctor", "--store", store.root)
    assert (status, err) == (0, "")
    assert "problem " not in out
    assert " 0 problems" in f" {out.splitlines()[-1]}"


def test_an_absent_store_is_not_made(heartbeat, tmp_path: Path):
    status, _, out = heartbeat("doctor", "--store", tmp_path / "out")
    assert status == 0
    assert f"there is no store {tmp_path / 'out'} yet" in out
    assert not (tmp_path / "out").exists()


def test_each_fault_is_named_with_its_remedy(heartbeat, store: Store):
    with sqlite3.connect(store.workpath("mlflow.db")) as database:
        database.execute("CREATE TABLE alembic_version (version_num)")
        database.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")  # MLflow's first
    store.workpath("mlflow.db").chmod(0o666)
    status, err, out = heartbeat("doctor", "--store", store.root)
    assert (status, err) == (2, "")
    assert f"problem  {store.root}/mlflow.db is of an older version of MLflow" in out
    assert f"to mend it: heartbeat upgrade --store {store.root}" in out
    assert f"to mend it: chmod o-w {store.root}/mlflow.db" in out
