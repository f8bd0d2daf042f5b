"""Models that somebody else registered: neither their pickles nor their code run, wherever heartbeat reads a version."""

from pathlib import Path

import mlflow
import pytest
from helpers import beats, write_wav
from untrained import registered, untrained

from heartdata.config import RegistryConfig, RunConfig
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from tasks.champion_predictions import UnusableChampion, _load
from tasks.registry.client import connect, experiment_of, load_model
from tasks.registry.version_files import fetch_model
from tasks.train import initial_weights

REGISTRY = RegistryConfig()


def files_of(uri: str, store: Store) -> Path:
    """The folder of a version's files in the registry."""
    connect(REGISTRY, store)
    return Path(mlflow.artifacts.download_artifacts(uri))


@pytest.fixture
def pickled(registry_store: Store, planted) -> str:
    """A version that is a pickled PythonModel, and whose pickle runs code."""
    client = connect(REGISTRY, registry_store)
    with mlflow.start_run(experiment_id=experiment_of(client, REGISTRY, registry_store)):
        mlflow.pyfunc.log_model(
            name="model", python_model=lambda model_input: model_input, registered_model_name="heartbeat",
            pip_requirements=[],
        )  # fmt: skip
    (file,) = files_of("models:/heartbeat/1", registry_store).rglob("*.pkl")
    file.write_bytes(planted.pickle)
    return "models:/heartbeat/1"


def test_a_pickled_model_is_refused_and_not_loaded(
    pickled: str, registry_store: Store, planted, tmp_path: Path, monkeypatch
):
    version = registry_version(registry_store)
    for read in (
        lambda: load_model(pickled, REGISTRY, registry_store),
        lambda: fetch_model(pickled, REGISTRY, registry_store, tmp_path),
        lambda: initial_weights.fn(pickled, REGISTRY, registry_store),
        lambda: _load(version, RunConfig(), registry_store),
    ):
        with pytest.raises((HeartbeatError, UnusableChampion), match="weights|safetensors"):
            read()
    assert not planted.executed
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")  # heartbeat's commands forbid it
    with pytest.raises(Exception, match="."):  # the pickle is one that MLflow would load
        mlflow.pyfunc.load_model(pickled)
    assert planted.executed


def registry_version(store: Store):
    return connect(REGISTRY, store).get_model_version("heartbeat", "1")


def test_the_code_of_a_version_does_not_run(registry_store: Store, planted, tmp_path: Path):
    uri = registered(registry_store, untrained(registry_store))
    folder = files_of(uri, registry_store)
    evil = f"import pathlib; pathlib.Path({str(planted.trace)!r}).touch()\n"
    changed = [path for path in folder.rglob("*.py")]
    assert {"served_model.py", "predictor.py"} <= {path.name for path in changed}
    for path in changed:
        path.write_text(evil + path.read_text())
    _, predictor = load_model(uri, REGISTRY, registry_store)
    (prediction,) = predictor.predict([write_wav(tmp_path / "a.wav", beats()).read_bytes()])
    assert prediction.label in predictor.config.classes
    assert initial_weights.fn(uri, REGISTRY, registry_store).weights
    assert not planted.executed


def test_weights_that_are_a_pickle_are_refused(registry_store: Store, planted):
    uri = registered(registry_store, untrained(registry_store))
    (weights,) = files_of(uri, registry_store).rglob("*.safetensors")
    weights.write_bytes(planted.pickle)
    with pytest.raises(HeartbeatError, match="is not a safetensors file"):
        load_model(uri, REGISTRY, registry_store)
    assert not planted.executed
