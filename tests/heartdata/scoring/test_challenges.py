"""Official scores against values worked out by hand from their definitions, and against scikit-learn."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, fbeta_score, precision_score

from heartdata.errors import ScoreError
from heartdata.scoring import challenges
from heartdata.scoring.confusion import confusion_counts

SET_A, SET_B = challenges.PASCAL_CLASSES["set_a"], challenges.PASCAL_CLASSES["set_b"]


def pairs(classes: tuple[str, ...], counts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions with this confusion matrix (rows are labels)."""
    label, prediction = np.indices(np.shape(counts)).reshape(2, -1).repeat(np.ravel(counts), axis=1)
    return np.array(classes, object)[label], np.array(classes, object)[prediction]


def one(frame: pd.DataFrame) -> dict[str, float]:
    assert len(frame) == 1
    return frame.iloc[0].to_dict()


CINC = (*challenges.CINC2016_LABELS, challenges.UNSURE)


def cinc(clean: list[list[int]], noisy: list[list[int]]) -> dict[str, float]:
    """The score of the confusion matrices of clean and of noisy recordings: normal, abnormal by also unsure."""
    columns = [np.concatenate(both) for both in zip(pairs(CINC, clean), pairs(CINC, noisy), strict=True)]
    return one(challenges.cinc2016_score(*columns, np.repeat([False, True], [np.sum(clean), np.sum(noisy)])))


def test_cinc2016_with_every_cell():
    score = cinc([[4, 0, 1], [0, 3, 1]], [[2, 1, 2], [1, 0, 1]])
    # Se = 4/6 * 3/4 + 2/6 * 1/2; Sp = 5/10 * 4/5 + 5/10 * 4/5
    assert score == pytest.approx({"sensitivity": 2 / 3, "specificity": 0.8, "macc": 0.733333}, abs=1e-6)


def test_cinc2016_unsure_is_wrong_on_clean_and_correct_on_noisy_recordings():
    unsure, none = [[0, 0, 3], [0, 0, 2]], [[0, 0, 0], [0, 0, 0]]
    assert cinc(unsure, none) == {"sensitivity": 0, "specificity": 0, "macc": 0}
    assert cinc(none, unsure) == {"sensitivity": 1, "specificity": 1, "macc": 1}


def test_cinc2016_is_nan_for_a_class_that_does_not_occur():
    score = cinc([[3, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]])
    assert score == pytest.approx({"sensitivity": np.nan, "specificity": 0.75, "macc": np.nan}, nan_ok=True)


