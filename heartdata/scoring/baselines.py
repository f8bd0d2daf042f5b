"""What stands beside every model: the majority class, metadata alone, and simple features without a network."""

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
    return _in_order(model.predict_proba(_plain(test)), list(model.classes_), classes)


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Metadata columns as numpy objects and floats, absent names as the empty string."""
    names = rows[METADATA_NAMES].astype(object).where(rows[METADATA_NAMES].notna(), "")
    return names.join(rows[METADATA_NUMBERS].astype(float))


def classical_baseline(
    manifest: pd.DataFrame, classes: list[str], hop_s: float, store: Store, seed: int = 0
) -> np.ndarray:
    """Class probabilities of the test part by extremely randomised trees on `spectrogram_features`: (n, classes).

    Classes are balanced. Geurts et al. 2006, Extremely randomized trees.
    """
    known = manifest[manifest["part"] == "train"]
    test = manifest[manifest["part"] == "test"]
    forest = ExtraTreesClassifier(TREES, class_weight="balanced", min_samples_leaf=3, random_state=seed)
    forest.fit(feature_table(known, hop_s, store), known["label"].to_numpy(str))
    return _in_order(forest.predict_proba(feature_table(test, hop_s, store)), list(forest.classes_), classes)


def feature_table(rows: pd.DataFrame, hop_s: float, store: Store) -> np.ndarray:
    """`spectrogram_features` of each recording of manifest ``rows``: shape (recordings, features)."""
    shards = Shards(store)
    shards.open(rows)
    located = rows[["shard", "start", "frames"]].itertuples(index=False, name=None)
    return np.stack([spectrogram_features(shards.spectrogram(*where), hop_s) for where in located])


def _in_order(probabilities: np.ndarray, known: list[str], classes: list[str]) -> np.ndarray:
    """Columns in the order of ``classes``; 0 for one that was not in the training part."""
    absent = np.zeros(len(probabilities))
    return np.stack([probabilities[:, known.index(c)] if c in known else absent for c in classes], axis=1)
