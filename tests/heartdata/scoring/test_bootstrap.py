"""Resamples keep every class, and intervals contain the true value as often as they say."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import binomtest

from heartdata.scoring import bootstrap
from heartdata.scoring.metrics import METRICS, metrics_with_intervals


def counts(groups: list, labels: list, resamples: int = 200) -> np.ndarray:
    """Weights of the resamples alone."""
    return bootstrap.subject_draws(groups, labels, resamples, seed=0).weights[1:]


def test_every_resample_has_every_class_and_whole_subjects():
    groups = [*range(40), *range(40)]
    labels = (["normal"] * 37 + ["murmur"] * 2 + ["artifact"]) * 2
    weights = counts(groups, labels)
    assert (weights[:, :40] == weights[:, 40:]).all()
    for label, subjects in (("normal", 37), ("murmur", 2), ("artifact", 1)):
        assert weights[:, :40][:, np.array(labels[:40]) == label].sum(axis=1) == pytest.approx(subjects)
    assert bootstrap.subject_draws(groups, labels, 5, 0).weights[0].tolist() == [1] * 80


def test_the_variance_of_a_mean_is_that_of_a_sample():
    values = np.array([0.0, 1.0, 3.0, 4.0])
    means = counts([*"abcd"], ["x"] * 4, 20_000) @ values / 4
    assert means.var() == pytest.approx(values.var(ddof=1) / 4, rel=0.03)


def test_subjects_with_several_labels_are_drawn_with_those_of_their_rarest():
    groups, labels = zip(*[("a", "x"), ("a", "y"), ("b", "y"), *((f"n{i}", "x") for i in range(9))], strict=True)
    weights = counts(list(groups), list(labels))
    assert len(weights) == 200
    assert (weights[:, 1] + weights[:, 2] == 2).all()  # a and b are the subjects of y


def test_resamples_that_lack_a_class_all_the_same_are_dropped():
    members = {"1": "kc", "2": "kd", "3": "c", "4": "d"}  # all of k are in the strata of c and d
    groups, labels = zip(*[(name, label) for name, has in members.items() for label in has], strict=True)
    weights = counts(list(groups), list(labels))
    assert 0 < len(weights) < 200
    for label in "kcd":
        assert (weights[:, np.array(labels) == label].sum(axis=1) > 0).all()


@pytest.mark.parametrize(
    ("values", "is_share", "expected"),
    [
        ([0.5, 0.5, 0.5], True, (0.5, 0.5, 0.5)),
        ([1, 1, 1], False, (1, 1, 1)),
        ([np.nan, 1, 1], True, (np.nan,) * 3),
        ([0.5, np.nan, np.nan], True, (0.5, np.nan, np.nan)),
        ([2, np.inf, 1, np.nan], False, (2, 1, np.inf)),
        ([0.0, -1, 1], False, (0, -1.96 * 2**0.5, 1.96 * 2**0.5)),
    ],
)
def test_intervals_of_known_values(values: list[float], is_share: bool, expected: tuple[float, ...]):
    assert bootstrap.with_interval(values, 1e9, is_share) == pytest.approx(expected, rel=1e-3, nan_ok=True)


@pytest.mark.parametrize("subjects", [5, 30])
def test_a_perfect_share_has_the_interval_of_clopper_and_pearson(subjects: int):
    interval = binomtest(subjects, subjects).proportion_ci(0.9)
    expected = (1, interval.low, interval.high)
    assert bootstrap.with_interval([1.0] * 9, subjects - 1, level=0.9) == pytest.approx(expected)
    assert bootstrap.with_interval([0.0] * 9, subjects - 1, level=0.9) == pytest.approx((0, 0, 1 - interval.low))


def test_a_share_stays_between_0_and_1_and_an_unknown_variance_has_no_interval():
    _, low, high = bootstrap.with_interval([0.97, 0.9, 1.0, 0.95], 3)
    assert 0 < low < 0.97 < high < 1
    alone = bootstrap.subject_draws(["a", "b"], ["x", "y"], 20, 0)  # one subject of each class
    assert np.isnan(bootstrap.with_interval([0.5, 0.5, 0.5], alone.degrees_of_freedom)[1:]).all()


def simulated(subjects: int, rng: np.random.Generator) -> pd.DataFrame:
    """Predictions for subjects of two classes, 7 to 3, with 1 to 4 correlated recordings each."""
    label = rng.random(subjects) < 0.3
    of = np.repeat(np.arange(subjects), rng.integers(1, 5, subjects))
    scores = (rng.normal(size=(subjects, 2))[of] + rng.normal(size=(len(of), 2))) / np.sqrt(2)
    scores[np.arange(len(of)), label[of].astype(int)] += 1
    scores[:, 0] += 0.4
    frame = pd.DataFrame(softmax(scores, axis=1), columns=["p_n", "p_m"])
    predictions = np.where(frame["p_m"] > 0.5, "m", "n")
    return frame.assign(label=np.where(label, "m", "n")[of], prediction=predictions, group=of)


@pytest.mark.slow
@pytest.mark.parametrize("subjects", [30, 100])
def test_95_percent_intervals_contain_the_true_value_in_95_percent_of_simulations(subjects: int):
    rng = np.random.default_rng(0)
    truth = metrics_with_intervals({"m": simulated(100_000, rng)}, ["n", "m"], 1, 0)
    hits = []
    for seed in range(1000):
        rows = metrics_with_intervals({"m": simulated(subjects, rng)}, ["n", "m"], 200, seed)
        hits.append([row["low"] <= true["value"] <= row["high"] for row, true in zip(rows, truth, strict=True)])
    coverage = dict(zip(METRICS, np.mean(hits, axis=0), strict=True))
    assert {name: abs(rate - 0.95) <= 0.02 for name, rate in coverage.items()} == dict.fromkeys(METRICS, True), coverage


def test_a_share_that_happens_not_to_vary_has_the_interval_of_clopper_and_pearson():
    values = np.full(101, 0.5)
    value, low, high = bootstrap.with_interval(values, 7)
    assert (value, low, high) == pytest.approx((0.5, *binomtest(4, 8).proportion_ci(method="exact")), abs=1e-9)
    assert bootstrap.with_interval(values, 7, varies=False) == (0.5, 0.5, 0.5)
