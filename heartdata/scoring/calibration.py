"""Temperature, operating point, unsure answers, and how far probabilities can be believed.

Everything named fit_ or _threshold is chosen from predictions: give only out-of-fold ones, never those of the test
fold, or the scores that follow are of what was fitted to.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import brier_score_loss

from heartdata.errors import ScoreError
from heartdata.scoring.challenges import MURMURS, OUTCOMES, cost_per_patient, in_order_of, weighted_accuracy
from heartdata.scoring.confusion import balanced_accuracy, confusion_counts, macro_f1
from heartdata.settings import Settings

TEMPERATURES = (0.05, 20.0)
LEAST_PROBABILITY = 1e-12  # a probability of 0 has no logarithm
CLASS_WEIGHTS = np.geomspace(1 / 16, 16, 33)  # steps of 2**.25; 1 is among them
PASSES = 4  # of the coordinate search; it seldom needs three

# What an operating point can be chosen by, from confusions (rows, labels, answers) of ``classes``; higher is better.
SCORES: dict[str, Callable[[np.ndarray, list[str]], np.ndarray]] = {
    "macro_f1": lambda confusion, _: macro_f1(confusion),
    "balanced_accuracy": lambda confusion, _: balanced_accuracy(confusion),
    "weighted_accuracy": lambda confusion, classes: weighted_accuracy(in_order_of(MURMURS, confusion, classes)),
    "cost_per_patient": lambda confusion, classes: -cost_per_patient(in_order_of(OUTCOMES, confusion, classes)),
}


class DecisionConfig(Settings):
    """How probabilities become answers; everything is fitted to the validation part."""

    temperature: bool = Field(default=True, description="scale the probabilities so that they are as sure as right")
    operating_point: Literal["macro_f1", "balanced_accuracy", "weighted_accuracy", "cost_per_patient", "none"] = Field(
        default="macro_f1",
        description="the score that the classes' weights in an answer are to better; none: the most probable; "
        "weighted_accuracy and cost_per_patient: CirCor's, of murmurs and of outcomes",
    )
    max_risk: float = Field(default=0.2, ge=0, le=1, description="share of wrong answers among those not unsure")
    min_coverage: float = Field(default=0.5, gt=0, le=1, description="share of recordings that are answered at least")


class Calibration(Settings):
    """From a network's probabilities to answers."""

    temperature: float = Field(default=1.0, gt=0, description="above 1: less sure than the network was")
    class_weights: tuple[float, ...] | None = Field(
        default=None, description="multiply the probabilities before the highest is the answer; null: all 1"
    )
    unsure_below: float = Field(default=0.0, ge=0, le=1, description="answers of lower probability are unsure")
    coverage: float = Field(default=1.0, ge=0, le=1, description="share of the validation answers that is not unsure")
    risk: float = Field(default=0.0, ge=0, le=1, description="share of those that is wrong")


def fit_temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The T between .05 and 20 for which softmax(log_probabilities / T) has the least mean negative log-likelihood.

    ``log_probabilities`` has shape (n, classes), logits or log-probabilities (the same up to a constant a row);
    ``labels`` are column numbers of shape (n,). Above 1 the model was too sure of itself. Source: Guo et al., On calibration of modern neural networks, ICML 2017. Give only out-of-fold
    predictions. Raises `ScoreError` where there is nothing to fit to.
    """
    scores = np.maximum(log_softmax(np.asarray(log_probabilities, float), axis=1), np.log(LEAST_PROBABILITY))
    labels = np.asarray(labels)
    if len(scores) != len(labels) or not len(scores):
        raise ScoreError("a temperature needs as many labels as predictions, and at least one")
    if not np.isfinite(scores).all():
        raise ScoreError("a temperature cannot be fitted to predictions that are not finite numbers")

    def loss(log_t: float) -> float:
        told = log_softmax(scores / np.exp(log_t), axis=1)[np.arange(len(labels)), labels]
        return -float(told.mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities of shape (n, classes) raised to 1 / temperature and scaled to sum 1; the order in a row stays."""
    if not temperature > 0:
        raise ScoreError(f"a temperature is above 0, not {temperature}")
    return softmax(np.log(np.maximum(probabilities, LEAST_PROBABILITY)) / temperature, axis=1)


