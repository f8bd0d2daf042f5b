"""Scores at recording level, with intervals by bootstrap over groups (subjects)."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pydantic import Field
from sklearn.metrics import precision_recall_fscore_support

from heartdata.scoring.calibration import brier, confidence_of, decide, expected_calibration_error
from heartdata.scoring.challenges import Rule, subject_predictions
from heartdata.scoring.confusion import balanced_accuracy, confusion_counts, macro_f1, mean_that_exists, ratio
from heartdata.settings import Settings

METRICS = ("macro_f1", "balanced_accuracy", "accuracy", "auroc")
INTERVAL = (2.5, 97.5)
DIFFERENCE = ("difference", "difference_low", "difference_high")  # of two models on the same draws
WORDS = {"macro_f1": "macro-F1", "auroc": "AUROC", "macc": "MAcc", "brier": "Brier", "ece_10_bins": "ECE (10 bins)"}


class EvaluationConfig(Settings):
    """How scores on the test part are given."""

    bootstrap: int = Field(default=500, ge=20, le=100_000, description="resamples of subjects behind each interval")
    seed: int = Field(default=0, ge=0)
    subject_rule: Literal["mean", "max"] = Field(
        default="mean", description="of the probabilities of a subject's recordings, which makes his own"
    )


def compute_metrics(
    labels: np.ndarray, answers: np.ndarray, probabilities: np.ndarray, classes: Sequence[Any], weights: np.ndarray
) -> pd.DataFrame:
    """The METRICS of one set of answers under several weightings, one row a weighting.

    ``probabilities`` has shape (n, classes), ``weights`` (weightings, n). Means are over the classes that occur; a
    class never answered counts with F1 = 0. AUROC is one class against the rest, averaged over the classes for which
    it exists. Equal to scikit-learn's metrics with sample_weight (tested), for all weightings at once.
    """
    number = {name: i for i, name in enumerate(classes)}
    true, answered = np.array([number[x] for x in labels]), np.array([number[x] for x in answers])
    counts = confusion_counts(true, answered, len(classes), weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        areas = np.stack([_auroc(true == i, probabilities[:, i], weights) for i in range(len(classes))], axis=1)
    columns = (
        macro_f1(counts),
        balanced_accuracy(counts),
        ratio(np.trace(counts, axis1=1, axis2=2), counts.sum(axis=(1, 2))),
        mean_that_exists(areas),
    )
    return pd.DataFrame(dict(zip(METRICS, columns, strict=True)))


def _auroc(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC of each weighting (rows of ``weights``): the share of pairs in the right order, ties half."""
    order = np.argsort(scores, kind="stable")
    begins = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)  # where a new value begins
    yes = np.add.reduceat((weights * positive)[:, order], begins, axis=1)
    no = np.add.reduceat((weights * ~positive)[:, order], begins, axis=1)
    below = np.cumsum(no, axis=1) - no
    return (yes * (below + no / 2)).sum(axis=1) / (yes.sum(axis=1) * no.sum(axis=1))


