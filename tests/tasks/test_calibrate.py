"""What a model says of its own calibration."""

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import RecordingBounds
from heartdata.scoring.calibration import Calibration, DecisionConfig
from heartdata.serving import predictor
from heartdata.serving.model_config import ModelConfig
from heartdata.storage.schemas import MANIFEST, predictions_schema
from heartdata.storage.store import Store, table_from_rows
from tasks.calibrate import calibrate, notes_on
from tasks.engine import progress
from tasks.results import TrainedModel

GOOD = Calibration(temperature=1.2, class_weights=(1.0, 1.0), coverage=0.6, risk=0.1)
ENOUGH = pd.Series(["a"] * 25 + ["b"] * 5)


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({}, []),
        (
            {"risk": 0.4, "unsure_below": 0.7},
            [
                "Decisions that are not unsure are wrong more often than decision.max_risk = 20 %: in validation, 40 % of the 60 % "
            ],
        ),
        (
            {"risk": 0.4, "coverage": 1.0},
            [
                "No prediction is marked unsure, as no confidence bound lowers the errors: in validation 40 % of the predictions "
            ],
        ),
        ({"temperature": 20.0}, ["The temperature is at its upper bound, 20: on the validation part"]),
    ],
)
def test_a_model_that_is_not_to_be_relied_on_says_so(changes: dict, notes: list[str]):
    found = notes_on(GOOD.model_copy(update=changes), ENOUGH, ("a", "b"), DecisionConfig(max_risk=0.2))
    assert len(found) == len(notes)
    assert all(text.startswith(start) for text, start in zip(found, notes, strict=True))


@pytest.mark.parametrize(
    ("recordings", "config", "starts", "ends"),
    [
        (4, DecisionConfig(), "Only 4 of the 13 validation recordings are b: ",
         "(the temperature, the operating point, the confidence threshold)"),
        (0, DecisionConfig(temperature=False, operating_point="none"), "Only 0 of the 9 validation recordings are b: ",
         "(the confidence threshold)"),
        (5, DecisionConfig(), "Only 14 recordings are in the validation part: ",
         "(the temperature, the operating point, the confidence threshold)"),
    ],
)  # fmt: skip
def test_few_validation_recordings_in_all_or_of_a_class_are_noted(
    recordings: int, config: DecisionConfig, starts: str, ends: str
):
    (note,) = notes_on(GOOD, pd.Series(["a"] * 9 + ["b"] * recordings), ("a", "b"), config)
    assert note.startswith(starts)
    assert f"{ends}, which other recordings would change much" in note


def test_it_predicts_the_validation_recordings_and_counts_them(store: Store, monkeypatch: pytest.MonkeyPatch):
    rows = [
        {"recording_id": str(i), "group": str(i), "label": "ab"[i % 2], "part": ("valid", "test")[i > 7]}
        for i in range(12)
    ]
    manifest = store.write_table("manifests", table_from_rows(rows, MANIFEST), MANIFEST)
    config = ModelConfig(
        classes=("a", "b"),
        width=64,
        spectrogram=SpectrogramConfig(),
        preprocessing={},
        dataset_version="0",
        init="random",
    )

    def predict(_predictor: object, valid: pd.DataFrame, _store: Store, on_done) -> np.ndarray:
        for done in range(1, len(valid) + 1):
            on_done(done)
        return np.tile([[0.8, 0.2], [0.3, 0.7]], (len(valid) // 2, 1))

    monkeypatch.setattr(predictor.Predictor, "load", lambda *_: SimpleNamespace(config=config))
    monkeypatch.setattr(predictor, "predict_probabilities", predict)
    weights = store.write_bytes("models", ".safetensors", b"")
    model = TrainedModel(
        weights=weights, config=weights, history=weights, kept_epoch=0, classes=("a", "b"), init="random",
        precision="float32", note="",
    )  # fmt: skip
    display = Mock()
    progress.begin(display)
    try:
        fitted = calibrate.fn(manifest, model, DecisionConfig(), MeasureConfig(), RecordingBounds(), store)
    finally:
        progress.begin(None)
    display.started.assert_called_once_with("calibrate", 8, "recordings")
    shown = [call.args[1:3] for call in display.advanced.call_args_list]
    assert shown == [*((done, 8) for done in range(1, 9)), (8, 8)]
    validation = store.read_frame(fitted.validation, predictions_schema(["a", "b"]))
    assert validation["recording_id"].tolist() == [str(i) for i in range(8)]
    assert validation["prediction"].tolist() == ["a", "b"] * 4
    assert validation["p_a"][0] > 0.8  # sharper than the network's, as all are right
