"""The official scores of three public challenges, and the answer for a subject from those for his recordings.

Each score takes one label and one answer a recording (or patient) and gives a DataFrame with one row a weighting:
``weights`` has shape (weightings, n), where None is one weighting with every recording once. So an interval costs one
call, with the draws of a bootstrap as weights. Names outside a score's vocabulary raise `ScoreError`.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import logit

from heartdata.errors import ScoreError
from heartdata.scoring.confusion import confusion_counts, ratio

CINC2016_LABELS = ("normal", "abnormal")
CINC2016_ANSWERS = ("normal", "abnormal", "unsure")
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
EXPERT_COST = (25.0, 397.0, -1718.0, 0.0, 11296.0)  # of r**0 to r**4, r the share of patients referred

Subset = Literal["set_a", "set_b"]
Rule = Literal["mean", "max"]


def cinc2016_score(
    labels: ArrayLike, answers: ArrayLike, noisy: ArrayLike, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """PhysioNet/CinC Challenge 2016: columns sensitivity, specificity and macc, their mean.

    ``labels`` are normal or abnormal, ``decide`` those or unsure, ``noisy`` is True where the signal quality is poor;
    all of shape (n,). Unsure is right on a noisy recording and wrong on a clean one. Source: Clifford et al.,
    Computing in Cardiology 2016, 609-612. There the shares right among clean and among noisy recordings of a class are
    weighted by the shares of clean and noisy ones in that class. With the shares of the recordings given, as here,
    that is the share right of the class: macc is the balanced accuracy where no answer is unsure. Where a weighting
    has no recording of a class, its rate and macc are nan.
    """
    truth = _codes(labels, CINC2016_LABELS, "label")
    answered = _codes(answers, CINC2016_ANSWERS, "prediction")
    poor = _flags(noisy)
    _same_lengths(truth, answered, poor)
    answered = np.where((answered == CINC2016_ANSWERS.index("unsure")) & poor, truth, answered)
    counts = confusion_counts(truth, answered, len(CINC2016_ANSWERS), _each_once(weights, truth))
    rate = ratio(np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2))[:, :2]
    return pd.DataFrame({"sensitivity": rate[:, 1], "specificity": rate[:, 0], "macc": rate.mean(axis=1)})


def pascal_score(
    labels: ArrayLike, answers: ArrayLike, subset: Subset, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """PASCAL Classifying Heart Sounds Challenge 2011, challenge 2: the metrics of its two sets.

    Columns: precision_<class> and total_precision, their sum (at most 4 for set_a, 3 for set_b). Then, set_a:
    artifact_youden_j and heart_problem_f0.9; set_b: heart_problem_youden_j and heart_problem_discriminant_power.
    A heart problem is murmur or extrahls (set_a), murmur or extrastole (set_b); taking one for the other is no error.

    Source: Bentley et al. 2011, as reported by Gomes et al., Classifying heart sounds, ICPRAM 2013; J = Se + Sp - 1;
    F as in van Rijsbergen with beta = .9; discriminant power = sqrt(3)/pi * (logit Se + logit Sp), Sokolova et al.,
    AI 2006. The precision of a class never answered is 0, so that the total always exists. Discriminant power is
    finite only while Se and Sp are inside (0, 1); else it is its limit: inf when one is 1, -inf when one is 0, nan
    when they are 1 and 0. J, F and discriminant power are nan where a weighting lacks what they are about, or, J and
    discriminant power, the rest.
    """
    if subset not in PASCAL_CLASSES:
        raise ScoreError(f"PASCAL has the sets {' and '.join(PASCAL_CLASSES)}, not {subset!r}")
    classes = PASCAL_CLASSES[subset]
    confusion = _confusion(labels, answers, classes, weights)
    precision = ratio(np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=1), empty=0.0)
    columns = {f"precision_{name}": precision[:, i] for i, name in enumerate(classes)}
    columns["total_precision"] = precision.sum(axis=1)
    problem = _Binary(confusion, classes, PASCAL_HEART_PROBLEM[subset])
    if subset == "set_a":
        artifact = _Binary(confusion, classes, ("artifact",))
        columns["artifact_youden_j"] = artifact.sensitivity + artifact.specificity - 1
        beta2 = PASCAL_BETA**2
        hits = (1 + beta2) * problem.tp
        f = ratio(hits, hits + beta2 * problem.fn + problem.fp)
        columns["heart_problem_f0.9"] = np.where(problem.tp + problem.fn > 0, f, np.nan)
    else:
        columns["heart_problem_youden_j"] = problem.sensitivity + problem.specificity - 1
        columns["heart_problem_discriminant_power"] = discriminant_power(problem.sensitivity, problem.specificity)
    return pd.DataFrame(columns)


def discriminant_power(sensitivity: ArrayLike, specificity: ArrayLike) -> np.ndarray:
    """sqrt(3)/pi * (logit Se + logit Sp), natural logarithms; see `pascal_score` for what it is at 0 and 1."""
    with np.errstate(invalid="ignore"):
        logits = logit(np.asarray(sensitivity, float)) + logit(np.asarray(specificity, float))
    return np.sqrt(3) / np.pi * logits


def circor2022_murmur_score(labels: ArrayLike, answers: ArrayLike, weights: np.ndarray | None = None) -> pd.DataFrame:
    """George B. Moody PhysioNet Challenge 2022, murmurs, one row of input a patient: column weighted_accuracy.

    Labels and answers are Present, Unknown or Absent in any case. A patient counts 5, 3 or 1 by his label:
    (5 TP_present + 3 TP_unknown + TP_absent) / (5 N_present + 3 N_unknown + N_absent). Source: Reyna et al., PLOS
    Digital Health 2023, and the organisers' evaluation-2022. nan for a weighting without patients.
    """
    return pd.DataFrame({"weighted_accuracy": weighted_accuracy(_confusion(labels, answers, MURMURS, weights, True))})


def weighted_accuracy(confusion: np.ndarray) -> np.ndarray:
    """See `circor2022_murmur_score`; from counts of shape (n, labels, answers), both in the order of MURMURS."""
    right = np.diagonal(confusion, axis1=1, axis2=2) @ MURMUR_WEIGHTS
    return ratio(right, confusion.sum(axis=2) @ MURMUR_WEIGHTS)


def circor2022_outcome_score(labels: ArrayLike, answers: ArrayLike, weights: np.ndarray | None = None) -> pd.DataFrame:
    """George B. Moody PhysioNet Challenge 2022, outcomes, one row of input a patient: column cost_per_patient, in USD.

    Labels and answers are Abnormal or Normal in any case. Of n patients those answered abnormal, r = (TP + FP) / n, see
    an expert: 10 + (25 + 397 r - 1718 r^2 + 11296 r^4) + 10000 TP / n + 50000 FN / n. The organisers' code multiplies
    the polynomial by n and divides the sum by n, so it is a cost for each of the n patients, not for each one
    referred. Lower is better; never referring anybody costs 35 plus 50000 times the share of abnormal ones. Source:
    as for `circor2022_murmur_score`. nan for a weighting without patients.
    """
    return pd.DataFrame({"cost_per_patient": cost_per_patient(_confusion(labels, answers, OUTCOMES, weights, True))})


def cost_per_patient(confusion: np.ndarray) -> np.ndarray:
    """See `circor2022_outcome_score`; from counts of shape (n, labels, answers), both in the order of OUTCOMES."""
    share = ratio(confusion, confusion.sum(axis=(1, 2), keepdims=True))
    referred, treated, missed = share[:, :, 0].sum(axis=1), share[:, 0, 0], share[:, 0, 1]
    expert = np.polynomial.polynomial.polyval(referred, EXPERT_COST)
    return PRESCREENING_COST + expert + TREATMENT_COST * treated + MISSED_COST * missed


def in_order_of(vocabulary: Sequence[str], confusion: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Counts (n, classes, classes) put in the order of a challenge's ``vocabulary``, found in any case."""
    at = _codes(classes, vocabulary, "class", any_case=True)
    found = np.zeros((len(confusion), len(vocabulary), len(vocabulary)))
    found[:, at[:, None], at] = confusion
    return found


