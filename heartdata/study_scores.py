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


def with_calibrated(
    rows: pd.DataFrame, valid: pd.DataFrame, classes: list[str], config: AnswersConfig, study: Study
) -> pd.DataFrame:
    """``rows`` (schema `study_schema`), the network's probabilities scaled, and its answers at an operating point added.

    What is fitted for a fold is never fitted to its own answers: but to those in the other folds of the same arm and
    seed, or, where databases are held out, to those for its validation part (rows ``valid``), as the networks of the
    other folds have learned from the database that is held out here.
    """
    ours = rows[rows["model"] == NETWORK]
    added = [rows[rows["model"] != NETWORK]]
    keys = ["arm", "seed", "fold"]
    for key, here in ours.groupby(keys, sort=False):
        if study.protocol == "leave_one_out":
            fitted_to = valid[(valid[keys] == list(key)).all(axis=1)]
        else:
            fitted_to = ours[(ours[keys[:2]] == list(key[:2])).all(axis=1) & (ours["fold"] != key[2])]
        added += _calibrated(here, fitted_to, classes, config, study.scoring)
    return pd.concat(added, ignore_index=True)


def _calibrated(
    here: pd.DataFrame, fitted_to: pd.DataFrame, classes: list[str], config: AnswersConfig, scoring: Scoring
) -> list[pd.DataFrame]:
    names = [f"p_{c}" for c in classes]
    if scoring.startswith(("cinc2016", "circor2022")) and "operating_point" not in config.model_fields_set:
        # these are scored by sensitivity and specificity, not by precision
        config = config.model_copy(update={"operating_point": "balanced_accuracy"})
    if scoring == "circor2022_outcome":
        fitted_to = patient_answers(fitted_to, "outcome", by="patient")  # who is referred is a patient
    found = calibrated(fitted_to[names].to_numpy(float), fitted_to, classes, config)
    scaled = apply_temperature(here[names].to_numpy(float), found.temperature)
    plain = here.assign(**dict(zip(names, scaled.T, strict=True)))
    answered = patient_answers(plain, "outcome", by="patient") if scoring == "circor2022_outcome" else plain
    given = answers(answered[names].to_numpy(float), classes, np.array(found.class_weights))
    if scoring == "circor2022_outcome":
        given = plain["patient"].map(dict(zip(answered["patient"], given, strict=True))).to_numpy(object)
    at_point = plain.assign(model=AT_POINT, answer=given)
    if scoring != "cinc2016":
        return [plain, at_point]
    unsure = np.where(confidence_of(given, scaled, classes) < found.unsure_below, UNSURE, given)
    return [plain, at_point, at_point.assign(model=OR_UNSURE, answer=unsure)]


def study_figures(rows: pd.DataFrame, study: Study, classes: list[str], resamples: int, seed: int) -> pd.DataFrame:
    """Rows of schema STUDY_FIGURES for each arm and model of ``rows`` (as `with_calibrated` gives them).

    A value is the mean over seeds, each scored on its folds together; where databases are held out, each is scored by
    itself and the mean taken, and so is every AUROC, as networks of different folds do not share a scale. A resample
    draws subjects, the same for all seeds; a bound of an interval is one of their values, which may be infinite.
    """
    found = []
    for (arm, model), of_model in rows.groupby(["arm", "model"], sort=False):
        names = of_model["group"].unique()
        drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        weight_of = pd.DataFrame(np.vstack([np.ones(len(names)), drawn]).T, index=names)
        of_seeds = [_figures_of(part, study, classes, weight_of) for _, part in of_model.groupby("seed")]
        metrics = list(dict.fromkeys(name for table in of_seeds for name in table.columns))
        each = np.stack([table.reindex(columns=metrics).to_numpy(float) for table in of_seeds])
        with np.errstate(invalid="ignore"):  # infinite values have no spread
            means = each.mean(axis=0)
            sds = each[:, 0].std(axis=0, ddof=1).tolist() if len(each) > 1 else [None] * len(metrics)
        for i, (metric, sd) in enumerate(zip(metrics, sds, strict=True)):
            drawn_values = means[1:, i][~np.isnan(means[1:, i])]
            low, high = (np.nan, np.nan)
            if len(drawn_values):
                low, high = np.percentile(drawn_values, INTERVAL, method="inverted_cdf")
            found.append((arm, model, metric, float(means[0, i]), sd, float(low), float(high)))
    return pd.DataFrame(found, columns=["arm", "model", "metric", "value", "sd", "low", "high"])


def _figures_of(rows: pd.DataFrame, study: Study, classes: list[str], weight_of: pd.DataFrame) -> pd.DataFrame:
    """The metrics of one model and seed under several weightings of subjects: one row a weighting."""
    each = {name: _metrics(part, study.scoring, classes, weight_of) for name, part in rows.groupby("fold")}
    if study.protocol == "k_fold":
        together = _metrics(rows, study.scoring, classes, weight_of)
        if "auroc" in together:
            together["auroc"] = pd.concat([table["auroc"] for table in each.values()], axis=1).mean(axis=1)
        return together
    mean = sum(each.values()) / len(each)
    single = [t[[study.metric, "auroc"]].add_suffix(f" {name}") for name, t in each.items() if "auroc" in t]
    return pd.concat([mean, *single], axis=1)


def _metrics(rows: pd.DataFrame, scoring: Scoring, classes: list[str], weight_of: pd.DataFrame) -> pd.DataFrame:
    """The scoring's own metrics, and those of every study where no answer is unsure."""
    at_point, never_unsure = (rows["model"] == AT_POINT).all(), not (rows["model"] == OR_UNSURE).any()
    if scoring.startswith("circor2022"):
        told = rows.groupby("patient")["answer"].first()
        rows = patient_answers(rows, "murmur" if scoring == "circor2022_murmur" else "outcome", by="patient")
        if scoring == "circor2022_outcome" and at_point:  # where all of a patient's recordings have his answer
            rows = rows.assign(answer=told.loc[rows["patient"]].to_numpy(object))
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
    if never_unsure:
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
