"""The quality index falls with noise; its features have known values."""

import numpy as np
import pytest
from helpers import beats, tone

from heartdata.audio.decode import resample
from heartdata.audio.fingerprint import RATE_HZ
from heartdata.audio.quality import autocorrelation, periodicity, quality, quality_features, sample_entropy
from heartdata.audio.synthesis import Heart, synthesize


def at_2k(samples: np.ndarray) -> np.ndarray:
    return resample(samples, 4000, RATE_HZ)


@pytest.mark.parametrize("seed", range(4))
def test_noise_lowers_the_index(seed: int):
    rng = np.random.default_rng(seed)
    clear = at_2k(synthesize(Heart.draw("normal", rng), 8.0, 0, rng).samples)
    noise = rng.normal(0, 1, len(clear)).astype(np.float32)
    no_noise, some_noise, much_noise = (quality(clear + level * clear.std() * noise) for level in (0, 1, 3))
    assert no_noise > 0.6
    assert no_noise > some_noise > much_noise
    assert quality(noise) < 0.25


def test_loudness_and_offset_do_not_matter():
    sound = at_2k(beats())
    assert quality(0.01 * sound) == pytest.approx(quality(sound), abs=1e-3)
    assert quality(sound + np.float32(0.3)) == pytest.approx(quality(sound), abs=1e-3)


@pytest.mark.parametrize("sound", [np.zeros(8000), np.full(8000, 0.5), np.ones(100), beats()[:1000], np.empty(0)])
def test_silence_and_less_than_a_second_have_index_0(sound: np.ndarray):
    assert quality(sound.astype(np.float32)) == 0.0


def test_features_of_a_tone():
    features = quality_features(tone(100, rate_hz=RATE_HZ))
    assert features is not None
    assert features["kurtosis"] == pytest.approx(np.log(1.5), abs=0.01)  # of a sine
    assert features["heart_share"] == pytest.approx(0, abs=0.01)
    assert features["high_share"] < -4


def test_beats_are_periodic_and_noise_is_not():
    noise = np.random.default_rng(0).normal(0, 0.1, 10000).astype(np.float32)
    assert periodicity(at_2k(beats(75, 6.0))) > 0.9
    assert periodicity(noise) < 0.35
    assert periodicity(noise[:1000]) == 0.0  # half a second


def test_autocorrelation_and_sample_entropy():
    wave = np.sin(2 * np.pi * np.arange(200) / 20)
    assert autocorrelation(wave)[[0, 20, 10]] == pytest.approx([1, 0.9, -0.95], abs=1e-6)
    assert not autocorrelation(np.zeros(5)).any()
    noise = np.random.default_rng(0).normal(size=200)
    assert sample_entropy(wave, 0.1) < 0.3 < 1.5 < sample_entropy(noise, 0.2 * noise.std())
