"""What pages 4 and 6 share: predictions of studies (or simulated ones), and scores in words."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from common import SMALL, STUDIES
from scipy.special import softmax

from heartdata.scoring.calibration import DecisionConfig, decide, expected_calibration_error
from heartdata.scoring.confusion import class_numbers
from heartdata.scoring.metrics import DIFFERENCE, metrics_with_intervals
from heartdata.scoring.model_names import MAJORITY_CLASS, METADATA_ONLY, NETWORK, SIMPLE_FEATURES
from heartdata.scoring.text import with_bounds
from heartdata.storage.store import read_parquet
from heartdata.studies.protocols import LEAKY, Study, study_named
from heartdata.studies.scores import with_operating_point

RESAMPLES = 50 if SMALL else 1000
OVERCONFIDENT = 2.0  # the simulated network's logits are this many times too large
# Subjects of each class. Set A, of phones, names no subjects; in set B, of a stethoscope, each has one to five recordings.
SIMULATED = {
    "set_a": {"artifact": 40, "extrahls": 19, "murmur": 34, "normal": 31},
    "set_b": {"extrastole": 16, "murmur": 34, "normal": 115},
}


@dataclass(frozen=True)
class Predictions:
    """``rows`` of `heartdata.storage.schemas.study_schema`, the classes in the order of the columns p_<class>, and their origin."""

    study: Study
    rows: pd.DataFrame
    classes: list[str]
    origin: str

    def of(self, model: str, arm: str | None = None, seed: int = 0) -> pd.DataFrame:
        """The predictions of one model, sorted by recording."""
        rows = self.rows[(self.rows["model"] == model) & (self.rows["seed"] == seed)]
        rows = rows[rows["arm"] == (arm or self.study.arms[-1])]
        return rows.sort_values("recording_id", ignore_index=True)

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        """Shape (recordings, classes), rows of sum 1."""
        values = rows[[f"p_{name}" for name in self.classes]].to_numpy(float)
        return values / values.sum(axis=1, keepdims=True)


def predictions_of(name: str) -> Predictions:
    """The predictions of the study ``name`` in STUDIES; simulated ones where there are none, and in a small run."""
    path, study = STUDIES / f"study-{name}" / "predictions.parquet", study_named(name)
    if path.is_file() and not SMALL:
        rows = read_parquet(path).to_pandas()
        classes = [column.removeprefix("p_") for column in rows if column.startswith("p_")]
        return Predictions(
            study, rows, classes, f"the predictions of `heartbeat study {name}` for recordings it had not seen"
        )
    rows, classes = simulated(study)
    origin = (
        f"**simulated** predictions, as there are none of `heartbeat study {name}` here: the numbers show how the scores "
        "behave and say nothing about hearts"
    )
    return Predictions(study, rows, classes, origin)


def simulated(study: Study) -> tuple[pd.DataFrame, list[str]]:
    """Predictions for a study with known properties, and its classes.

    Each recording has evidence for its class that it shares in part with the subject's others. The network's probabilities
    are those that this evidence justifies, with logits OVERCONFIDENT times too large; it knows the device, and in the arm
    that leaks it does better on subjects that it was trained on.
    """
    sets = study.settings["split.collections"]
    classes = sorted({label for name in sets for label in SIMULATED[name]})
    parts = []
    for number, arm in enumerate(study.arms):
        test = _recordings(sets, np.random.default_rng(0), "")
        draw = np.random.default_rng([1, number])
        unit = test["recording_id"] if arm == LEAKY else test["subject"]
        folds = dict(zip(unit.unique(), draw.permutation(np.arange(unit.nunique()) % study.folds), strict=True))
        test = test.assign(arm=arm, seed=0, fold=unit.map(folds).astype(str), group=unit)
        seen = test.groupby("subject")["fold"].transform("nunique").to_numpy() > 1
        valid = pd.concat(
            _recordings(sets, draw, f"valid{fold}").assign(arm=arm, seed=0, fold=str(fold))
            for fold in range(study.folds)
        )
        models = [
            _predicted(test, classes, draw, NETWORK, skill=1.3 + 0.5 * seen, scale=OVERCONFIDENT),
            _predicted(test, classes, draw, SIMPLE_FEATURES, skill=1.2 + 0.3 * seen, scale=0.5),
            _predicted(test, classes, draw, METADATA_ONLY, skill=np.zeros(len(test)), scale=1.0),
        ]
        shares = test["label"].value_counts(normalize=True).reindex(classes).to_numpy()
        models.append(_with(test, MAJORITY_CLASS, np.tile(shares, (len(test), 1)), classes))
        valid = valid.assign(group=valid["subject"])
        of_valid = _predicted(valid, classes, draw, NETWORK, skill=np.full(len(valid), 1.3), scale=OVERCONFIDENT)
        parts.append(with_operating_point(pd.concat(models), of_valid, classes, DecisionConfig(), study))
    return pd.concat(parts, ignore_index=True), classes


def _recordings(sets: list[str], draw: np.random.Generator, prefix: str) -> pd.DataFrame:
    rows = []
    for name in sets:
        for label, subjects in SIMULATED[name].items():
            for number in range(subjects):
                subject = f"{prefix}{name}-{label}-{number}"
                count = 1 if name == "set_a" else int(draw.integers(1, 6))
                rows += [(f"{subject}-{i}", subject, name, label) for i in range(count)]
    return pd.DataFrame(rows, columns=["recording_id", "subject", "collection", "label"])


def _predicted(
    rows: pd.DataFrame, classes: list[str], draw: np.random.Generator, model: str, skill: np.ndarray, scale: float
) -> pd.DataFrame:
    """``skill``: distance of the classes in deviations of the evidence; ``scale``: of the justified logits."""
    truth = rows["label"].to_numpy()[:, None] == np.array(classes)
    subject, _ = pd.factorize(rows["subject"])
    shared, own = draw.normal(size=(subject.max() + 1, len(classes))), draw.normal(size=truth.shape)
    evidence = skill[:, None] * truth + np.sqrt(0.6) * shared[subject] + np.sqrt(0.4) * own
    counts = pd.crosstab(rows["collection"], rows["label"]).reindex(columns=classes, fill_value=0)
    prior = np.log((counts.loc[rows["collection"]].to_numpy() + 0.1) / counts.to_numpy().sum())
    return _with(rows, model, softmax(scale * (skill[:, None] * evidence + prior), axis=1), classes)


def _with(rows: pd.DataFrame, model: str, probabilities: np.ndarray, classes: list[str]) -> pd.DataFrame:
    return predicted_rows(rows, probabilities, classes).assign(model=model, noisy=False)


def predicted_rows(
    rows: pd.DataFrame, probabilities: np.ndarray, classes: list[str], weights: np.ndarray | float = 1.0
) -> pd.DataFrame:
    """``rows`` with columns p_<class> and a prediction: the class whose probability times its weight is highest.

    ``probabilities`` has shape (rows, classes), ``weights`` may have the same.
    """
    columns = {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    return rows.assign(prediction=decide(probabilities * weights, classes, None), **columns)


def compared(predictions: dict[str, pd.DataFrame], classes: list[str], metric: str = "macro_f1") -> pd.DataFrame:
    """One row a model: value, low, high, both as ``text``, and in words the first model's value less this one's (``less``).

    ``predictions`` are of the same recordings in the same order; intervals are by bootstrap over their column group.
    """
    rows = pd.DataFrame(metrics_with_intervals(predictions, classes, RESAMPLES, seed=0))
    rows = rows[rows["metric"] == metric].set_index("model")
    bounds, differences = (rows[names].to_numpy() for names in (["value", "low", "high"], list(DIFFERENCE)))
    return rows[["value", "low", "high"]].assign(
        text=[with_bounds(*row) for row in bounds],
        less=["", *(difference_in_words(*row) for row in differences[1:])],
    )


def calibration_error(rows: pd.DataFrame, classes: list[str], bins: int = 10) -> float:
    """ECE of the most probable class."""
    probabilities = rows[[f"p_{name}" for name in classes]].to_numpy(float)
    correct = probabilities.argmax(axis=1) == class_numbers(rows["label"], classes)
    return expected_calibration_error(probabilities.max(axis=1).clip(0, 1), correct, bins)


def difference_in_words(difference: float, low: float, high: float) -> str:
    """A paired difference with its 95 % interval, and what it shows."""
    shown = "no difference is shown" if low <= 0 <= high else "higher" if difference > 0 else "lower"
    return f"{with_bounds(difference, low, high, sign='+')}: {shown}"
