"""Baselines that every model is compared with: the majority class, metadata alone, and simple spectrogram features."""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from heartdata.dataset.windows import Shards
from heartdata.scoring.features import spectrogram_features
from heartdata.storage.store import Store

METADATA_NUMBERS = ["duration_s", "rate_hz", "channels"]
METADATA_NAMES = ["source", "collection", "site"]
TREES = 300


def majority_baseline(manifest: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """Class probabilities of the test part: the class shares of the training part, for each recording. (n, classes)."""
    shares = manifest.loc[manifest["part"] == "train", "label"].value_counts(normalize=True).reindex(classes).fillna(0)
    return np.tile(shares.to_numpy(), (int((manifest["part"] == "test").sum()), 1))


def metadata_baseline(manifest: pd.DataFrame, classes: list[str], seed: int = 0) -> np.ndarray:
    """Class probabilities of the test part from metadata, without the audio: shape (n, classes).

    Gradient boosting on duration, rate, channels, source, collection and site, classes balanced. A model that is not
    clearly better may have learnt the device or the place, not the heart.
    """
    train, test = (manifest[manifest["part"] == part] for part in ("train", "test"))
    columns = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), METADATA_NAMES),
        ("passthrough", METADATA_NUMBERS),
    )
    booster = HistGradientBoostingClassifier(
        class_weight="balanced",
        random_state=seed,
        early_stopping=False,
        min_samples_leaf=max(1, min(20, len(train) // 10)),  # the default of 20 would leave small sets without a split
    )
    model = make_pipeline(columns, booster).fit(_metadata_columns(train), train["label"])
    return _in_order(model.predict_proba(_metadata_columns(test)), model.classes_, classes)


def _metadata_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """Metadata columns as numpy objects and floats, missing names as the empty string."""
    names = rows[METADATA_NAMES].astype(object).where(rows[METADATA_NAMES].notna(), "")
    return names.join(rows[METADATA_NUMBERS].astype(float))


def classical_baseline(
    manifest: pd.DataFrame, classes: list[str], hop_s: float, store: Store, seed: int = 0
) -> np.ndarray:
    """Class probabilities of the test part by extremely randomised trees on `spectrogram_features`: (n, classes).

    Classes are balanced. Geurts et al. 2006, Extremely randomized trees.
    """
    train, test = (manifest[manifest["part"] == part] for part in ("train", "test"))
    forest = ExtraTreesClassifier(TREES, class_weight="balanced", min_samples_leaf=3, random_state=seed)
    forest.fit(_features(train, hop_s, store), train["label"].to_numpy(str))
    return _in_order(forest.predict_proba(_features(test, hop_s, store)), forest.classes_, classes)


_computed: dict[tuple[str, int, float], np.ndarray] = {}  # the folds of a study share their recordings


def _features(rows: pd.DataFrame, hop_s: float, store: Store) -> np.ndarray:
    """`spectrogram_features` of each recording of manifest ``rows``: shape (recordings, features)."""
    shards = Shards(store)
    shards.open(rows)
    features = []
    for row in rows.itertuples(index=False):
        key = row.shard_sha256, row.start, hop_s
        if key not in _computed:
            _computed[key] = spectrogram_features(shards.spectrogram(row.shard, row.start, row.frames), hop_s)
        features.append(_computed[key])
    return np.stack(features)


def _in_order(probabilities: np.ndarray, fitted: np.ndarray, classes: list[str]) -> np.ndarray:
    """Columns of the classes ``fitted`` in the order of ``classes``; 0 for one that was not in the training part."""
    return pd.DataFrame(probabilities, columns=fitted).reindex(columns=classes, fill_value=0.0).to_numpy()
