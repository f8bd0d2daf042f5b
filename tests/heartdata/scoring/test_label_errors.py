"""Which labels are suspected, where it is known which are wrong."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from heartdata.scoring.label_errors import corrections_csv, suspected_labels

CLASSES = ["artifact", "murmur", "normal"]


def held_out(skill: float, wrong: float, recordings: int = 240, seed: int = 0) -> pd.DataFrame:
    """Predictions of a model of some ``skill``, two recordings a subject; a share ``wrong`` of the labels is not the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, recordings, p=[0.2, 0.3, 0.5])
    logits = rng.normal(size=(recordings, 3))
    logits[np.arange(recordings), truth] += skill
    planted = rng.random(recordings) < wrong
    given = np.where(planted, (truth + rng.integers(1, 3, recordings)) % 3, truth)
    names = np.array(CLASSES, object)
    rows = pd.DataFrame(softmax(1.5 * logits, axis=1), columns=[f"p_{name}" for name in CLASSES])
    ids = [f"{number}.wav" for number in range(recordings)]
    return rows.assign(
        recording_id=ids, sha256=ids, group=[str(n // 2) for n in range(recordings)], label=names[given],
        prediction=names[logits.argmax(axis=1)], truth=names[truth], planted=planted,
    )  # fmt: skip


def test_planted_wrong_labels_are_found_by_a_good_model():
    found = [suspected_labels(held_out(3.0, 0.06, seed=seed), CLASSES) for seed in range(5)]
    precision = np.mean([suspects.rows["planted"].mean() for suspects in found])
    planted = np.mean([held_out(3.0, 0.06, seed=seed)["planted"].sum() for seed in range(5)])
    recall = np.mean([suspects.rows["planted"].sum() for suspects in found]) / planted
    assert precision > 0.85
    assert recall > 0.7
    assert all(suspects.judged == 240 and not suspects.weakness for suspects in found)


def test_the_least_credible_label_is_first_and_gets_the_most_probable_class_as_a_suggestion():
    rows = suspected_labels(held_out(3.0, 0.06), CLASSES).rows
    of_label = [row[f"p_{row['label']}"] for _, row in rows.iterrows()]
    assert of_label == sorted(of_label)
    assert (rows["suggested"] != rows["label"]).all()
    assert (rows["suggested"] == rows["truth"])[rows["planted"]].mean() > 0.9


def test_a_perfect_model_suspects_nothing_where_all_labels_are_right():
    assert suspected_labels(held_out(30.0, 0.0), CLASSES).rows.empty


@pytest.mark.parametrize("seed", range(3))
def test_a_model_at_chance_suspects_nothing_and_says_why(seed: int):
    suspects = suspected_labels(held_out(0.0, 0.06, seed=seed), CLASSES)
    assert suspects.rows.empty
    assert "too weak to judge labels" in suspects.weakness


@pytest.mark.parametrize("classes", [["normal"], ["normal", "murmur"], CLASSES])
def test_classes_with_few_recordings_are_not_judged(classes: list[str]):
    rows = held_out(3.0, 0.0)
    few = rows[rows["label"].isin(classes)].groupby("label").head(4)
    normal = rows[rows["label"] == "normal"]
    suspects = suspected_labels(pd.concat([few, normal]).drop_duplicates("recording_id"), CLASSES)
    assert suspects.rows.empty
    assert "fewer than two classes" in suspects.weakness


def test_a_class_without_recordings_changes_nothing():
    rows = held_out(3.0, 0.06).assign(p_extrahls=0.0)
    expected = suspected_labels(held_out(3.0, 0.06), CLASSES).rows["recording_id"].tolist()
    assert suspected_labels(rows, [*CLASSES, "extrahls"]).rows["recording_id"].tolist() == expected


def test_suspects_are_a_table_to_fill_in():
    suspects = suspected_labels(held_out(3.0, 0.06), CLASSES)
    rows = pd.read_csv(io.StringIO(corrections_csv(suspects)))
    assert list(rows.columns[:4]) == ["recording", "new_label", "who", "why"]
    assert rows[["new_label", "who", "why"]].isna().all(axis=None)
    assert rows["recording"].tolist() == suspects.rows["recording_id"].tolist()
    assert rows["p_label"].is_monotonic_increasing
    assert corrections_csv(suspected_labels(held_out(0.0, 0.0), CLASSES)).count("\n") == 1
