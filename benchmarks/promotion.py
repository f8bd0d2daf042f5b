"""How often a challenger is promoted that is as good as the champion, better, or worse in one slice; see docs/promotion.md.

    python benchmarks/promotion.py [--draws 1000]

Subjects have one class and 1 to 4 recordings. Both models see a shared difficulty of each subject and recording, beside
one of their own, so that their errors correlate. The gates on the challenger by itself are off, but that of slices.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import binomtest, nct, t

from heartdata.scoring.bootstrap import subject_draws
from heartdata.scoring.comparison import compare
from heartdata.scoring.metrics import EvaluationConfig, compute_metrics
from heartdata.scoring.promotion import PromotionConfig, decide

SHARES = {"a": 0.6, "b": 0.3, "c": 0.1}
CLASSES = list(SHARES)
SHARED = 0.8  # of the variance of a model's errors, with the other model
SKILL = 1.0  # distance of the true class from the others, in standard deviations of the errors
BETTER = 1.5
SUBJECTS = (30, 60, 120, 300)
CONFIG = PromotionConfig(min_over_baselines=-1, max_ece=1)
LEVEL, RESAMPLES = CONFIG.level, 200


def two_models(
    subjects: int, rng: np.random.Generator, skill: tuple[float, float], in_slice: float | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions of a challenger and a champion of that skill for the same recordings; each class has two subjects.

    ``in_slice``: the challenger's skill at site x, of a fifth of the subjects.
    """
    label = np.concatenate([np.repeat(np.arange(3), 2), rng.choice(3, subjects - 6, p=list(SHARES.values()))])
    of = np.repeat(np.arange(subjects), rng.integers(1, 5, subjects))
    site = np.where(rng.random(subjects) < 0.2, "x", "y")[of]
    rows = pd.DataFrame(
        {"recording_id": np.arange(len(of)).astype(str), "group": of, "label": np.array(CLASSES)[label[of]]}
    )

    def errors() -> np.ndarray:
        return (rng.normal(size=(subjects, 3))[of] + rng.normal(size=(len(of), 3))) / np.sqrt(2)

    shared, tables = errors(), []
    for number, of_model in enumerate(skill):
        scores = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * errors() + np.log(list(SHARES.values())) / 2
        skills = np.full(len(of), of_model)
        if in_slice is not None and number == 0:
            skills[site == "x"] = in_slice
        scores[np.arange(len(of)), label[of]] += skills
        columns = pd.DataFrame(softmax(scores, axis=1), columns=[f"p_{c}" for c in CLASSES])
        tables.append(rows.assign(prediction=np.array(CLASSES)[scores.argmax(axis=1)], site=site).join(columns))
    return tables[0], tables[1]


def differences(draws: int, subjects: int, skill: tuple[float, float]) -> pd.DataFrame:
    """One row a draw: columns difference, low (its bound at LEVEL) and dof, the degrees of freedom."""
    rng, rows = np.random.default_rng(subjects), []
    for seed in range(draws):
        first, second = two_models(subjects, rng, skill)
        compared = compare(first, second, CLASSES, "macro_f1", LEVEL, RESAMPLES, seed)
        dof = subject_draws(first["group"], first["label"], 1, 0).degrees_of_freedom
        rows.append((compared.difference, compared.low, dof))
    return pd.DataFrame(rows, columns=["difference", "low", "dof"])


def refused(draws: int, subjects: int, in_slice: float) -> float:
    """The share of draws in which the gate of slices refuses a challenger that is better at the other site."""
    rng, count = np.random.default_rng(subjects), 0
    for seed in range(draws):
        first, second = two_models(subjects, rng, (BETTER, SKILL), in_slice)
        sites, evaluation = first[["recording_id", "site"]], EvaluationConfig(bootstrap=RESAMPLES, seed=seed)
        first, second = (table.drop(columns="site") for table in (first, second))
        decision = decide(first, {}, second, sites, CLASSES, CONFIG, evaluation, "gates")
        count += not next(gate.passed for gate in decision.gates if gate.name == "worst slice")
    return count / draws


def report(draws: int) -> Iterator[str]:
    """The lines of both tables."""
    yield "| subjects | equal models: promoted (95 % interval) | difference of the better one | promoted | power calculation |"
    yield "| --- | --- | --- | --- | --- |"
    for subjects in SUBJECTS:
        promoted = int((differences(draws, subjects, (SKILL, SKILL))["low"] > 0).sum())
        low, high = binomtest(promoted, draws).proportion_ci()
        better = differences(draws, subjects, (BETTER, SKILL))
        effect, error, dof = better["difference"].mean(), better["difference"].std(), better["dof"].mean()
        power = nct.sf(t.ppf(LEVEL, dof), dof, effect / error)
        yield (
            f"| {subjects} | {promoted / draws:.3f} ({low:.3f} to {high:.3f}) | {effect:.3f} ± {error:.3f} | "
            f"{(better['low'] > 0).mean():.3f} | {power:.3f} |"
        )
    yield ""
    yield "| subjects, of them in the slice | true difference in the slice | refused |\n| --- | --- | --- |"
    for subjects in SUBJECTS[2:]:
        for in_slice in (SKILL, 0.5, 0.0):
            (first, second) = two_models(20_000, np.random.default_rng(0), (in_slice, SKILL))
            one = np.ones((1, len(first)))
            values = [
                compute_metrics(m["label"], m["prediction"], np.empty(0), CLASSES, one, ["macro_f1"]).iloc[0, 0]
                for m in (first, second)
            ]
            share = refused(draws // 5, subjects, in_slice)
            yield f"| {subjects}, {subjects // 5} | {values[0] - values[1]:+.2f} | {share:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="simulated nights for each row of the first table")
    for line in report(parser.parse_args().draws):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
