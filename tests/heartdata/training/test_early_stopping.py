"""The scores by which training chooses an epoch: known values, and the one-standard-error rule."""

import numpy as np
import pytest

from heartdata.training.callbacks import (
    balanced_mean,
    cross_entropies,
    macro_f1_with_se,
    mean_by_recording,
    within_one_standard_error,
)


@pytest.mark.parametrize(
    ("scores", "kept"),
    [([0.5, 0.41], True), ([0.5, 0.39], False), ([0.5, 0.7, 0.61], True), ([0.7, 0.5, 0.59], False), ([0.5], True)],
)
def test_an_epoch_is_kept_within_one_standard_error_of_the_best(scores: list[float], kept: bool):
    assert within_one_standard_error([{"valid_macro_f1": s, "valid_macro_f1_se": 0.1} for s in scores]) is kept


def test_the_standard_error_falls_with_the_root_of_the_number_of_subjects():
    probabilities, labels = np.tile([[0.9, 0.1], [0.1, 0.9]], (20, 1)), np.tile([0, 1, 1, 1], 10)
    _, few = macro_f1_with_se(probabilities, labels, np.arange(40))
    _, many = macro_f1_with_se(np.tile(probabilities, (16, 1)), np.tile(labels, 16), np.arange(640))
    assert few / many == pytest.approx(4, rel=0.2)
    repeated = np.repeat(np.arange(40), 16)
    _, same = macro_f1_with_se(probabilities[repeated], labels[repeated], repeated)
    assert same == pytest.approx(few)  # sixteen recordings of each of forty subjects are no more evidence than one
    assert macro_f1_with_se(np.eye(2), np.array([0, 1]), np.arange(2)) == (1, 0)  # all right in every resample


def test_predicting_a_class_without_validation_recordings_is_one_mistake():
    probabilities = np.tile([[0.9, 0.1]], (10, 1)) - np.eye(10, 2)[::-1] * 0.85
    value, error = macro_f1_with_se(probabilities, np.zeros(10, int), np.arange(10))
    assert value == pytest.approx(2 * 9 / (10 + 9))
    assert 0 < error < 0.1


def test_a_recordings_probabilities_are_the_means_over_its_windows():
    windows = np.array([[1.0, 0.0], [0.0, 1.0], [0.2, 0.8]])
    assert mean_by_recording(windows, np.array([0, 0, 1])).tolist() == [[0.5, 0.5], [0.2, 0.8]]


def test_cross_entropy_and_its_mean_over_classes():
    losses = cross_entropies(np.array([[1.0, 0.0], [np.exp(-1), 0.0], [1.0, 0.0]]), np.array([0, 0, 1]))
    assert losses == pytest.approx([0, 1, -np.log(1e-7)])
    assert balanced_mean(losses, np.array([0, 0, 1])) == pytest.approx((0.5 - np.log(1e-7)) / 2)
