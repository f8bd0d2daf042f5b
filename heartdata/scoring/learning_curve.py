"""How a score grows with the number of training subjects: an inverse power law, and how far it may be extrapolated.

score = plateau - gap * (subjects / largest) ** -rate, where ``gap`` is what is missing at the largest number measured.
Figueroa et al. 2012, Predicting sample size required for classification performance, BMC Medical Informatics and Decision
Making. That such fits are no proof of what more data will do: Viering and Loog 2022, The shape of learning curves: a
review, IEEE TPAMI.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HORIZON = 10  # times the largest number of subjects measured; beyond it nothing is said
# Of plateau, gap and rate. On a logarithmic axis a slower rate cannot be told from a straight line, a faster one from a step.
BOUNDS = ((0, 0, 0.05), (1, 1, 3))
STARTS = (0.3, 1.0)  # rates from which a fit starts
ERROR_FLOOR = 1e-3  # of a score that varies in no resample
TOLERANCE: dict[str, float] = {"ftol": 1e-4, "xtol": 1e-4, "gtol": 1e-6, "max_nfev": 1000}  # each resample is fitted


@dataclass(frozen=True)
class PowerLaw:
    """A fitted curve; ``largest`` is the number of subjects at which ``gap`` is missing to the ``plateau``."""

    plateau: float
    gap: float
    rate: float
    largest: float

    def score(self, subjects: np.ndarray) -> np.ndarray:
        """The score at each number of ``subjects``."""
        return self.plateau - self.gap * (np.asarray(subjects, float) / self.largest) ** -self.rate

    def more_subjects(self, gain: float) -> float:
        """How many more than ``largest`` add ``gain`` to the score; infinite beyond the HORIZON."""
        if self.gap <= gain:
            return np.inf
        times = (self.gap / (self.gap - gain)) ** (1 / self.rate)
        return self.largest * (times - 1) if times <= HORIZON else np.inf


@dataclass(frozen=True)
class Extrapolation:
    """How many more subjects a gain takes: median and 95 % interval over resamples, infinite beyond the HORIZON.

    ``reached`` is the share of resamples whose curve has that gain within the HORIZON.
    """

    more: float
    low: float
    high: float
    reached: float


def fit_power_law(subjects: Sequence[float], scores: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """The curve through ``scores`` in 0-1 at four or more numbers of ``subjects``, weighted by their standard errors.

    It never falls: scores that do are fitted by a horizontal line, which has a gap of 0.
    """
    from scipy.optimize import least_squares  # slow to load

    numbers, values = np.asarray(subjects, float), np.asarray(scores, float)
    largest, sigma = float(numbers.max()), np.maximum(np.asarray(errors, float), ERROR_FLOOR)
    share = numbers / largest

    def residuals(parameters: np.ndarray) -> np.ndarray:
        plateau, gap, rate = parameters
        return (plateau - gap * share**-rate - values) / sigma

    def slopes(parameters: np.ndarray) -> np.ndarray:
        _, gap, rate = parameters
        power = share**-rate
        return np.stack([np.ones_like(share), -power, gap * power * np.log(share)], axis=1) / sigma[:, None]

    begin = min(float(values[numbers.argmax()]) + 0.05, 0.99)
    fits = [least_squares(residuals, (begin, 0.05, rate), slopes, BOUNDS, **TOLERANCE) for rate in STARTS]
    plateau, gap, rate = min(fits, key=lambda fit: fit.cost).x
    return PowerLaw(float(plateau), float(gap), float(rate), largest)


def extrapolate(curves: Sequence[PowerLaw], gain: float) -> Extrapolation:
    """How many more subjects ``gain`` takes, from the ``curves`` fitted to each resample."""
    more = np.array([curve.more_subjects(gain) for curve in curves])
    middle, low, high = np.percentile(more, [50, 2.5, 97.5], method="inverted_cdf")
    return Extrapolation(float(middle), float(low), float(high), float(np.isfinite(more).mean()))
