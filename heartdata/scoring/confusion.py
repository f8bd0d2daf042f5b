"""Counts of labels against answers, for many answers or weightings at once, and the scores that follow from them."""

import numpy as np


def confusion_counts(truth: np.ndarray, answered: np.ndarray, classes: int, weights: np.ndarray) -> np.ndarray:
    """Sums of weights of shape (rows, labels, answers).

    ``truth`` are class numbers of shape (n,); ``answered`` and ``weights`` have shape (n,) or (rows, n), at least one
    of them with rows. Each row equals scikit-learn's ``confusion_matrix`` with ``sample_weight`` (tested), which would
    have to be called for each of a bootstrap's draws.
    """
    cells, weights = np.broadcast_arrays(truth * classes + answered, weights)
    cells = np.arange(len(cells))[:, None] * classes**2 + cells
    counts = np.bincount(cells.ravel(), weights.ravel(), len(cells) * classes**2)
    return counts.reshape(-1, classes, classes)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """F1 averaged over the classes that occur, of which one never answered has F1 = 0: shape (rows,)."""
    support = confusion.sum(axis=2)
    f1 = ratio(2 * np.einsum("rii->ri", confusion), support + confusion.sum(axis=1))
    return mean_that_exists(np.where(support > 0, f1, np.nan))


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """The share right averaged over the classes that occur: shape (rows,)."""
    return mean_that_exists(ratio(np.einsum("rii->ri", confusion), confusion.sum(axis=2)))


def mean_that_exists(values: np.ndarray) -> np.ndarray:
    """Over the classes for which there is a value; nan where there is none at all, as in a draw without recordings."""
    exists = np.isfinite(values)
    return ratio(np.where(exists, values, 0).sum(axis=1), exists.sum(axis=1))


def ratio(part: np.ndarray, whole: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """``part`` / ``whole``, and ``empty`` where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, empty), where=whole > 0)
