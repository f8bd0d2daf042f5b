"""How well the quality index agrees with people: AUROC against CinC 2016's REFERENCE-SQI.csv, and the fitted weights.

python -m benchmarks.quality --data ../shared/data
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import RATE_HZ
from heartdata.audio.quality import quality_features, quality_index
from heartdata.scoring.bootstrap import subject_draws, with_interval

DATABASES = ("b", "c", "d", "f")
PASCAL = "PASCAL B"
BOUNDS = (0.2, 0.25, 0.3)  # for validation.min_quality
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


def read(data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Database and verdict of each recording of which features can be computed, and the features."""
    verdicts, features = [], []
    for database, good, path in judged_files(data):
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


def auroc(good: np.ndarray, scores: np.ndarray) -> str:
    """AUROC with its 95 % interval by bootstrap over recordings."""
    if good.all() or not good.any():
        return "one class"
    draws = subject_draws(np.arange(len(good)), good, 1000, seed=0)
    values = [roc_auc_score(good, scores, sample_weight=weights) for weights in draws.weights]
    value, low, high = with_interval(values, draws.degrees_of_freedom)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def report(data: Path) -> Iterator[str]:
    """The lines of the table, the weights, and how many recordings the bounds would warn of."""
    verdicts, features = read(data)
    database, good = verdicts["database"], verdicts["good"]
    cinc = database != PASCAL
    index = np.zeros(len(verdicts))
    for held_out in database.unique():
        others, test = cinc & (database != held_out), database == held_out
        index[test] = fit(features[others], good[others]).predict_proba(features[test].to_numpy())[:, 1]
    yield "| recordings | good | poor | index, fitted on the other databases | periodicity alone |\n|---|---|---|---|---|"
    groups = {**{f"CinC 2016 {d}": database == d for d in DATABASES}, "CinC 2016, pooled": cinc}
    for name, group in {**groups, "PASCAL B (noisy by name)": ~cinc}.items():
        of_group = good[group].to_numpy()
        both = [auroc(of_group, scores[group]) for scores in (index, features["periodicity"].to_numpy())]
        yield f"| {name} | {of_group.sum()} | {(~of_group).sum()} | {both[0]} | {both[1]} |"
    scaler, _, regression = fit(features[cinc], good[cinc])
    yield "\nFitted on all four databases, as in heartdata/audio/quality.py:"
    for name, *values in zip(features, scaler.mean_, scaler.scale_, regression.coef_[0], strict=True):
        yield f'    "{name}": ({", ".join(f"{value:.4f}" for value in values)}),'
    yield f"INTERCEPT = {regression.intercept_[0]:.4f}"
    shipped = np.array([quality_index(of_file) for of_file in features.to_dict("records")])
    for name, group in (("CinC good", good & cinc), ("CinC poor", ~good & cinc), (PASCAL, ~cinc)):
        shares = ", ".join(f"{(shipped[group] < bound).mean():.1%} under {bound}" for bound in BOUNDS)
        yield f"Shipped index, {name}: {shares}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    for line in report(parser.parse_args().data):
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
