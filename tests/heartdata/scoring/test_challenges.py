"""Official scores against metrics worked out by hand from their definitions; patients from recordings."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, fbeta_score, precision_score

from heartdata.errors import ScoreError
from heartdata.scoring import challenges as challenge
from heartdata.scoring.confusion import confusion_counts


def pairs(*told: tuple[str, str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and answers from (label, answer, how often)."""
    rows = [(label, answer) for label, answer, times in told for _ in range(times)]
    labels, answers = zip(*rows, strict=True)
    return np.array(labels, object), np.array(answers, object)


def one(frame: pd.DataFrame) -> dict[str, float]:
    assert len(frame) == 1
    return frame.iloc[0].to_dict()


def cinc(*told: tuple[str, bool, str, int]) -> dict[str, float]:
    labels, answers = pairs(*[(label, answer, times) for label, _, answer, times in told])
    noisy = np.concatenate([np.full(times, noisy) for _, noisy, _, times in told])
    return one(challenge.cinc2016_score(labels, answers, noisy))


def test_cinc2016_with_every_cell():
    score = cinc(
        ("abnormal", False, "abnormal", 3),
        ("abnormal", False, "unsure", 1),
        ("abnormal", True, "unsure", 1),
        ("abnormal", True, "normal", 1),
        ("normal", False, "normal", 4),
        ("normal", False, "unsure", 1),
        ("normal", True, "normal", 2),
        ("normal", True, "unsure", 2),
        ("normal", True, "abnormal", 1),
    )
    # Se = 4/6 * 3/4 + 2/6 * 1/2; Sp = 5/10 * 4/5 + 5/10 * 4/5
    assert score == pytest.approx({"sensitivity": 2 / 3, "specificity": 0.8, "macc": 0.733333}, abs=1e-6)


def test_cinc2016_unsure_is_wrong_on_clean_and_right_on_noisy():
    clean = cinc(("abnormal", False, "unsure", 2), ("normal", False, "unsure", 3))
    assert clean == {"sensitivity": 0, "specificity": 0, "macc": 0}
    noisy = cinc(("abnormal", True, "unsure", 2), ("normal", True, "unsure", 3))
    assert noisy == {"sensitivity": 1, "specificity": 1, "macc": 1}


def test_cinc2016_empty_cells_weigh_nothing_and_an_absent_class_is_nan():
    score = cinc(
        ("abnormal", False, "abnormal", 1),
        ("abnormal", False, "normal", 3),
        ("normal", True, "normal", 1),
        ("normal", True, "abnormal", 1),
    )
    assert score == {"sensitivity": 0.25, "specificity": 0.5, "macc": 0.375}
    alone = cinc(("normal", False, "normal", 3), ("normal", False, "abnormal", 1))
    assert alone["specificity"] == 0.75
    assert np.isnan([alone["sensitivity"], alone["macc"]]).all()


def test_weightings_are_as_if_recordings_were_repeated():
    rng = np.random.default_rng(0)
    n = 40
    noisy = rng.random(n) < 0.3
    weights = rng.integers(0, 4, (5, n)).astype(float)
    pascal = challenge.PASCAL_CLASSES["set_a"]
    scores = {
        "cinc": (("normal", "abnormal"), ("normal", "abnormal", "unsure")),
        "set_a": (pascal, pascal),
        "set_b": (challenge.PASCAL_CLASSES["set_b"],) * 2,
        "murmur": (challenge.MURMURS,) * 2,
        "outcome": (challenge.OUTCOMES,) * 2,
    }
    for name, (labels, answers) in scores.items():
        label, answer = rng.choice(labels, n), rng.choice(answers, n)

        def score(at: np.ndarray, weights: np.ndarray | None = None, given=(name, label, answer)) -> np.ndarray:
            name, label, answer = given
            if name == "cinc":
                return challenge.cinc2016_score(label[at], answer[at], noisy[at], weights).to_numpy()
            if name.startswith("set"):
                return challenge.pascal_score(label[at], answer[at], name, weights).to_numpy()
            told = {"murmur": challenge.circor2022_murmur_score, "outcome": challenge.circor2022_outcome_score}
            return told[name](label[at], answer[at], weights).to_numpy()

        together = score(np.arange(n), weights)
        assert len(together) == 5
        for w, row in zip(weights, together, strict=True):
            assert row == pytest.approx(score(np.repeat(np.arange(n), w.astype(int)))[0], nan_ok=True)


