"""Calibration fitted to few recordings of another place: better there, harmless where nothing is different."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from heartdata.scoring import adaptation
from heartdata.scoring.adaptation import AFTER, BEFORE, adapt, adapt_and_score
from heartdata.scoring.calibration import Calibration, DecisionConfig, apply_calibration, decide
from heartdata.scoring.confusion import class_numbers, confusion_counts, macro_f1

CLASSES = ["murmur", "normal", "other"]
SEPARATION, OVERCONFIDENCE = 1.6, 2.0
OWN = Calibration(temperature=OVERCONFIDENCE, class_weights=(1.0, 1.0, 1.0), unsure_below=0.5)


def recordings(count: int, prior: list[float], seed: int, classes: int = 3) -> tuple[np.ndarray, pd.Series]:
    """An overconfident model's probabilities, trained where classes were equally frequent, and the true labels."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, count, p=prior)
    scores = rng.normal(size=(count, classes))
    scores[np.arange(count), truth] += SEPARATION
    return softmax(OVERCONFIDENCE * SEPARATION * scores, axis=1), pd.Series(np.array(CLASSES)[truth])


def macro_f1_and_brier(
    probabilities: np.ndarray, labels: pd.Series, by: Calibration, classes: list[str]
) -> tuple[float, float]:
    scaled = apply_calibration(probabilities, by)
    truth = class_numbers(labels, classes)
    predicted = class_numbers(decide(scaled, classes, by.class_weights), classes)
    errors = ((scaled - np.eye(len(classes))[truth]) ** 2).sum(axis=1)
    return float(macro_f1(confusion_counts(truth, predicted, len(classes)))[0]), float(errors.mean())


@pytest.mark.parametrize(
    ("prior", "count", "least_f1", "most_brier"),
    [([0.85, 0.15], 20, 0.015, -0.03), ([0.85, 0.15], 150, 0.03, -0.05), ([0.5, 0.5], 20, -0.02, 0.03)],
)
def test_few_recordings_of_another_place_improve_the_others_of_it(
    prior: list[float], count: int, least_f1: float, most_brier: float
):
    classes, changes = CLASSES[:2], []
    own = OWN.model_copy(update={"class_weights": (1.0, 1.0)})
    others = recordings(4000, prior, 99, 2)
    before = macro_f1_and_brier(*others, own, classes)
    for seed in range(12):
        fitted = adapt(*recordings(count, prior, seed, 2), classes, own, DecisionConfig())
        changes.append(np.subtract(macro_f1_and_brier(*others, fitted, classes), before))
    f1, brier = np.mean(changes, axis=0)
    assert f1 > least_f1
    assert brier < most_brier


def test_many_recordings_give_the_temperature_and_the_prior_of_the_place():
    fitted = adapt(*recordings(20_000, [0.7, 0.2, 0.1], 0), CLASSES, Calibration(), DecisionConfig())
    assert fitted.temperature == pytest.approx(OVERCONFIDENCE, rel=0.05)
    bias = np.array(fitted.class_bias)
    assert bias - bias.mean() == pytest.approx(np.log([0.7, 0.2, 0.1]) - np.log([0.7, 0.2, 0.1]).mean(), abs=0.1)


def test_a_class_without_recordings_keeps_its_bias_and_weight():
    probabilities, labels = recordings(200, [0.6, 0.4, 0.0], 1)
    own = OWN.model_copy(update={"class_bias": (0.0, 0.1, 0.7), "class_weights": (2.0, 1.0, 3.0)})
    fitted = adapt(probabilities, labels, CLASSES, own, DecisionConfig())
    assert fitted.class_bias is not None
    assert fitted.class_bias[2] == 0.7
    assert fitted.class_weights is not None
    assert (fitted.class_weights[0], fitted.class_weights[2]) == (1.0, 1.5)


def test_settings_that_are_off_stay_as_they_were():
    config = DecisionConfig(temperature=False, operating_point="none")
    fitted = adapt(*recordings(60, [0.6, 0.3, 0.1], 2), CLASSES, OWN, config)
    assert fitted.temperature == pytest.approx(OVERCONFIDENCE)
    assert fitted.class_weights == (1.0, 1.0, 1.0)


def test_no_subject_is_scored_by_what_was_fitted_to_it(monkeypatch: pytest.MonkeyPatch):
    probabilities, labels = recordings(60, [0.6, 0.3, 0.1], 3)
    rows = pd.DataFrame({"recording_id": [f"r{i}" for i in range(60)], "sha256": "", "label": labels})
    rows["group"] = [f"s{i // 3}" for i in range(60)]
    fitted_to: list[set[str]] = []

    def recording(some: np.ndarray, *rest):
        at = [int(np.flatnonzero((probabilities == row).all(axis=1))[0]) for row in some]
        fitted_to.append(set(rows["group"][at]))
        return adapt(some, *rest)

    monkeypatch.setattr(adaptation, "adapt", recording)
    result = adapt_and_score(probabilities, rows, CLASSES, OWN, DecisionConfig(), resamples=100)
    everyone = set(rows["group"])
    held_out = [everyone - groups for groups in fitted_to[:-1]]
    assert fitted_to[-1] == everyone
    assert sorted(group for groups in held_out for group in groups) == sorted(everyone)  # each is held out once
    assert result.predictions["recording_id"].tolist() == rows["recording_id"].tolist()
    assert result.calibration.coverage == pytest.approx(1 - result.predictions["unsure"].mean())
    metrics = result.metrics.set_index(["model", "metric"])
    accuracy = (result.predictions["label"] == result.predictions["prediction"]).mean()
    assert metrics.loc[(AFTER, "accuracy"), "value"] == pytest.approx(accuracy)
    assert (metrics["low"] <= metrics["high"]).all()
    of_before = metrics.loc[(BEFORE, "brier")]
    difference = metrics.loc[(AFTER, "brier"), "value"] - of_before["value"]
    assert of_before["difference"] == pytest.approx(difference)
    assert of_before["difference_low"] < difference < of_before["difference_high"]
