"""Metrics of recordings and of subjects, with intervals by bootstrap over groups (subjects)."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from heartdata.errors import ScoreError
from heartdata.scoring import confusion
from heartdata.scoring.bootstrap import subject_draws, with_interval
from heartdata.scoring.calibration import (
    Calibration,
    apply_calibration,
    brier,
    confidence_of,
    decide,
    expected_calibration_error,
)
from heartdata.settings import Settings

METRICS = ("macro_f1", "balanced_accuracy", "accuracy", "auroc")
DIFFERENCE = ("difference", "difference_low", "difference_high")  # of two models on the same resamples

Rule = Literal["mean", "max"]


class EvaluationConfig(Settings):
    """How the test part is scored."""

    bootstrap: int = Field(default=500, ge=20, le=100_000, description="resamples of subjects behind each interval")
    seed: int = Field(default=0, ge=0, description="random seed of the resamples")
    subject_rule: Rule = Field(
        default="mean", description="how the probabilities of a subject's recordings are combined"
    )


def compute_metrics(
    labels: np.ndarray, predictions: np.ndarray, probabilities: np.ndarray, classes: Sequence[Any],
    weights: np.ndarray, metrics: Sequence[str] = METRICS,
) -> pd.DataFrame:  # fmt: skip
    """``metrics`` of one set of predictions under several weightings, one row per weighting.

    ``probabilities`` has shape (n, classes), ``weights`` (weightings, n). Means are over the classes that occur in
    some weighting, and nan for a weighting that lacks one of them; a class that is never predicted counts with F1 = 0.
    AUROC is one class against the rest, averaged over the classes for which it exists. Equal to scikit-learn's metrics with sample_weight (tested), for all weightings at once.
    """
    truth, predicted = confusion.class_numbers(labels, classes), confusion.class_numbers(predictions, classes)
    counts = confusion.confusion_counts(truth, predicted, len(classes), weights)
    columns = {
        "macro_f1": confusion.macro_f1(counts),
        "balanced_accuracy": confusion.balanced_accuracy(counts),
        "accuracy": confusion.ratio(np.trace(counts, axis1=1, axis2=2), counts.sum(axis=(1, 2))),
    }
    if "auroc" in metrics:  # as slow as all others together
        with np.errstate(invalid="ignore", divide="ignore"):
            areas = [_auroc(truth == i, probabilities[:, i], weights) for i in range(len(classes))]
        columns["auroc"] = confusion.mean_over_classes(np.stack(areas, axis=1))
    return pd.DataFrame({name: columns[name] for name in metrics})


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
    """Metrics of one or more models with 95 % intervals, by bootstrap over subjects: rows of schema METRICS.

    ``predictions`` are tables of the same recordings in the same order, with columns ``label``, ``prediction``, ``group``
    (the subject) and ``p_<class>``; the others are compared with the first model. All models are scored on the same resamples (of
    `subject_draws`), so that the difference to the first one has an interval of its own.
    """
    names = [f"p_{c}" for c in classes]
    recordings = next(iter(predictions.values()))
    draws = subject_draws(recordings["group"], recordings["label"], resamples, seed)
    values = {
        name: compute_metrics(
            rows["label"].to_numpy(object), rows["prediction"].to_numpy(object), rows[names].to_numpy(float), classes,
            draws.weights,
        )
        for name, rows in predictions.items()
    }  # fmt: skip
    dof = draws.degrees_of_freedom
    first = next(iter(values.values()))
    constant = {name for name, rows in predictions.items() if rows["prediction"].nunique() == 1}
    return [
        {"model": name, "metric": metric}
        | dict(
            zip(
                ("value", "low", "high"), with_interval(of_model[metric], dof, varies=name not in constant), strict=True
            )
        )
        | dict(zip(DIFFERENCE, with_interval(first[metric] - of_model[metric], dof, is_share=False), strict=True))
        for name, of_model in values.items()
        for metric in METRICS
    ]


def per_class(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Precision, recall, F1 and the number of recordings of each class."""
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        predictions["label"], predictions["prediction"], labels=classes, zero_division=0.0
    )
    return pd.DataFrame(dict(zip(("precision", "recall", "f1", "recordings"), columns, strict=True)), index=classes)


