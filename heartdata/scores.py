"""Scores at recording level, with intervals by bootstrap over groups (subjects), and the baselines beside a model."""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import precision_recall_fscore_support
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

METRICS = ("macro_f1", "balanced_accuracy", "accuracy", "auroc")
INTERVAL = (2.5, 97.5)
METADATA_NUMBERS = ["duration_s", "rate_hz", "channels"]
METADATA_NAMES = ["source", "collection", "site"]


def figures(
    labels: np.ndarray, answers: np.ndarray, probabilities: np.ndarray, classes: list[str], weights: np.ndarray
) -> pd.DataFrame:
    """The METRICS of one set of answers under several weightings, one row a weighting.

    ``probabilities`` has shape (n, classes), ``weights`` (weightings, n). Means are over the classes that occur; a
    class never answered counts with F1 = 0. AUROC is one class against the rest, averaged over the classes for which
    it exists. Equal to scikit-learn's figures with sample_weight (tested), for all weightings at once.
    """
    number = {name: i for i, name in enumerate(classes)}
    true, answered = np.array([number[x] for x in labels]), np.array([number[x] for x in answers])
    cells = np.eye(len(classes) ** 2)[true * len(classes) + answered]
    counts = (weights @ cells).reshape(-1, len(classes), len(classes))
    hits, support, given = np.einsum("wii->wi", counts), counts.sum(axis=2), counts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.where(support > 0, hits / support, np.nan)
        f1 = np.where(support > 0, 2 * hits / (support + given), np.nan)
        areas = np.stack([_auroc(true == i, probabilities[:, i], weights) for i in range(len(classes))], axis=1)
        exists = np.isfinite(areas)
        auroc = np.where(exists, areas, 0).sum(axis=1) / exists.sum(axis=1)
        columns = (
            np.nanmean(f1, axis=1),
            np.nanmean(recall, axis=1),
            hits.sum(axis=1) / counts.sum(axis=(1, 2)),
            auroc,
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


def with_intervals(
    model: str, predictions: pd.DataFrame, classes: list[str], resamples: int, seed: int
) -> list[dict[str, object]]:
    """Rows of schema FIGURES: each metric with its 95 % interval by bootstrap over the column ``group``.

    ``predictions`` has columns label, answer, group and p_<class>. A resample draws as many groups as there are, with
    replacement, and weights each recording by how often its group was drawn.
    """
    labels, answers = predictions["label"].to_numpy(object), predictions["answer"].to_numpy(object)
    probabilities = predictions[[f"p_{c}" for c in classes]].to_numpy(float)
    group, names = pd.factorize(predictions["group"])
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    weights = np.vstack([np.ones(len(group)), drawn[:, group]]).astype(float)
    values = figures(labels, answers, probabilities, classes, weights)
    low, high = np.nanpercentile(values.iloc[1:], INTERVAL, axis=0)
    return [
        {"model": model, "metric": m, "value": float(values[m][0]), "low": float(low[i]), "high": float(high[i])}
        for i, m in enumerate(METRICS)
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
    booster = HistGradientBoostingClassifier(
        class_weight="balanced",
        random_state=seed,
        early_stopping=False,
        min_samples_leaf=max(1, min(20, len(train) // 10)),  # the usual 20 would leave small sets without a split
    )
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