def fit_operating_point(
    probabilities: np.ndarray,
    labels: ArrayLike,
    classes: list[str],
    metric: str = "macro_f1",
    groups: ArrayLike | None = None,
    resamples: int = 40,
    seed: int = 0,
) -> np.ndarray:
    """Class weights of shape (classes,), the first 1, under which the most probable class scores best; see `decide`.

    ``probabilities`` has shape (n, classes), ``labels`` are names, ``metric`` is one of SCORES. With two classes it is a
    threshold: the second is answered where its probability is above 1 / (1 + weight). Rows are whatever is scored:
    recordings or patients.

    The best weights for a few hundred recordings are partly luck, so they are fitted to each of ``resamples`` bootstrap
    draws of whole ``split_groups`` (each recording alone where None) by a coordinate search on the grid CLASS_WEIGHTS, and
    averaged as logarithms; a draw that lost a class is left out. As a check each group is answered by the average over
    the draws without it: where that is not better than plain argmax, all weights are 1. Deterministic. Give only
    out-of-fold predictions, never those of the test fold. Raises `ScoreError` for a label that is no class, for
    another metric, or for probabilities of another shape.
    """
    if metric not in SCORES:
        raise ScoreError(f"an operating point is chosen by {', '.join(SCORES)}, not by {metric!r}")
    truth = _numbers(labels, classes)
    if probabilities.shape != (len(truth), len(classes)) or not len(truth):
        raise ScoreError(f"there are {len(truth)} labels for probabilities of shape {probabilities.shape}")
    group, names = pd.factorize(np.arange(len(truth)) if groups is None else np.asarray(groups))
    scores = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)[:, group].astype(float)
    occurs = np.eye(len(classes))[truth]
    drawn = drawn[((drawn @ occurs > 0) == (occurs.sum(axis=0) > 0)).all(axis=1)]
    if not len(drawn):
        return np.ones(len(classes))

    def score(answered: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return SCORES[metric](confusion_counts(truth, answered, len(classes), weights), classes)

    fitted = np.stack([_search(scores, score, weights) for weights in drawn])
    without = (drawn == 0).T.astype(float)  # recordings, draws
    held_out = without @ fitted / np.maximum(without.sum(axis=1, keepdims=True), 1)
    told = np.stack([scores.argmax(axis=1), (scores + held_out).argmax(axis=1)])
    plain, weighted = score(told, np.ones(len(truth)))
    return np.exp(fitted.mean(axis=0)) if weighted > plain + 1e-12 else np.ones(len(classes))


def decide(probabilities: np.ndarray, classes: list[str], weights: np.ndarray) -> np.ndarray:
    """Names of shape (n,): the class with the largest probability times weight, the first one on a tie."""
    return np.array(classes, object)[(np.asarray(probabilities) * weights).argmax(axis=1)]


def _search(
    scores: np.ndarray, score: Callable[[np.ndarray, np.ndarray], np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Logarithms of class weights: one class after another is set to the best on the grid, until nothing gains."""
    count = scores.shape[1]
    grid = np.log(CLASS_WEIGHTS)[np.argsort(np.abs(np.log(CLASS_WEIGHTS)), kind="stable")]  # near 1 first wins ties
    best, at = -np.inf, np.zeros(count)
    for _ in range(PASSES):
        before = best
        for k in range(count):
            offsets = np.tile(at, (len(grid), 1))
            offsets[:, k] = grid
            told = (scores + offsets[:, None]).argmax(axis=2)
            values = score(told, weights)
            if values.max() > best + 1e-12:
                best, at = float(values.max()), offsets[values.argmax()]
        if best <= before + 1e-12:
            break
    return at - at[0]


def _numbers(labels: ArrayLike, classes: list[str]) -> np.ndarray:
    numbers = pd.Index(classes).get_indexer(pd.Index(np.asarray(labels, object)))
    if (numbers < 0).any():
        raise ScoreError(f"the label {np.asarray(labels, object)[numbers < 0][0]!r} is none of {', '.join(classes)}")
    return numbers


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """ECE: the mean of |share right - mean confidence| over ``bins`` of equal width on [0, 1], weighted by their counts.

    ``confidence`` of shape (n,) is the probability of the answer, ``correct`` whether it was right. Bins as in
    `reliability_bins`. Source: Naeini et al., AAAI 2015, and Guo et al., ICML 2017. A figure only means something beside
    its number of bins.
    """
    rows = reliability_bins(confidence, correct, bins)
    gaps = (rows["accuracy"] - rows["confidence"]).abs()
    return float((gaps * rows["count"]).sum() / rows["count"].sum())  # an empty bin's nan is left out of the sum


def reliability_bins(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """One row a bin: low, high, confidence (mean), accuracy (share right), count.

    Bins have equal width on [0, 1] and hold low <= confidence < high, the last one 1 as well. An empty bin has count 0
    and nan means.
    """
    sure, right = _checked(confidence, correct)
    if bins < 1:
        raise ScoreError(f"there must be at least one bin, not {bins}")
    number = np.minimum((sure * bins).astype(int), bins - 1)
    edges = np.linspace(0, 1, bins + 1)
    means = pd.DataFrame({"confidence": sure, "accuracy": right}).groupby(number).mean().reindex(range(bins))
    counts = np.bincount(number, minlength=bins)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:]}).join(means).assign(count=counts)


def brier(probabilities: np.ndarray, labels: ArrayLike, classes: list[str]) -> float:
    """Brier's score in its first form: the mean over recordings of the sum over classes of (p - truth)^2, 0 to 2.

    Of two classes it is twice the usual one-column figure. Source: Brier, Monthly Weather Review 1950; computed by
    scikit-learn. ``probabilities`` has shape (n, classes) with rows of sum 1, ``labels`` are names.
    """
    columns = list(range(len(classes)))  # as numbers, whose order is that of the columns
    return float(brier_score_loss(_numbers(labels, classes), probabilities, labels=columns, scale_by_half=False))


def fit_calibration(
    probabilities: np.ndarray, rows: pd.DataFrame, classes: list[str], config: DecisionConfig
) -> Calibration:
    """What `config` asks for, fitted to ``rows`` (columns label and group) that were not trained on.

    ``probabilities`` are the network's own, shape (n, classes). Rows are what is answered and scored: recordings or
    patients.
    """
    known = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    temperature = fit_temperature(known, _numbers(rows["label"], classes)) if config.temperature else 1.0
    scaled = apply_temperature(probabilities, temperature)
    weights = np.ones(len(classes))
    if config.operating_point != "none":
        weights = fit_operating_point(scaled, rows["label"], classes, config.operating_point, rows["group"])
    given = decide(scaled, classes, weights)
    right = given == rows["label"].to_numpy(object)
    sure = confidence_of(given, scaled, classes)
    bound = unsure_threshold(sure, right, config.max_risk, config.min_coverage)
    return Calibration(
        temperature=temperature,
        class_weights=tuple(weights.tolist()),
        unsure_below=bound,
        coverage=float(np.mean(sure >= bound)),
        risk=float(np.mean(~right[sure >= bound])),
    )


def confidence_of(given: ArrayLike, probabilities: np.ndarray, classes: list[str]) -> np.ndarray:
    """The probability of each answer in ``given`` (names, shape (n,)): from 0 to 1, whatever rounding did."""
    return np.clip(probabilities[np.arange(len(probabilities)), _numbers(given, classes)], 0, 1)


def coverage_risk(confidence: ArrayLike, correct: ArrayLike) -> pd.DataFrame:
    """What stands and what of it is wrong when answers less sure than a threshold become "unsure".

    One row a distinct confidence, ascending: threshold, coverage (share of answers with at least that confidence) and
    risk (share wrong among these). The first row is everything. Source: El-Yaniv and Wiener, JMLR 2010.
    """
    sure, right = _checked(confidence, correct)
    order = np.argsort(sure, kind="stable")
    thresholds, begins = np.unique(sure[order], return_index=True)
    wrong = np.cumsum((1 - right[order])[::-1])[::-1]  # among those from here on
    standing = len(sure) - begins
    return pd.DataFrame({"threshold": thresholds, "coverage": standing / len(sure), "risk": wrong[begins] / standing})


def unsure_threshold(
    confidence: ArrayLike, correct: ArrayLike, max_risk: float | None = None, min_coverage: float = 0.0
) -> float:
    """The smallest threshold (an answer with less confidence becomes "unsure") with risk at most ``max_risk``.

    Only thresholds that leave a coverage of at least ``min_coverage`` are looked at. Where none of them has that little
    risk, or ``max_risk`` is None, it is the one of least risk among them, and of those the smallest: the coverage is
    kept, the risk is not promised. 0 when every answer stands. Give only out-of-fold predictions, never those of the
    test fold. Raises `ScoreError` when neither bound says anything, or one is not between 0 and 1.
    """
    if max_risk is None and min_coverage <= 0:
        raise ScoreError("an unsure answer needs a bound: max_risk, min_coverage above 0, or both")
    if not (0 <= min_coverage <= 1 and 0 <= (max_risk or 0) <= 1):
        raise ScoreError(f"max_risk ({max_risk}) and min_coverage ({min_coverage}) are shares, from 0 to 1")
    curve = coverage_risk(confidence, correct)
    allowed = curve[curve["coverage"] >= min_coverage - 1e-12]
    enough = allowed["risk"] <= (max_risk if max_risk is not None else -1.0)
    row = int(enough.idxmax()) if enough.any() else int(allowed["risk"].idxmin())
    return float(curve["threshold"][row]) if row else 0.0


def _checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    sure, right = np.asarray(confidence, float), np.asarray(correct, bool).astype(float)
    if sure.shape != right.shape or sure.ndim != 1 or not len(sure):
        raise ScoreError(f"there must be as many answers right or wrong ({right.shape}) as confidences ({sure.shape})")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ScoreError("a confidence is a probability, from 0 to 1")
    return sure, right