def prediction_rows(
    test: pd.DataFrame, probabilities: np.ndarray, classes: list[str], weights: Sequence[float] | None = None
) -> pd.DataFrame:
    """Manifest rows with predictions (schema `predictions_schema`), see `decide`."""
    rows = test[["recording_id", "sha256", "group", "label"]].reset_index(drop=True)
    rows["prediction"] = decide(probabilities, classes, weights)
    return rows.join(pd.DataFrame(probabilities, columns=[f"p_{c}" for c in classes]))


def calibrated_rows(
    rows: pd.DataFrame, probabilities: np.ndarray, classes: list[str], calibration: Calibration
) -> pd.DataFrame:
    """`prediction_rows` of a network's own ``probabilities``, by its ``calibration``."""
    return prediction_rows(rows, apply_calibration(probabilities, calibration), classes, calibration.class_weights)


def subject_rows(
    predictions: pd.DataFrame,
    subjects: pd.Series,
    classes: list[str],
    rule: Rule,
    weights: Sequence[float] | None = None,
) -> pd.DataFrame:
    """One row per subject (schema `subjects_schema`), from rows of `predictions_schema` and the subject of each.

    A subject is predicted as a recording is, from the probabilities of `subject_predictions`. Subjects whose recordings
    have several labels are left out, as their true label is unknown.
    """
    rows = predictions.assign(subject=subjects.to_numpy())
    rows = rows[rows.groupby("subject")["label"].transform("nunique") == 1]
    table = subject_predictions(rows, rule, by="subject")
    table["prediction"] = decide(table[[f"p_{c}" for c in classes]].to_numpy(float), classes, weights)
    return table


def subject_predictions(predictions: pd.DataFrame, rule: Rule, by: str) -> pd.DataFrame:
    """One row per subject, from rows of `predictions_schema` and a column ``by`` that names the subject.

    Each class gets the mean (or the max, scaled to sum 1) of its probabilities over the subject's recordings; the
    prediction is the most probable class, the first one on a tie. Columns: ``by``, group, label, prediction, p_<class>,
    and recordings, their number. Subjects are sorted. Raises `ScoreError` when a recording has no subject, or a
    subject has recordings with several labels or in several groups.
    """
    if absent := int(predictions[by].isna().sum()):
        raise ScoreError(f"{absent} predictions have no {by}: score recordings instead")
    subjects = predictions.groupby(by)
    for column in ("group", "label"):
        if (mixed := subjects[column].nunique() > 1).any():
            raise ScoreError(
                f"{by} {mixed.idxmax()} has recordings with more than one {column}: score recordings instead"
            )
    names = [c for c in predictions.columns if c.startswith("p_")]
    probabilities = subjects[names].agg(rule)
    probabilities = probabilities.div(probabilities.sum(axis=1), axis=0)
    rows = subjects[["group", "label"]].first()
    rows["prediction"] = [names[i].removeprefix("p_") for i in probabilities.to_numpy().argmax(axis=1)]
    return rows.join(probabilities).join(subjects.size().rename("recordings")).reset_index()


def confidence_metrics(predictions: pd.DataFrame, classes: list[str], unsure_below: float) -> dict[str, float]:
    """How well calibrated the predictions are, and coverage and risk when those below ``unsure_below`` are unsure."""
    probabilities = predictions[[f"p_{c}" for c in classes]].to_numpy(float)
    confidence = confidence_of(predictions["prediction"], probabilities, classes)
    correct = (predictions["label"] == predictions["prediction"]).to_numpy()
    kept = confidence >= unsure_below
    return {
        "ece_10_bins": expected_calibration_error(confidence, correct, 10),
        "brier": brier(probabilities, predictions["label"], classes),
        "coverage": float(kept.mean()),
        "risk": float(1 - correct[kept].mean()) if kept.any() else float("nan"),
    }
