"""Change of the accepted recordings since they were last accepted: how many are gone, and how far shares have moved."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import chi2

NAMES = ("label", "collection", "site", "rate_hz")
NUMBERS = ("duration_s", "rms", "periodicity", "quality")
BINS = 10
LEAST_IN_BIN = 30  # with fewer, chance alone looks like another population
LEAST_COUNT = 0.5  # in an empty bin, so that the logarithm exists
CHANCE = 0.999
ABSENT = "(absent)"


def population_stability(before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray) -> float:
    """Population stability index of two lists of counts over the same bins: sum of (q - p) ln(q / p), both shares.

    Zero when the shares are equal; under .1 is commonly read as stable, over .25 as another population
    (Siddiqi 2006, Credit Risk Scorecards).
    """
    p, q = (np.maximum(counts, LEAST_COUNT) / max(np.sum(counts), 1) for counts in (before, after))
    return float(np.sum((q - p) * np.log(q / p)))


def binned(before: pd.Series, after: pd.Series) -> pd.DataFrame:
    """Counts of both over common bins (columns before, after; the index names the bins, numbers in their order).

    Names and few distinct numbers are their own bins; other numbers fall into equal
    shares of ``before``: deciles, or fewer when it is small.
    """
    bins = min(BINS, max(2, min(len(before), len(after)) // LEAST_IN_BIN))
    if before.dtype.kind in "fi" and before.nunique() > bins:
        edges = np.unique(before.quantile(np.linspace(0, 1, bins + 1)[1:-1]))
        told = [f"{edge:.3g}" for edge in edges]
        names = [f"< {told[0]}", *map(" to ".join, pairwise(told)), f">= {told[-1]}", ABSENT]
        at = (np.where(v.isna(), len(edges) + 1, np.digitize(v, edges)) for v in (before, after))
        counts = [np.bincount(numbers, minlength=len(names)) for numbers in at]
        table = pd.DataFrame(dict(zip(("before", "after"), counts, strict=True)), index=names)
    else:
        named = [v.astype(object).where(v.notna(), ABSENT).astype(str).value_counts() for v in (before, after)]
        table = pd.concat(named, axis=1, keys=["before", "after"]).fillna(0).astype(int).sort_index()
    return table[table.sum(axis=1) > 0]


def column_drift(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row a quantity of schema ACCEPTED: ``quantity``, ``psi``, ``drift`` and ``counts`` (see `binned`). Labels are
    those of labelled recordings: how many have none is no change of what there is to learn.

    ``drift`` is the index where it is more than chance gives one night in a thousand, else 0: without change, the
    index is distributed as (1/n + 1/m) chi-square with a degree less than there are bins (Yurdakul 2018, Statistical
    Properties of Population Stability Index, Western Michigan University).
    """
    rows = []
    for name in (n for n in (*NAMES, *NUMBERS) if n in before and n in after):
        then, now = (frame[name].dropna() if name == "label" else frame[name] for frame in (before, after))
        table = binned(then, now)
        psi = population_stability(table["before"], table["after"])
        spread = sum(1 / max(len(values), 1) for values in (then, now))
        chance = spread * chi2.ppf(CHANCE, max(len(table) - 1, 1))
        rows.append({"quantity": name, "psi": psi, "drift": psi if psi > chance else 0.0, "counts": table})
    return pd.DataFrame(rows)


def lost_fraction(before: pd.DataFrame, after: pd.DataFrame) -> float:
    """The share of the recordings of ``before`` (by id) that ``after`` does not have, or has without their label."""
    there = before["recording_id"].isin(after["recording_id"])
    bare = before["label"].notna() & before["recording_id"].isin(after.loc[after["label"].isna(), "recording_id"])
    return float(1 - (there & ~bare).mean()) if len(before) else 0.0
