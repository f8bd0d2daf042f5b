"""A model's calibration fitted again to a user's own labelled recordings, of which there may be few.

Fitted are a temperature and a bias of each class (bias-corrected temperature scaling: Alexandari et al., ICML 2020), by
likelihood and drawn towards the model's own, the more the fewer the recordings. The operating point and the unsure bound
then follow from the probabilities, as the best expected score and the expected error rate, so that few labels do not make
them luck. docs/serving.md has the simulation behind the choice.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import log_softmax

from heartdata.scoring.bootstrap import subject_draws, with_interval
from heartdata.scoring.calibration import (
    TEMPERATURES,
    Calibration,
    DecisionConfig,
    apply_calibration,
    confidence_of,
    decide,
    expected_operating_point,
    log_probabilities,
    unsure_threshold,
)
from heartdata.scoring.confusion import class_numbers
from heartdata.scoring.metrics import DIFFERENCE, calibrated_rows, compute_metrics

LOG_TEMPERATURE_SD, BIAS_SD = 0.5, 1.0  # of the normal priors around the model's own temperature and bias
FOLDS = 10
BINS = 10  # of the calibration error
LEAST_RECORDINGS, LEAST_SUBJECTS = 10, 5
AFTER, BEFORE = "calibrated here", "as trained"


def adapt(
    probabilities: np.ndarray, labels: pd.Series, classes: list[str], own: Calibration, config: DecisionConfig
) -> Calibration:
    """The calibration for recordings like these: ``probabilities`` (n, classes) are the network's, ``own`` the model's.

    A class without a recording keeps its bias and its weight.
    """
    truth, scores = class_numbers(labels, classes), log_probabilities(probabilities)
    own_bias = np.zeros(len(classes)) if own.class_bias is None else np.array(own.class_bias)
    present = np.bincount(truth, minlength=len(classes)) > 0
    start = np.log(own.temperature)

    def bias_of(values: np.ndarray) -> np.ndarray:
        bias = own_bias.copy()
        bias[present] += values
        return bias

    def loss(values: np.ndarray) -> float:
        likelihood = log_softmax(scores / np.exp(values[0]) + bias_of(values[1:]), axis=1)[np.arange(len(truth)), truth]
        prior = ((values[0] - start) / LOG_TEMPERATURE_SD) ** 2 + ((values[1:] / BIAS_SD) ** 2).sum()
        return prior / 2 - likelihood.sum()

    ranges = [tuple(np.log(TEMPERATURES)) if config.temperature else (start, start)]
    ranges += [(-10.0, 10.0)] * present.sum()
    best = minimize(loss, [start, *np.zeros(present.sum())], method="L-BFGS-B", bounds=ranges).x
    fitted = Calibration(temperature=float(np.exp(best[0])), class_bias=tuple(bias_of(best[1:]).tolist()))
    scaled = apply_calibration(probabilities, fitted)
    weights = np.array(own.class_weights or np.ones(len(classes)))
    weights /= weights[present][0]
    if config.operating_point == "none":
        weights[present] = 1.0
    else:
        names = [name for name, is_present in zip(classes, present, strict=True) if is_present]
        weights[present] = expected_operating_point(scaled[:, present], names, config.operating_point)
    confidence = confidence_of(decide(scaled, classes, weights), scaled, classes)
    bound = unsure_threshold(confidence, confidence, config.max_risk, config.min_coverage)
    return fitted.model_copy(update={"class_weights": tuple(weights.tolist()), "unsure_below": bound})


@dataclass(frozen=True)
class Adapted:
    """A fitted ``calibration``, and what it is worth: ``metrics`` (schema METRICS) of models AFTER and BEFORE.

    ``predictions`` (columns of `predictions_schema` and unsure) are of AFTER, each by the recordings of other subjects.
    """

    calibration: Calibration
    metrics: pd.DataFrame
    predictions: pd.DataFrame


def adapt_and_score(
    probabilities: np.ndarray, rows: pd.DataFrame, classes: list[str], own: Calibration, config: DecisionConfig,
    resamples: int = 500,
) -> Adapted:  # fmt: skip
    """`adapt`, scored by cross-validation over subjects: no recording by what was fitted to it or to its ``group``.

    ``rows``: columns recording_id, sha256, group and label. The differences and their intervals are AFTER less BEFORE.
    """
    groups = np.sort(rows["group"].unique())
    fold_of = dict(zip(np.random.default_rng(0).permutation(groups), np.arange(len(groups)) % FOLDS, strict=True))
    folds = rows["group"].map(fold_of).to_numpy()
    after, unsure = [], np.zeros(len(rows), bool)
    for fold in np.unique(folds):
        held_out = folds == fold
        fitted = adapt(probabilities[~held_out], rows["label"][~held_out], classes, own, config)
        of_fold = calibrated_rows(rows[held_out], probabilities[held_out], classes, fitted)
        unsure[held_out] = _confidence(of_fold, classes) < fitted.unsure_below
        after.append(of_fold.set_axis(np.flatnonzero(held_out)))
    held_out_rows = pd.concat(after).sort_index()
    before = calibrated_rows(rows, probabilities, classes, own)
    correct = (held_out_rows["prediction"] == held_out_rows["label"]).to_numpy()
    calibration = adapt(probabilities, rows["label"], classes, own, config).model_copy(
        update={
            "coverage": float(1 - unsure.mean()),
            "risk": float(1 - correct[~unsure].mean()) if not unsure.all() else 0.0,
        }
    )
    metrics = _compared(held_out_rows, before, classes, resamples)
    return Adapted(calibration, metrics, held_out_rows.assign(unsure=unsure))


def _confidence(predictions: pd.DataFrame, classes: list[str]) -> np.ndarray:
    return confidence_of(predictions["prediction"], predictions[[f"p_{c}" for c in classes]].to_numpy(float), classes)


def _compared(after: pd.DataFrame, before: pd.DataFrame, classes: list[str], resamples: int) -> pd.DataFrame:
    draws = subject_draws(after["group"], after["label"], resamples, seed=0)
    values = [_all_metrics(rows, classes, draws.weights) for rows in (after, before)]
    rows = []
    for model, of_model in zip((AFTER, BEFORE), values, strict=True):
        for metric in of_model:
            interval = with_interval(of_model[metric], draws.degrees_of_freedom, is_share=metric != "brier")
            difference = with_interval(values[0][metric] - of_model[metric], draws.degrees_of_freedom, is_share=False)
            rows.append({
                "model": model, "metric": metric,
                **dict(zip(("value", "low", "high"), interval, strict=True)),
                **dict(zip(DIFFERENCE, difference, strict=True)),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _all_metrics(rows: pd.DataFrame, classes: list[str], weights: np.ndarray) -> pd.DataFrame:
    """The METRICS, brier and ece_10_bins under each weighting (a row each)."""
    probabilities = rows[[f"p_{c}" for c in classes]].to_numpy(float)
    labels, predictions = (rows[name].to_numpy(object) for name in ("label", "prediction"))
    confidence = _confidence(rows, classes)
    in_bin = np.minimum((confidence * BINS).astype(int), BINS - 1)[:, None] == np.arange(BINS)
    gaps = weights @ (in_bin * ((labels == predictions) - confidence)[:, None])
    truth = np.eye(len(classes))[class_numbers(labels, classes)]
    errors = ((probabilities - truth) ** 2).sum(axis=1)
    ranked = compute_metrics(labels, predictions, probabilities, classes, weights)
    return ranked.drop(columns="auroc").assign(  # folds differ in their bias: ranks across them mean nothing
        brier=weights @ errors / weights.sum(axis=1),
        ece_10_bins=np.abs(gaps).sum(axis=1) / weights.sum(axis=1),
    )
