"""Confusion counts for many predictions or weightings at once, and the scores computed from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from heartdata.errors import ScoreError


def class_numbers(names: ArrayLike, classes: Sequence[Any]) -> np.ndarray:
    """The position in ``classes`` of each name, shape (n,). Raises `ScoreError` for a name that is none of them."""
    names = np.asarray(names, object)
    numbers = pd.Index(classes).get_indexer(pd.Index(names))
    if (numbers < 0).any():
        raise ScoreError(f"the class {names[numbers < 0][0]!r} is none of {', '.join(classes)}")
    return numbers


def confusion_counts(
    truth: np.ndarray, predicted: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """Sums of weights of shape (rows, labels, predictions).

    ``truth`` are class numbers of shape (n,); ``predicted`` and ``weights`` have shape (n,) or (rows, n), at least one
    of them with rows. Without ``weights`` each recording counts once, in one row. Each row equals scikit-learn's
    ``confusion_matrix`` with ``sample_weight`` (tested), which would need one call for each bootstrap resample.
    """
    cells, weights = np.broadcast_arrays(truth * classes + predicted, np.ones((1, 1)) if weights is None else weights)
    cells = np.arange(len(cells))[:, None] * classes**2 + cells
    counts = np.bincount(cells.ravel(), weights.ravel(), len(cells) * classes**2)
    return counts.reshape(-1, classes, classes)


def recall_per_class(confusion: np.ndarray) -> np.ndarray:
    """Share of each class that is predicted correctly, shape (rows, classes); nan for a class that does not occur."""
    return ratio(np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2))


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """F1 averaged as by `mean_over_classes`, shape (rows,); a class that is never predicted has F1 = 0."""
    support = confusion.sum(axis=2)
    f1 = ratio(2 * np.diagonal(confusion, axis1=1, axis2=2), support + confusion.sum(axis=1))
    return mean_over_classes(np.where(support > 0, f1, np.nan))


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Recall averaged as by `mean_over_classes`, shape (rows,)."""
    return mean_over_classes(recall_per_class(confusion))


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Row means over the classes that have a value in some row, shape (rows,).

    nan in a row that lacks one of them, such as a resample without the rarest class: a mean over the others would be
    another score.
    """
    occurs = np.isfinite(values).any(axis=0)
    return values[:, occurs].mean(axis=1) if occurs.any() else np.full(len(values), np.nan)


def ratio(part: np.ndarray, whole: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """``part`` / ``whole``, and ``empty`` where ``whole`` is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, empty), where=whole > 0)
