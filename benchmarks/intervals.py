"""How often 95 % intervals over subjects contain the true value, by simulation: ours, of t on the logit scale
from draws stratified by class, beside percentiles and BCa.

    python -m benchmarks.intervals [--simulations 600]

Subjects have one class and 1 to 4 recordings; the scores of one subject's recordings correlate with .5. The true value
is that of 100,000 subjects. Each test part is drawn anew; those that lack a class are drawn again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax
from scipy.stats import norm

from benchmarks.command import run_benchmark, say
from benchmarks.rows import Row, Target, scored, share
from heartdata.scoring.bootstrap import subject_draws, with_interval
from heartdata.scoring.metrics import compute_metrics
from heartdata.scoring.text import metric_label

METRICS = ["balanced_accuracy", "macro_f1", "auroc"]
CASES = (  # subjects, shares of the classes, distance between the classes
    (30, (0.5, 0.5), 1.0), (30, (0.7, 0.3), 1.0), (30, (0.5, 0.3, 0.2), 1.0), (30, (0.8, 0.2), 1.5), (30, (0.9, 0.1), 1.5),
    (100, (0.7, 0.3), 1.0), (100, (0.5, 0.3, 0.2), 1.0), (100, (0.8, 0.2), 1.5),
)  # fmt: skip
OURS, PLAIN = "t on the logit scale, stratified draws", "percentiles, draws not stratified"
SIZES = {"simulations": (600, 4), "resamples": (500, 40), "everybody": (100_000, 2_000)}
TAILS = np.array([2.5, 97.5])


@dataclass(frozen=True)
class Recordings:
    """Recordings of several subjects: ``labels`` and ``subjects`` of shape (n,), ``probabilities`` (n, classes)."""

    labels: np.ndarray
    subjects: np.ndarray
    probabilities: np.ndarray

    def values(self, weights: np.ndarray) -> np.ndarray:
        """METRICS under each weighting, shape (weightings, metrics); ``weights`` has shape (weightings, n)."""
        classes = range(self.probabilities.shape[1])
        table = compute_metrics(self.labels, self.probabilities.argmax(1), self.probabilities, list(classes), weights)
        return table[METRICS].to_numpy()


def simulated(subjects: int, shares: tuple[float, ...], distance: float, rng: np.random.Generator) -> Recordings:
    """Recordings of that many subjects, each class with at least one."""
    classes = len(shares)
    label = rng.choice(classes, subjects, p=shares)
    while len(np.unique(label)) < classes:
        label = rng.choice(classes, subjects, p=shares)
    of = np.repeat(np.arange(subjects), rng.integers(1, 5, subjects))
    scores = rng.normal(size=(subjects, classes))[of] + rng.normal(size=(len(of), classes))
    scores = scores / np.sqrt(2) + np.log(shares) / 2
    scores[np.arange(len(of)), label[of]] += distance
    return Recordings(label[of], of, softmax(scores, axis=1))


def intervals(test: Recordings, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """The bounds of each method, shape (2, metrics)."""
    names, place = np.unique(test.subjects, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    plain = test.values(np.vstack([np.ones(len(place)), drawn[:, place]]))[1:]
    draws = subject_draws(test.subjects, test.labels, resamples, seed)
    values = test.values(draws.weights)
    value, stratified = values[0], values[1:]
    without_one = test.values(np.vstack([np.ones(len(place)), place != np.arange(len(names))[:, None]]))[1:]
    ours = [with_interval(column, draws.degrees_of_freedom)[1:] for column in values.T]
    return {
        PLAIN: np.nanpercentile(plain, TAILS, axis=0),
        "percentiles, stratified draws": np.percentile(stratified, TAILS, axis=0),
        "BCa, stratified draws": _bca(value, stratified, without_one[~np.isnan(without_one).any(axis=1)]),
        OURS: np.array(ours).T,
    }


def _bca(value: np.ndarray, drawn: np.ndarray, without_one: np.ndarray) -> np.ndarray:
    """Bias-corrected and accelerated bounds (Efron 1987), shape (2, metrics)."""
    below = ((drawn < value).mean(axis=0) + (drawn <= value).mean(axis=0)) / 2
    bias = norm.ppf(np.clip(below, 1 / len(drawn), 1 - 1 / len(drawn)))
    less = without_one.mean(axis=0) - without_one
    skew = (less**3).sum(axis=0) / np.maximum(6 * (less**2).sum(axis=0) ** 1.5, 1e-12)
    z = bias + norm.ppf(TAILS / 100)[:, None]
    levels = norm.cdf(bias + z / (1 - skew * z))
    return np.array([[np.quantile(drawn[:, j], q) for j, q in enumerate(row)] for row in levels])


def coverage(
    case: tuple[int, tuple[float, ...], float], simulations: int, resamples: int, everybody: int
) -> dict[str, np.ndarray]:
    """Of each method, in how many simulations the interval contains the true value, by metric."""
    subjects, shares, distance = case
    rng = np.random.default_rng(0)
    everyone = simulated(everybody, shares, distance, rng)
    (truth,) = everyone.values(np.ones((1, len(everyone.labels))))
    hits: dict[str, np.ndarray] = {}
    for seed in range(simulations):
        for name, (low, high) in intervals(simulated(subjects, shares, distance, rng), resamples, seed).items():
            hits[name] = hits.get(name, np.zeros(len(METRICS), int)) + ((low <= truth) & (truth <= high))
    return hits


def measure(simulations: int, resamples: int, everybody: int) -> Iterator[Row]:
    target, total = Target(of="heartbeat", least=93, most=97), simulations * len(CASES)
    labels, each = [metric_label(metric) for metric in METRICS], []
    for subjects, shares, distance in CASES:
        say(f"{subjects} subjects, classes {shares}")
        each.append(coverage((subjects, shares, distance), simulations, resamples, everybody))
        for number, metric in enumerate(labels):
            ours, plain = (share(each[-1][name][number], simulations) for name in (OURS, PLAIN))
            of = f"{subjects} subjects, classes {', '.join(map(str, shares))}: {metric} covered"
            yield scored(of, ours, PLAIN, plain, unit="%", target=target)
    for number, metric in enumerate(labels):
        for name in each[0]:
            if name not in (OURS, PLAIN):
                ours, theirs = (share(sum(case[which][number] for case in each), total) for which in (OURS, name))
                yield scored(f"all of these: {metric} covered", ours, name, theirs, unit="%")


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
