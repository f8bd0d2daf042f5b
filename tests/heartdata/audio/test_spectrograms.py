"""Log-mel spectrograms: librosa's values, known frequencies."""

import librosa
import numpy as np
import pytest
from helpers import beats, tone
from pydantic import ValidationError

from heartdata.audio.spectrograms import SpectrogramConfig, log_mel, mel_filters, mel_power_db

CONFIG = SpectrogramConfig()


@pytest.mark.parametrize(
    "config", [CONFIG, SpectrogramConfig(fft_samples=512, mel_bands=128, window_s=0.05, hop_s=0.01)]
)
def test_equals_librosa(config: SpectrogramConfig):
    sound = beats(rate_hz=2000)
    power = librosa.feature.melspectrogram(
        y=sound, sr=2000, n_fft=config.fft_samples, win_length=config.window_samples, hop_length=config.hop_samples,
        n_mels=config.mel_bands, fmin=config.low_hz, fmax=config.high_hz, pad_mode="constant",
    )  # fmt: skip
    expected = librosa.power_to_db(power, ref=np.max, top_db=config.range_db).T
    ours = mel_power_db(sound, config)
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 2e-3  # dB


@pytest.mark.parametrize("frequency_hz", [50, 100, 200, 400])
def test_a_tone_is_in_its_mel_band(frequency_hz: int):
    centres = librosa.mel_frequencies(CONFIG.mel_bands + 2, fmin=CONFIG.low_hz, fmax=CONFIG.high_hz)[1:-1]
    loudest = mel_power_db(tone(frequency_hz, rate_hz=2000), CONFIG).mean(axis=0).argmax()
    assert abs(centres[loudest] - frequency_hz) <= np.diff(centres).max()


def test_no_band_is_empty():
    assert (mel_filters(CONFIG).sum(axis=1) > 0).all()


@pytest.mark.parametrize("rate_hz", [2000, 4000, 8000, 44100])
def test_shape_does_not_depend_on_the_rate_of_the_recording(rate_hz: int):
    spectrogram = log_mel(beats(rate_hz=rate_hz), rate_hz, CONFIG)
    assert (spectrogram.shape, spectrogram.dtype) == ((157, 32), np.float16)  # 5 s x 2000 Hz / 64 + 1


def test_each_band_is_standardised_so_gain_does_not_matter():
    loud, quiet = (log_mel(level * beats(), 4000, CONFIG).astype(np.float32) for level in (1.0, 0.1))
    assert np.abs(loud.mean(axis=0)).max() < 1e-2
    assert loud.std(axis=0) == pytest.approx(1, abs=1e-2)
    assert np.abs(loud - quiet).max() < 0.05


def test_a_sound_shorter_than_a_window_has_one_column():
    assert log_mel(tone(100, 0.01), 4000, CONFIG).shape == (1, 32)


@pytest.mark.parametrize(
    "wrong", [{"high_hz": 1500.0}, {"low_hz": 900.0}, {"window_s": 0.5}, {"mel_bands": 0}, {"hops": 3}]
)
def test_inconsistent_settings_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        SpectrogramConfig(**wrong)
