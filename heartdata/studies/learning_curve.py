"""The learning curve of a study whose arms differ in the number of training subjects: fit, tables and sentences."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from heartdata.markdown import escape, markdown_table
from heartdata.scoring.learning_curve import HORIZON, Extrapolation, PowerLaw, extrapolate, fit_power_law
from heartdata.scoring.model_names import NETWORK, SIMPLE_FEATURES
from heartdata.scoring.text import metric_label, with_bounds
from heartdata.storage.schemas import EXTRAPOLATION, LEARNING_CURVE
from heartdata.studies.protocols import Study
from heartdata.studies.scores import resampled_metrics

MODELS = (NETWORK, SIMPLE_FEATURES)
STATED_GAIN = 0.02  # of the score
CURVE_POINTS = 60  # of a fitted curve
SURE = 0.05  # a gain that fewer resamples reach is not in sight
UNBOUNDED = 0.99  # a plateau so near to 1 is the bound of the fit


def learning_curve(
    rows: pd.DataFrame, metrics: pd.DataFrame, subjects: Mapping[str, float], study: Study, classes: list[str],
    resamples: int, seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """The curve of each of MODELS (schema LEARNING_CURVE), and what it says of more subjects (EXTRAPOLATION).

    ``rows`` are predictions (`with_operating_point`), ``metrics`` those of `study_metrics`; ``subjects``: by arm, how many
    are trained on. A curve is fitted to the arms' scores, weighted by their standard errors, and again to each resample,
    which draws test subjects and seeds.
    """
    arms = list(study.arms)
    numbers = [subjects[arm] for arm in arms]
    grid = np.geomspace(min(numbers), HORIZON * max(numbers), CURVE_POINTS)
    scores = _resampled_scores(rows, study, classes, resamples, seed)
    measured = metrics[metrics["metric"] == study.metric].set_index(["model", "arm"])
    points: list[tuple[Any, ...]] = []
    gains: list[tuple[Any, ...]] = []
    for model in MODELS:
        draws = scores[model]  # (resamples, arms)
        errors = draws.std(axis=0, ddof=1)
        values = measured.loc[model].loc[arms]
        fitted = fit_power_law(numbers, values["value"], errors)
        curves = [fit_power_law(numbers, draw, errors) for draw in draws]
        for arm, number, row in zip(arms, numbers, values.itertuples(), strict=True):
            points.append((model, arm, number, row.value, row.low, row.high, row.sd))
        bounds = np.percentile([curve.score(grid) for curve in curves], [2.5, 97.5], axis=0)
        for number, value, low, high in zip(grid, fitted.score(grid), *bounds, strict=True):
            points.append((model, None, number, value, low, high, None))
        gains.append((model, *_plateau(fitted, curves), STATED_GAIN, *_gain(extrapolate(curves, STATED_GAIN))))
    return pd.DataFrame(points, columns=LEARNING_CURVE.names), pd.DataFrame(gains, columns=EXTRAPOLATION.names)


def _resampled_scores(
    rows: pd.DataFrame, study: Study, classes: list[str], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """For each of MODELS the score of each arm in each resample: shape (resamples, arms).

    The subjects are those of `resampled_metrics`. Of m seeds, m - 1 are drawn, which makes the variance unbiased, as in
    `subject_draws`.
    """
    rows = rows[rows["model"].isin(MODELS)]
    scores: dict[str, list[np.ndarray]] = {model: [] for model in MODELS}
    for arm in study.arms:
        each, _ = resampled_metrics(rows[rows["arm"] == arm], study, classes, resamples, seed)
        for model in MODELS:
            of_seeds = np.stack([table[study.metric].to_numpy()[1:] for table in each[model]])
            m, drawn = of_seeds.shape
            chosen = np.random.default_rng([seed, 1]).integers(m, size=(max(1, m - 1), drawn))
            scores[model].append(of_seeds[chosen, np.arange(drawn)].mean(axis=0))
    return {model: np.stack(of_arms, axis=1) for model, of_arms in scores.items()}


def _plateau(fitted: PowerLaw, curves: list[PowerLaw]) -> tuple[float, float, float]:
    low, high = np.percentile([curve.plateau for curve in curves], [2.5, 97.5])
    return fitted.plateau, float(low), float(high)


def _gain(gain: Extrapolation) -> tuple[float, float, float, float]:
    return gain.more, gain.low, gain.high, gain.reached


def curve_sections(curve: pd.DataFrame, extrapolation: pd.DataFrame, study: Study, plot: str = "") -> list[str]:
    """The sections of a study's page on its ``curve`` (schema LEARNING_CURVE) and ``extrapolation`` (EXTRAPOLATION).

    ``plot``: the name of a PNG beside the page.
    """
    return [
        "## Learning curve",
        *([f"![Score by number of training subjects]({plot}.png)"] if plot else []),
        markdown_table(curve_rows(curve, study.metric)),
        "\n".join(f"- {escape(sentence)}" for sentence in gain_sentences(extrapolation, study.metric)),
        "The fit is score = a - b * subjects^-c, weighted by the arms' standard errors (Figueroa et al. 2012), and for its "
        "intervals fitted again to each resample, which draws test subjects and seeds; numbers of subjects are medians and "
        "percentiles of these fits. Subjects linked by near-duplicates "
        "count as one. What this cannot show: a curve may bend beyond the largest arm (Viering and Loog 2022); "
        "more subjects of the same kind are meant, and new devices or places may need more; the arms of one seed share their "
        "test subjects, and training subjects are not resampled.",
    ]


def curve_rows(curve: pd.DataFrame, metric: str) -> list[dict[str, str]]:
    """One row an arm: how many subjects it trains on, and the score of each of MODELS."""
    measured = curve[curve["arm"].notna()]
    rows = []
    for arm, of_arm in measured.groupby("arm", sort=False):
        scores = {row.model: with_bounds(row.value, row.low, row.high, row.sd) for row in of_arm.itertuples()}
        number = {"training subjects": f"{of_arm['subjects'].iloc[0]:.0f}", "arm": str(arm)}
        rows.append(number | {f"{metric_label(metric)}, {model}": scores[model] for model in MODELS})
    return rows


def gain_sentences(extrapolation: pd.DataFrame, metric: str) -> list[str]:
    """For each model, how many more training subjects the gain would take, or that the curve does not say so."""
    return [_sentence(row, f"{row.gain:.2f}".lstrip("0"), metric_label(metric)) for row in extrapolation.itertuples()]


def _sentence(row: Any, gain: str, metric: str) -> str:
    goal = f"{row.model}: a gain of {gain} {metric}"
    within = f"with {HORIZON} times the training subjects"
    levels_off = f"The curve levels off at {with_bounds(row.plateau, row.plateau_low, row.plateau_high)}."
    if row.plateau_high > UNBOUNDED:
        levels_off = f"Where the curve levels off is not determined: at {row.plateau_low:.3f} or higher."
    if row.reached < SURE:
        return f"{goal} is not in sight: {1 - row.reached:.0%} of the resamples do not reach it {within}. {levels_off}"
    if math.isfinite(row.more_high):
        interval = f"95 % interval {row.more_low:.0f} to {row.more_high:.0f}"
        return f"{goal} would take about {row.more_subjects:.0f} more training subjects ({interval}). {levels_off}"
    return (
        f"{goal} takes at least {row.more_low:.0f} more training subjects, and the curve does not determine how many: "
        f"{1 - row.reached:.0%} of the resamples do not reach it {within}. {levels_off}"
    )
