"""From the predictions of all folds to a study's metrics: means over seeds, intervals by bootstrap over subjects."""

import numpy as np
import pandas as pd

from heartdata.scoring import challenges
from heartdata.scoring.bootstrap import subject_draws, with_interval
from heartdata.scoring.calibration import (
    DecisionConfig,
    apply_temperature,
    brier,
    confidence_of,
    decide,
    expected_calibration_error,
    fit_calibration,
)
from heartdata.scoring.metrics import (
    DIFFERENCE,
    Rule,
    compute_metrics,
    subject_predictions,
)
from heartdata.scoring.model_names import NETWORK
from heartdata.studies.protocols import LEAKY, Scoring, Study

AT_POINT = f"{NETWORK}, operating point"
OR_UNSURE = f"{NETWORK}, or unsure"
PROBABILITY_DIGITS = 12  # of means: the mean of three equal numbers is the same as that of four, and so is their rank


def scored_rows(rows: pd.DataFrame, study: Study, rule: Rule) -> pd.DataFrame:
    """``rows`` (schema `study_schema`, one per recording) as they are scored: unchanged, or combined to one per patient.

    The probabilities of a patient's recordings are combined by ``rule``, see `subject_predictions`; the columns that
    identify a recording are then null.
    """
    if study.level == "recording":
        return rows
    keys = ["arm", "seed", "fold", "model"]
    tables = [
        subject_predictions(part, rule, by="patient")
        .drop(columns="recordings")
        .assign(**dict(zip(keys, key, strict=True)))
        for key, part in rows.groupby(keys, sort=False)
    ]
    patients = rows.groupby("patient")[["subject", "collection", "noisy"]].first()
    combined = pd.concat(tables, ignore_index=True)
    names = [name for name in combined if name.startswith("p_")]
    combined[names] = combined[names].round(PROBABILITY_DIGITS)
    return combined.join(patients, on="patient").assign(recording_id=None, sha256=None)


