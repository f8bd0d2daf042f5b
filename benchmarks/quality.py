"""How well the quality index agrees with people: AUROC against CinC 2016's REFERENCE-SQI.csv, beside periodicity alone.

    python -m benchmarks.quality [--data ../shared/data] [--weights]

Each database is judged by weights that were fitted on the others, PASCAL B (noisy by name) by those of all four.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from benchmarks.command import run_benchmark, say
from benchmarks.rows import Row, Value, absent, scored, share
from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import RATE_HZ
from heartdata.audio.quality import quality_features, quality_index
from heartdata.checks.suite import RecordingBounds
from heartdata.scoring.bootstrap import subject_draws, with_interval

DATABASES = ("b", "c", "d", "f")
PASCAL = "PASCAL B"
SIZES = {"recordings": (10_000, 30), "resamples": (1000, 20)}
RIDGE = 0.03  # scikit-learn's C


def judged_files(data: Path) -> Iterator[tuple[str, bool, Path]]:
    """(database, good, path) of each recording that people judged; those of PASCAL named noisy are the poor ones."""
    for database in DATABASES:
        folder = data / "cinc2016" / f"training-{database}"
        for name, _, good in csv.reader((folder / "REFERENCE-SQI.csv").open()):
            yield database, good == "1", folder / f"{name}.wav"
    for path in sorted((data / "pascal" / "set_b").glob("*.wav")):
        if "unlabelled" not in path.name:
            yield PASCAL, "noisy" not in path.name, path


def read(data: Path, recordings: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Database and verdict of each recording of which features can be computed, and the features."""
    verdicts, features = [], []
    files = list(judged_files(data))
    for number, (database, good, path) in enumerate(files[:: 1 + (len(files) - 1) // recordings]):
        if number % 200 == 0:
            say(f"{number} recordings")
        audio = decode(path.read_bytes())
        if (of_file := quality_features(resample(audio.mono, audio.rate_hz, RATE_HZ))) is not None:
            verdicts.append({"database": database, "good": good})
            features.append(of_file)
    return pd.DataFrame(verdicts), pd.DataFrame(features)


def fit(features: pd.DataFrame, good: pd.Series) -> Pipeline:
    """Logistic regression on clipped standard scores; both classes weigh the same."""
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -3, "a_max": 3})
    model = make_pipeline(StandardScaler(), clip, LogisticRegression(C=RIDGE, class_weight="balanced", max_iter=1000))
    return model.fit(features.to_numpy(), good)


def auroc(good: np.ndarray, scores: np.ndarray, resamples: int) -> Value:
    """AUROC with its 95 % interval by bootstrap over recordings."""
    draws = subject_draws(np.arange(len(good)), good, resamples, seed=0)
    values = [roc_auc_score(good, scores, sample_weight=weights) for weights in draws.weights]
    value, low, high = with_interval(values, draws.degrees_of_freedom)
    return Value(value=float(value), low=float(low), high=float(high))


def measure(data: Path, recordings: int, resamples: int) -> Iterator[Row]:
    peer = "periodicity alone"
    if not (data / "cinc2016").is_dir() or not (data / "pascal").is_dir():
        yield absent("quality index", peer, f"needs cinc2016 and pascal in {data.name}/")
        return
    verdicts, features = read(data, recordings)
    database, good = verdicts["database"], verdicts["good"]
    cinc = database != PASCAL
    index = np.zeros(len(verdicts))
    for held_out in database.unique():
        others, test = cinc & (database != held_out), database == held_out
        index[test] = fit(features[others], good[others]).predict_proba(features[test].to_numpy())[:, 1]
    say("bootstrap")
    groups = {**{f"CinC 2016 {d}": database == d for d in DATABASES}, "CinC 2016, pooled": cinc, PASCAL: ~cinc}
    for name, group in groups.items():
        of_group = good[group].to_numpy()
        if not of_group.all() and of_group.any():
            both = (auroc(of_group, scores[group], resamples) for scores in (index, features["periodicity"].to_numpy()))
            counts = f"{of_group.sum()} good, {(~of_group).sum()} poor"
            yield scored(f"AUROC, {name} ({counts})", next(both), peer, next(both))
    shipped = pd.Series([quality_index(of_file) for of_file in features.to_dict("records")])
    bound = RecordingBounds().min_quality
    low = shipped < bound
    warned = [
        share(low[group].sum(), group.sum()) for group in (~good & cinc, good & cinc, ~good & ~cinc, good & ~cinc)
    ]
    for name, poor, fine in (("CinC 2016 (fitted on them)", *warned[:2]), (PASCAL, *warned[2:])):
        yield scored(f"poor recordings below {bound}, {name}", poor, "good ones below it", fine, unit="%")


def weights(data: Path) -> Iterator[str]:
    """print the weights fitted on all of CinC 2016, the lines of heartdata/audio/quality.py"""
    verdicts, features = read(data, SIZES["recordings"][0])
    cinc = verdicts["database"] != PASCAL
    features = features[cinc]
    scaler, _, regression = fit(features, verdicts["good"][cinc])
    for name, *values in zip(features, scaler.mean_, scaler.scale_, regression.coef_[0], strict=True):
        yield f'    "{name}": ({", ".join(f"{value:.4f}" for value in values)}),'
    yield f"INTERCEPT = {regression.intercept_[0]:.4f}"


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES, weights=weights)