def test_pascal_set_a():
    labels, answers = pairs(
        ("artifact", "artifact", 3),
        ("artifact", "normal", 1),
        ("murmur", "murmur", 1),
        ("murmur", "extrahls", 1),
        ("murmur", "normal", 1),
        ("extrahls", "murmur", 1),
        ("extrahls", "extrahls", 1),
        ("normal", "normal", 2),
        ("normal", "murmur", 1),
    )
    assert one(challenge.pascal_score(labels, answers, "set_a")) == pytest.approx(
        {
            "precision_artifact": 1.0,  # 3 of 3
            "precision_extrahls": 0.5,  # 1 of 2
            "precision_murmur": 1 / 3,
            "precision_normal": 0.5,  # 2 of 4
            "total_precision": 2.333333,
            "artifact_youden_j": 0.75,  # 3/4 + 8/8 - 1
            "heart_problem_f0.9": 0.8,  # 4 found, 1 missed, 1 false: precision = recall = .8
        },
        abs=1e-6,
    )


def test_pascal_set_a_prefers_precision_a_little():
    missed = challenge.pascal_score(*pairs(("murmur", "murmur", 1), ("murmur", "normal", 1)), "set_a")
    assert one(missed)["heart_problem_f0.9"] == pytest.approx(0.690840, abs=1e-6)  # 1.81 / (1.81 + .81)
    false = challenge.pascal_score(*pairs(("murmur", "murmur", 1), ("normal", "murmur", 1)), "set_a")
    assert one(false)["heart_problem_f0.9"] == pytest.approx(0.644128, abs=1e-6)  # 1.81 / (1.81 + 1)


def test_pascal_set_b():
    labels, answers = pairs(
        ("normal", "normal", 3),
        ("normal", "murmur", 1),
        ("murmur", "murmur", 1),
        ("murmur", "extrastole", 1),
        ("extrastole", "extrastole", 1),
        ("extrastole", "normal", 1),
    )
    assert one(challenge.pascal_score(labels, answers, "set_b")) == pytest.approx(
        {
            "precision_extrastole": 0.5,
            "precision_murmur": 0.5,
            "precision_normal": 0.75,
            "total_precision": 1.75,
            "heart_problem_youden_j": 0.5,  # 3/4 + 3/4 - 1: the murmur called extrastole is a problem found
            "heart_problem_discriminant_power": 1.211393,  # sqrt(3)/pi * 2 ln 3
        },
        abs=1e-6,
    )


def test_pascal_agrees_with_scikit_learn():
    rng = np.random.default_rng(3)
    classes = list(challenge.PASCAL_CLASSES["set_a"])
    labels, answers = rng.choice(classes, 80), rng.choice(classes, 80)
    score = one(challenge.pascal_score(labels, answers, "set_a"))
    assert score["total_precision"] == pytest.approx(precision_score(labels, answers, average=None).sum())
    truth, found = (np.isin(x, ["murmur", "extrahls"]) for x in (labels, answers))
    assert score["heart_problem_f0.9"] == pytest.approx(fbeta_score(truth, found, beta=0.9))


def test_pascal_edges():
    never = one(challenge.pascal_score(*pairs(("murmur", "normal", 2), ("normal", "normal", 2)), "set_b"))
    assert never["precision_murmur"] == never["precision_extrastole"] == 0
    assert never["total_precision"] == 0.5
    healthy = one(challenge.pascal_score(*pairs(("normal", "normal", 1), ("normal", "murmur", 1)), "set_a"))
    assert np.isnan([healthy["artifact_youden_j"], healthy["heart_problem_f0.9"]]).all()
    found = challenge.discriminant_power([1.0, 0.5, 0.0, 1.0, np.nan], [0.5, 0.5, 0.5, 0.0, 0.5])
    assert found[:3].tolist() == [np.inf, 0, -np.inf]
    assert np.isnan(found[3:]).all()


def test_circor_weighted_accuracy():
    labels, answers = pairs(
        ("Present", "present", 1),
        ("Present", "Absent", 1),
        ("unknown", "UNKNOWN", 1),
        ("Absent", "Absent", 2),
        ("Absent", "Present", 1),
    )
    assert one(challenge.circor2022_murmur_score(labels, answers)) == {"weighted_accuracy": 0.625}  # 10 / 16
    missed = challenge.circor2022_murmur_score(*pairs(("Present", "Unknown", 1), ("Absent", "Absent", 5)))
    assert one(missed) == {"weighted_accuracy": 0.5}
    assert np.isnan(challenge.circor2022_murmur_score(["Absent"], ["Absent"], np.zeros((1, 1))).iloc[0, 0])


@pytest.mark.parametrize(
    ("told", "cost"),
    [
        # r = 1/2: 10 + (25 + 198.5 - 429.5 + 706) + 10000/4 + 50000/4
        ([("Abnormal", "Abnormal", 1), ("Normal", "abnormal", 1), ("abnormal", "Normal", 1), ("Normal", "Normal", 1)], 15510),
        ([("Abnormal", "Normal", 1), ("Normal", "Normal", 9)], 5035),  # r = 0: 10 + 25 + 50000/10
        ([("Abnormal", "Abnormal", 1), ("Normal", "Abnormal", 1)], 15010),  # r = 1: 10 + 10000 + 10000/2
        ([("Normal", "Normal", 1)], 35),
    ],
)  # fmt: skip
def test_circor_cost(told: list[tuple[str, str, int]], cost: float):
    assert one(challenge.circor2022_outcome_score(*pairs(*told))) == pytest.approx({"cost_per_patient": cost})