def metrics_with_intervals(
    predictions: dict[str, pd.DataFrame], classes: list[str], resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of schema FIGURES: each metric of each model with its 95 % interval by bootstrap over the column ``group``.

    ``predictions`` are tables of the same recordings in the same order, with columns label, answer, group and
    p_<class>; the first model is the one that the others are compared with. A resample draws as many groups as there
    are, with replacement, and weights each recording by how often its group was drawn. All models are scored on the
    same resamples, so that the difference to the first one has an interval of its own.
    """
    first = next(iter(predictions.values()))
    weights = subject_draws(first["group"], resamples, seed)
    values = {
        name: compute_metrics(
            rows["label"].to_numpy(object),
            rows["prediction"].to_numpy(object),
            rows[[f"p_{c}" for c in classes]].to_numpy(float),
            classes,
            weights,
        )
        for name, rows in predictions.items()
    }
    ours = next(iter(values))
    return [
        {"model": name, "metric": metric}
        | dict(zip(("value", "low", "high"), with_interval(of_model[metric]), strict=True))
        | dict(zip(DIFFERENCE, with_interval(values[ours][metric] - of_model[metric]), strict=True))
        for name, of_model in values.items()
        for metric in METRICS
    ]


def subject_draws(groups: ArrayLike, resamples: int, seed: int) -> np.ndarray:
    """Weights of shape (1 + resamples, n): every recording once, then bootstrap draws of whole ``split_groups`` (n,)."""
    group, names = pd.factorize(np.asarray(groups), sort=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return np.vstack([np.ones(len(group)), drawn[:, group]]).astype(float)


def with_interval(values: ArrayLike) -> tuple[float, float, float]:
    """The first of ``values``, and the 95 % interval of the others, one a resample, those left out that are nan.

    A bound is one of the values, so that it may be infinite.
    """
    numbers = np.asarray(values, float)
    drawn = numbers[1:][~np.isnan(numbers[1:])]
    low, high = np.percentile(drawn, INTERVAL, method="inverted_cdf") if len(drawn) else (np.nan, np.nan)
    return float(numbers[0]), float(low), float(high)


def per_class(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Precision, recall, F1 and the number of recordings of each class."""
    columns = precision_recall_fscore_support(
        predictions["label"], predictions["prediction"], labels=classes, zero_division=0.0
    )
    return pd.DataFrame(dict(zip(("precision", "recall", "f1", "recordings"), columns, strict=True)), index=classes)


def prediction_rows(
    test: pd.DataFrame, probabilities: np.ndarray, classes: list[str], weights: Sequence[float] | None = None
) -> pd.DataFrame:
    """Manifest rows with answers (schema `predictions_schema`): the class whose probability times weight is highest."""
    rows = test[["recording_id", "sha256", "group", "label"]].reset_index(drop=True)
    rows["prediction"] = decide(
        probabilities, classes, np.ones(len(classes)) if weights is None else np.asarray(weights)
    )
    return rows.join(pd.DataFrame(probabilities, columns=[f"p_{c}" for c in classes]))


def subject_rows(
    predictions: pd.DataFrame,
    subjects: pd.Series,
    classes: list[str],
    rule: Rule,
    weights: Sequence[float] | None = None,
) -> pd.DataFrame:
    """One row a subject (schema `subjects_schema`), from rows of `predictions_schema` and the subject of each.

    The answer is by ``rule`` (see `subject_predictions`) and ``weights``, as of one recording. Subjects whose recordings have
    several labels are left out: what would be right for them is not known.
    """
    rows = predictions.drop(columns=["prediction"]).assign(subject=subjects.to_numpy())
    rows = rows[rows.groupby("subject")["label"].transform("nunique") == 1]
    table = subject_predictions(rows, rule, by="subject")
    given = np.ones(len(classes)) if weights is None else np.asarray(weights)
    table["prediction"] = decide(table[[f"p_{c}" for c in classes]].to_numpy(float), classes, given)
    return table


def confidence_metrics(predictions: pd.DataFrame, classes: list[str], unsure_below: float) -> dict[str, float]:
    """How far the probabilities of the answers can be believed, and what is left when those below are unsure."""
    probabilities = predictions[[f"p_{c}" for c in classes]].to_numpy(float)
    sure = confidence_of(predictions["prediction"], probabilities, classes)
    right = (predictions["label"] == predictions["prediction"]).to_numpy()
    kept = sure >= unsure_below
    return {
        "ece_10_bins": expected_calibration_error(sure, right, 10),
        "brier": brier(probabilities, predictions["label"], classes),
        "coverage": float(kept.mean()),
        "risk": float(1 - right[kept].mean()) if kept.any() else float("nan"),
    }


def metric_label(metric: str) -> str:
    """What a metric is called; behind a blank may stand what it is of, such as ``macc training-a``."""
    name, _, of = metric.partition(" ")
    return f"{WORDS.get(name, name.replace('_', ' '))} {of}".strip()
