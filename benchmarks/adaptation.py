"""How many of a user's own recordings calibrate a model for the others: `heartbeat calibrate` beside two alternatives.

A simulated model was trained where classes are equally frequent; the user's place has another prior, more noise, both or
neither. Means over repeated draws, with their 95 % intervals, scored on 3,000 other recordings of that place.

    python -m benchmarks.adaptation [--repeats 40]
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import softmax

from benchmarks.command import run_benchmark, say
from benchmarks.rows import Row, mean_with_interval, scored
from heartdata.scoring.adaptation import adapt
from heartdata.scoring.calibration import (
    Calibration,
    DecisionConfig,
    apply_calibration,
    decide,
    fit_calibration,
)
from heartdata.scoring.confusion import class_numbers, confusion_counts, macro_f1

SIZES = {"repeats": (40, 2), "others": (3000, 300)}
COUNTS = (20, 150)
OWN, AGAIN = "the model's own calibration", "fitted as after training"
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
    """Macro-F1 and Brier score."""
    scaled = apply_calibration(probabilities, by)
    predicted = decide(scaled, classes, by.class_weights)
    truth = class_numbers(rows["label"], classes)
    counts = confusion_counts(truth, class_numbers(predicted, classes), len(classes))
    errors = ((scaled - np.eye(len(classes))[truth]) ** 2).sum(axis=1)
    return np.array([macro_f1(counts)[0], errors.mean()])


def compared(count: int, prior: list[float], noise: float, repeats: int, others: int) -> np.ndarray:
    """Scores of the model's own calibration, of one fitted again, and of ours: shape (repeats, 3, 2)."""
    classes, each = [str(number) for number in range(len(prior))], []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        validation, labels = draw(300, [1 / len(prior)] * len(prior), 1.0, rng)
        own = fit_calibration(validation, labels, classes, CONFIG)
        probabilities, rows = draw(count, prior, noise, rng)
        tested = draw(others, prior, noise, rng)
        again = fit_calibration(probabilities, rows, classes, CONFIG)
        adapted = adapt(probabilities, rows["label"], classes, own, CONFIG)
        each.append([scores(*tested, classes, by) for by in (own, again, adapted)])
    return np.array(each)


def measure(repeats: int, others: int) -> Iterator[Row]:
    for place, (prior, noise) in PLACES.items():
        for count in COUNTS:
            say(f"{place}, {count} recordings")
            each = compared(count, prior, noise, repeats, others)
            for metric, name in enumerate(("macro-F1", "Brier score")):
                own, again, ours = (mean_with_interval(of) for of in each[:, :, metric].T)
                measured = f"`heartbeat calibrate` with {count} recordings, {place}: {name}"
                is_error = name == "Brier score"
                yield scored(measured, ours, OWN, own, lower_is_better=is_error)
                yield scored(measured, ours, AGAIN, again, lower_is_better=is_error)


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