def recordings(**columns: list) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_subject_answers_by_mean_and_by_max():
    rows = recordings(
        group=["2", "1", "1", "1"],
        label=["b", "a", "a", "a"],
        prediction=["b", "b", "a", "a"],
        p_a=[0.1, 0.1, 0.6, 0.6],
        p_b=[0.9, 0.9, 0.4, 0.4],
    )
    mean = challenge.subject_predictions(rows)
    assert mean["group"].tolist() == ["1", "2"]
    assert mean["prediction"].tolist() == ["b", "b"]
    assert mean["p_b"].tolist() == pytest.approx([0.566667, 0.9], abs=1e-6)
    assert mean["recordings"].tolist() == [3, 1]
    largest = challenge.subject_predictions(rows, "max")
    assert largest["p_a"].tolist() == pytest.approx([0.4, 0.1])  # .6 / (.6 + .9)
    by_subject = challenge.subject_predictions(rows.assign(subject=["s2", "s1", "s1", "s3"]), "mean", "subject")
    assert by_subject["subject"].tolist() == ["s1", "s2", "s3"]
    assert by_subject["group"].tolist() == ["1", "2", "1"]


def test_subject_answers_refuses_what_it_cannot_tell():
    rows = recordings(group=["1", "1"], label=["a", "b"], p_a=[0.5, 0.5], p_b=[0.5, 0.5])
    with pytest.raises(ScoreError, match="group 1 has recordings with more than one label"):
        challenge.subject_predictions(rows)
    with pytest.raises(ScoreError, match="median"):
        challenge.subject_predictions(rows, "median")
    with pytest.raises(ScoreError, match="1 predictions have no group"):
        challenge.subject_predictions(rows.assign(group=["1", None]))
    with pytest.raises(ScoreError, match="no column subject"):
        challenge.subject_predictions(rows, by="subject")


def test_names_outside_the_vocabulary_are_refused():
    with pytest.raises(ScoreError, match="'maybe' is none of normal, abnormal, unsure"):
        challenge.cinc2016_score(["normal"], ["maybe"], [False])
    with pytest.raises(ScoreError, match="label 'unsure'"):
        challenge.cinc2016_score(["unsure"], ["normal"], [False])
    with pytest.raises(ScoreError, match="True or False"):
        challenge.cinc2016_score(["normal"], ["normal"], [None])
    with pytest.raises(ScoreError, match="different lengths"):
        challenge.cinc2016_score(["normal", "normal"], ["normal"], [False])
    with pytest.raises(ScoreError, match="set_c"):
        challenge.pascal_score(["normal"], ["normal"], "set_c")
    with pytest.raises(ScoreError, match="artifact"):
        challenge.pascal_score(["artifact"], ["normal"], "set_b")
    with pytest.raises(ScoreError, match="class 'unsure' is none of Present"):
        challenge.in_order_of(challenge.MURMURS, np.ones((1, 1, 1)), ["unsure"])
    with pytest.raises(ScoreError, match="weights for 2 recordings and labels for 1"):
        challenge.pascal_score(["murmur"], ["normal"], "set_b", np.ones((1, 2)))


def test_counts_are_put_in_the_order_of_the_challenge():
    confusion = np.array([[[7.0, 1.0], [2.0, 5.0]]])  # of 8 absent 7 are right, of 7 present 5; nobody is unknown
    ordered = challenge.in_order_of(challenge.MURMURS, confusion, ["absent", "Present"])
    assert ordered[0].tolist() == [[5, 0, 2], [0, 0, 0], [1, 0, 7]]
    assert challenge.weighted_accuracy(ordered) == pytest.approx((5 * 5 + 7) / (5 * 7 + 8))


def test_counts_equal_scikit_learns():
    rng = np.random.default_rng(0)
    truth, answered = rng.integers(0, 3, 50), rng.integers(0, 3, (4, 50))
    weights = rng.integers(0, 3, (4, 50)).astype(float)
    many_answers = confusion_counts(truth, answered, 3, weights[0])
    many_weights = confusion_counts(truth, answered[0], 3, weights)
    for i in range(4):
        assert many_answers[i].tolist() == confusion_matrix(truth, answered[i], sample_weight=weights[0]).tolist()
        assert many_weights[i].tolist() == confusion_matrix(truth, answered[0], sample_weight=weights[i]).tolist()
