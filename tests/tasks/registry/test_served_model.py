"""The served model: its columns, JSON, and the code in docs/serving.md, which is run."""

import base64
import json
import re
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from helpers import beats, write_wav
from mlflow.pyfunc.scoring_server import init
from untrained import registered, untrained

from heartdata.storage.store import Store
from tasks.registry import model_version

DOCS = Path(__file__).parents[3] / "docs" / "serving.md"


@pytest.fixture
def model_uri(registry_store: Store) -> str:
    return registered(registry_store, untrained(registry_store))


def test_predictions_are_valid_json(model_uri: str, tmp_path: Path):
    loaded = mlflow.pyfunc.load_model(model_uri)
    contents = [write_wav(tmp_path / "a.wav", beats()).read_bytes(), b"no sound"]
    served = loaded.predict(pd.DataFrame({"audio": contents}))
    assert list(served.columns) == [column.name for column in loaded.metadata.signature.outputs]
    records = [{"audio": base64.b64encode(content).decode()} for content in contents]
    with TestClient(init(loaded)) as client:
        response = client.post("/invocations", json={"dataframe_records": records})
    assert [column.required for column in loaded.metadata.signature.outputs].count(True) == 2
    good, bad = json.loads(response.text, parse_constant=pytest.fail)["predictions"]
    assert good == served.iloc[0].to_dict()
    assert {name for name, value in bad.items() if value is not None} == {"error", "warnings", "model_digest"}


def test_the_digest_is_a_tag_of_the_logged_model(model_uri: str):
    loaded = mlflow.pyfunc.load_model(model_uri)
    logged = mlflow.get_logged_model(loaded.metadata.model_id)
    assert logged.tags["model_digest"] == loaded.unwrap_python_model().predictor.digest


def test_the_code_in_the_docs_runs(model_uri: str, registry_store: Store, tmp_path: Path, monkeypatch, capsys):
    section = DOCS.read_text(encoding="utf-8").partition("## Python\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 2
    model = untrained(registry_store)
    (tmp_path / "model").mkdir()
    for artifact, name in ((model.weights, "weights.safetensors"), (model.config, "config.json")):
        (tmp_path / "model" / name).write_bytes(registry_store.local(artifact.name).read_bytes())
    write_wav(tmp_path / "recording.wav", beats())
    (tmp_path / "out").symlink_to(registry_store.root)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it; it is restored
    for block in blocks:
        exec(block, {})  # the documented code
    out = capsys.readouterr().out
    assert "p_murmur" in out
    assert "Prediction(label=" in out
    assert model_version.TOLERANCE == 1e-5  # as documented
