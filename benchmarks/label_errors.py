"""How many suspected labels are wrong, and how many wrong labels are suspected, by simulation; beside suspecting every label
that the model does not predict.

    python -m benchmarks.label_errors [--draws 60]

Subjects of one class have two recordings each, and 6 % of the recordings get another class's label at random. The
model's scores are normal, at a distance between the classes that gives it the balanced accuracy shown.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import softmax

from benchmarks.command import run_benchmark, say
from benchmarks.rows import Row, scored, share
from heartdata.scoring.label_errors import suspected_labels

SIZES = {"draws": (60, 1), "recordings": (400, 100)}
WRONG = 0.06
DISTANCES = (1.0, 2.0, 3.0)
SHARES = {2: (0.7, 0.3), 4: (0.4, 0.3, 0.2, 0.1)}


def simulated(recordings: int, classes: int, distance: float, seed: int) -> pd.DataFrame:
    """Predictions, with column ``wrong``: whether the label is."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.choice(classes, recordings // 2, p=SHARES[classes]), 2)
    scores = rng.normal(size=(len(truth), classes)) + np.log(SHARES[classes]) / 2
    scores[np.arange(len(truth)), truth] += distance
    wrong = rng.random(len(truth)) < WRONG
    label = np.where(wrong, (truth + rng.integers(1, classes, len(truth))) % classes, truth)
    rows = pd.DataFrame(softmax(1.5 * scores, axis=1), columns=[f"p_{n}" for n in range(classes)])
    return rows.assign(label=label.astype(str), group=np.arange(len(truth)) // 2, wrong=wrong)


def measure(draws: int, recordings: int) -> Iterator[Row]:
    peer = "every label that is not predicted"
    for classes in SHARES:
        names = [str(number) for number in range(classes)]
        for distance in DISTANCES:
            say(f"{classes} classes, distance {distance:g}")
            tables = [simulated(recordings, classes, distance, seed) for seed in range(draws)]
            found = [suspected_labels(table, names) for table in tables]
            ours = pd.concat([suspects.rows for suspects in found])["wrong"]
            everything = pd.concat(tables)
            predicted = everything[[f"p_{name}" for name in names]].to_numpy().argmax(axis=1).astype(str)
            theirs = everything["wrong"][everything["label"].to_numpy() != predicted]
            accuracy = np.mean([suspects.balanced_accuracy for suspects in found])
            of = f"{recordings} recordings, {classes} classes, balanced accuracy {accuracy:.2f}"
            wrong = everything["wrong"].sum()
            if len(ours):
                suspected = f"{of}: of the {len(ours) / len(everything):.0%} that are suspected, wrong"
                right, of_all = (share(each.sum(), len(each)) for each in (ours, theirs))
                yield scored(suspected, right, peer, of_all, unit="%")
            found_by_us, by_peer = (share(each.sum(), wrong) for each in (ours, theirs))
            yield scored(f"{of}: wrong ones found", found_by_us, peer, by_peer, unit="%")


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
