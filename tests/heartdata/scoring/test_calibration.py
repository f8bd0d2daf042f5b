"""Temperatures, operating points and thresholds with known answers; metrics of calibration worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import balanced_accuracy_score, f1_score

from heartdata.errors import ScoreError
from heartdata.scoring import calibration
from heartdata.scoring.challenges import circor2022_outcome_score
from heartdata.scoring.confusion import confusion_counts


def made(n: int, prior: list[float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities of normal clouds with equal priors, and labels drawn with ``prior``."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(prior), n, p=prior)
    logits = 1.5 * (rng.normal(size=(n, len(prior))) + 1.5 * np.eye(len(prior))[labels])
    return softmax(logits, axis=1), labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_that_logits_were_scaled_by_is_found(factor: float):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (6000, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn with softmax(logits)
    assert calibration.fit_temperature(factor * logits + 5, labels) == pytest.approx(factor, rel=0.06)
    told = log_softmax(factor * logits, axis=1)
    found = calibration.fit_temperature(told, labels)
    assert calibration.apply_temperature(np.exp(told), found) == pytest.approx(softmax(logits, axis=1), abs=0.03)


def test_temperature_by_hand():
    # 3 of 4 right with logit difference d: the best d/T is ln 3
    logits = np.array([[4.0, 0.0]] * 4)
    assert calibration.fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(4 / np.log(3), rel=1e-3)
    assert calibration.apply_temperature(np.array([[0.9, 0.1]]), 2.0) == pytest.approx(np.array([[0.75, 0.25]]))
    assert calibration.apply_temperature(np.array([[1.0, 0.0]]), 1.0) == pytest.approx(np.array([[1.0, 0.0]]))


def test_temperature_edges():
    sure_and_wrong = np.array([[0.0, -np.inf], [0.0, -np.inf]])
    assert np.isfinite(calibration.fit_temperature(sure_and_wrong, np.array([0, 1])))
    always_right = calibration.fit_temperature(np.array([[1.0, 0.0]]), np.array([0]))
    assert always_right == pytest.approx(0.05, rel=0.01)
    with pytest.raises(ScoreError, match="at least one"):
        calibration.fit_temperature(np.zeros((0, 2)), np.array([], int))
    with pytest.raises(ScoreError, match="finite"):
        calibration.fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))
    with pytest.raises(ScoreError, match="above 0"):
        calibration.apply_temperature(np.ones((1, 2)) / 2, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_operating_point_beats_argmax_where_a_class_is_rare(seed: int):
    prior, classes = [0.7, 0.2, 0.1], ["a", "b", "c"]
    probabilities, labels = made(450, prior, seed)
    fresh, truth = made(20000, prior, seed + 100)
    weights = calibration.fit_operating_point(probabilities, np.array(classes)[labels], classes, "macro_f1")
    assert weights[0] == 1
    told = calibration.decide(fresh, classes, weights)
    names = np.array(classes)[truth]
    plain = f1_score(names, np.array(classes)[fresh.argmax(axis=1)], average="macro")
    assert f1_score(names, told, average="macro") > plain + 0.01


def test_operating_point_for_balanced_accuracy_undoes_the_prior():
    classes = ["normal", "abnormal"]
    even, labels = made(3000, [0.9, 0.1], 0)
    probabilities = even * [0.9, 0.1]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = np.array(classes)[labels]
    weights = calibration.fit_operating_point(probabilities, names, classes, "balanced_accuracy", resamples=20)
    assert 4.5 < weights[1] < 18  # 9 in truth
    told = calibration.decide(probabilities, classes, weights)
    assert (told == np.where(probabilities[:, 1] * weights[1] > probabilities[:, 0], "abnormal", "normal")).all()
    plain = np.array(classes)[probabilities.argmax(axis=1)]
    assert balanced_accuracy_score(names, told) > balanced_accuracy_score(names, plain) + 0.05


def test_operating_point_is_argmax_where_classes_are_balanced():
    p = np.array([0.95, 0.9, 0.8, 0.7, 0.6, 0.45, 0.3])
    labels = ["a"] * 7 + ["b"] * 7  # mirror images: 5 of 7 right each
    probabilities = np.concatenate([np.stack([p, 1 - p], 1), np.stack([1 - p, p], 1)])
    weights = calibration.fit_operating_point(probabilities, labels, ["a", "b"], "balanced_accuracy")
    assert weights.tolist() == [1, 1]
    right = np.eye(3)[[0, 1, 2] * 5]
    assert calibration.fit_operating_point(right, ["a", "b", "c"] * 5, ["a", "b", "c"]).tolist() == [1, 1, 1]


def test_operating_point_repeats_itself_and_draws_whole_groups():
    probabilities, labels = made(200, [0.7, 0.2, 0.1], 0)
    names = np.array(["a", "b", "c"])[labels]

    def fit(groups: list[int] | None) -> list[float]:
        return calibration.fit_operating_point(
            probabilities, names, ["a", "b", "c"], groups=groups, resamples=10
        ).tolist()

    assert fit(None) == fit(None) == fit(list(range(200)))
    assert fit(None) != fit([i // 10 for i in range(200)])
    alone = np.where(labels == 2, 1, 0).tolist()  # half of the draws of two groups lose a class; none of the rest shows
    assert fit(alone) == [1, 1, 1]
    assert fit([0] * 200) == [1, 1, 1]  # one group: nothing is ever left out, so nothing can be shown


def test_operating_point_refuses_what_it_cannot_use():
    even = np.full((2, 2), 0.5)
    with pytest.raises(ScoreError, match="cost_per_patient, not by 'accuracy'"):
        calibration.fit_operating_point(even, ["a", "b"], ["a", "b"], "accuracy")
    with pytest.raises(ScoreError, match="'c' is none of a, b"):
        calibration.fit_operating_point(even, ["a", "c"], ["a", "b"])
    with pytest.raises(ScoreError, match="shape"):
        calibration.fit_operating_point(even, ["a"], ["a", "b"])


def test_scores_of_an_operating_point_equal_scikit_learns():
    rng = np.random.default_rng(2)
    truth, told = rng.integers(0, 3, 50), rng.integers(0, 3, (4, 50))
    weights = rng.integers(0, 3, 50).astype(float)
    f1 = [f1_score(truth, x, average="macro", sample_weight=weights) for x in told]
    balanced = [balanced_accuracy_score(truth, x, sample_weight=weights) for x in told]
    confusion = confusion_counts(truth, told, 3, weights)
    assert calibration.SCORES["macro_f1"](confusion, []) == pytest.approx(f1)
    assert calibration.SCORES["balanced_accuracy"](confusion, []) == pytest.approx(balanced)


def test_an_operating_point_makes_patients_cheaper():
    classes = ["Abnormal", "Normal"]
    probabilities, labels = made(600, [0.3, 0.7], 0)
    fresh, truth = made(6000, [0.3, 0.7], 1)
    weights = calibration.fit_operating_point(probabilities, np.array(classes)[labels], classes, "cost_per_patient")
    names = np.array(classes)[truth]
    cost = [
        circor2022_outcome_score(names, calibration.decide(fresh, classes, w))["cost_per_patient"][0]
        for w in (np.ones(2), weights)
    ]
    assert cost[1] < cost[0] - 500


def test_calibration_error_by_hand():
    perfect = [0.75] * 4 + [0.5] * 2
    assert calibration.expected_calibration_error(perfect, [1, 1, 1, 0, 1, 0]) == 0
    # bin .9-1: 2 answers, mean .95, 1/2 right; bin .6-.7: 3 answers, mean .65, all right: (2 * .45 + 3 * .35) / 5
    sure, right = [0.95, 0.95, 0.62, 0.65, 0.68], [True, False, True, True, True]
    assert calibration.expected_calibration_error(sure, right) == pytest.approx(0.39)
    # one bin: mean .77, 4/5 right
    assert calibration.expected_calibration_error(sure, right, bins=1) == pytest.approx(0.03)


def test_reliability_bins():
    bins = calibration.reliability_bins([0.0, 0.2, 0.5, 0.7, 1.0], [0, 0, 1, 0, 1], bins=4)
    assert bins["low"].tolist() == [0, 0.25, 0.5, 0.75]
    assert bins["high"].tolist() == [0.25, 0.5, 0.75, 1]
    assert bins["count"].tolist() == [2, 0, 2, 1]  # an edge belongs to the bin above it, 1 to the last
    assert bins["confidence"].tolist() == pytest.approx([0.1, np.nan, 0.6, 1], nan_ok=True)
    assert bins["accuracy"].tolist() == pytest.approx([0, np.nan, 0.5, 1], nan_ok=True)
    with pytest.raises(ScoreError, match="from 0 to 1"):
        calibration.reliability_bins([1.2], [True])
    with pytest.raises(ScoreError, match="as many"):
        calibration.reliability_bins([0.2, 0.3], [True])
    with pytest.raises(ScoreError, match="at least one bin"):
        calibration.reliability_bins([0.2], [True], bins=0)


def test_brier_by_hand():
    probabilities = np.array([[0.8, 0.2, 0.0], [0.5, 0.3, 0.2]])
    # (.04 + .04 + 0 + .25 + .49 + .04) / 2; columns out of alphabetical order
    assert calibration.brier(probabilities, ["z", "m"], ["z", "m", "a"]) == pytest.approx(0.43)
    assert calibration.brier(np.array([[0.7, 0.3]]), ["b"], ["a", "b"]) == pytest.approx(0.98)  # twice .49


SURE = [0.5, 0.6, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
RIGHT = [0, 1, 0, 1, 0, 1, 1, 1]


def test_coverage_and_risk_by_hand():
    curve = calibration.coverage_risk(SURE[::-1], RIGHT[::-1])
    expected = pd.DataFrame(
        {
            "threshold": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99],
            "coverage": [1, 0.875, 0.625, 0.5, 0.375, 0.25, 0.125],
            "risk": [3 / 8, 2 / 7, 1 / 5, 1 / 4, 0, 0, 0],
        }
    )
    pd.testing.assert_frame_equal(curve, expected)


def test_unsure_rule_by_hand():
    assert calibration.unsure_threshold(SURE, RIGHT, max_risk=0.4) == 0  # every answer stands
    assert calibration.unsure_threshold(SURE, RIGHT, max_risk=0.3) == 0.6
    assert calibration.unsure_threshold(SURE, RIGHT, max_risk=0.2) == 0.7
    assert calibration.unsure_threshold(SURE, RIGHT, max_risk=0.1) == 0.9
    assert calibration.unsure_threshold(SURE, RIGHT, max_risk=0.1, min_coverage=0.375) == 0.9


def test_unsure_rule_keeps_the_coverage_where_the_risk_cannot_be_reached():
    # coverage >= .5 allows up to .8; the least risk there is 1/5, at .7
    assert calibration.unsure_threshold(SURE, RIGHT, max_risk=0.1, min_coverage=0.5) == 0.7
    assert calibration.unsure_threshold(SURE, RIGHT, min_coverage=0.5) == 0.7
    assert calibration.unsure_threshold(SURE, RIGHT, max_risk=0.0, min_coverage=1.0) == 0
    assert calibration.unsure_threshold([0.9, 0.9], [0, 0], max_risk=0.1) == 0  # nothing is gained by unsure
    assert calibration.unsure_threshold([0.6, 0.9], [1, 1], max_risk=0.0) == 0
    with pytest.raises(ScoreError, match="needs a bound"):
        calibration.unsure_threshold(SURE, RIGHT)
    with pytest.raises(ScoreError, match="shares"):
        calibration.unsure_threshold(SURE, RIGHT, max_risk=5)
