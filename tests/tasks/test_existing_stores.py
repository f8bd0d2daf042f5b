"""Stores that an older version wrote keep working, or are refused in one sentence: literal records of the old form."""

import json
from pathlib import Path

import mlflow
import pytest
import torch
from prefect import flow
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from safetensors.torch import save_file

from heartdata.checks.suite import ValidationConfig
from heartdata.config import RegistryConfig
from heartdata.errors import HeartbeatError
from heartdata.sources import DemoSource
from heartdata.storage.schemas import ACCEPTED, TRAINED_ON
from heartdata.storage.store import Artifact, Store, table_from_rows
from tasks.engine import progress
from tasks.engine.stage import stage
from tasks.registry.client import connect, load_model
from tasks.registry.model_version import SERVED_MODEL
from tasks.results import PreviouslyAccepted, TrainedModel
from tasks.train import initial_weights
from tasks.validate import last_accepted, record_name

REGISTRY = RegistryConfig(model_name="old")
OLD_SERVED_MODEL = """
import mlflow.pyfunc
from mlflow.models import set_model

class HeartSoundModel(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        from heartdata.predictor import Predictor

        self.predictor = Predictor.load(context.artifacts["weights"], context.artifacts["config"])

    def predict(self, context, model_input, params=None):
        return self.predictor.predict(model_input)

set_model(HeartSoundModel())
"""
OLD_CONFIG = {  # no "preprocessing"
    "classes": ["murmur", "normal"], "members": 1, "width": 128, "view": "windows", "dataset_version": "e" * 64,
    "init": "random", "spectrogram": {"rate_hz": 2000, "mel_bands": 32}, "calibration": {"temperature": 0.9},
}  # fmt: skip


def test_a_cached_result_whose_class_has_moved_is_computed_again(store: Store, prefect_server):
    ran = []

    @stage("ensemble")
    def train(manifest: Artifact, store: Store) -> TrainedModel:
        ran.append(manifest)
        return TrainedModel(
            weights=manifest, config=manifest, history=manifest, kept_epoch=0, classes=("a", "b"), init="", precision=""
        )

    file = store.write_bytes("models", ".json", b"{}")
    old = file.model_dump(mode="json")
    data = {"weights": old, "config": old, "history": old, "best_epoch": 11, "classes": ["a", "b"], "init": "random",
            "precision": "bfloat16", "members": [], "note": ""}  # fmt: skip
    key = train.cache_policy.first_key({"manifest": file, "store": store})
    metadata = {"storage_key": key, "serializer": {"type": "json"}, "prefect_version": "3.8.8"}
    result = json.dumps({"__class__": "tasks.train.TrainedModel", "data": data})
    Path(PREFECT_LOCAL_STORAGE_PATH.value(), key).write_text(json.dumps({"metadata": metadata, "result": result}))
    for _ in range(2):
        assert isinstance(flow(lambda: train(file, store), name="old", validate_parameters=False)(), TrainedModel)
    assert len(ran) == 1


def last(store: Store) -> tuple[PreviouslyAccepted, list[str]]:
    """What new recordings of the demo are compared with, and the notes on it."""
    inputs = Artifact(name="recordings/new.parquet", digest="new", rows=12)
    progress.clear_notes()
    with disable_run_logger():
        previous = last_accepted.fn(DemoSource(), inputs, inputs, ValidationConfig(), None, REGISTRY, store)
    return previous, progress.notes()


def test_recordings_accepted_earlier_are_compared_unless_they_cannot_be_read(store: Store):
    rows = [dict.fromkeys(ACCEPTED.names) | {"recording_id": "a.wav"}]
    accepted = store.write_table("accepted", table_from_rows(rows, ACCEPTED), ACCEPTED)
    other = {"name": "quarantine/gone.parquet", "digest": "0" * 64, "rows": 7, "counts": {}}
    record = {"accepted": accepted.model_dump(), "quarantine": other, "checks": other, "docs": "data-docs/b64e223c180e",
              "of": "1a6ec260", "before": None, "refusal": None}  # fmt: skip
    store.workpath(record_name(DemoSource(), None)).write_text(json.dumps(record))
    assert last(store) == (PreviouslyAccepted(last=accepted, reference=accepted), [])
    columns = store.read_table(accepted, ACCEPTED).drop_columns(["quality"])
    record["accepted"] = store.write_table("accepted", columns, columns.schema).model_dump()
    store.workpath(record_name(DemoSource(), None)).write_text(json.dumps(record))
    previous, notes = last(store)
    assert previous == PreviouslyAccepted()
    assert "written by another version of heartbeat" in notes[0]


def register_old(store: Store, served_model: Path, config: dict, provenance_folder: str) -> str:
    """A version that an older heartbeat registered, with what it was trained on in a folder of its run."""
    folder = store.workpath("old")
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"conv1.weight": torch.ones(1)}, folder / "weights.safetensors")
    rows = [{"sha256": "s", "samples_sha256": "d", "fingerprint": b"f", "subject": None}]
    sounds = store.write_table("old", table_from_rows(rows, TRAINED_ON), TRAINED_ON)
    client = connect(REGISTRY, store)
    experiment = client.create_experiment("old", store.workpath("mlflow-artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        mlflow.log_artifact(str(store.local(sounds.name)), provenance_folder)
        mlflow.pyfunc.log_model(
            name="model", python_model=str(served_model), registered_model_name="old", pip_requirements=["mlflow"],
            artifacts={"weights": str(folder / "weights.safetensors"), "config": str(folder / "config.json")},
        )  # fmt: skip
    client.set_registered_model_alias("old", "challenger", "1")
    return "models:/old@challenger"


@pytest.mark.parametrize(
    ("served_model", "provenance_folder"), [(OLD_SERVED_MODEL, "heard"), (SERVED_MODEL.read_text(), "provenance")]
)
def test_an_older_model_is_refused_in_one_sentence_but_training_may_start_from_it(
    registry_store: Store, tmp_path: Path, served_model: str, provenance_folder: str
):
    (tmp_path / "served_model.py").write_text(served_model)
    uri = register_old(registry_store, tmp_path / "served_model.py", OLD_CONFIG, provenance_folder)
    message = "config.json .*trained with other preprocessing .*: train a new version"
    with pytest.raises(HeartbeatError, match=message) as refused:
        load_model(uri, REGISTRY, registry_store)
    assert "\n" not in str(refused.value)
    initial = initial_weights.fn(uri, REGISTRY, registry_store)
    assert initial.note == ""
    assert registry_store.read_frame(initial.trained_on, TRAINED_ON)["sha256"].tolist() == ["s"]