@pytest.mark.parametrize(
    ("score", "labels", "predictions"),
    [
        ("cinc2016", challenges.CINC2016_LABELS, CINC),
        (partial(challenges.pascal_score, subset="set_a"), SET_A, SET_A),
        (partial(challenges.pascal_score, subset="set_b"), SET_B, SET_B),
        (challenges.circor2022_murmur_score, challenges.MURMURS, challenges.MURMURS),
        (challenges.circor2022_outcome_score, challenges.OUTCOMES, challenges.OUTCOMES),
    ],
)
def test_a_weight_counts_like_repeated_recordings(score, labels, predictions):
    rng, n = np.random.default_rng(0), 40
    noisy = rng.random(n) < 0.3
    weights = rng.integers(0, 4, (5, n)).astype(float)
    label, prediction = rng.choice(labels, n), rng.choice(predictions, n)

    def scored(at: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        if score == "cinc2016":
            return challenges.cinc2016_score(label[at], prediction[at], noisy[at], weights).to_numpy()
        return score(label[at], prediction[at], weights=weights).to_numpy()

    for row_weights, row in zip(weights, scored(np.arange(n), weights), strict=True):
        repeated = np.repeat(np.arange(n), row_weights.astype(int))
        assert row == pytest.approx(scored(repeated)[0], nan_ok=True)


def test_pascal_set_a():
    labels, predictions = pairs(SET_A, [[3, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 2]])
    assert one(challenges.pascal_score(labels, predictions, "set_a")) == pytest.approx(
        {
            "precision_artifact": 1.0,  # 3 of 3
            "precision_extrahls": 0.5,  # 1 of 2
            "precision_murmur": 1 / 3,
            "precision_normal": 0.5,  # 2 of 4
            "total_precision": 2.333333,
            "artifact_youden_j": 0.75,  # 3/4 + 8/8 - 1
            "heart_problem_f0.9": 0.8,  # 4 true positives, 1 missed, 1 false: precision = recall = .8
        },
        abs=1e-6,
    )


def test_pascal_set_b():
    labels, predictions = pairs(SET_B, [[1, 0, 1], [1, 1, 0], [0, 1, 3]])
    assert one(challenges.pascal_score(labels, predictions, "set_b")) == pytest.approx(
        {
            "precision_extrastole": 0.5,
            "precision_murmur": 0.5,
            "precision_normal": 0.75,
            "total_precision": 1.75,
            "heart_problem_youden_j": 0.5,  # 3/4 + 3/4 - 1: a murmur called extrastole is a detected heart problem
            "heart_problem_discriminant_power": 1.211393,  # sqrt(3)/pi * 2 ln 3
        },
        abs=1e-6,
    )


def test_pascal_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    labels, predictions = rng.choice(SET_A, 80), rng.choice(SET_A, 80)
    score = one(challenges.pascal_score(labels, predictions, "set_a"))
    assert score["total_precision"] == pytest.approx(precision_score(labels, predictions, average=None).sum())
    truth, predicted = (np.isin(x, ["murmur", "extrahls"]) for x in (labels, predictions))
    assert score["heart_problem_f0.9"] == pytest.approx(fbeta_score(truth, predicted, beta=0.9))


def test_pascal_edges():
    never = one(challenges.pascal_score(*pairs(SET_B, [[0, 0, 0], [0, 0, 2], [0, 0, 2]]), "set_b"))
    assert never["precision_murmur"] == never["precision_extrastole"] == 0
    assert never["total_precision"] == 0.5
    healthy = one(challenges.pascal_score(["normal", "normal"], ["normal", "murmur"], "set_a"))
    assert np.isnan([healthy["artifact_youden_j"], healthy["heart_problem_f0.9"]]).all()
    power = challenges.discriminant_power([1.0, 0.5, 0.0, 1.0, np.nan], [0.5, 0.5, 0.5, 0.0, 0.5])
    assert power.tolist() == pytest.approx([np.inf, 0, -np.inf, np.nan, np.nan], nan_ok=True)


def test_circor_weighted_accuracy():
    score = challenges.circor2022_murmur_score(*pairs(challenges.MURMURS, [[1, 0, 1], [0, 1, 0], [1, 0, 2]]))
    assert one(score) == {"weighted_accuracy": 0.625}  # 10 / 16
    assert np.isnan(challenges.circor2022_murmur_score(["Absent"], ["Absent"], np.zeros((1, 1))).iloc[0, 0])


@pytest.mark.parametrize(
    ("counts", "cost"),
    [
        ([[1, 1], [1, 1]], 15510),  # r = 1/2: 10 + (25 + 198.5 - 429.5 + 706) + 10000/4 + 50000/4
        ([[0, 1], [0, 9]], 5035),  # r = 0: 10 + 25 + 50000/10
        ([[1, 0], [1, 0]], 15010),  # r = 1: 10 + 10000 + 10000/2
        ([[0, 0], [0, 1]], 35),
    ],
)
def test_circor_cost(counts: list[list[int]], cost: float):
    score = challenges.circor2022_outcome_score(*pairs(challenges.OUTCOMES, counts))
    assert one(score) == pytest.approx({"cost_per_patient": cost})


def test_names_outside_the_vocabulary_are_refused():
    with pytest.raises(ScoreError, match="'maybe' is none of normal, abnormal, unsure"):
        challenges.cinc2016_score(["normal"], ["maybe"], [False])
    with pytest.raises(ScoreError, match="'unsure' is none of normal, abnormal"):
        challenges.cinc2016_score(["unsure"], ["normal"], [False])


def test_counts_are_put_in_the_order_of_the_challenge():
    confusion = np.array([[[7.0, 1.0], [2.0, 5.0]]])  # 7 of 8 Absent and 5 of 7 Present are correct; no Unknown
    ordered = challenges.reordered(confusion, ["Absent", "Present"], challenges.MURMURS)
    assert ordered[0].tolist() == [[5, 0, 2], [0, 0, 0], [1, 0, 7]]
    assert challenges.weighted_accuracy(ordered) == pytest.approx((5 * 5 + 7) / (5 * 7 + 8))


def test_counts_equal_scikit_learns():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 3, 50), rng.integers(0, 3, (4, 50))
    weights = rng.integers(0, 3, (4, 50)).astype(float)
    many_predictions = confusion_counts(truth, predicted, 3, weights[0])
    many_weights = confusion_counts(truth, predicted[0], 3, weights)
    for i in range(4):
        assert many_predictions[i].tolist() == confusion_matrix(truth, predicted[i], sample_weight=weights[0]).tolist()
        assert many_weights[i].tolist() == confusion_matrix(truth, predicted[0], sample_weight=weights[i]).tolist()