def with_known_subjects(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` (schema `study_schema`) with the groups and subjects of the arm by subject in the one that hides them.

    Its split takes each recording for a subject; its score and interval are over the same subjects as the other's.
    """
    leaky = rows["arm"] == LEAKY
    known = rows[~leaky].drop_duplicates("recording_id").set_index("recording_id")
    hidden = leaky & rows["recording_id"].isin(known.index)
    columns = ("group", "subject", "patient")
    return rows.assign(**{name: rows[name].mask(hidden, rows["recording_id"].map(known[name])) for name in columns})


def with_operating_point(
    rows: pd.DataFrame, valid: pd.DataFrame, classes: list[str], config: DecisionConfig, study: Study
) -> pd.DataFrame:
    """``rows`` (see `scored_rows`), the network's probabilities calibrated, its predictions at an operating point added.

    All is fitted as `heartbeat run` fits it: to the same network's predictions of its own fold's validation part (rows
    ``valid``), never to test predictions. The networks of other folds have trained on the subjects tested here.
    """
    keys = ["arm", "seed", "fold"]
    valid_of = dict(iter(valid.groupby(keys)))
    tables = [rows[rows["model"] != NETWORK]]
    for key, test in rows[rows["model"] == NETWORK].groupby(keys, sort=False):
        tables += _calibrated(test, valid_of[key], classes, config, study.scoring)
    return pd.concat(tables, ignore_index=True)


def _calibrated(
    test: pd.DataFrame, valid: pd.DataFrame, classes: list[str], config: DecisionConfig, scoring: Scoring
) -> list[pd.DataFrame]:
    """The rows ``test`` of one network with calibrated probabilities, once for each way to decide by them."""
    names = [f"p_{c}" for c in classes]
    calibration = fit_calibration(valid[names].to_numpy(float), valid, classes, config)
    scaled = apply_temperature(test[names].to_numpy(float), calibration.temperature)
    plain = test.assign(**dict(zip(names, scaled.T, strict=True)))
    predictions = decide(scaled, classes, calibration.class_weights)
    at_point = plain.assign(model=AT_POINT, prediction=predictions)
    if scoring != "cinc2016":
        return [plain, at_point]
    confident = confidence_of(predictions, scaled, classes) >= calibration.unsure_below
    return [
        plain,
        at_point,
        at_point.assign(model=OR_UNSURE, prediction=np.where(confident, predictions, challenges.UNSURE)),
    ]


def study_metrics(rows: pd.DataFrame, study: Study, classes: list[str], resamples: int, seed: int) -> pd.DataFrame:
    """Rows of schema STUDY_METRICS for each arm and model of ``rows`` (from `with_operating_point`).

    A value is the mean over seeds, each scored on its folds together; where databases are held out, each is scored by
    itself and the mean taken, and so is every AUROC, as networks of different folds do not share a scale. A resample
    draws subjects (`subject_draws`), the same for all seeds and models, so that the difference of two models has an
    interval of its own. A model that always predicts the same class has the score that it has: a metric that is then the
    same in all resamples has no wider interval.
    """
    metrics = []
    for arm, of_arm in rows.groupby("arm", sort=False):
        each, dof = resampled_metrics(of_arm, study, classes, resamples, seed)
        with np.errstate(invalid="ignore"):  # infinite values have no standard deviation
            means = {model: sum(tables[1:], tables[0]) / len(tables) for model, tables in each.items()}
            for model, table in means.items():
                several = _several(of_arm[of_arm["model"] == model], classes)
                for metric in table:
                    sd = np.std([one[metric][0] for one in each[model]], ddof=1) if len(each[model]) > 1 else None
                    less = means[NETWORK][metric] - table[metric] if NETWORK in means else table[metric] * np.nan
                    is_share = metric.partition(" ")[0] not in challenges.NO_SHARES
                    name, _, fold = metric.partition(" ")
                    in_fold = several["probabilities" if name == "auroc" else "predictions"]
                    varies = in_fold.get(fold, in_fold.any())
                    if name in challenges.YOUDEN_J:  # twice a share less 1
                        value = [2 * bound - 1 for bound in with_interval((table[metric] + 1) / 2, dof, varies=varies)]
                    else:
                        value = [*with_interval(table[metric], dof, is_share, varies=varies)]
                    metrics.append((arm, model, metric, sd, *value, *with_interval(less, dof, is_share=False)))
    return pd.DataFrame(metrics, columns=["arm", "model", "metric", "sd", "value", "low", "high", *DIFFERENCE])


def _several(rows: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """By fold: whether one model's ``predictions``, or its ``probabilities``, are not all the same there, with any seed."""
    of_fold = rows.groupby(["fold", "seed"])
    several = pd.DataFrame({
        "predictions": of_fold["prediction"].nunique() > 1,
        "probabilities": (of_fold[[f"p_{c}" for c in classes]].nunique() > 1).any(axis=1),
    })  # fmt: skip
    return several.groupby("fold").any()


def resampled_metrics(
    rows: pd.DataFrame, study: Study, classes: list[str], resamples: int, seed: int
) -> tuple[dict[str, list[pd.DataFrame]], float]:
    """For each model of one arm's ``rows`` a table a seed, and the degrees of freedom of their intervals.

    A table has a column a metric; its first row scores every subject once, the others a resample each (`subject_draws`).
    """
    weight_of, dof = _subject_weights(rows, study, resamples, seed)
    each = {
        model: [_metrics_of(part, study, classes, weight_of) for _, part in of_model.groupby("seed")]
        for model, of_model in rows.groupby("model", sort=False)
    }
    return each, dof


def _subject_weights(rows: pd.DataFrame, study: Study, resamples: int, seed: int) -> tuple[pd.DataFrame, float]:
    """Weights of each group, shape (groups, 1 + resamples), and their degrees of freedom.

    Strata are classes; where each database is scored by itself, the classes of each.
    """
    known = rows.drop_duplicates(["fold", "group", "label"])
    strata = known["label"] if study.protocol == "k_fold" else known["fold"] + "/" + known["label"]
    draws = subject_draws(known["group"], strata, resamples, seed)
    weight_of = pd.DataFrame(draws.weights.T, index=known["group"])
    return weight_of[~weight_of.index.duplicated()], draws.degrees_of_freedom


def _metrics_of(rows: pd.DataFrame, study: Study, classes: list[str], weight_of: pd.DataFrame) -> pd.DataFrame:
    """The metrics of one model and seed under several weightings of subjects: one row per weighting."""
    each = {name: _metrics(part, study.scoring, classes, weight_of) for name, part in rows.groupby("fold")}
    if study.protocol == "k_fold":
        together = _metrics(rows, study.scoring, classes, weight_of)
        if "auroc" in together:
            areas = pd.concat([table["auroc"] for table in each.values()], axis=1).dropna(axis=1, how="all")
            together["auroc"] = areas.mean(axis=1, skipna=False)
        return together
    mean = sum(each.values()) / len(each)
    single = [t[[study.metric, "auroc"]].add_suffix(f" {name}") for name, t in each.items() if "auroc" in t]
    return pd.concat([mean, *single], axis=1)


def _metrics(rows: pd.DataFrame, scoring: Scoring, classes: list[str], weight_of: pd.DataFrame) -> pd.DataFrame:
    """The scoring's own metrics, and unless some predictions may be unsure those of every study."""
    labels, predictions = rows["label"].to_numpy(object), rows["prediction"].to_numpy(object)
    weights = weight_of.loc[rows["group"]].to_numpy(float).T
    probabilities = rows[[f"p_{c}" for c in classes]].to_numpy(float)
    tables = []
    if scoring == "cinc2016":
        tables.append(challenges.cinc2016_score(labels, predictions, rows["noisy"], weights))
    elif scoring in ("pascal_a", "pascal_b"):
        subset: challenges.Subset = "set_a" if scoring == "pascal_a" else "set_b"
        tables.append(challenges.pascal_score(labels, predictions, subset, weights))
    elif scoring == "circor2022_murmur":
        tables.append(challenges.circor2022_murmur_score(labels, predictions, weights))
    elif scoring == "circor2022_outcome":
        tables.append(challenges.circor2022_outcome_score(labels, predictions, weights))
    if not (rows["model"] == OR_UNSURE).any():
        sums = np.maximum(probabilities.sum(axis=1, keepdims=True), 1e-12)
        confidence = confidence_of(predictions, probabilities, classes)
        values = {
            "brier": brier(probabilities / sums, labels, classes),
            "ece_10_bins": expected_calibration_error(confidence, labels == predictions),
        }
        tables.append(compute_metrics(labels, predictions, probabilities, classes, weights))
        tables.append(pd.DataFrame([values]).reindex(range(len(weights))))  # no intervals: nan in the resamples
    return pd.concat(tables, axis=1)
