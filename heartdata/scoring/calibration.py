"""From probabilities to decisions: temperature, operating point, confidence threshold, and how well calibrated they are.

Give the functions named fit_ or _threshold out-of-fold predictions only, never those of the test fold: scores on the
data that they were fitted to are optimistic.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.special import log_softmax, softmax

from heartdata.scoring.bootstrap import subject_draws
from heartdata.scoring.challenges import MURMURS, OUTCOMES, cost_per_patient, reordered, weighted_accuracy
from heartdata.scoring.confusion import balanced_accuracy, class_numbers, confusion_counts, macro_f1
from heartdata.settings import Settings

TEMPERATURES = (0.05, 20.0)
LEAST_PROBABILITY = 1e-12  # a probability of 0 has no logarithm
CLASS_WEIGHTS = np.geomspace(1 / 16, 16, 33)  # steps of 2**.25; 1 is among them
PASSES = 4  # of the coordinate search; it seldom needs three
LEAST_GAIN = 1e-12  # differences below are rounding

# What an operating point can optimise, from confusions (rows, labels, predictions) of ``classes``; higher is better.
SCORES: dict[str, Callable[[np.ndarray, list[str]], np.ndarray]] = {
    "macro_f1": lambda confusion, _: macro_f1(confusion),
    "balanced_accuracy": lambda confusion, _: balanced_accuracy(confusion),
    "weighted_accuracy": lambda confusion, classes: weighted_accuracy(reordered(confusion, classes, MURMURS)),
    "cost_per_patient": lambda confusion, classes: -cost_per_patient(reordered(confusion, classes, OUTCOMES)),
}


class DecisionConfig(Settings):
    """How probabilities become decisions; everything is fitted to the validation part."""

    temperature: bool = Field(default=True, description="scale the probabilities so that confidence matches accuracy")
    operating_point: Literal["macro_f1", "balanced_accuracy", "weighted_accuracy", "cost_per_patient", "none"] = Field(
        default="macro_f1",
        description="the score that class weights are fitted to optimise; none: predict the most probable class; "
        "weighted_accuracy and cost_per_patient: CirCor's, for murmurs and for outcomes",
    )
    max_risk: float = Field(
        default=0.2, ge=0, le=1, description="highest error rate among the decisions that are not unsure"
    )
    min_coverage: float = Field(default=0.5, gt=0, le=1, description="least share of recordings that are not unsure")


class Calibration(Settings):
    """What turns a network's probabilities into decisions."""

    temperature: float = Field(default=1.0, gt=0, description="above 1: the network was overconfident")
    class_bias: tuple[float, ...] | None = Field(
        default=None,
        exclude_if=lambda bias: bias is None,
        description="added to the logarithms of the scaled probabilities, where classes are more or less frequent than in "
        "training (heartbeat calibrate)",
    )
    class_weights: tuple[float, ...] | None = Field(
        default=None, description="multiply the probabilities before the highest is chosen; null: all 1"
    )
    unsure_below: float = Field(default=0.0, ge=0, le=1, description="decisions of lower probability are unsure")
    coverage: float = Field(default=1.0, ge=0, le=1, description="share of the validation decisions that is not unsure")
    risk: float = Field(default=0.0, ge=0, le=1, description="error rate among those")


def fit_calibration(
    probabilities: np.ndarray, rows: pd.DataFrame, classes: list[str], config: DecisionConfig
) -> Calibration:
    """What `config` asks for, fitted to ``rows`` (columns label and group) that were not trained on.

    ``probabilities`` are the network's own, shape (n, classes). Rows are recordings or patients, whichever is scored.
    """
    truth = class_numbers(rows["label"], classes)
    temperature = fit_temperature(log_probabilities(probabilities), truth) if config.temperature else 1.0
    scaled = apply_temperature(probabilities, temperature)
    weights = np.ones(len(classes))
    if config.operating_point != "none":
        weights = fit_operating_point(scaled, rows["label"], classes, config.operating_point, rows["group"])
    predictions = decide(scaled, classes, weights)
    correct = predictions == rows["label"].to_numpy(object)
    confidence = confidence_of(predictions, scaled, classes)
    threshold = unsure_threshold(confidence, correct, config.max_risk, config.min_coverage)
    kept = confidence >= threshold
    return Calibration(
        temperature=temperature,
        class_weights=tuple(weights.tolist()),
        unsure_below=threshold,
        coverage=float(np.mean(kept)),
        risk=float(np.mean(~correct[kept])),
    )


