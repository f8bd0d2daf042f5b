"""How well the quality index agrees with people: AUROC against CinC 2016's REFERENCE-SQI.csv, and the fitted weights.

python -m benchmarks.quality --data ../shared/data
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from heartdata.audio.decode import decode, resample
from heartdata.audio.quality import RATE_HZ, quality_features, quality_index

DATABASES = ("b", "c", "d", "f")
BOUNDS = (0.2, 0.25, 0.3)  # for validation.min_quality
RIDGE = 0.03  # scikit-learn's C


def say(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(text + "\n")


def features_of(path: Path) -> dict[str, float] | None:
    """The features of one file."""
    audio = decode(path.read_bytes())
    return quality_features(resample(audio.mono, audio.rate_hz, RATE_HZ))


def cinc(data: Path) -> list[tuple[str, bool, dict[str, float]]]:
    """(database, good, features) of each recording that people judged."""
    rows = []
    for database in DATABASES:
        folder = data / "cinc2016" / f"training-{database}"
        for name, _, good in csv.reader((folder / "REFERENCE-SQI.csv").open()):
            if (found := features_of(folder / f"{name}.wav")) is not None:
                rows.append((database, good == "1", found))
    return rows


def pascal(data: Path) -> list[tuple[str, bool, dict[str, float]]]:
    """The same for PASCAL set B: its files named noisy are the poor ones."""
    paths = sorted(p for p in (data / "pascal" / "set_b").glob("*.wav") if "unlabelled" not in p.name)
    found = [(p, features_of(p)) for p in paths]
    return [("pascal B", "noisy" not in p.name, f) for p, f in found if f is not None]


def fit(features: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean, deviation, weight of each feature and the intercept; both classes weigh the same."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    model = LogisticRegression(C=RIDGE, class_weight="balanced", max_iter=1000)
    model.fit(np.clip((features - mean) / deviation, -3, 3), good)
    return mean, deviation, model.coef_[0], float(model.intercept_[0])


def answers(fitted: tuple, features: np.ndarray) -> np.ndarray:
    """The index under weights of `fit`."""
    mean, deviation, weights, intercept = fitted
    return 1 / (1 + np.exp(-(np.clip((features - mean) / deviation, -3, 3) @ weights + intercept)))


def interval(good: np.ndarray, scores: np.ndarray) -> str:
    """AUROC with its 95 % interval by bootstrap within both classes."""
    rng = np.random.default_rng(0)
    yes, no = np.flatnonzero(good), np.flatnonzero(~good)
    drawn = [np.r_[rng.choice(yes, len(yes)), rng.choice(no, len(no))] for _ in range(1000)]
    low, high = np.percentile([roc_auc_score(good[i], scores[i]) for i in drawn], [2.5, 97.5])
    return f"{roc_auc_score(good, scores):.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Print the table and the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    rows = [*cinc(data), *pascal(data)]
    names = list(rows[0][2])
    database = np.array([r[0] for r in rows])
    good = np.array([r[1] for r in rows])
    features = np.array([[r[2][n] for n in names] for r in rows])
    ours = database != "pascal B"
    index = np.zeros(len(rows))
    for held_out in sorted(set(database)):
        fitted = fit(features[ours & (database != held_out)], good[ours & (database != held_out)])
        index[database == held_out] = answers(fitted, features[database == held_out])
    say(
        "| recordings | good | poor | index, fitted on the other databases | periodicity alone |\n|---|---|---|---|---|"
    )
    periodicity = features[:, names.index("periodicity")]
    groups = {**{f"CinC 2016 {d}": database == d for d in DATABASES}, "CinC 2016, pooled": ours}
    for name, rows_of in {**groups, "PASCAL B (noisy by name)": ~ours}.items():
        told = good[rows_of]
        both = [interval(told, s[rows_of]) if 0 < told.sum() < len(told) else "one class" for s in (index, periodicity)]
        say(f"| {name} | {told.sum()} | {(~told).sum()} | {both[0]} | {both[1]} |")
    fitted = fit(features[ours], good[ours])
    say("\nFitted on all four databases, as in heartdata/audio/quality.py:")
    for name, *values in zip(names, *fitted[:3], strict=True):
        say(f'    "{name}": ({values[0]:.4f}, {values[1]:.4f}, {values[2]:.4f}),')
    say(f"INTERCEPT = {fitted[3]:.4f}")
    shipped = np.array([quality_index(r[2]) for r in rows])
    for name, mask in (("CinC good", good & ours), ("CinC poor", ~good & ours), ("PASCAL B", ~ours)):
        shares = ", ".join(f"{(shipped[mask] < bound).mean():.1%} under {bound}" for bound in BOUNDS)
        say(f"Shipped index, {name}: {shares}")


if __name__ == "__main__":
    main()
