"""`heartbeat prune` shows what would go, and removes it only with --yes."""

import os
from pathlib import Path

import pytest

from flows.cli import prune
from heartdata.storage.store import Store
from tasks import prune as tasks


@pytest.fixture
def store(tmp_path: Path, monkeypatch) -> Store:
    """A store with a table that nothing needs."""
    monkeypatch.setattr(prune, "prepare_environment", lambda store: None)
    monkeypatch.setattr(tasks, "remove_old_runs", lambda days: "Prefect's database is elsewhere")
    monkeypatch.setattr(tasks, "_results_folder", lambda: tmp_path / "none")
    store = Store(tmp_path / "out").open()
    with store.writing("splits/old.parquet") as file:
        file.write(bytes(200_000))
    os.utime(store.workpath("splits/old.parquet"), (1e9, 1e9))
    return store


def test_only_with_yes(heartbeat, store: Store):
    status, _, out = heartbeat("prune", "--store", store.root)
    assert status == 0
    assert "0 versions or runs and 1 files of 0.2 MB would be removed" in out
    assert store.exists("splits/old.parquet")
    status, _, out = heartbeat("prune", "--store", store.root, "--yes")
    assert status == 0
    assert "1 files of 0.2 MB removed: the store held 0.2 MB and holds 0.0 MB" in out
    assert "Prefect's database is elsewhere" in out
    assert not store.exists("splits/old.parquet")


def test_settings_decide(heartbeat, store: Store):
    os.utime(store.workpath("splits/old.parquet"))
    assert "and 0 files" in heartbeat("prune", "--store", store.root, "--set", "retention.days=2")[2]
    status, err, _ = heartbeat("prune", "--store", store.root, "--set", "retention.days=1")
    assert status != 0
    assert "retention.days" in err


def test_a_store_that_is_not_there_is_not_made(heartbeat, tmp_path: Path):
    status, err, _ = heartbeat("prune", "--store", tmp_path / "nowhere")
    assert status != 0
    assert "there is no store" in err
    assert not (tmp_path / "nowhere").exists()
