"""Slices of a data set, such as a site or an age group: which recordings are in each, and a model's metrics there."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from heartdata.scoring.metrics import metrics_with_intervals

ATTRIBUTES = ("source", "collection", "site", "sex", "age_group", "quality")
LEAST_SUBJECTS, MOST_VALUES = 5, 20  # of a slice that is scored; of an attribute
SEXES = dict.fromkeys(("m", "male", "man", "boy"), "male") | dict.fromkeys(
    ("f", "female", "w", "woman", "girl"), "female"
)
SEX_COLUMNS = ("sex", "gender", "patientsex", "biologicalsex")
AGE_COLUMNS = {  # to the unit of numbers without one
    **dict.fromkeys(("age", "agegroup", "agecategory", "patientage", "ageyears", "ageinyears", "ageyr", "ageyrs"), "y"),
    **dict.fromkeys(("agemonths", "ageinmonths"), "m"), "agedays": "d", "ageindays": "d",
}  # fmt: skip
PER_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
# The age in years at which each group ends: those of CirCor (Oliveira et al. 2022, after NICHD), and two of adults.
AGE_GROUPS = {
    "neonate": 28 / 365.25, "infant": 1, "child": 12, "adolescent": 19, "young adult": 22, "adult": 65,
    "older adult": 130,
}  # fmt: skip
_AGE = re.compile(r"(\d{1,5}(?:[.,]\d{1,9})?)\s*(y|m|w|d)?(?:r|rs|o|ears?|ears? old|o|onths?|eeks?|ays?)?\.?")


def slice_attributes(
    manifest: pd.DataFrame, recordings: pd.DataFrame, facts: pd.DataFrame, min_quality: float
) -> pd.DataFrame:
    """ATTRIBUTES of each recording of the manifest (schema SLICE_ATTRIBUTES); null where unknown.

    Sex and age are from what the source says of the recording in usual words (column ``extra`` of schema RECORDINGS). The
    quality is ``low`` below ``min_quality``, else ``good``.
    """
    rows = manifest[["recording_id", "sha256", "source", "collection", "site"]].reset_index(drop=True)
    extra = recordings.drop_duplicates("recording_id").set_index("recording_id")["extra"].reindex(rows["recording_id"])
    known = [_cells(text) for text in extra]
    measured = facts.drop_duplicates("sha256").set_index("sha256")["quality"].reindex(rows["sha256"]).to_numpy(float)
    quality = np.where(measured < min_quality, "low", "good").astype(object)
    rows = rows.assign(
        sex=[next((sex for name in SEX_COLUMNS if (sex := SEXES.get(cells.get(name, "")))), None) for cells in known],
        age_group=[
            next((age for name in AGE_COLUMNS if (age := age_group(cells.get(name, ""), AGE_COLUMNS[name]))), None)
            for cells in known
        ],
        quality=pd.Series(quality).mask(np.isnan(measured)),
    )
    columns = rows[["recording_id", *ATTRIBUTES]].astype(object)
    return columns.mask(columns.isna() | (columns == ""), None)


def age_group(text: str, unit: str = "y") -> str | None:
    """The group of AGE_GROUPS of an age such as ``63``, ``7 months`` or ``Young adult``; None where it is none.

    ``unit``: of a number without one, a key of PER_YEAR.
    """
    cell = text.strip().casefold()
    if cell in AGE_GROUPS:
        return cell
    match = _AGE.fullmatch(cell)
    if not match:
        return None
    years = float(match[1].replace(",", ".")) / PER_YEAR[match[2] or unit]
    return next((name for name, end in AGE_GROUPS.items() if years < end), None)


def slices_of(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Attribute, value and rows of every slice, of the attributes that have at least two values in ``rows``."""
    for attribute in ATTRIBUTES:
        if attribute in rows and rows[attribute].nunique() > 1:
            for value, part in rows.groupby(attribute):
                yield attribute, str(value), part


def slice_metrics(
    predictions: pd.DataFrame, attributes: pd.DataFrame, classes: list[str], resamples: int, seed: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Rows of schema SLICES: each metric of rows of `predictions_schema` in each slice, with its interval; and how many
    values of each attribute are left out: those of fewer than LEAST_SUBJECTS, and all but the MOST_VALUES largest.

    Means are over the classes that occur in the slice, so compare models within a slice, not slices with each other.
    """
    rows = predictions.merge(attributes, on="recording_id")
    metrics: list[dict[str, Any]] = []
    left_out = {}
    for attribute in ATTRIBUTES:
        subjects = rows.groupby(attribute)["group"].nunique()
        if len(subjects) < 2:
            continue
        scored = subjects[subjects >= LEAST_SUBJECTS].nlargest(MOST_VALUES).sort_index()
        if len(scored) < len(subjects):
            left_out[attribute] = len(subjects) - len(scored)
        for value, count in scored.items():
            part = rows[rows[attribute] == value]
            of_slice = {"attribute": attribute, "slice": str(value), "recordings": len(part), "subjects": int(count)}
            metrics += [
                of_slice | {name: metric[name] for name in ("metric", "value", "low", "high")}
                for metric in metrics_with_intervals({"": part}, classes, resamples, seed)
            ]
    return metrics, left_out


def _cells(text: Any) -> dict[str, str]:
    """What a source says of a recording: names of letters and digits alone to values, all in lower case."""
    cells = json.loads(text) if isinstance(text, str) else {}
    return {re.sub(r"[\W_]+", "", name.casefold()): str(value).strip().casefold() for name, value in cells.items()}
