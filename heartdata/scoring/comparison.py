"""Two models on the same recordings: the difference of a metric and its one-sided bounds, by bootstrap over subjects."""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from heartdata.scoring.bootstrap import subject_draws, with_interval
from heartdata.scoring.metrics import compute_metrics

Metric = Literal["macro_f1", "balanced_accuracy", "accuracy", "auroc"]


@dataclass(frozen=True)
class Comparison:
    """A metric of two models, and their ``difference``, first less second, with a one-sided bound on either side.

    ``differing``: how many of the ``subjects`` they predict differently. A value is nan where the metric does not exist.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    subjects: int
    differing: int


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    classes: list[str],
    metric: Metric,
    level: float,
    resamples: int,
    seed: int,
) -> Comparison:
    """Compare two tables of the same recordings in the same order (columns label, prediction, group and p_<class>).

    Both are scored on the same resamples (`subject_draws`); each bound holds at confidence ``level`` by itself. Where they
    differ for so few subjects that all may favour one by chance (sign test: 1 / 2 ^ differing is above 1 - level), the
    bounds include 0, as the resamples vary too little then.
    """
    draws = subject_draws(first["group"], first["label"], resamples, seed)
    names = [f"p_{c}" for c in classes]
    ours, theirs = (
        compute_metrics(
            rows["label"].to_numpy(object), rows["prediction"].to_numpy(object), rows[names].to_numpy(float), classes,
            draws.weights, [metric],
        )[metric].to_numpy()
        for rows in (first, second)
    )  # fmt: skip
    difference, low, high = with_interval(ours - theirs, draws.degrees_of_freedom, is_share=False, level=2 * level - 1)
    scored = names if metric == "auroc" else ["prediction"]
    differs = (first[scored].to_numpy() != second[scored].to_numpy()).any(axis=1)
    differing = int(first["group"][differs].nunique())
    if 0.5**differing > 1 - level:
        low, high = min(low, 0.0), max(high, 0.0)
    return Comparison(float(ours[0]), float(theirs[0]), difference, low, high, first["group"].nunique(), differing)
