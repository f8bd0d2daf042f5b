"""Registries of several stores, and registered versions that need other preprocessing than the installed code's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers import beats, write_wav

import heartdata
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.config import RegistryConfig
from heartdata.errors import ConfigError, HeartbeatError
from heartdata.serving.model_config import ModelConfig
from heartdata.storage.store import Store
from heartdata.training.network import build_net, read_weights, weights_bytes
from heartdata.versions import PREPROCESSING
from tasks.registry.client import connect, load_model
from tasks.registry.model_version import SERVED_MODEL
from tasks.train import initial_weights


def test_two_registries_in_one_process_are_separate(registry_store: Store, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    other = Store(tmp_path / "other").open()
    connect(RegistryConfig(), registry_store).create_registered_model("here")
    assert connect(RegistryConfig(), other).search_registered_models() == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry_store.workpath('mlflow.db')}")  # set by the user
    assert [m.name for m in connect(RegistryConfig(), other).search_registered_models()] == ["here"]
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("store/mlflow.db")


def test_of_two_models_the_one_that_is_not_the_demos_predicts(registry_store: Store, monkeypatch):
    assert mlflow.pyfunc.load_model  # loads the module
    monkeypatch.setattr(mlflow.pyfunc, "load_model", lambda uri: uri)
    client = connect(RegistryConfig(), registry_store)

    def register(name: str) -> None:
        client.create_registered_model(name)
        client.create_model_version(name, source=str(registry_store.root), model_id=None)
        client.set_registered_model_alias(name, "challenger", "1")

    with pytest.raises(HeartbeatError, match=r"no model is registered in .*store: run `heartbeat run` first"):
        load_model(None, RegistryConfig(), registry_store)
    for name, taken in (("heartbeat-demo", "heartbeat-demo"), ("heartbeat", "heartbeat")):
        register(name)
        assert load_model(None, RegistryConfig(), registry_store)[0] == f"models:/{taken}/1"
    assert (
        load_model("models:/heartbeat-demo@challenger", RegistryConfig(), registry_store)[0]
        == "models:/heartbeat-demo/1"
    )
    register("other")
    with pytest.raises(
        HeartbeatError, match="name a model with --model; there are: models:/heartbeat-demo@challenger, "
    ):
        load_model(None, RegistryConfig(), registry_store)


@pytest.fixture
def old(registry_store: Store, tmp_path: Path) -> str:
    """A registered version that needs another version of spectrograms, logged with a heartdata that computes them."""
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(build_net(2)))
    config = ModelConfig(
        classes=("a", "b"), width=64, spectrogram=SpectrogramConfig(), dataset_version="0", init="random",
        preprocessing={**PREPROCESSING, "spectrograms": "0"},
    )  # fmt: skip
    (tmp_path / "c.json").write_text(config.model_dump_json())
    code = tmp_path / "code" / "heartdata"
    shutil.copytree(Path(heartdata.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
    versions = (code / "versions.py").read_text()
    now = f'SPECTROGRAMS = "{PREPROCESSING["spectrograms"]}"'
    assert now in versions
    (code / "versions.py").write_text(versions.replace(now, 'SPECTROGRAMS = "0"'))
    client = connect(RegistryConfig(), registry_store)
    experiment = client.create_experiment("old", registry_store.workpath("mlflow-artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        mlflow.pyfunc.log_model(
            name="model", python_model=str(SERVED_MODEL), registered_model_name="old", code_paths=[str(code)],
            artifacts={"weights": str(tmp_path / "w.safetensors"), "config": str(tmp_path / "c.json")},
            pip_requirements=["mlflow"],
        )  # fmt: skip
    return "models:/old/1"


def test_a_version_for_other_input_is_refused_but_training_may_start_from_it(old: str, store: Store, tmp_path: Path):
    with pytest.raises(ConfigError, match="other preprocessing .*spectrograms: installed version .* model's 0"):
        load_model(old, RegistryConfig(), store)
    initial = initial_weights.fn(old, RegistryConfig(), store)
    assert read_weights(store.local(initial.weights.name)).keys() == build_net(2).state_dict().keys()
    write_wav(tmp_path / "a.wav", beats())
    code = (
        "import mlflow, pandas, sys; mlflow.set_tracking_uri(sys.argv[1]); model = mlflow.pyfunc.load_model(sys.argv[2]);"
        "audio = pandas.DataFrame({'audio': [open(sys.argv[3], 'rb').read()]});"
        "model.predict(audio).to_csv(sys.argv[4], index=False)"
    )
    arguments = [mlflow.get_tracking_uri(), old, str(tmp_path / "a.wav"), str(tmp_path / "predictions.csv")]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]  # as `mlflow models serve` does, by the code that was logged
    assert set(pd.read_csv(tmp_path / "predictions.csv")["label"]) <= {"a", "b"}
