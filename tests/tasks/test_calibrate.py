"""What a model says of its own calibration."""

import pandas as pd
import pytest

from heartdata.scoring.calibration import Calibration, DecisionConfig
from tasks.calibrate import notes_on

GOOD = Calibration(temperature=1.2, class_weights=(1.0, 1.0), coverage=0.6, risk=0.1)
ENOUGH = pd.Series(["a"] * 9 + ["b"] * 5)


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({}, []),
        (
            {"risk": 0.4},
            ["Even of the 60 % of validation predictions that the model is surest of, 40 % are wrong (limit: "],
        ),
        (
            {"risk": 0.4, "coverage": 1.0},
            ["Of the validation predictions, 40 % are wrong (limit: decision.max_risk = 20 %)"],
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
        (4, DecisionConfig(), "Only 4 of the 13 validation recordings are b",
         "(the temperature, the operating point, the confidence threshold)"),
        (0, DecisionConfig(temperature=False, operating_point="none"), "Only 0 of the 9 validation recordings are b",
         "(the confidence threshold)"),
    ],
)  # fmt: skip
def test_a_class_with_few_validation_recordings_is_named(
    recordings: int, config: DecisionConfig, starts: str, ends: str
):
    (note,) = notes_on(GOOD, pd.Series(["a"] * 9 + ["b"] * recordings), ("a", "b"), config)
    assert note.startswith(starts)
    assert note.endswith(ends)