def subject_predictions(predictions: pd.DataFrame, rule: Rule = "mean", by: str = "group") -> pd.DataFrame:
    """One row a subject, from rows of `heartdata.storage.schemas.predictions_schema` and a column ``by`` that names him.

    Each class gets the mean (or the max, scaled to sum 1) of its probabilities over the subject's recordings; the
    answer is the most probable class, the first one on a tie. Columns: ``by``, group where there is one, label,
    answer, p_<class>, and recordings, their number. Subjects come sorted. Raises `ScoreError` when a recording has no
    subject, when a subject has recordings under several labels or in several groups, or for an unknown rule.
    """
    if rule not in ("mean", "max"):
        raise ScoreError(f"the rule for a subject is mean or max, not {rule!r}")
    names = [c for c in predictions.columns if c.startswith("p_")]
    if absent := [c for c in (by, "label") if c not in predictions.columns] or ([] if names else ["p_<class>"]):
        raise ScoreError(f"the predictions have no column {absent[0]}")
    if predictions[by].isna().any():
        raise ScoreError(f"{int(predictions[by].isna().sum())} predictions have no {by}, so no subject can be told")
    subjects = predictions.groupby(by)
    same = [c for c in ("group", "label") if c in predictions.columns and c != by]
    mixed = subjects[same].nunique(dropna=False).gt(1)
    if mixed.any(axis=None):
        column = next(c for c in same if mixed[c].any())
        raise ScoreError(
            f"{by} {mixed.index[mixed[column]][0]} has recordings with more than one {column}: score recordings instead"
        )
    probabilities = subjects[names].agg(rule)
    probabilities = probabilities.div(probabilities.sum(axis=1), axis=0)
    rows = subjects[same].first()
    rows["prediction"] = [names[i].removeprefix("p_") for i in probabilities.to_numpy().argmax(axis=1)]
    return rows.join(probabilities).join(subjects.size().rename("recordings")).reset_index()


