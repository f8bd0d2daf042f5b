"""Two nights, a backup, the store deleted and restored elsewhere: the next night finds nothing new, and all else works."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import registry, tiny, use_small_network
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from flows.cli.backup import restore_backup, write_backup
from flows.pipeline import heartbeat
from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.engine import progress
from tasks.registry.champion import read_champion
from tasks.registry.client import load_model
from tasks.registry.version_files import run_file

pytestmark = pytest.mark.slow
NAME = "heartbeat-demo"


def night(store: Path, **changes: Any) -> Any:
    progress.begin()
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: store / "results"}):
        return heartbeat(tiny(store, registry__first_champion="always", **changes))


def probabilities(store: Path, audio: Path) -> Any:
    _, predictor = load_model(f"models:/{NAME}/1", RegistryConfig(), Store(store))
    predictions = predictor.predict(path.read_bytes() for path in sorted(audio.glob("N*.wav")))
    return np.stack([prediction.probabilities for prediction in predictions])


def test_a_restored_store_goes_on_where_it_was(tmp_path: Path, prefect_server, monkeypatch):
    use_small_network(monkeypatch)
    old, new = tmp_path / "old", tmp_path / "elsewhere" / "new"
    night(old, training__seed=1)
    last = night(old, training__seed=2)
    before = read_champion(registry(old), NAME)
    audio = shutil.copytree(next((old / "made").iterdir()), tmp_path / "audio")
    predicted = probabilities(old, audio)
    write_backup(tmp_path / "b.tar", tiny(old))
    shutil.rmtree(old)
    restore_backup(tmp_path / "b.tar", tiny(new))
    _artifact_repos_cache.clear()  # of this process, by a run's id alone: a store is restored by another process

    assert read_champion(registry(new), NAME) == before
    np.testing.assert_array_equal(probabilities(new, audio), predicted)
    again = night(new, training__seed=2)
    assert again.nothing_new
    assert again.run_id == last.run_id
    assert len(registry(new).search_model_versions(f"name = '{NAME}'")) == 2
    settings = run_file(last.run_id, "config.json", tmp_path)
    assert json.loads(settings.read_text())["training"]["seed"] == 2
    assert run_file(last.run_id, "tables/manifest.parquet", tmp_path) is not None
    assert not old.exists()
