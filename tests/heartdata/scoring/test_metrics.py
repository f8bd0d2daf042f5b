"""Metrics equal scikit-learn's; intervals are over groups; subjects are scored by all their recordings."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from heartdata.errors import ScoreError
from heartdata.scoring import baselines, metrics

CLASSES = ["a", "b", "c"]


def synthetic(n: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = rng.choice(CLASSES, n)
    probabilities = rng.dirichlet(np.ones(3), n).round(2)  # rounded: ties occur
    probabilities[np.arange(n), [CLASSES.index(x) for x in labels]] += 0.2
    frame = pd.DataFrame(probabilities, columns=[f"p_{c}" for c in CLASSES])
    predictions = np.array(CLASSES)[probabilities.argmax(axis=1)]
    return frame.assign(label=labels, prediction=predictions, group=[f"s{i % 15}" for i in range(n)])


def test_metrics_equal_scikit_learn_under_weights():
    rows = synthetic()
    weights = np.random.default_rng(1).integers(0, 4, (3, len(rows))).astype(float)
    labels, predictions = rows["label"].to_numpy(object), rows["prediction"].to_numpy(object)
    probabilities = rows[[f"p_{c}" for c in CLASSES]].to_numpy()
    values = metrics.compute_metrics(labels, predictions, probabilities, CLASSES, weights)
    for w, row in zip(weights, values.to_dict("records"), strict=True):
        assert row["macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro", sample_weight=w))
        assert row["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predictions, sample_weight=w))
        assert row["accuracy"] == pytest.approx(accuracy_score(labels, predictions, sample_weight=w))
        areas = [roc_auc_score(labels == c, probabilities[:, i], sample_weight=w) for i, c in enumerate(CLASSES)]
        assert row["auroc"] == pytest.approx(np.mean(areas))


def test_perfect_and_constant_predictions():
    rows = synthetic()
    perfect = rows.assign(prediction=rows["label"], **{f"p_{c}": (rows["label"] == c).astype(float) for c in CLASSES})
    constant = rows.assign(prediction="a", p_a=1, p_b=0, p_c=0)
    scores = metrics.metrics_with_intervals({"perfect": perfect, "constant": constant}, CLASSES, 50, 0)
    assert all(r["low"] < r["value"] == r["high"] == 1 for r in scores if r["model"] == "perfect")
    values = {r["metric"]: r["value"] for r in scores if r["model"] == "constant"}
    assert values["balanced_accuracy"] == pytest.approx(1 / 3)
    assert values["auroc"] == pytest.approx(0.5)


def test_intervals_are_over_groups_not_recordings():
    rows = synthetic(200)
    alone = metrics.metrics_with_intervals({"m": rows.assign(group=range(200))}, CLASSES, 400, 0)[0]
    by_success = rows.assign(group=(rows["label"] == rows["prediction"]).astype(int).astype(str))
    few = metrics.metrics_with_intervals({"m": by_success}, CLASSES, 400, 0)[0]
    assert alone["low"] < alone["value"] < alone["high"]
    assert few["high"] - few["low"] > 3 * (alone["high"] - alone["low"])


def test_the_difference_of_two_models_is_on_the_same_resamples():
    ours = synthetic(200)
    theirs = ours.assign(prediction=ours["prediction"].where(ours.index >= 10, "a"))
    rows = metrics.metrics_with_intervals({"ours": ours, "theirs": theirs, "again": ours}, CLASSES, 200, 0)
    of = {row["model"]: row for row in rows if row["metric"] == "accuracy"}
    assert of["theirs"]["difference"] == pytest.approx(of["ours"]["value"] - of["theirs"]["value"])
    assert of["theirs"]["difference_low"] < of["theirs"]["difference"] < of["theirs"]["difference_high"]
    spread = [of[name]["high"] - of[name]["low"] for name in ("ours", "theirs")]
    assert of["theirs"]["difference_high"] - of["theirs"]["difference_low"] < 0.5 * min(spread)
    assert [of["again"][name] for name in metrics.DIFFERENCE] == [0, 0, 0]


def test_the_balanced_accuracy_of_one_prediction_is_certain_however_rare_the_other_class():
    labels = ["a"] * 40 + ["b"] * 2
    rows = pd.DataFrame({"label": labels, "prediction": "a", "group": range(42), "p_a": 0.9, "p_b": 0.1})
    scores = {row["metric"]: row for row in metrics.metrics_with_intervals({"m": rows}, ["a", "b"], 500, 0)}
    for metric in ("balanced_accuracy", "auroc"):
        assert [scores[metric][name] for name in ("value", "low", "high")] == [0.5, 0.5, 0.5]


def test_a_weighting_without_a_class_has_no_mean_over_classes():
    labels = np.array(list("aab"), object)
    weights = np.array([[1.0, 1, 1], [1, 1, 0]])
    table = metrics.compute_metrics(labels, labels, np.eye(3)[[0, 0, 1]], ["a", "b", "c"], weights)
    assert table.loc[0].tolist() == [1, 1, 1, 1]  # of c there is no recording at all
    assert table.loc[1].isna().to_dict() == {
        "macro_f1": True, "balanced_accuracy": True, "accuracy": False, "auroc": True
    }  # fmt: skip


def manifest(**columns: object) -> pd.DataFrame:
    """The label follows the site in both parts; durations are unrelated."""
    rng, n = np.random.default_rng(0), 200
    label = rng.choice(["a", "b"], n)
    return pd.DataFrame(
        {"recording_id": [f"r{i}" for i in range(n)], "sha256": [f"h{i}" for i in range(n)], "group": [f"g{i}" for i in range(n)],
         "label": label, "part": ["train"] * 150 + ["test"] * 50, "duration_s": rng.uniform(1, 9, n), "rate_hz": 4000,
         "channels": 1, "source": "t", "collection": "c", "site": np.where(label == "a", "AV", None)}
    ).assign(**columns)  # fmt: skip


def metadata_accuracy(rows: pd.DataFrame) -> float:
    probabilities = baselines.metadata_baseline(rows, ["a", "b"])
    predictions = metrics.prediction_rows(rows[rows["part"] == "test"], probabilities, ["a", "b"])
    return (predictions["label"] == predictions["prediction"]).mean()


def test_the_metadata_baseline_learns_from_the_site_and_nothing_else():
    assert metadata_accuracy(manifest()) == 1
    assert metadata_accuracy(manifest().groupby("part").head(30)) == 1  # in small sets too
    assert 0.3 < metadata_accuracy(manifest(site="AV")) < 0.7


def test_the_majority_baseline_gives_the_class_shares_of_the_training_part():
    rows = manifest(label=["b"] * 120 + ["a"] * 80)
    assert baselines.majority_baseline(rows, ["a", "b"]).tolist() == [[0.2, 0.8]] * 50


def test_a_subject_is_predicted_from_all_recordings():
    rows = pd.DataFrame(
        {"recording_id": list("123456"), "sha256": list("123456"), "group": list("AAABBC"), "label": list("aaabab"),
         "prediction": list("bbaabb"), "p_a": [0.4, 0.4, 0.9, 0.8, 0.1, 0.3], "p_b": [0.6, 0.6, 0.1, 0.2, 0.9, 0.7]}
    )  # fmt: skip
    by_mean = metrics.subject_rows(rows, rows["group"], ["a", "b"], "mean")
    assert by_mean["subject"].tolist() == ["A", "C"]  # B has several labels
    assert by_mean["recordings"].tolist() == [3, 1]
    assert by_mean["prediction"].tolist() == ["a", "b"]
    assert by_mean.loc[0, "p_a"] == pytest.approx(17 / 30)
    weighted = metrics.subject_rows(rows, rows["group"], ["a", "b"], "mean", (1.0, 2.0))
    assert weighted["prediction"].tolist() == ["b", "b"]
    assert metrics.subject_rows(rows, rows["group"], ["a", "b"], "max").loc[0, "p_a"] == pytest.approx(0.6)


def test_nobody_is_scored_where_all_subjects_have_several_labels():
    rows = synthetic(4).assign(recording_id=list("1234"), sha256=list("1234"), label=list("abab"))
    assert metrics.subject_rows(rows, pd.Series(list("xxyy")), CLASSES, "mean").empty


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ["a", "b"]}, "subject 1 has recordings with more than one label"),
        ({"group": ["x", "y"]}, "subject 1 has recordings with more than one group"),
        ({"subject": ["1", None]}, "1 predictions have no subject"),
    ],
)
def test_recordings_without_one_subject_label_and_group_are_refused(columns: dict, message: str):
    rows = pd.DataFrame({"subject": ["1", "1"], "group": "x", "label": "a", "p_a": 0.5, "p_b": 0.5})
    with pytest.raises(ScoreError, match=message):
        metrics.subject_predictions(rows.assign(**columns), "mean", "subject")


def test_per_class_table():
    table = metrics.per_class(pd.DataFrame({"label": ["a", "a", "b"], "prediction": ["a", "b", "b"]}), ["a", "b"])
    assert table.loc["a"].tolist() == pytest.approx([1, 0.5, 2 / 3, 2])
    assert table.loc["b", "precision"] == 0.5
