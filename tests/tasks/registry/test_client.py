"""Registered versions whose network was trained on what other code made of the recordings."""

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
from heartdata.errors import ConfigError
from heartdata.serving.model_config import ModelConfig
from heartdata.storage.store import Store
from heartdata.training.network import build_net, read_weights, weights_bytes
from heartdata.versions import PREPROCESSING
from tasks.registry.client import connect, load_model
from tasks.registry.model_version import SERVED_MODEL
from tasks.train import initial_weights


@pytest.fixture
def old(store: Store, tmp_path: Path) -> str:
    """A registered version for another version of the spectrograms, logged with a copy of heartdata that makes them."""
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(build_net(2)))
    config = ModelConfig(
        classes=("a", "b"), width=64, spectrogram=SpectrogramConfig(), dataset_version="0", init="random",
        preprocessing={**PREPROCESSING, "spectrograms": "0"},
    )  # fmt: skip
    (tmp_path / "c.json").write_text(config.model_dump_json())
    code = tmp_path / "code" / "heartdata"
    for path in Path(heartdata.__file__).parent.rglob("*.py"):
        copy = code / path.relative_to(Path(heartdata.__file__).parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text()
        if path.name == "versions.py":
            text = text.replace(f'SPECTROGRAMS = "{PREPROCESSING["spectrograms"]}"', 'SPECTROGRAMS = "0"')
        copy.write_text(text)
    client = connect(RegistryConfig(), store)
    experiment = client.create_experiment("old", store.workpath("mlflow-artifacts").as_uri())
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
    found = initial_weights.fn(old, RegistryConfig(), store)
    assert found.weights is not None
    assert read_weights(store.local(found.weights.name)).keys() == build_net(2).state_dict().keys()
    write_wav(tmp_path / "a.wav", beats())
    code = (
        "import mlflow, pandas, sys; mlflow.set_tracking_uri(sys.argv[1]); model = mlflow.pyfunc.load_model(sys.argv[2]);"
        "audio = pandas.DataFrame({'audio': [open(sys.argv[3], 'rb').read()]});"
        "model.predict(audio).to_csv(sys.argv[4], index=False)"
    )
    asked = [mlflow.get_tracking_uri(), old, str(tmp_path / "a.wav"), str(tmp_path / "answer.csv")]
    done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]  # as `mlflow models serve` does: by the code that was logged
    assert set(pd.read_csv(tmp_path / "answer.csv")["label"]) <= {"a", "b"}