def fit_temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The T between .05 and 20 for which softmax(log_probabilities / T) has the least mean negative log-likelihood.

    ``log_probabilities`` has shape (n, classes), logits or log-probabilities (the same up to a constant per row);
    ``labels`` are column numbers of shape (n,). Above 1 the model was overconfident. Source: Guo et al., On calibration
    of modern neural networks, ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    scores = np.maximum(log_softmax(np.asarray(log_probabilities, float), axis=1), np.log(LEAST_PROBABILITY))

    def loss(log_t: float) -> float:
        return -float(log_softmax(scores / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean())

    best = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities of shape (n, classes) raised to 1 / temperature and scaled to sum 1; the order in a row stays."""
    return softmax(log_probabilities(probabilities) / temperature, axis=1)


def apply_calibration(probabilities: np.ndarray, calibration: Calibration) -> np.ndarray:
    """The network's probabilities of shape (n, classes) with the temperature and the bias of the classes, as reported."""
    scaled = apply_temperature(probabilities, calibration.temperature)
    if calibration.class_bias is None:
        return scaled
    return softmax(log_probabilities(scaled) + np.array(calibration.class_bias), axis=1)


def fit_operating_point(
    probabilities: np.ndarray,
    labels: ArrayLike,
    classes: list[str],
    metric: str = "macro_f1",
    groups: ArrayLike | None = None,
    resamples: int = 40,
) -> np.ndarray:
    """Class weights of shape (classes,), the first 1, that optimise a metric of the predictions; see `decide`.

    ``probabilities`` has shape (n, classes), ``labels`` are names, ``metric`` is one of SCORES. With two classes it is a
    threshold: the second is predicted where its probability is above 1 / (1 + weight). Rows are recordings or patients,
    whichever is scored.

    The best weights for a few hundred recordings are partly luck, so they are fitted to each of ``resamples`` bootstrap
    resamples of whole ``groups`` (of single recordings where None; see `subject_draws`) by a coordinate search on the
    grid CLASS_WEIGHTS, and averaged as logarithms. As an out-of-bag check each group is
    predicted with the average over the resamples without it: unless that scores better than plain argmax, all weights
    are 1. Deterministic. Raises `ScoreError` for a label that is not a class.
    """
    truth = class_numbers(labels, classes)
    scores = log_probabilities(probabilities)
    drawn = subject_draws(np.arange(len(truth)) if groups is None else groups, truth, resamples, seed=0).weights[1:]
    if not len(drawn):
        return np.ones(len(classes))

    def score(predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return SCORES[metric](confusion_counts(truth, predicted, len(classes), weights), classes)

    fitted = np.stack([_search(scores, score, weights) for weights in drawn])
    without = (drawn == 0).T.astype(float)  # recordings, resamples
    out_of_bag = without @ fitted / np.maximum(without.sum(axis=1, keepdims=True), 1)
    predicted = np.stack([scores.argmax(axis=1), (scores + out_of_bag).argmax(axis=1)])
    plain, weighted = score(predicted, np.ones(len(truth)))
    return np.exp(fitted.mean(axis=0)) if weighted > plain + LEAST_GAIN else np.ones(len(classes))


def expected_operating_point(probabilities: np.ndarray, classes: list[str], metric: str = "macro_f1") -> np.ndarray:
    """Class weights as of `fit_operating_point`, that optimise what a metric is expected to be if calibrated
    ``probabilities`` (n, classes) are true: no labels are needed.
    """
    count = len(classes)
    truth = np.tile(np.arange(count), len(probabilities))  # each recording once as each class, weighted by probability
    scores = np.repeat(log_probabilities(probabilities), count, axis=0)

    def score(predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return SCORES[metric](confusion_counts(truth, predicted, count, weights), classes)

    return np.exp(_search(scores, score, probabilities.reshape(-1)))


def _search(
    scores: np.ndarray, score: Callable[[np.ndarray, np.ndarray], np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """Logarithms of class weights: one class after another is set to the best on the grid, until nothing improves."""
    count = scores.shape[1]
    grid = np.log(CLASS_WEIGHTS)[np.argsort(np.abs(np.log(CLASS_WEIGHTS)), kind="stable")]  # near 1 first wins ties
    best, at = -np.inf, np.zeros(count)
    for _ in range(PASSES):
        before = best
        for k in range(count):
            offsets = np.tile(at, (len(grid), 1))
            offsets[:, k] = grid
            values = score((scores + offsets[:, None]).argmax(axis=2), weights)
            if values.max() > best + LEAST_GAIN:
                best, at = float(values.max()), offsets[values.argmax()]
        if best <= before + LEAST_GAIN:
            break
    return at - at[0]


def decide(probabilities: np.ndarray, classes: list[str], weights: Sequence[float] | np.ndarray | None) -> np.ndarray:
    """Names of shape (n,): the class with the largest probability times weight (None: all 1), the first one on a tie."""
    weighted = np.asarray(probabilities) * (1.0 if weights is None else np.asarray(weights))
    return np.array(classes, object)[weighted.argmax(axis=1)]


def confidence_of(predictions: ArrayLike, probabilities: np.ndarray, classes: list[str]) -> np.ndarray:
    """The probability of each of ``predictions`` (names, shape (n,)): from 0 to 1, whatever rounding did."""
    return np.clip(probabilities[np.arange(len(probabilities)), class_numbers(predictions, classes)], 0, 1)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """ECE: the mean of |accuracy - mean confidence| over ``bins`` of equal width on [0, 1], weighted by their counts.

    ``confidence`` of shape (n,) is the probability of the prediction, ``correct`` whether it was correct. Bins as in
    `reliability_bins`. Source: Naeini et al., AAAI 2015, and Guo et al., ICML 2017. Values compare only for the same
    number of bins.
    """
    rows = reliability_bins(confidence, correct, bins)
    gaps = (rows["accuracy"] - rows["confidence"]).abs()
    return float((gaps * rows["count"]).sum() / rows["count"].sum())  # an empty bin's nan is left out of the sum


def reliability_bins(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """One row per bin: low, high, confidence (mean), accuracy, count.

    Bins have equal width on [0, 1] and hold low <= confidence < high, the last one 1 as well. An empty bin has count 0
    and nan means. (scikit-learn's `calibration_curve` drops empty bins and their counts.)
    """
    frame = pd.DataFrame({"confidence": np.asarray(confidence, float), "accuracy": np.asarray(correct, float)})
    number = np.minimum((frame["confidence"].to_numpy() * bins).astype(int), bins - 1)
    edges = np.linspace(0, 1, bins + 1)
    means, counts = frame.groupby(number).mean().reindex(range(bins)), np.bincount(number, minlength=bins)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:]}).join(means).assign(count=counts)


def brier(probabilities: np.ndarray, labels: ArrayLike, classes: list[str]) -> float:
    """Brier score in its original form: the mean over recordings of the sum over classes of (p - truth)^2, 0 to 2.

    For two classes it is twice the usual one-column value. Source: Brier, Monthly Weather Review 1950.
    ``probabilities`` has shape (n, classes) with rows of sum 1, ``labels`` are names.
    """
    from sklearn.metrics import brier_score_loss

    columns = list(range(len(classes)))  # numbers, as scikit-learn takes columns to be in sorted order
    return float(brier_score_loss(class_numbers(labels, classes), probabilities, labels=columns, scale_by_half=False))


def coverage_risk(confidence: ArrayLike, correct: ArrayLike) -> pd.DataFrame:
    """The risk-coverage curve of predictions that become "unsure" below a confidence threshold.

    One row per distinct confidence, ascending: threshold, coverage (share of predictions with at least that confidence)
    and risk (error rate among these). The first row is everything. Source: El-Yaniv and Wiener, JMLR 2010.
    """
    confidence, wrong = np.asarray(confidence, float), 1 - np.asarray(correct, float)
    order = np.argsort(confidence, kind="stable")
    thresholds, first = np.unique(confidence[order], return_index=True)
    kept = len(confidence) - first
    errors = np.cumsum(wrong[order][::-1])[::-1][first]  # among the predictions kept
    return pd.DataFrame({"threshold": thresholds, "coverage": kept / len(confidence), "risk": errors / kept})


def unsure_threshold(confidence: ArrayLike, correct: ArrayLike, max_risk: float, min_coverage: float = 0.0) -> float:
    """The smallest threshold with risk at most ``max_risk``; a prediction with less confidence becomes "unsure".

    Only thresholds with a coverage of at least ``min_coverage`` are considered. Where none of them has that little
    risk, it is the one of least risk among them, and of those the smallest: the coverage is kept, the risk is not
    promised. 0 when no prediction is unsure.
    """
    curve = coverage_risk(confidence, correct)
    allowed = curve[curve["coverage"] >= min_coverage - 1e-12]
    enough = allowed["risk"] <= max_risk
    row = int(enough.idxmax()) if enough.any() else int(allowed["risk"].idxmin())
    return float(curve["threshold"][row]) if row else 0.0


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Their logarithms; that of LEAST_PROBABILITY where they are less."""
    return np.log(np.maximum(probabilities, LEAST_PROBABILITY))
