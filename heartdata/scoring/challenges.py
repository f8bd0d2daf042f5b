"""The official scores of three public challenges: PASCAL 2011, PhysioNet/CinC 2016 and CirCor 2022.

Each score takes one label and one prediction per recording (or patient) and returns a DataFrame with one row per weighting.
``weights`` has shape (weightings, n), such as bootstrap resamples; without it every recording counts once. Names
outside a score's vocabulary raise `ScoreError`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logit

from heartdata.scoring.confusion import class_numbers, confusion_counts, ratio, recall_per_class

CINC2016_LABELS = ("normal", "abnormal")
UNSURE = "unsure"
PASCAL_CLASSES = {
    "set_a": ("artifact", "extrahls", "murmur", "normal"),
    "set_b": ("extrastole", "murmur", "normal"),
}
PASCAL_HEART_PROBLEM = {"set_a": ("murmur", "extrahls"), "set_b": ("murmur", "extrastole")}
PASCAL_BETA = 0.9
MURMURS = ("Present", "Unknown", "Absent")
MURMUR_WEIGHTS = np.array([5.0, 3.0, 1.0])
OUTCOMES = ("Abnormal", "Normal")
PRESCREENING_COST, TREATMENT_COST, MISSED_COST = 10.0, 10_000.0, 50_000.0
NO_SHARES = ("total_precision", "heart_problem_discriminant_power", "cost_per_patient")  # may be outside 0-1
LOWER_IS_BETTER = ("cost_per_patient",)
YOUDEN_J = ("artifact_youden_j", "heart_problem_youden_j")  # in -1 to 1
EXPERT_COST = (25.0, 397.0, -1718.0, 0.0, 11296.0)  # of r**0 to r**4, r the share of patients referred

Subset = Literal["set_a", "set_b"]


def cinc2016_score(
    labels: ArrayLike, predictions: ArrayLike, noisy: ArrayLike, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """PhysioNet/CinC Challenge 2016: columns sensitivity, specificity and macc, their mean.

    ``labels`` are normal or abnormal, ``predictions`` those or unsure, ``noisy`` is True where the signal quality is
    poor; all of shape (n,). Unsure is correct on a noisy recording and wrong on a clean one. Source: Clifford et al.,
    Computing in Cardiology 2016, 609-612, which weights the recalls of a class among clean and among noisy recordings
    by their shares in that class. With the shares taken from the recordings, as here, that is the recall of the class:
    macc is the balanced accuracy where no prediction is unsure. Where a weighting has no recording of a class, the
    class's rate and macc are nan.
    """
    vocabulary = (*CINC2016_LABELS, UNSURE)
    truth, predicted = class_numbers(labels, CINC2016_LABELS), class_numbers(predictions, vocabulary)
    predicted = np.where((predicted == vocabulary.index(UNSURE)) & np.asarray(noisy, bool), truth, predicted)
    specificity, sensitivity, _ = recall_per_class(confusion_counts(truth, predicted, len(vocabulary), weights)).T
    macc = (specificity + sensitivity) / 2
    return pd.DataFrame({"sensitivity": sensitivity, "specificity": specificity, "macc": macc})


def pascal_score(
    labels: ArrayLike, predictions: ArrayLike, subset: Subset, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """PASCAL Classifying Heart Sounds Challenge 2011, challenge 2: the metrics of its two sets.

    Columns: precision_<class> and total_precision, their sum (at most 4 for set_a, 3 for set_b). Then, set_a:
    artifact_youden_j and heart_problem_f0.9; set_b: heart_problem_youden_j and heart_problem_discriminant_power.
    A heart problem is murmur or extrahls (set_a), murmur or extrastole (set_b); taking one for the other is no error.

    Source: Bentley et al. 2011, as reported by Gomes et al., Classifying heart sounds, ICPRAM 2013; J = Se + Sp - 1;
    F as in van Rijsbergen with beta = .9. The precision of a class that is never predicted is 0, so that the total
    always exists. J, F and discriminant power are nan where a weighting lacks positives, and J and discriminant power
    also where it lacks negatives.
    """
    classes = PASCAL_CLASSES[subset]
    confusion = _confusion(labels, predictions, classes, weights)
    precision = ratio(np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=1), empty=0.0)
    columns = {f"precision_{name}": precision[:, i] for i, name in enumerate(classes)}
    columns["total_precision"] = precision.sum(axis=1)
    problem = _against_rest(confusion, classes, PASCAL_HEART_PROBLEM[subset])
    if subset == "set_a":
        columns["artifact_youden_j"] = _youden_j(_against_rest(confusion, classes, ("artifact",)))
        (tp, fn), (fp, _) = problem.transpose(1, 2, 0)
        hits = (1 + PASCAL_BETA**2) * tp
        f = ratio(hits, hits + PASCAL_BETA**2 * fn + fp)
        columns["heart_problem_f0.9"] = np.where(tp + fn > 0, f, np.nan)
    else:
        columns["heart_problem_youden_j"] = _youden_j(problem)
        columns["heart_problem_discriminant_power"] = discriminant_power(*recall_per_class(problem).T)
    return pd.DataFrame(columns)


def discriminant_power(sensitivity: ArrayLike, specificity: ArrayLike) -> np.ndarray:
    """sqrt(3)/pi * (logit Se + logit Sp), natural logarithms. Source: Sokolova et al., AI 2006.

    Finite while Se and Sp are inside (0, 1); else its limit: inf when one is 1, -inf when one is 0, nan when they are
    1 and 0.
    """
    with np.errstate(invalid="ignore"):
        return np.sqrt(3) / np.pi * (logit(np.asarray(sensitivity, float)) + logit(np.asarray(specificity, float)))


def circor2022_murmur_score(
    labels: ArrayLike, predictions: ArrayLike, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """George B. Moody PhysioNet Challenge 2022, murmurs, one row of input a patient: column weighted_accuracy.

    Each patient is weighted 5, 3 or 1 by label, Present, Unknown or Absent:
    (5 TP_present + 3 TP_unknown + TP_absent) / (5 N_present + 3 N_unknown + N_absent). Source: Reyna et al., PLOS
    Digital Health 2023, and the organisers' evaluation-2022. nan for a weighting without patients.
    """
    return pd.DataFrame({"weighted_accuracy": weighted_accuracy(_confusion(labels, predictions, MURMURS, weights))})


def weighted_accuracy(confusion: np.ndarray) -> np.ndarray:
    """See `circor2022_murmur_score`; from counts of shape (n, labels, predictions), both in the order of MURMURS."""
    correct = np.diagonal(confusion, axis1=1, axis2=2) @ MURMUR_WEIGHTS
    return ratio(correct, confusion.sum(axis=2) @ MURMUR_WEIGHTS)


def circor2022_outcome_score(
    labels: ArrayLike, predictions: ArrayLike, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """George B. Moody PhysioNet Challenge 2022, outcomes, one row of input a patient: column cost_per_patient, in USD.

    Labels and predictions are Abnormal or Normal. Of n patients those predicted Abnormal, r = (TP + FP) / n, see an
    expert: 10 + (25 + 397 r - 1718 r^2 + 11296 r^4) + 10000 TP / n + 50000 FN / n. The organisers' code multiplies
    the polynomial by n and divides the sum by n, so it is a cost for each of the n patients, not for each one
    referred. Lower is better; never referring anybody costs 35 plus 50000 times the share of abnormal ones. Source:
    as for `circor2022_murmur_score`. nan for a weighting without patients.
    """
    return pd.DataFrame({"cost_per_patient": cost_per_patient(_confusion(labels, predictions, OUTCOMES, weights))})


def cost_per_patient(confusion: np.ndarray) -> np.ndarray:
    """See `circor2022_outcome_score`; from counts of shape (n, labels, predictions), both in the order of OUTCOMES."""
    share = ratio(confusion, confusion.sum(axis=(1, 2), keepdims=True))
    referred, treated, missed = share[:, :, 0].sum(axis=1), share[:, 0, 0], share[:, 0, 1]
    expert = np.polynomial.polynomial.polyval(referred, EXPERT_COST)
    return PRESCREENING_COST + expert + TREATMENT_COST * treated + MISSED_COST * missed


def reordered(confusion: np.ndarray, classes: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """Counts of ``classes``, shape (n, classes, classes), in the order of a challenge's ``vocabulary``."""
    at = class_numbers(classes, vocabulary)
    counts = np.zeros((len(confusion), len(vocabulary), len(vocabulary)))
    counts[:, at[:, None], at] = confusion
    return counts


def _confusion(
    labels: ArrayLike, predictions: ArrayLike, classes: Sequence[str], weights: np.ndarray | None
) -> np.ndarray:
    """Sums of weights of shape (weightings, labels, predictions), both in the order of ``classes``."""
    truth, predicted = class_numbers(labels, classes), class_numbers(predictions, classes)
    return confusion_counts(truth, predicted, len(classes), weights)


def _against_rest(confusion: np.ndarray, classes: Sequence[str], positive: Sequence[str]) -> np.ndarray:
    """Counts of "one of ``positive``", which comes first, against the rest: shape (weightings, 2, 2)."""
    yes = np.isin(classes, positive)
    groups = np.stack([yes, ~yes]).astype(float)
    return groups @ confusion @ groups.T


def _youden_j(confusion: np.ndarray) -> np.ndarray:
    return recall_per_class(confusion).sum(axis=1) - 1
