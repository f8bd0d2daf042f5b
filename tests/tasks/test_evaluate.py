"""What evaluation hands over: predictions and metrics of the network and of every baseline, and those of each slice."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.scoring import baselines
from heartdata.scoring.calibration import Calibration
from heartdata.scoring.metrics import EvaluationConfig
from heartdata.scoring.model_names import MAJORITY_CLASS, METADATA_ONLY, NETWORK, SIMPLE_FEATURES
from heartdata.serving import predictor
from heartdata.serving.model_config import ModelConfig
from heartdata.storage.schemas import (
    FACTS,
    MANIFEST,
    METRICS,
    RECORDINGS,
    SLICE_ATTRIBUTES,
    SLICES,
    predictions_schema,
)
from heartdata.storage.store import Store, table_from_rows
from tasks import evaluate as stage
from tasks.results import TrainedModel
from tasks.slices import slices

CLASSES = ["a", "b"]
CONFIG = EvaluationConfig(bootstrap=20)


@pytest.fixture
def evaluated(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A manifest of 60 recordings, 20 of them for testing, and its evaluation by a network that is always right."""
    rows = [
        {"recording_id": str(i), "sha256": str(i), "group": str(i), "source": "t", "collection": "c", "site": "AV",
         "label": CLASSES[i % 2], "part": ("train", "train", "test")[i % 3], "duration_s": 1.0, "rate_hz": 4000, "channels": 1}
        for i in range(60)
    ]  # fmt: skip
    manifest = store.write_table("manifests", table_from_rows(rows, MANIFEST), MANIFEST)
    config = ModelConfig(
        classes=("a", "b"), width=64, spectrogram=SpectrogramConfig(), preprocessing={}, dataset_version="0", init="random",
        calibration=Calibration(class_weights=(1.0, 1.0)),
    )  # fmt: skip
    predicted = SimpleNamespace(config=config)
    monkeypatch.setattr(predictor.Predictor, "load", lambda *_: predicted)
    monkeypatch.setattr(
        predictor, "predict_probabilities", lambda _p, test, *_: np.eye(2)[[CLASSES.index(x) for x in test["label"]]]
    )
    monkeypatch.setattr(baselines, "classical_baseline", lambda table, *_: np.full((20, 2), [0.4, 0.6]))
    monkeypatch.setattr(stage, "_plots", lambda *_: {})
    weights = store.write_bytes("models", ".safetensors", b"")
    model = TrainedModel(
        weights=weights, config=weights, history=weights, kept_epoch=0, classes=("a", "b"), init="random",
        precision="float32",
    )  # fmt: skip
    return manifest, stage.evaluate.fn(manifest, model, CONFIG, "", store)


def test_every_baseline_is_scored_and_its_predictions_are_kept(store: Store, evaluated):
    _, evaluation = evaluated
    metrics = store.read_frame(evaluation.metrics, METRICS)
    assert metrics["model"].unique().tolist() == [NETWORK, SIMPLE_FEATURES, METADATA_ONLY, MAJORITY_CLASS]
    assert list(evaluation.baselines) == [SIMPLE_FEATURES, METADATA_ONLY, MAJORITY_CLASS]
    network = store.read_frame(evaluation.predictions, predictions_schema(CLASSES))
    for artifact in evaluation.baselines.values():
        rows = store.read_frame(artifact, predictions_schema(CLASSES))
        pd.testing.assert_frame_equal(rows.iloc[:, :4], network.iloc[:, :4])
    simple = store.read_frame(evaluation.baselines[SIMPLE_FEATURES], predictions_schema(CLASSES))
    assert set(simple["prediction"]) == {"b"}


def test_slices_of_the_test_part(store: Store, evaluated):
    manifest, evaluation = evaluated
    extra = [json.dumps({"Sex": "MF"[i >= 30]}) for i in range(60)]
    rows = [{"recording_id": str(i), "uri": "", "source": "t", "extra": text} for i, text in enumerate(extra)]
    recordings = store.write_table("recordings", table_from_rows(rows, RECORDINGS), RECORDINGS)
    rows = [{"sha256": str(i), "quality": 0.9} for i in range(60)]
    facts = store.write_table("facts", table_from_rows(rows, FACTS), FACTS)
    result = slices.fn(manifest, recordings, facts, evaluation, 0.25, CONFIG, store)
    attributes = store.read_frame(result.attributes, SLICE_ATTRIBUTES)
    assert attributes["sex"].tolist() == ["male"] * 30 + ["female"] * 30
    metrics = store.read_frame(result.metrics, SLICES)
    assert metrics[["attribute", "slice", "recordings"]].drop_duplicates().to_numpy().tolist() == [
        ["sex", "female", 10],
        ["sex", "male", 10],
    ]
