"""Change between two tables of accepted recordings: how many are lost, and how far distributions have drifted."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

QUANTITIES = ("label", "collection", "site", "rate_hz", "duration_s", "rms", "periodicity", "quality")
BINS = 10
MIN_PER_BIN = 30  # with fewer, chance alone looks like another population
PSEUDOCOUNT = 0.5  # of an empty bin, so that the logarithm exists
CONFIDENCE = 0.999
ABSENT = "(absent)"


def population_stability(before: Sequence[float] | np.ndarray, after: Sequence[float] | np.ndarray) -> float:
    """Population stability index of two lists of counts over the same bins: sum of (q - p) ln(q / p) of the shares.

    Zero when the shares are equal; under .1 is commonly read as stable, over .25 as another population
    (Siddiqi 2006, Credit Risk Scorecards).
    """
    p, q = (np.maximum(counts, PSEUDOCOUNT) / max(np.sum(counts), 1) for counts in (before, after))
    return float(np.sum((q - p) * np.log(q / p)))


def binned(before: pd.Series, after: pd.Series) -> pd.DataFrame:
    """Counts of both over common bins: columns before and after, indexed by the bins' names.

    Categories, and numbers with few distinct values, are their own bins; other numbers fall into quantiles of
    ``before``: deciles, or fewer when one of the two is small.
    """
    bins = min(BINS, max(2, min(len(before), len(after)) // MIN_PER_BIN))
    if before.dtype.kind in "fi" and before.nunique() > bins:
        edges = np.unique(before.quantile(np.linspace(0, 1, bins + 1)[1:-1]))
        texts = [f"{edge:.3g}" for edge in edges]
        names = [f"< {texts[0]}", *map(" to ".join, pairwise(texts)), f">= {texts[-1]}", ABSENT]
        at = (np.where(v.isna(), len(edges) + 1, np.digitize(v, edges)) for v in (before, after))
        counts = [np.bincount(numbers, minlength=len(names)) for numbers in at]
        table = pd.DataFrame(dict(zip(("before", "after"), counts, strict=True)), index=names)
    else:
        named = [v.astype(object).where(v.notna(), ABSENT).astype(str).value_counts() for v in (before, after)]
        table = pd.concat(named, axis=1, keys=["before", "after"]).fillna(0).astype(int).sort_index()
    return table[table.sum(axis=1) > 0]


def column_drift(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row for each of QUANTITIES in both tables (schema ACCEPTED): ``quantity``, ``psi``, ``drift``, ``counts``.

    ``counts``: see `binned`. Unlabelled recordings are left out of the label's: more of them change no class balance.
    ``drift`` is the index where it exceeds what chance gives one night in a thousand, else 0: without change, the index
    is distributed as (1/n + 1/m) chi-square with one degree of freedom less than there are bins (Yurdakul 2018,
    Statistical Properties of Population Stability Index, Western Michigan University).
    """
    from scipy.stats import chi2

    rows = []
    for name in (n for n in QUANTITIES if n in before and n in after):
        then, now = (frame[name].dropna() if name == "label" else frame[name] for frame in (before, after))
        table = binned(then, now)
        psi = population_stability(table["before"], table["after"])
        spread = sum(1 / max(len(values), 1) for values in (then, now))
        chance = spread * chi2.ppf(CONFIDENCE, max(len(table) - 1, 1))
        rows.append({"quantity": name, "psi": psi, "drift": psi if psi > chance else 0.0, "counts": table})
    return pd.DataFrame(rows)


def lost_fraction(before: pd.DataFrame, after: pd.DataFrame) -> float:
    """The share of the recordings of ``before`` (by id) that are absent from ``after`` or have lost their label."""
    if before.empty:
        return 0.0
    ids, after_ids = (frame["recording_id"].astype(object) for frame in (before, after))  # hashed faster than strings
    labelled = after_ids[after["label"].notna()]
    kept = ids.isin(labelled) | (before["label"].isna() & ids.isin(after_ids))
    return float(1 - kept.mean())
