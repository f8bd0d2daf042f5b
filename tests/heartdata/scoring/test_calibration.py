"""Temperatures, operating points and thresholds with known results; calibration metrics worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import balanced_accuracy_score, f1_score

from heartdata.errors import ScoreError
from heartdata.scoring import calibration
from heartdata.scoring.challenges import circor2022_murmur_score, circor2022_outcome_score


def synthetic(n: int, prior: list[float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that assume equal priors, and labels drawn with ``prior``."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(prior), n, p=prior)
    logits = 1.5 * (rng.normal(size=(n, len(prior))) + 1.5 * np.eye(len(prior))[labels])
    return softmax(logits, axis=1), labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_that_logits_were_scaled_by_is_recovered(factor: float):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6000, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn with softmax(logits)
    assert calibration.fit_temperature(factor * logits + 5, labels) == pytest.approx(factor, rel=0.06)
    log_probabilities = log_softmax(factor * logits, axis=1)
    temperature = calibration.fit_temperature(log_probabilities, labels)
    scaled = calibration.apply_temperature(np.exp(log_probabilities), temperature)
    assert scaled == pytest.approx(softmax(logits, axis=1), abs=0.03)


def test_temperature_by_hand():
    # 3 of 4 correct with logit difference d: the best d/T is ln 3
    logits = np.array([[4.0, 0.0]] * 4)
    assert calibration.fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(4 / np.log(3), rel=1e-3)
    assert calibration.apply_temperature(np.array([[0.9, 0.1]]), 2.0) == pytest.approx(np.array([[0.75, 0.25]]))
    assert calibration.apply_temperature(np.array([[1.0, 0.0]]), 1.0) == pytest.approx(np.array([[1.0, 0.0]]))


def test_a_temperature_is_finite_and_bounded():
    certain_and_wrong = np.array([[0.0, -np.inf], [0.0, -np.inf]])
    assert np.isfinite(calibration.fit_temperature(certain_and_wrong, np.array([0, 1])))
    always_correct = calibration.fit_temperature(np.array([[1.0, 0.0]]), np.array([0]))
    assert always_correct == pytest.approx(0.05, rel=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_operating_point_beats_argmax_where_a_class_is_rare(seed: int):
    prior, classes = [0.7, 0.2, 0.1], np.array(["a", "b", "c"])
    probabilities, labels = synthetic(450, prior, seed)
    fresh, truth = synthetic(20000, prior, seed + 100)
    weights = calibration.fit_operating_point(probabilities, classes[labels], list(classes))
    assert weights[0] == 1
    weighted = f1_score(classes[truth], calibration.decide(fresh, list(classes), weights), average="macro")
    assert weighted > f1_score(classes[truth], classes[fresh.argmax(axis=1)], average="macro") + 0.01


def test_the_operating_point_for_balanced_accuracy_undoes_the_prior():
    classes = ["normal", "abnormal"]
    even, labels = synthetic(3000, [0.9, 0.1], 0)
    probabilities = even * [0.9, 0.1]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = np.array(classes)[labels]
    weights = calibration.fit_operating_point(probabilities, names, classes, "balanced_accuracy", resamples=20)
    assert 4.5 < weights[1] < 18  # 9 in truth
    predictions = calibration.decide(probabilities, classes, weights)
    assert (predictions == np.where(probabilities[:, 1] * weights[1] > probabilities[:, 0], "abnormal", "normal")).all()
    plain = np.array(classes)[probabilities.argmax(axis=1)]
    assert balanced_accuracy_score(names, predictions) > balanced_accuracy_score(names, plain) + 0.05


def test_the_operating_point_is_argmax_where_classes_are_balanced():
    p = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.45, 0.3])
    labels = ["a"] * 7 + ["b"] * 7  # mirror images: 5 of 7 correct each
    probabilities = np.concatenate([np.stack([p, 1 - p], 1), np.stack([1 - p, p], 1)])
    weights = calibration.fit_operating_point(probabilities, labels, ["a", "b"], "balanced_accuracy")
    assert weights.tolist() == [1, 1]
    perfect = np.eye(3)[[0, 1, 2] * 5]
    assert calibration.fit_operating_point(perfect, ["a", "b", "c"] * 5, ["a", "b", "c"]).tolist() == [1, 1, 1]


def test_the_operating_point_is_deterministic_and_resamples_whole_groups():
    probabilities, labels = synthetic(200, [0.7, 0.2, 0.1], 0)
    names, classes = np.array(["a", "b", "c"])[labels], ["a", "b", "c"]

    def fit(groups: list[int] | None) -> list[float]:
        return calibration.fit_operating_point(probabilities, names, classes, groups=groups, resamples=10).tolist()

    assert fit(None) == fit(None) == fit(list(range(200)))
    assert fit(None) != fit([i // 10 for i in range(200)])
    two = np.where(labels == 2, 1, 0).tolist()  # a resample with both groups leaves none out for the check
    assert fit(two) == [1, 1, 1]
    assert fit([0] * 200) == [1, 1, 1]


def test_the_operating_point_refuses_a_label_that_is_no_class():
    with pytest.raises(ScoreError, match="'c' is none of a, b"):
        calibration.fit_operating_point(np.full((2, 2), 0.5), ["a", "c"], ["a", "b"])


@pytest.mark.parametrize(
    ("metric", "score", "classes", "gain"),
    [
        ("cost_per_patient", circor2022_outcome_score, ["Abnormal", "Normal"], -500),
        ("weighted_accuracy", circor2022_murmur_score, ["Absent", "Present", "Unknown"], 0.02),
    ],
)
def test_the_operating_point_for_a_score_of_circor_improves_it_on_fresh_patients(metric, score, classes, gain):
    prior = np.array([0.3, 0.7] if len(classes) == 2 else [0.5, 0.4, 0.1])
    probabilities, labels = synthetic(800, list(prior), 0)
    fresh, truth = synthetic(6000, list(prior), 1)
    weights = calibration.fit_operating_point(probabilities * prior, np.array(classes)[labels], classes, metric)
    plain, weighted = (
        score(np.array(classes)[truth], calibration.decide(fresh * prior, classes, w)).iloc[0, 0]
        for w in (None, weights)
    )
    assert (weighted - plain) / gain > 1


def test_calibration_error_by_hand():
    perfect = [0.75] * 4 + [0.5] * 2
    assert calibration.expected_calibration_error(perfect, [1, 1, 1, 0, 1, 0]) == 0
    # bin .9-1: 2 predictions, mean .95, 1/2 correct; bin .6-.7: 3, mean .65, all correct: (2 * .45 + 3 * .35) / 5
    confidence, correct = [0.95, 0.95, 0.62, 0.65, 0.68], [True, False, True, True, True]
    assert calibration.expected_calibration_error(confidence, correct) == pytest.approx(0.39)
    # one bin: mean .77, 4/5 correct
    assert calibration.expected_calibration_error(confidence, correct, bins=1) == pytest.approx(0.03)


def test_reliability_bins():
    bins = calibration.reliability_bins([0.0, 0.2, 0.5, 0.7, 1.0], [0, 0, 1, 0, 1], bins=4)
    assert bins["low"].tolist() == [0, 0.25, 0.5, 0.75]
    assert bins["high"].tolist() == [0.25, 0.5, 0.75, 1]
    assert bins["count"].tolist() == [2, 0, 2, 1]  # an edge belongs to the bin above it, 1 to the last
    assert bins["confidence"].tolist() == pytest.approx([0.1, np.nan, 0.6, 1], nan_ok=True)
    assert bins["accuracy"].tolist() == pytest.approx([0, np.nan, 0.5, 1], nan_ok=True)


def test_brier_by_hand():
    probabilities = np.array([[0.8, 0.2, 0.0], [0.5, 0.3, 0.2]])
    # (.04 + .04 + 0 + .25 + .49 + .04) / 2; columns out of alphabetical order
    assert calibration.brier(probabilities, ["z", "m"], ["z", "m", "a"]) == pytest.approx(0.43)
    assert calibration.brier(np.array([[0.7, 0.3]]), ["b"], ["a", "b"]) == pytest.approx(0.98)  # twice .49


CONFIDENCE = [0.5, 0.6, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
CORRECT = [0, 1, 0, 1, 0, 1, 1, 1]


def test_coverage_and_risk_by_hand():
    curve = calibration.coverage_risk(CONFIDENCE[::-1], CORRECT[::-1])
    expected = pd.DataFrame(
        {
            "threshold": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99],
            "coverage": [1, 0.875, 0.625, 0.5, 0.375, 0.25, 0.125],
            "risk": [3 / 8, 2 / 7, 1 / 5, 1 / 4, 0, 0, 0],
        }
    )
    pd.testing.assert_frame_equal(curve, expected)


@pytest.mark.parametrize(
    ("max_risk", "min_coverage", "threshold"),
    [
        (0.4, 0.0, 0),  # no prediction is unsure
        (0.3, 0.0, 0.6),
        (0.2, 0.0, 0.7),
        (0.1, 0.0, 0.9),
        (0.1, 0.375, 0.9),
        (0.1, 0.5, 0.7),  # coverage >= .5 allows up to .8; the least risk there is 1/5, at .7
        (0.0, 1.0, 0),
    ],
)
def test_the_unsure_threshold_keeps_the_risk_or_else_the_coverage(max_risk, min_coverage, threshold):
    assert calibration.unsure_threshold(CONFIDENCE, CORRECT, max_risk, min_coverage) == threshold


@pytest.mark.parametrize("correct", [[0, 0], [1, 1]])
def test_nothing_is_unsure_where_that_lowers_no_risk(correct: list[int]):
    assert calibration.unsure_threshold([0.6, 0.9], correct, max_risk=0.0) == 0
