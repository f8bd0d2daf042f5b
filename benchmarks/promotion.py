"""How often a challenger is promoted that is as good as the champion or better, and refused that is worse in one slice; beside
promoting whatever has the higher score.

    python -m benchmarks.promotion [--draws 600]

Subjects have one class and 1 to 4 recordings. Both models see a shared difficulty of each subject and recording, beside
one of their own, so that their errors correlate. The gates on the challenger by itself are off, but that of slices.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import nct, t

from benchmarks.command import run_benchmark, say
from benchmarks.rows import Row, Target, scored, share
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
SIZES = {"draws": (600, 10), "slices": (100, 2)}


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
    return refused_by(draws, subjects, in_slice)[0] / draws


def refused_by(draws: int, subjects: int, in_slice: float) -> tuple[int, int]:
    """In how many draws the gate refuses, and how often the slice's score is lower by more than the gate's bound at all."""
    rng, by_gate, by_score = np.random.default_rng(subjects), 0, 0
    for seed in range(draws):
        first, second = two_models(subjects, rng, (BETTER, SKILL), in_slice)
        in_site = (first["site"] == "x").to_numpy()
        by_score += macro_f1_of(first[in_site]) - macro_f1_of(second[in_site]) < -CONFIG.max_slice_drop
        sites, evaluation = first[["recording_id", "site"]], EvaluationConfig(bootstrap=RESAMPLES, seed=seed)
        first, second = (table.drop(columns="site") for table in (first, second))
        decision = decide(first, {}, second, sites, CLASSES, CONFIG, evaluation, "gates")
        by_gate += not next(gate.passed for gate in decision.gates if gate.name == "worst slice")
    return by_gate, by_score


def macro_f1_of(rows: pd.DataFrame) -> float:
    one = np.ones((1, len(rows)))
    return float(compute_metrics(rows["label"], rows["prediction"], np.empty(0), CLASSES, one, ["macro_f1"]).iloc[0, 0])


def measure(draws: int, slices: int) -> Iterator[Row]:
    naive = "whatever scores higher"
    for subjects in SUBJECTS:
        say(f"{draws} nights, {subjects} subjects")
        equal = differences(draws, subjects, (SKILL, SKILL))
        promoted, higher = (share(int(passed.sum()), draws) for passed in (equal["low"] > 0, equal["difference"] > 0))
        yield scored(
            f"{subjects} subjects, equal models: promoted", promoted, naive, higher, lower_is_better=True,
            target=Target(of="heartbeat", most=round(100 * (1 - LEVEL), 1)), unit="%",
        )  # fmt: skip
        better = differences(draws, subjects, (BETTER, SKILL))
        effect, error, dof = better["difference"].mean(), better["difference"].std(), better["dof"].mean()
        power = float(nct.sf(t.ppf(LEVEL, dof), dof, effect / error))
        yield scored(
            f"{subjects} subjects, macro-F1 higher by {effect:.3f} ± {error:.3f}: promoted",
            share(int((better["low"] > 0).sum()), draws), "power of a t-test with that standard error", 100 * power,
            unit="%",
        )  # fmt: skip
    for subjects in SUBJECTS[2:]:
        for in_slice in (SKILL, 0.5, 0.0):
            say(f"{slices} nights, {subjects} subjects, one slice")
            whole = two_models(20_000, np.random.default_rng(0), (in_slice, SKILL))
            difference = macro_f1_of(whole[0]) - macro_f1_of(whole[1])
            by_gate, by_score = refused_by(slices, subjects, in_slice)
            is_worse = in_slice < SKILL
            yield scored(
                f"{subjects} subjects, of them {subjects // 5} in a slice where macro-F1 differs by {round(difference, 2) + 0.0:+.2f}: refused",
                share(by_gate, slices), f"a drop of more than {CONFIG.max_slice_drop} by chance or not", share(by_score, slices),
                lower_is_better=not is_worse, unit="%",
            )  # fmt: skip


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
