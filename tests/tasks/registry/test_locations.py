"""A copied or moved store is recognised, and is made a store of its own without touching the other."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest

from heartdata.config import RegistryConfig
from heartdata.errors import StoreError
from heartdata.storage.store import Store
from tasks.registry.client import check_registry, connect, experiment_of
from tasks.registry.locations import check_locations, end_open_runs, relocate, versions_without_files

CONFIG = RegistryConfig()


def log_run(store: Store, text: str) -> Any:
    """A run with one file and a logged model's record, as a version that is registered."""
    client = connect(CONFIG, store)
    with mlflow.start_run(experiment_id=experiment_of(client, CONFIG, store)) as run:
        mlflow.log_text(text, "note.txt")
        model = mlflow.create_external_model("model")
        client.log_model_artifact(model.model_id, __file__)
    return run.info.run_id, model.model_id


def note(store: Store, run_id: str) -> str:
    connect(CONFIG, store)
    return mlflow.artifacts.load_text(mlflow.get_run(run_id).info.artifact_uri + "/note.txt")


def files(store: Store) -> set[str]:
    return {entry.name for entry in store.entries("mlflow-artifacts")}


@pytest.fixture(params=["copy", "a copy, 50%"])
def copied(request, registry_store: Store, tmp_path: Path) -> tuple[Store, Store, tuple[str, str]]:
    """A store, a copy of it, and the ids of a run and its model in both."""
    ids = log_run(registry_store, "before")
    return registry_store, Store(shutil.copytree(registry_store.root, tmp_path / request.param)), ids


def test_a_copy_is_refused_with_the_command_that_makes_it_a_store_of_its_own(copied):
    original, copy, _ = copied
    check_registry(CONFIG, original)
    with pytest.raises(
        StoreError, match=r"keeps its files in .*/store/mlflow-artifacts, so .*type `heartbeat upgrade --store"
    ):
        check_registry(CONFIG, copy)
    relocate(copy)
    check_registry(CONFIG, copy)
    check_registry(CONFIG, original)


def test_a_copy_that_was_upgraded_leaves_the_original_alone(copied):
    original, copy, (run_id, _) = copied
    relocate(copy)
    before = files(original)
    other_id, _ = log_run(copy, "after")
    assert files(original) == before
    shutil.rmtree(original.workpath("mlflow-artifacts"))
    assert [note(copy, run_id), note(copy, other_id)] == ["before", "after"]
    assert relocate(copy).rewritten == 0


def test_what_a_moved_store_wrote_to_its_old_place_is_fetched(copied):
    original, copy, (run_id, model_id) = copied
    for folder in (run_id, f"models/{model_id}"):
        shutil.rmtree(copy.workpath(f"mlflow-artifacts/{folder}"))
    result = relocate(copy)
    assert result.fetched == 2
    assert files(copy) == files(original)
    assert note(copy, run_id) == "before"


def test_versions_without_files_are_named(copied):
    original, copy, (_, model_id) = copied
    client = connect(CONFIG, copy)
    client.create_registered_model("heartbeat")
    for _ in range(2):
        client.create_model_version("heartbeat", f"models:/{model_id}", model_id=model_id)
    relocate(copy)
    assert versions_without_files(copy) == []
    for store in (original, copy):
        shutil.rmtree(store.workpath("mlflow-artifacts"))
    client.delete_model_version("heartbeat", "1")
    assert versions_without_files(copy) == ["heartbeat 2"]


def test_a_locked_database_is_not_taken_for_one_that_is_in_place(copied, monkeypatch):
    _, copy, _ = copied
    monkeypatch.setattr("tasks.registry.locations.WAIT_S", 0.1)
    with closing(sqlite3.connect(copy.workpath("mlflow.db"))) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="database is locked"):
            check_locations(copy)


def test_a_link_to_the_store_is_its_place(registry_store: Store, tmp_path: Path):
    log_run(registry_store, "text")
    moved = registry_store.root.rename(tmp_path / "moved")
    registry_store.root.symlink_to(moved)
    check_registry(CONFIG, Store(moved))


def test_open_runs_are_ended(registry_store: Store):
    client = connect(CONFIG, registry_store)
    run = client.create_run(experiment_of(client, CONFIG, registry_store))
    end_open_runs(registry_store)
    assert client.get_run(run.info.run_id).info.status == "KILLED"
