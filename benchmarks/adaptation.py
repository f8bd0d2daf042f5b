"""How many of a user's own recordings calibrate a model for the others: `heartbeat calibrate` beside two alternatives.

A simulated model was trained where classes are equally frequent; the user's place has another prior, more noise, both or
neither. Prints the table of docs/serving.md: means over repeated draws, scored on 3,000 other recordings of that place.

    python -m benchmarks.adaptation
"""

import sys

import numpy as np
import pandas as pd
from scipy.special import softmax

from heartdata.scoring.adaptation import adapt
from heartdata.scoring.calibration import (
    Calibration,
    DecisionConfig,
    apply_calibration,
    confidence_of,
    decide,
    expected_calibration_error,
    fit_calibration,
)
from heartdata.scoring.confusion import class_numbers, confusion_counts, macro_f1

REPEATS = 40
SEPARATION, OVERCONFIDENCE = 1.6, 2.0
PLACES = {  # prior, noise
    "as in training, 2 classes": ([0.5, 0.5], 1.0),
    "other prior (85 : 15)": ([0.85, 0.15], 1.0),
    "noisier": ([0.5, 0.5], 1.6),
    "other prior and noisier": ([0.85, 0.15], 1.6),
    "as in training, 4 classes": ([0.25] * 4, 1.0),
    "other prior and noisier, 4 classes": ([0.55, 0.25, 0.12, 0.08], 1.4),
}
CONFIG = DecisionConfig()


def draw(count: int, prior: list[float], noise: float, rng: np.random.Generator) -> tuple[np.ndarray, pd.DataFrame]:
    """The network's probabilities, and rows with label and group."""
    truth = rng.choice(len(prior), count, p=prior)
    scores = noise * rng.normal(size=(count, len(prior)))
    scores[np.arange(count), truth] += SEPARATION
    rows = pd.DataFrame({"label": truth.astype(str), "group": np.arange(count).astype(str)})
    return softmax(OVERCONFIDENCE * SEPARATION * scores, axis=1), rows


def scores(probabilities: np.ndarray, rows: pd.DataFrame, classes: list[str], by: Calibration) -> np.ndarray:
    """Macro-F1, Brier score and calibration error."""
    scaled = apply_calibration(probabilities, by)
    predicted = decide(scaled, classes, by.class_weights)
    truth = class_numbers(rows["label"], classes)
    counts = confusion_counts(truth, class_numbers(predicted, classes), len(classes))
    errors = ((scaled - np.eye(len(classes))[truth]) ** 2).sum(axis=1)
    confidence = confidence_of(predicted, scaled, classes)
    error = expected_calibration_error(confidence, predicted == rows["label"].to_numpy(object))
    return np.array([macro_f1(counts)[0], errors.mean(), error])


def write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    write("| place | recordings | the model's own | fitted as after training | `heartbeat calibrate` |")
    write("| --- | --- | --- | --- | --- |")
    for place, (prior, noise) in PLACES.items():
        classes = [str(number) for number in range(len(prior))]
        for count in (20, 50, 150):
            each = []
            for repeat in range(REPEATS):
                rng = np.random.default_rng(repeat)
                validation, labels = draw(300, [1 / len(prior)] * len(prior), 1.0, rng)
                own = fit_calibration(validation, labels, classes, CONFIG)
                probabilities, rows = draw(count, prior, noise, rng)
                others = draw(3000, prior, noise, rng)
                again = fit_calibration(probabilities, rows, classes, CONFIG)
                adapted = adapt(probabilities, rows["label"], classes, own, CONFIG)
                each.append([scores(*others, classes, by) for by in (own, again, adapted)])
            cells = [" / ".join(f"{value:.3f}" for value in row) for row in np.mean(each, axis=0)]
            write(f"| {place} | {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
