"""Power laws of known parameters are found again, and a curve that does not rise promises nothing."""

import numpy as np
import pytest

from heartdata.scoring.learning_curve import HORIZON, PowerLaw, extrapolate, fit_power_law

SUBJECTS = np.array([7, 13, 26, 52, 79, 105])
TRUE = PowerLaw(plateau=0.7, gap=0.08, rate=0.5, largest=105)
MORE = 105 * ((0.08 / 0.06) ** 2 - 1)  # .7 - .08 * (n / 105) ** -.5 = .62 + .02


def resampled(curve: PowerLaw, error: float, seed: int = 0) -> list[PowerLaw]:
    """Fits to 60 resamples of one experiment, whose scores have this standard error."""
    rng = np.random.default_rng(seed)
    measured = curve.score(SUBJECTS) + rng.normal(0, error, len(SUBJECTS))
    draws = measured + rng.normal(0, error, (60, len(SUBJECTS)))
    return [fit_power_law(SUBJECTS, draw, [error] * len(SUBJECTS)) for draw in draws]


def test_a_gain_takes_the_number_of_subjects_worked_out_by_hand():
    assert TRUE.more_subjects(0.02) == pytest.approx(MORE)
    assert TRUE.score(105 + MORE) == pytest.approx(0.64)


@pytest.mark.parametrize("curve", [TRUE, PowerLaw(0.9, 0.35, 0.2, 105), PowerLaw(0.6, 0.01, 1.5, 105)])
def test_exact_scores_give_their_curve_back(curve: PowerLaw):
    fitted = fit_power_law(SUBJECTS, curve.score(SUBJECTS), [0.01] * len(SUBJECTS))
    assert (fitted.plateau, fitted.gap, fitted.rate) == pytest.approx((curve.plateau, curve.gap, curve.rate), abs=1e-3)


def test_precise_scores_determine_how_many_more_subjects_a_gain_takes():
    found = extrapolate(resampled(TRUE, 0.003), 0.02)
    assert found.reached == 1
    assert MORE / 2 < found.low < MORE < found.high < 2 * MORE


def test_imprecise_scores_leave_the_number_open():
    found = extrapolate(resampled(TRUE, 0.03), 0.02)
    assert 0.05 < found.reached < 0.975
    assert found.low < MORE
    assert found.high == np.inf


@pytest.mark.parametrize("gap", [0, 0.01])
def test_a_flat_curve_or_one_near_its_plateau_promises_no_gain(gap: float):
    found = extrapolate(resampled(PowerLaw(0.6, gap, 1.0, 105), 0.003), 0.02)
    assert found.reached < 0.05
    assert found.more == found.high == np.inf


def test_a_falling_curve_is_fitted_by_a_horizontal_line():
    fitted = fit_power_law(SUBJECTS, [0.7, 0.68, 0.66, 0.64, 0.62, 0.6], [0.01] * 6)
    assert fitted.gap == pytest.approx(0, abs=1e-3)
    assert fitted.more_subjects(0.02) == np.inf


def test_nothing_is_said_beyond_the_horizon():
    slow = PowerLaw(0.9, 0.3, 0.05, 100)
    assert slow.more_subjects(0.02) < (HORIZON - 1) * 100
    assert slow.more_subjects(0.2) == np.inf


def test_precise_scores_count_more():
    scores = TRUE.score(SUBJECTS)
    scores[0] = 0.6  # a lucky smallest arm
    errors = [0.5, *[0.001] * 5]
    assert fit_power_law(SUBJECTS, scores, errors).rate == pytest.approx(0.5, abs=0.05)
