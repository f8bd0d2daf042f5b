"""Bootstrap over subjects, stratified by class, and the intervals computed from it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

LEVEL = 0.95
ROUNDING = 1e-12


@dataclass(frozen=True)
class SubjectDraws:
    """Resamples of subjects, as ``weights`` of recordings, shape (1 + resamples, n): first every recording once.

    ``degrees_of_freedom`` are those of a standard error over the resamples.
    """

    weights: np.ndarray
    degrees_of_freedom: float


def subject_draws(groups: ArrayLike, labels: ArrayLike, resamples: int, seed: int) -> SubjectDraws:
    """Bootstrap resamples of whole ``groups`` (subjects), stratified by class; both arguments have shape (n,).

    A group with several labels is in the stratum of its rarest one. Of the m groups of a stratum m - 1 are drawn and
    weighted m / (m - 1), which makes the variance unbiased (Rao and Wu, JASA 1988); the only group of a stratum is in
    every resample. A resample that lacks a label all the same, as groups with several may be left out, is dropped.
    """
    group, names = pd.factorize(np.asarray(groups), sort=True)
    label, classes = pd.factorize(np.asarray(labels), sort=True)
    has = np.zeros((len(names), len(classes)), bool)
    has[group, label] = True
    stratum = np.where(has, has.sum(axis=0), len(names) + 1).argmin(axis=1)
    rng, drawn = np.random.default_rng(seed), np.ones((resamples, len(names)))
    sizes = np.bincount(stratum)
    for number in np.flatnonzero(sizes > 1):
        m = sizes[number]
        counts = rng.multinomial(m - 1, np.full(m, 1 / m), size=resamples)
        drawn[:, stratum == number] = counts * m / (m - 1)
    drawn = drawn[(drawn @ has > 0).all(axis=1)]
    return SubjectDraws(np.vstack([np.ones(len(group)), drawn[:, group]]), _degrees_of_freedom(sizes[sizes > 1]))


def _degrees_of_freedom(sizes: np.ndarray) -> float:
    """Satterthwaite's approximation for a mean over strata of these sizes that have one variance; nan without strata."""
    if not len(sizes):
        return np.nan
    return float((1 / sizes).sum() ** 2 / (1 / sizes**2 / (sizes - 1)).sum())


def with_interval(
    values: ArrayLike, degrees_of_freedom: float, is_share: bool = True, level: float = LEVEL, varies: bool = True
) -> tuple[float, float, float]:
    """A metric and the bounds of its interval, from its ``values`` under each row of weights of `subject_draws`.

    ``values``, shape (1 + resamples,): first the metric itself, which is returned; the standard deviation of the others
    gives the interval. It is a t-interval, for a share (a metric in 0-1) on the logit scale, where the distribution of one
    near 1 is less skewed: percentiles of the resamples cover too little (`benchmarks/intervals.py`). They are used where a
    resample's value is infinite, so that a bound may be infinite. A share that is the same in all resamples although it
    ``varies``, as where each class is all right or all wrong, has the interval of Clopper and Pearson (1934) for
    degrees_of_freedom + 1 subjects. Values of nan are ignored; the bounds are nan where no stratum has two subjects.
    """
    value, *_ = numbers = np.asarray(values, float)
    drawn = numbers[1:][~np.isnan(numbers[1:])]
    if np.isnan([value, degrees_of_freedom]).any() or len(drawn) < 2:
        return float(value), np.nan, np.nan
    if not np.isfinite(drawn).all():
        low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)], method="inverted_cdf")
        return float(value), float(low), float(high)
    error = drawn.std(ddof=1)
    if error < ROUNDING:
        if not (is_share and varies):
            return float(value), float(value), float(value)
        return float(value), *_clopper_pearson(value, degrees_of_freedom + 1, level)
    from scipy.stats import t  # slow to load, also where only settings are needed

    half = t.ppf((1 + level) / 2, degrees_of_freedom) * error
    if is_share and 0 < value < 1:
        on_logit = half / (value * (1 - value))
        low, high = expit(logit(value) - on_logit), expit(logit(value) + on_logit)
    else:
        low, high = value - half, value + half
    return float(value), float(low), float(high)


def _clopper_pearson(share: float, subjects: float, level: float) -> tuple[float, float]:
    from scipy.stats import beta

    right, tail = share * subjects, (1 - level) / 2
    low = beta.ppf(tail, right, subjects - right + 1) if share > ROUNDING else 0.0
    high = beta.ppf(1 - tail, right + 1, subjects - right) if share < 1 - ROUNDING else 1.0
    return float(low), float(high)