class _Binary:
    """Counts of "one of ``positive``" against the rest, each of shape (weightings,), from a confusion of classes."""

    def __init__(self, confusion: np.ndarray, classes: Sequence[str], positive: Sequence[str]) -> None:
        yes = np.isin(classes, positive)
        self.tp, self.fn = (confusion[:, yes][:, :, told].sum(axis=(1, 2)) for told in (yes, ~yes))
        self.fp, self.tn = (confusion[:, ~yes][:, :, told].sum(axis=(1, 2)) for told in (yes, ~yes))
        self.sensitivity = ratio(self.tp, self.tp + self.fn)
        self.specificity = ratio(self.tn, self.tn + self.fp)


def _confusion(
    labels: ArrayLike, answers: ArrayLike, names: Sequence[str], weights: np.ndarray | None, any_case: bool = False
) -> np.ndarray:
    """Sums of weights of shape (weightings, labels, answers), both in the order of ``names``."""
    truth, answered = _codes(labels, names, "label", any_case), _codes(answers, names, "prediction", any_case)
    _same_lengths(truth, answered)
    return confusion_counts(truth, answered, len(names), _each_once(weights, truth))


def _codes(names: Any, vocabulary: Sequence[str], what: str, any_case: bool = False) -> np.ndarray:
    """The place of each name in ``vocabulary``."""
    told = [str(x) for x in np.asarray(names, object)]
    wanted = list(vocabulary)
    if any_case:
        told, wanted = [x.casefold() for x in told], [x.casefold() for x in wanted]
    codes = pd.Index(wanted).get_indexer(pd.Index(told, dtype=object))
    if (codes < 0).any():
        odd = sorted({x for x, code in zip(told, codes, strict=True) if code < 0})
        raise ScoreError(f"the {what} {odd[0]!r} is none of {', '.join(vocabulary)}, which this score is about")
    return codes


def _flags(noisy: ArrayLike) -> np.ndarray:
    flags = np.asarray(noisy, object)
    if not all(isinstance(x, bool | np.bool_) for x in flags):
        raise ScoreError("noisy must be True or False for each recording: decide what an unknown quality counts as")
    return flags.astype(bool)


def _same_lengths(*columns: np.ndarray) -> None:
    if len({len(column) for column in columns}) > 1:
        raise ScoreError(f"labels, answers and what goes with them have different lengths: {[*map(len, columns)]}")


def _each_once(weights: np.ndarray | None, of: np.ndarray) -> np.ndarray:
    """``weights``, or one weighting with every recording once."""
    if weights is None:
        return np.ones((1, len(of)))
    if weights.shape[-1] != len(of):
        raise ScoreError(f"there are weights for {weights.shape[-1]} recordings and labels for {len(of)}")
    return weights
