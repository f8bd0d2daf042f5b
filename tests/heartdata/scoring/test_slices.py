"""Sex and age are recognised in usual spellings, and each slice is scored by itself."""

import json

import numpy as np
import pandas as pd
import pytest

from heartdata.scoring.slices import LEAST_SUBJECTS, MOST_VALUES, age_group, slice_attributes, slice_metrics


@pytest.mark.parametrize(
    ("text", "unit", "group"),
    [
        ("Neonate", "y", "neonate"), ("Young Adult", "y", "young adult"), ("63", "y", "adult"), ("65.0", "y", "older adult"),
        ("0.5", "y", "infant"), ("1", "y", "child"), ("11 years", "y", "child"), ("12y", "y", "adolescent"), ("21", "y", "young adult"),
        ("7 months", "y", "infant"), ("30", "m", "child"), ("10", "d", "neonate"), ("27 days", "y", "neonate"),
        ("3 weeks", "y", "neonate"), ("0", "y", "neonate"), ("64,5", "y", "adult"), ("18 yrs", "y", "adolescent"),
        ("", "y", None), ("unknown", "y", None), ("nan", "y", None), ("-1", "y", None), ("999", "y", None), ("20-30", "y", None),
    ],
)  # fmt: skip
def test_ages(text: str, unit: str, group: str | None):
    assert age_group(text, unit) == group


def attributes(extras: list[dict | None], quality: float = 0.9, **columns: object) -> pd.DataFrame:
    names = [str(i) for i in range(len(extras))]
    manifest = pd.DataFrame({"recording_id": names, "sha256": names, "source": "t", "collection": "", "site": "AV"})
    extra = [None if e is None else json.dumps(e) for e in extras]
    recordings = pd.DataFrame({"recording_id": names[::-1], "extra": extra[::-1]})
    facts = pd.DataFrame({"sha256": names, "quality": quality})
    return slice_attributes(manifest.assign(**columns), recordings, facts, 0.25)


@pytest.mark.parametrize(
    ("extra", "sex", "age"),
    [
        ({"sex": "Female", "age_group": "Child"}, "female", "child"),
        ({"Gender": "M", "Age (years)": "70"}, "male", "older adult"),
        ({"GENDER": "woman", "AgeMonths": "3"}, "female", "infant"),
        ({"Sex": "unknown", "age": "?"}, None, None),
        ({"age": 30, "pages": "2"}, None, "adult"),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_sex_and_age_are_recognised_in_what_the_source_says(extra: dict | None, sex: str | None, age: str | None):
    row = attributes([extra]).iloc[0]
    assert (row["sex"], row["age_group"]) == (sex, age)


def test_quality_is_low_below_the_bound_and_empty_texts_are_unknown():
    table = attributes([{}] * 3, quality=[0.2, 0.25, np.nan], site=["AV", "", None])
    assert table["quality"].tolist() == ["low", "good", None]
    assert table["site"].tolist() == ["AV", None, None]
    assert table["collection"].tolist() == [None] * 3


def test_each_slice_is_scored_by_itself_and_constant_attributes_are_none():
    n = 40
    label = np.array(["a", "b"] * (n // 2))
    site = np.where(np.arange(n) < 20, "AV", "MV")
    prediction = np.where(site == "AV", label, "a")
    rows = pd.DataFrame(
        {"recording_id": [str(i) for i in range(n)], "group": np.arange(n) // 2, "label": label, "prediction": prediction,
         "p_a": 0.5, "p_b": 0.5}
    )  # fmt: skip
    table = attributes([{"sex": "f"} if i < 10 else {"sex": "m"} for i in range(n)], site=site)
    scored, left_out = slice_metrics(rows, table, ["a", "b"], 50, 0)
    assert left_out == {}
    metrics = pd.DataFrame(scored).set_index(["attribute", "slice", "metric"])
    assert set(metrics.index.droplevel(2)) == {("site", "AV"), ("site", "MV"), ("sex", "female"), ("sex", "male")}
    assert metrics.loc[("site", "AV", "accuracy"), "value"] == 1
    assert metrics.loc[("site", "MV", "accuracy"), "value"] == 0.5
    assert metrics.loc[("site", "MV", "accuracy"), ["recordings", "subjects"]].tolist() == [20, 10]
    assert metrics.loc[("sex", "female", "auroc"), "recordings"] == 10


def test_small_slices_and_all_but_the_largest_are_left_out_and_counted():
    subjects = [*range(5, 5 + MOST_VALUES + 3), *[LEAST_SUBJECTS - 1] * 50]
    site = [f"site {n}" for n, count in enumerate(subjects) for _ in range(count)]
    ids = [str(n) for n in range(len(site))]
    rows = pd.DataFrame({"recording_id": ids, "group": ids, "label": "a", "prediction": "a", "p_a": 0.9, "p_b": 0.1})
    table = pd.DataFrame(
        {"recording_id": ids, "site": site, "sex": "male", "quality": ["low"] + ["good"] * (len(ids) - 1)}
    )
    table = table.assign(source=None, collection=None, age_group=None)
    scored, left_out = slice_metrics(rows, table, ["a", "b"], 5, 0)
    assert {(row["attribute"], row["slice"]) for row in scored} == {
        ("quality", "good"),
        *(("site", f"site {n}") for n in range(3, MOST_VALUES + 3)),
    }
    assert left_out == {"site": 53, "quality": 1}
