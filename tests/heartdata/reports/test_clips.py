"""Clips of recordings: which seconds they are, that they are heard, and that nothing stops them."""

import io

import numpy as np
import pytest
import soundfile
from helpers import tone
from PIL import Image

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.reports.clips import CLIP_S, PLAYED_HZ, make_clip

CONFIG = SpectrogramConfig()


def played(mp3: bytes) -> np.ndarray:
    samples, rate_hz = soundfile.read(io.BytesIO(mp3), dtype="float32")
    assert rate_hz == PLAYED_HZ
    return samples


def frequency_hz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * PLAYED_HZ / len(samples))


@pytest.mark.parametrize("rate_hz", [1000, 2000, 4000, 44100])
def test_a_short_recording_is_whole_and_sounds_as_it_did(rate_hz: int):
    clip = make_clip(tone(60, 2.5, rate_hz, level=0.01), rate_hz, CONFIG)
    assert (clip.start_s, clip.duration_s, clip.of_s) == (0, 2.5, 2.5)
    samples = played(clip.mp3)
    assert len(samples) == pytest.approx(2.5 * PLAYED_HZ, abs=0.1 * PLAYED_HZ)
    assert frequency_hz(samples) == pytest.approx(60, abs=0.5)
    assert clip.gain_db > 30
    assert 0.3 < np.abs(samples).max() <= 1
    assert len(clip.mp3) < 30_000
    assert Image.open(io.BytesIO(clip.webp)).format == "WEBP"


def test_the_loud_part_of_a_long_recording_is_heard_and_no_click_hides_it():
    sound = np.concatenate([tone(50, 20, level=0.01), tone(80, 6, level=0.3), tone(50, 20, level=0.01)])
    sound[4000] = 1.0
    clip = make_clip(sound, 4000, CONFIG)
    assert clip.start_s == pytest.approx(20, abs=0.2)
    assert clip.duration_s == CLIP_S
    assert frequency_hz(played(clip.mp3)) == pytest.approx(80, abs=0.5)


def test_the_part_of_most_relevance_is_heard():
    columns = round(30 / CONFIG.hop_s)
    relevance = np.zeros((columns, CONFIG.mel_bands))
    relevance[round(12 / CONFIG.hop_s) : round(18 / CONFIG.hop_s), 3:9] = 1
    clip = make_clip(tone(50, 30), 4000, CONFIG, relevance)
    assert clip.start_s == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize(
    "sound", [np.zeros(4000), np.zeros(1), np.full(9000, np.nan), np.array([np.inf, 0, 1] * 3000), np.full(9000, 1e9)]
)
def test_what_is_no_sound_is_no_error(sound: np.ndarray):
    clip = make_clip(sound, 4000, CONFIG, np.zeros((3, CONFIG.mel_bands)))
    assert np.isfinite(played(clip.mp3)).all()
    assert np.isfinite([clip.gain_db, clip.duration_s]).all()


def test_ticks_of_the_small_spectrogram_do_not_overlap(monkeypatch):
    shown = []

    def save(canvas, file, **_):
        canvas.draw()
        shown.extend(label.get_window_extent() for label in canvas.figure.axes[0].get_yticklabels())

    monkeypatch.setattr("heartdata.reports.clips.FigureCanvasAgg.print_webp", save)
    make_clip(np.random.default_rng(0).normal(size=8000).astype(np.float32), 4000, SpectrogramConfig())
    assert len(shown) > 1
    assert all(upper.y0 >= lower.y1 for lower, upper in zip(shown[:-1], shown[1:], strict=True))
