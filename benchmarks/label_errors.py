"""How many suspected labels are wrong, and how many wrong labels are suspected, by simulation; see docs/report.md.

    python -m benchmarks.label_errors

Subjects of one class have two recordings each, and 6 % of the recordings get another class's label at random. The
model's scores are normal, at a distance between the classes that gives it the balanced accuracy shown.
"""

import sys

import numpy as np
import pandas as pd
from scipy.special import softmax

from heartdata.scoring.label_errors import Suspects, suspected_labels

HEAD = (
    "| recordings | classes | balanced accuracy | suspected | of these wrong | wrong ones found | asked |\n"
    + "| --- " * 7
    + "|\n"
)
WRONG, DRAWS = 0.06, 20
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


def main() -> None:
    sys.stdout.write(HEAD)
    for recordings in (100, 400, 1600):
        for classes in SHARES:
            for distance in (0.0, 1.0, 2.0, 3.0):
                tables = [simulated(recordings, classes, distance, seed) for seed in range(DRAWS)]
                found = [suspected_labels(table, [str(n) for n in range(classes)]) for table in tables]
                _print(recordings, classes, tables, found)


def _print(recordings: int, classes: int, tables: list[pd.DataFrame], found: list[Suspects]) -> None:
    rows = pd.concat([suspects.rows for suspects in found])
    wrong = sum(table["wrong"].sum() for table in tables)
    asked = np.mean([not suspects.weakness for suspects in found])
    accuracy = np.mean([suspects.balanced_accuracy for suspects in found])
    share = len(rows) / sum(map(len, tables))
    precision = f"{rows['wrong'].mean():.0%}" if len(rows) else ""
    recall = f"{rows['wrong'].sum() / wrong:.0%}" if len(rows) else ""
    cells = recordings, classes, f"{accuracy:.2f}", f"{share:.0%}", precision, recall, f"{asked:.0%}"
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")


if __name__ == "__main__":
    sys.exit(main())
