"""Waveforms confirm altered copies of a recording, and neither other recordings of its heart nor of a repeating sound."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.signal import butter, sosfiltfilt

from heartdata.audio.decode import resample
from heartdata.audio.fingerprint import HOP, RATE_HZ
from heartdata.audio.synthesis import RATE_HZ as SYNTH_HZ
from heartdata.audio.synthesis import Heart, synthesize
from heartdata.checks.waveforms import Agreement, confirm, is_alike, is_copy, waveform_agreement

RNG = np.random.default_rng(7)
HEART = dataclasses.replace(Heart.draw("murmur", np.random.default_rng(1)), rate_bpm=72)


def recorded(seed: int, duration_s: float = 8.0) -> np.ndarray:
    """Another ``seed`` is another recording of one heart."""
    return resample(synthesize(HEART, duration_s, 0, np.random.default_rng(seed)).samples, SYNTH_HZ, RATE_HZ)


def noisy(sound: np.ndarray, ratio_db: float) -> np.ndarray:
    return sound + sound.std() * 10 ** (-ratio_db / 20) * RNG.standard_normal(len(sound))


def high_passed(sound: np.ndarray) -> np.ndarray:
    return sosfiltfilt(butter(4, 120, "highpass", fs=RATE_HZ, output="sos"), sound)


SOUND = recorded(1)
BEATS = np.tile(recorded(2, 0.8), 10)  # repeats perfectly
COPIES = {
    "softer": (0.01 * SOUND, 0),
    "8 bits": (np.round(127 * SOUND) / 127, 0),
    "other polarity": (-SOUND, 0),
    "cut": (SOUND[3000:-2000], 3000),
    "shifted": (np.concatenate([np.zeros(1500), SOUND]), -1500),
    "offset off by 100 ms": (SOUND, 200),
    "noise 10 dB below": (noisy(SOUND, 10), 0),
    "clock 0.02 % faster": (resample(SOUND.astype(np.float32), 10000, 9998), 0),
    "without what is below 120 Hz": (high_passed(SOUND), 0),
    "half a second": (SOUND[1000:2000], 1000),
}


@pytest.mark.parametrize("name", COPIES)
def test_altered_copies_are_confirmed(name: str):
    copy, offset = COPIES[name]
    assert is_copy(waveform_agreement(SOUND, copy, offset))


def test_a_copy_of_a_repeating_sound_is_known_by_the_noise_in_it():
    recording = noisy(BEATS, 20)
    assert is_copy(waveform_agreement(recording, np.round(127 * recording) / 127, 0))


def test_it_is_enough_that_a_part_agrees():
    whole = np.concatenate([recorded(3, 20.0), SOUND])
    assert is_copy(waveform_agreement(whole, np.concatenate([recorded(4, 20.0), SOUND]), 0))


def test_other_recordings_of_one_heart_and_of_a_repeating_sound_are_not_confirmed():
    for seed in range(2, 8):
        assert not is_copy(waveform_agreement(SOUND, recorded(seed), 0))
    repeating = waveform_agreement(noisy(BEATS, 20), noisy(BEATS, 20), 0)
    assert repeating.heart > 0.98
    assert not is_copy(repeating)


@pytest.mark.parametrize(("duration_s", "heart", "copy"), [(1.0, 0.93, False), (1.0, 0.96, True), (3.0, 0.91, True)])
def test_short_overlaps_must_agree_more(duration_s: float, heart: float, copy: bool):
    assert is_copy(Agreement(heart, 0.3, 0.4, 0.3, duration_s)) == copy


@pytest.mark.parametrize(
    ("heart", "elsewhere", "duration_s", "alike"),
    [(0.75, 0.3, 5.0, True), (0.65, 0.3, 5.0, False), (0.75, 0.3, 1.0, False), (0.9, 0.3, 1.0, True),
     (0.5, 0.92, 5.0, True), (0.5, 0.92, 1.0, False)],
)  # fmt: skip
def test_noisy_copies_and_repeating_sounds_are_alike_but_not_chance_in_short_overlaps(
    heart: float, elsewhere: float, duration_s: float, alike: bool
):
    assert is_alike(Agreement(heart, elsewhere, 0.1, 0.1, duration_s)) is alike


def test_what_is_confirmed_is_not_compared_again():
    columns = ["sha256_a", "sha256_b", "offset_frames"]
    first = confirm(pd.DataFrame([("a", "b", 50)], columns=columns), {"a": SOUND, "b": SOUND[50 * HOP :]}.get)
    asked: list[str] = []
    sounds = {"a": SOUND, "c": recorded(2)}
    pairs = pd.DataFrame([("a", "b", 50), ("a", "c", 0)], columns=columns)
    again = confirm(pairs, lambda name: asked.append(name) or sounds.get(name), first)
    assert again["confirmed"].tolist() == [True, False]
    assert again["alike"].tolist() == [True, False]
    assert set(asked) == {"a", "c"}


@pytest.mark.parametrize("other", [np.zeros(9000), np.ones(9000), SOUND[:100], SOUND[:0]])
def test_silence_and_too_short_an_overlap_are_not_confirmed(other: np.ndarray):
    assert not is_copy(waveform_agreement(SOUND, other, 0))
    assert not is_copy(waveform_agreement(SOUND, SOUND, len(SOUND)))


def test_pairs_are_confirmed_with_their_offset_and_stay_where_a_sound_cannot_be_read():
    sounds = {"a": SOUND, "b": noisy(SOUND[50 * HOP :], 20), "c": recorded(2), "gone": None}
    columns = ["sha256_a", "sha256_b", "offset_frames"]
    pairs = pd.DataFrame([("a", "b", 50), ("a", "c", 0), ("a", "gone", 0)], columns=columns, index=[5, 6, 7])
    found = confirm(pairs, sounds.get)
    assert found["confirmed"].tolist() == [True, False, True]
    assert found["waveform"].isna().tolist() == [False, False, True]
    assert found["waveform"][5] > 0.95 > 0.7 > found["waveform"][6]
    assert confirm(pairs[:0], sounds.get).dtypes[["waveform", "confirmed"]].tolist() == [float, bool]
