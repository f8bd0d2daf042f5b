"""Scores at recording level, with intervals by bootstrap over groups (subjects), and the baselines beside a model."""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

METRICS = ("macro_f1", "balanced_accuracy", "accuracy", "auroc")
INTERVAL = (2.5, 97.5)
METADATA_NUMBERS = ["duration_s", "rate_hz", "channels"]
METADATA_NAMES = ["source", "collection", "site"]


def confusion(
    labels: np.ndarray, answers: np.ndarray, classes: list[str], weights: np.ndarray | None = None
) -> np.ndarray:
    """Counts (or sums of weights), rows true, columns answered, shape (classes, classes)."""
    return confusion_matrix(labels, answers, labels=classes, sample_weight=weights)


def figures(
    labels: np.ndarray,
    answers: np.ndarray,
    probabilities: np.ndarray,
    classes: list[str],
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """The METRICS of one set of answers; ``probabilities`` has shape (n, classes).

    Macro means over the classes that occur; a class never answered counts with F1 = 0. AUROC is one class against
    the rest, averaged over the classes for which it exists.
    """
    counts = confusion(labels, answers, classes, weights)
    hits, true, answered = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    occurs = true > 0
    recall = hits[occurs] / true[occurs]
    f1 = 2 * hits[occurs] / (true[occurs] + answered[occurs])
    return {
        "macro_f1": float(f1.mean()),
        "balanced_accuracy": float(recall.mean()),
        "accuracy": float(hits.sum() / counts.sum()),
        "auroc": _auroc(labels, probabilities, classes, weights),
    }


def _auroc(labels: np.ndarray, probabilities: np.ndarray, classes: list[str], weights: np.ndarray | None) -> float:
    drawn = slice(None) if weights is None else weights > 0
    areas = []
    for number, name in enumerate(classes):
        positive = labels[drawn] == name
        if 0 < positive.sum() < len(positive):
            scores = probabilities[drawn, number]
            areas.append(roc_auc_score(positive, scores, sample_weight=None if weights is None else weights[drawn]))
    return float(np.mean(areas)) if areas else float("nan")


def with_intervals(
    model: str, predictions: pd.DataFrame, classes: list[str], resamples: int, seed: int
) -> list[dict[str, object]]:
    """Rows of schema FIGURES: each metric with its 95 % interval by bootstrap over the column ``group``.

    ``predictions`` has columns label, answer, group and p_<class>. A resample draws as many groups as there are, with
    replacement, and weights each recording by how often its group was drawn.
    """
    labels, answers = predictions["label"].to_numpy(object), predictions["answer"].to_numpy(object)
    probabilities = predictions[[f"p_{c}" for c in classes]].to_numpy(float)
    numbers, names = pd.factorize(predictions["group"])
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[numbers].astype(float)
        if weights.any():
            drawn.append(figures(labels, answers, probabilities, classes, weights))
    low, high = np.nanpercentile(pd.DataFrame(drawn)[list(METRICS)].to_numpy(), INTERVAL, axis=0)
    point = figures(labels, answers, probabilities, classes)
    return [
        {"model": model, "metric": metric, "value": point[metric], "low": float(low[i]), "high": float(high[i])}
        for i, metric in enumerate(METRICS)
    ]


def per_class(predictions: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Precision, recall, F1 and the number of recordings of each class."""
    columns = precision_recall_fscore_support(
        predictions["label"], predictions["answer"], labels=classes, zero_division=0.0
    )
    return pd.DataFrame(dict(zip(("precision", "recall", "f1", "recordings"), columns, strict=True)), index=classes)


def majority_baseline(manifest: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """The classes' shares in the training part, for each test recording: shape (n, classes)."""
    shares = manifest.loc[manifest["part"] == "train", "label"].value_counts(normalize=True).reindex(classes).fillna(0)
    return np.tile(shares.to_numpy(), (int((manifest["part"] == "test").sum()), 1))


def metadata_baseline(manifest: pd.DataFrame, classes: list[str], seed: int = 0) -> np.ndarray:
    """What can be told without listening: class probabilities of the test part, shape (n, classes).

    Gradient boosting on duration, rate, channels, source, collection and site, classes balanced. A model that is not
    clearly better has learnt the device or the place, not the heart.
    """
    train, test = (manifest[manifest["part"] == part] for part in ("train", "test"))
    columns = make_column_transformer(
        (
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1),
            METADATA_NAMES,
        ),
        ("passthrough", METADATA_NUMBERS),
    )
    booster = HistGradientBoostingClassifier(class_weight="balanced", random_state=seed, early_stopping=False)
    model = make_pipeline(columns, booster).fit(_plain(train), train["label"])
    known = list(model.classes_)
    probabilities = model.predict_proba(_plain(test))
    return np.stack([probabilities[:, known.index(c)] if c in known else np.zeros(len(test)) for c in classes], axis=1)


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Metadata columns as numpy objects and floats, absent names as the empty string."""
    names = rows[METADATA_NAMES].astype(object).where(rows[METADATA_NAMES].notna(), "")
    return names.join(rows[METADATA_NUMBERS].astype(float))


def prediction_rows(manifest: pd.DataFrame, probabilities: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """The test part with answers (schema `predictions_schema`): the most probable class, first one on a tie."""
    test = manifest[manifest["part"] == "test"].reset_index(drop=True)
    rows = test[["recording_id", "sha256", "group", "label"]].copy()
    rows["answer"] = [classes[i] for i in probabilities.argmax(axis=1)]
    return rows.join(pd.DataFrame(probabilities, columns=[f"p_{c}" for c in classes]))
