"""Features of spectrograms with known rhythms."""

import numpy as np
import pytest

from heartdata.scoring.features import PERIOD_S, spectrogram_features

HOP_S = 0.032


def pulsed(period_s: float, duration_s: float = 8.0, bands: int = 16) -> np.ndarray:
    """A spectrogram whose bands all flash once a period."""
    time_s = np.arange(round(duration_s / HOP_S)) * HOP_S
    flash = np.exp(-(((time_s % period_s) / 0.06) ** 2))
    return np.tile(flash[:, None], (1, bands))


@pytest.mark.parametrize("period_s", [0.5, 0.8, 1.0])
def test_the_period_of_a_beat_is_among_the_features(period_s: float):
    assert np.abs(spectrogram_features(pulsed(period_s), HOP_S) - period_s).min() < 0.02


def test_regular_and_irregular_beats_differ():
    regular = pulsed(0.8)
    irregular = regular.copy()
    irregular[100:120] = regular[110:130]
    assert np.abs(spectrogram_features(regular, HOP_S) - spectrogram_features(irregular, HOP_S)).max() > 0.02


@pytest.mark.parametrize("columns", [1, 2, 5, 30, 400])
def test_features_are_finite_and_equally_many_for_any_length(columns: int):
    silent, noise = np.zeros((columns, 16)), np.random.default_rng(0).normal(size=(columns, 16))
    features = [spectrogram_features(part, HOP_S) for part in (silent, noise)]
    assert np.isfinite(features).all()
    assert len(features[0]) == len(spectrogram_features(pulsed(PERIOD_S[0]), HOP_S))
