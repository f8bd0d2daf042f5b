"""Heart sounds of synthetic recordings are found at their known times, and none where there is no heart."""

from dataclasses import replace

import mir_eval
import numpy as np
import pytest

from heartdata.audio.beats import Beats, confidence, find_beats, heart_rate_bpm, segment
from heartdata.audio.decode import resample
from heartdata.audio.fingerprint import RATE_HZ
from heartdata.audio.synthesis import RATE_HZ as SYNTHESIS_HZ
from heartdata.audio.synthesis import Heart, Sound, simulate_device, synthesize


def heart(kind: str = "normal", rate_bpm: float = 70, **changes: float) -> Heart:
    drawn = Heart.draw(kind, np.random.default_rng(1))
    return replace(drawn, **{"rate_bpm": rate_bpm, "s1_hz": 45, "s2_hz": 60, "s2_gain": 0.8, **changes})


def at_2_khz(samples: np.ndarray) -> np.ndarray:
    return resample(samples, SYNTHESIS_HZ, RATE_HZ)


def made(of: Heart, duration_s: float = 10, seed: int = 0) -> Sound:
    return synthesize(of, duration_s, 0, np.random.default_rng(seed))


def true_bpm(sound: Sound) -> float:
    return heart_rate_bpm(np.concatenate([np.diff(sound.s1_s), np.diff(sound.s2_s)]))


@pytest.mark.parametrize(
    ("kind", "rate_bpm"),
    [("normal", 45), ("normal", 70), ("normal", 100), ("murmur", 80), ("extrasystole", 65), ("extrasystole", 85)],
)
@pytest.mark.parametrize("duration_s", [5, 12])
def test_s1_and_s2_are_found_at_their_times(kind: str, rate_bpm: float, duration_s: float):
    sound = made(heart(kind, rate_bpm), duration_s)
    beats = find_beats(sound.samples, sound.rate_hz)
    assert beats is not None
    assert beats.heart_rate_bpm == pytest.approx(true_bpm(sound), rel=0.05)
    for true_s, found_s in ((sound.s1_s - 0.04, beats.s1_s), (sound.s2_s - 0.03, beats.s2_s)):
        inner = true_s[true_s > 0]
        assert mir_eval.beat.f_measure(inner, found_s) > 0.9
        assert mir_eval.onset.f_measure(inner, found_s, window=0.06)[0] > 0.9


@pytest.mark.parametrize("rate_bpm", [120, 150, 190])
def test_fast_hearts_have_a_rate_but_s1_and_s2_may_be_swapped(rate_bpm: float):
    sound = made(heart(rate_bpm=rate_bpm))
    beats = find_beats(sound.samples, sound.rate_hz)
    assert beats is not None
    assert beats.heart_rate_bpm == pytest.approx(true_bpm(sound), rel=0.05)
    assert beats.may_be_swapped
    both = np.sort(np.concatenate([beats.s1_s, beats.s2_s]))
    true_s = np.sort(np.concatenate([sound.s1_s - 0.04, sound.s2_s - 0.03]))
    assert mir_eval.onset.f_measure(true_s[true_s > 0], both, window=0.07)[0] > 0.9


def test_level_offset_and_knocks_change_nothing_much():
    sound = made(heart())
    samples = at_2_khz(sound.samples)
    plain = find_beats(samples, RATE_HZ)
    assert plain is not None
    louder = find_beats((40 * samples + 3).astype(np.float32), RATE_HZ)
    assert louder is not None
    assert louder.heart_rate_bpm == pytest.approx(plain.heart_rate_bpm, rel=1e-3)
    knocked = samples.copy()
    knocked[[3100, 9000, 14_500]] += 5
    found = find_beats(knocked, RATE_HZ)
    assert found is not None
    assert found.heart_rate_bpm == pytest.approx(plain.heart_rate_bpm, rel=0.03)


def no_heart() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.1, 20_000).astype(np.float32)
    time_s = np.arange(20_000) / RATE_HZ
    return {
        "nothing": noise[:0],
        "one sample": noise[:1],
        "a twentieth of a second": noise[:100],
        "half a second": noise[:1000],
        "silence": np.zeros(20_000, np.float32),
        "constant": np.full(20_000, -0.7, np.float32),
        "constant at another rate": resample(np.full(11_025, 0.3, np.float32), 1102, RATE_HZ),
        "white noise": noise,
        "long white noise": rng.normal(0, 0.1, 100_000).astype(np.float32),
        "brown noise": np.cumsum(noise).astype(np.float32),
        "hum": np.sin(2 * np.pi * 50 * time_s).astype(np.float32),
        "one click": np.eye(1, 20_000, 9000, dtype=np.float32)[0],
        "rubbing": at_2_khz(made(heart("artifact")).samples),
        "rubbing on a device": at_2_khz(
            simulate_device(made(heart("artifact"), seed=5).samples, False, np.random.default_rng(5))
        ),
    }


@pytest.mark.parametrize("name", list(no_heart()))
def test_nothing_is_reported_without_a_heart(name: str):
    assert find_beats(no_heart()[name], RATE_HZ) is None


def test_confidence_falls_with_noise():
    sound = at_2_khz(made(heart()).samples)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, float(sound.std()), len(sound)).astype(np.float32)
    sure = [confidence(found) for level in (0, 3, 12) if (found := segment(sound + level * noise))]
    assert len(sure) == 3
    assert sure[0] > sure[1] > sure[2]
    assert sure[0] > 0.9
    assert sure[2] < 0.5


def test_the_heart_rate_hardly_moves_with_early_and_missed_beats():
    assert heart_rate_bpm(np.array([1.0] * 8 + [0.6, 1.4, 2.0])) == pytest.approx(60)
    assert heart_rate_bpm(np.array([0.8])) == pytest.approx(75)
    assert Beats(75, 0.9, np.empty(0), np.empty(0)).may_be_swapped is False
