"""From the answers of all folds to a study's figures: means over seeds, intervals by bootstrap over subjects."""

import numpy as np
import pandas as pd

from heartdata.calibration import (
    answers,
    apply_temperature,
    brier,
    calibrated,
    confidence_of,
    expected_calibration_error,
)
from heartdata.challenge import (
    cinc2016_score,
    circor2022_murmur_score,
    circor2022_outcome_score,
    pascal_score,
    patient_answers,
)
from heartdata.config import AnswersConfig
from heartdata.scores import INTERVAL, figures
from heartdata.studies import Scoring, Study

NETWORK = "resnet34"
AT_POINT = "resnet34, operating point"
OR_UNSURE = "resnet34, or unsure"
UNSURE = "unsure"


def with_calibrated(rows: pd.DataFrame, classes: list[str], config: AnswersConfig, scoring: Scoring) -> pd.DataFrame:
    """``rows`` (schema `study_schema`), the network's probabilities scaled, and its answers at an operating point added.

    What is fitted for a fold is fitted to the answers in the other folds of the same arm and seed, never to its own.
    """
    ours = rows[rows["model"] == NETWORK]
    added = [rows[rows["model"] != NETWORK]]
    for _, of_seed in ours.groupby(["arm", "seed"], sort=False):
        for fold in of_seed["fold"].unique():
            here, others = of_seed[of_seed["fold"] == fold], of_seed[of_seed["fold"] != fold]
            added += _calibrated(here, others, classes, config, scoring)
    return pd.concat(added, ignore_index=True)


def _calibrated(
    here: pd.DataFrame, others: pd.DataFrame, classes: list[str], config: AnswersConfig, scoring: Scoring
) -> list[pd.DataFrame]:
    names = [f"p_{c}" for c in classes]
    if scoring.startswith(("cinc2016", "circor2022")) and config.operating_point != "none":
        # these are scored by sensitivity and specificity, not by precision
        config = config.model_copy(update={"operating_point": "balanced_accuracy"})
    found = calibrated(others[names].to_numpy(float), others, classes, config)
    scaled = apply_temperature(here[names].to_numpy(float), found.temperature)
    given = answers(scaled, classes, np.array(found.class_weights))
    plain = here.assign(**dict(zip(names, scaled.T, strict=True)))
    at_point = plain.assign(model=AT_POINT, answer=given)
    if scoring != "cinc2016":
        return [plain, at_point]
    unsure = np.where(confidence_of(given, scaled, classes) < found.unsure_below, UNSURE, given)
    return [plain, at_point, at_point.assign(model=OR_UNSURE, answer=unsure)]


def study_figures(rows: pd.DataFrame, study: Study, classes: list[str], resamples: int, seed: int) -> pd.DataFrame:
    """Rows of schema STUDY_FIGURES for each arm and model of ``rows`` (as `with_calibrated` gives them).

    A value is the mean over seeds, each scored on its folds together; where databases are held out, each is scored by
    itself and the mean taken. A resample draws subjects, the same for all seeds.
    """
    found = []
    for (arm, model), of_model in rows.groupby(["arm", "model"], sort=False):
        names = of_model["group"].unique()
        drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        weight_of = pd.DataFrame(np.vstack([np.ones(len(names)), drawn]).T, index=names)
        of_seeds = [_figures_of(part, study, classes, weight_of) for _, part in of_model.groupby("seed")]
        each = np.stack([table.to_numpy(float) for table in of_seeds])  # seeds, weightings, metrics
        means = each.mean(axis=0)
        for i, metric in enumerate(of_seeds[0].columns):
            drawn_values = means[1:, i][np.isfinite(means[1:, i])]
            low, high = np.percentile(drawn_values, INTERVAL) if len(drawn_values) else (np.nan, np.nan)
            sd = float(each[:, 0, i].std(ddof=1)) if len(each) > 1 else None
            found.append((arm, model, metric, float(means[0, i]), sd, float(low), float(high)))
    return pd.DataFrame(found, columns=["arm", "model", "metric", "value", "sd", "low", "high"])


def _figures_of(rows: pd.DataFrame, study: Study, classes: list[str], weight_of: pd.DataFrame) -> pd.DataFrame:
    """The metrics of one model and seed under several weightings of subjects: one row a weighting."""
    if study.protocol == "k_fold":
        return _metrics(rows, study.scoring, classes, weight_of)
    each = {name: _metrics(part, study.scoring, classes, weight_of) for name, part in rows.groupby("fold")}
    mean = sum(each.values()) / len(each)
    single = [t[[study.metric, "auroc"]].add_suffix(f" {name}") for name, t in each.items() if "auroc" in t]
    return pd.concat([mean, *single], axis=1)


def _metrics(rows: pd.DataFrame, scoring: Scoring, classes: list[str], weight_of: pd.DataFrame) -> pd.DataFrame:
    """The scoring's own metrics, and those of every study where no answer is unsure."""
    if scoring.startswith("circor2022"):
        rows = patient_answers(rows, "murmur" if scoring == "circor2022_murmur" else "outcome", by="patient")
    labels, given = rows["label"].to_numpy(object), rows["answer"].to_numpy(object)
    weights = weight_of.loc[rows["group"]].to_numpy(float).T
    probabilities = rows[[f"p_{c}" for c in classes]].to_numpy(float)
    tables = []
    if scoring == "cinc2016":
        tables.append(cinc2016_score(labels, given, rows["noisy"].to_numpy(bool), weights))
    elif scoring in ("pascal_a", "pascal_b"):
        tables.append(pascal_score(labels, given, "set_a" if scoring == "pascal_a" else "set_b", weights))
    elif scoring == "circor2022_murmur":
        tables.append(circor2022_murmur_score(labels, given, weights))
    elif scoring == "circor2022_outcome":
        tables.append(circor2022_outcome_score(labels, given, weights))
    if UNSURE not in given:
        tables.append(figures(labels, given, probabilities, classes, weights))
        tables.append(_believed(labels, given, probabilities, classes, len(weights)))
    return pd.concat(tables, axis=1)


def _believed(
    labels: np.ndarray, given: np.ndarray, probabilities: np.ndarray, classes: list[str], weightings: int
) -> pd.DataFrame:
    """How far probabilities can be believed: without intervals, so the resamples are no numbers."""
    sums = np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-12)
    sure, right = confidence_of(given, probabilities, classes), labels == given
    values = {
        "brier": brier(probabilities / sums, labels, classes),
        "ece_10_bins": expected_calibration_error(sure, right),
    }
    return pd.DataFrame([values], index=[0]).reindex(range(weightings))
