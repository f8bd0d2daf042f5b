"""Synthetic heart sounds with known beat times: normal, murmur, extrasystole, artifact, and extra sounds (S3, S4).

Scores on them say nothing about real hearts. S1 and S2 are pairs of Gabor kernels on a heart rhythm with respiratory
arrhythmia; murmurs are band-passed noise under an envelope between them; see docs/sources.md for the parameters.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

CLASSES = ("normal", "murmur", "extrasystole", "artifact")
EXTRA_SOUND = "extra_sound"  # only in recordings for pretraining
RATE_HZ = 4000
MURMUR_BANDS_HZ = {"ejection": (60.0, 142.0), "pathological": (52.0, 299.0), "regurgitation": (52.0, 400.0)}
MURMUR_SHAPES = {  # the envelope over the murmur's course, from 0 to 1
    "diamond": lambda u: np.sin(np.pi * u),
    "plateau": lambda u: np.minimum(1, 8 * u * (1 - u)),
    "crescendo": lambda u: u,
}


@dataclass(frozen=True)
class Heart:
    """A synthetic heart: what all recordings of one subject have in common.

    ``arrhythmia``: by what share the rate changes with each breath. Gains are relative to S1. ``extra``: S3 or S4, its
    distance from S2 or S1 in seconds, its frequency in Hz, and its gain.
    """

    kind: str
    rate_bpm: float
    arrhythmia: float
    breath_hz: float
    s1_hz: float
    s2_hz: float
    s2_gain: float
    murmur_band_hz: tuple[float, float]
    murmur_shape: str
    murmur_gain: float
    diastolic: bool = False  # the murmur is between S2 and the next S1
    extra: tuple[str, float, float, float] | None = None

    @classmethod
    def draw(cls, kind: str, rng: np.random.Generator) -> "Heart":
        """A random subject of class ``kind``: normal, murmur, extrasystole or artifact. Raises ValueError for another."""
        if kind not in (*CLASSES, EXTRA_SOUND):
            raise ValueError(f"{kind!r} is no class of synthetic recordings: use one of {', '.join(CLASSES)}")
        child = rng.random() < 0.15
        bands = list(MURMUR_BANDS_HZ.values())
        return cls(
            kind=kind,
            rate_bpm=rng.uniform(90, 150) if child else rng.uniform(50, 110),
            arrhythmia=rng.uniform(0.02, 0.06),
            breath_hz=rng.uniform(0.15, 0.4),
            s1_hz=rng.uniform(30, 80),
            s2_hz=rng.uniform(50, 120),
            s2_gain=rng.uniform(0.5, 1.0),
            murmur_band_hz=bands[rng.integers(len(bands))],
            murmur_shape=str(rng.choice(list(MURMUR_SHAPES))),
            murmur_gain=rng.uniform(0.3, 0.5),
        )


def with_random_variation(heart: Heart, rng: np.random.Generator) -> Heart:
    """``heart`` with a murmur that may be faint or diastolic, S3 or S4, and S2 of any loudness, for pretraining."""
    extra = None
    if heart.kind == EXTRA_SOUND:
        third = ("S3", rng.uniform(0.12, 0.18), rng.uniform(25, 60), rng.uniform(0.3, 0.8))
        fourth = ("S4", rng.uniform(-0.13, -0.08), rng.uniform(25, 60), rng.uniform(0.3, 0.8))
        extra = third if rng.random() < 0.5 else fourth
    return replace(
        heart,
        murmur_gain=rng.uniform(0.1, 0.6),
        s2_gain=rng.uniform(0.3, 1.2),
        diastolic=bool(rng.random() < 0.3),
        extra=extra,
    )


@dataclass(frozen=True)
class Sound:
    """A synthetic recording: samples (float32, shape (n,), peak 0.8), and the true times of S1 and S2 in seconds."""

    samples: np.ndarray
    s1_s: np.ndarray
    s2_s: np.ndarray
    rate_hz: int = RATE_HZ


def synthesize(heart: Heart, duration_s: float, site: int, rng: np.random.Generator) -> Sound:
    """A synthetic recording of ``heart`` at chest site ``site`` (0-3, each with its own device filter)."""
    time_s = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    signal = 0.02 * _pink_noise(len(time_s), rng)
    if heart.kind == "artifact":
        s1 = s2 = np.empty(0)
        signal = signal + _friction(time_s, rng)
    else:
        s1, s2 = beat_times(heart, duration_s, rng)
        breathing = 1 + rng.uniform(0.1, 0.25) * np.sin(2 * np.pi * heart.breath_hz * time_s)
        signal = signal + breathing * _heart_sounds(heart, time_s, s1, s2, rng)
        if heart.kind == "murmur":
            signal = signal + heart.murmur_gain * breathing * _murmur(heart, time_s, s1, s2, rng)
        if heart.extra:
            signal = signal + breathing * _extra_sounds(heart.extra, time_s, s1, s2, rng)
    signal = signal + 0.005 * np.sin(2 * np.pi * 50 * time_s + rng.uniform(0, 2 * np.pi))
    signal = _band_pass(signal, 2, ((20, 800), (20, 650), (25, 700), (30, 600))[site % 4])
    return Sound(_scaled(signal), s1, s2)


def beat_times(heart: Heart, duration_s: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Times of S1 and S2 in seconds: RR = 60/HR (1 + a sin(2 pi f t) + e), S1-S2 = 480 - 2.1 HR ms (>= 200 ms)."""
    base_s = 60 / heart.rate_bpm
    t, phase, extra = rng.uniform(0, base_s), rng.uniform(0, 2 * np.pi), False
    s1: list[float] = []
    s2: list[float] = []
    while t < duration_s - 0.1:
        wave = heart.arrhythmia * np.sin(2 * np.pi * heart.breath_hz * t + phase)
        interval_s = base_s * (1 + wave + rng.normal(0, 0.02))
        if extra:  # the pause after the early beat
            interval_s, extra = base_s * rng.uniform(1.25, 1.4), False
        elif heart.kind == "extrasystole" and s1 and rng.random() < 0.3:
            interval_s, extra = base_s * rng.uniform(0.6, 0.75), True
        systole_s = min(max(0.48 - 0.0021 * heart.rate_bpm, 0.2), interval_s / 2)
        s1.append(t + rng.normal(0, 0.002))
        s2.append(t + systole_s + rng.normal(0, 0.002))
        t += interval_s
    return np.array(s1), np.array(s2)


def simulate_device(samples: np.ndarray, heart: bool, rng: np.random.Generator) -> np.ndarray:
    """``samples`` as recorded by a random device in a random room: float32, peak 0.8.

    Pink noise at -3 to 25 dB below the sound, mains hum, rubbing (if ``heart``, as a recording without one consists of
    it), a band-pass of random edges and steepness, and sometimes clipping keep pretraining from learning the device.
    """
    time_s = np.arange(len(samples)) / RATE_HZ
    signal = samples / samples.std()
    signal = signal + 10 ** (-rng.uniform(-3, 25) / 20) * _pink_noise(len(signal), rng)
    if heart and rng.random() < 0.35:
        rubbing = _friction(time_s, rng)
        signal = signal + rng.uniform(0.1, 1) * rubbing / rubbing.std()
    if rng.random() < 0.3:
        signal = signal + rng.uniform(0.1, 0.6) * np.sin(2 * np.pi * rng.choice([50, 60, 100]) * time_s)
    edges_hz = rng.uniform(15, 60), rng.uniform(200, 900)
    signal = _band_pass(signal, int(rng.integers(1, 4)), edges_hz)
    if rng.random() < 0.2:
        limit = np.quantile(np.abs(signal), rng.uniform(0.97, 0.999))
        signal = np.clip(signal, -limit, limit)
    return _scaled(signal)


def _scaled(signal: np.ndarray) -> np.ndarray:
    """``signal`` as float32, scaled to peak 0.8."""
    return (0.8 * signal / np.abs(signal).max()).astype(np.float32)


def _band_pass(signal: np.ndarray, order: int, edges_hz: tuple[float, float]) -> np.ndarray:
    from scipy.signal import sosfilt

    return sosfilt(_butterworth(order, edges_hz), signal)


@lru_cache(maxsize=512)  # to design a filter takes longer than to apply it
def _butterworth(order: int, edges_hz: tuple[float, float]) -> np.ndarray:
    from scipy.signal import butter

    return butter(order, edges_hz, "bandpass", fs=RATE_HZ, output="sos")


def _pink_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """1/f noise, shape (n,), unit variance."""
    size = next_fast_len(n, real=True)  # a transform of a length with a large prime factor takes ten times as long
    spectrum = rfft(rng.standard_normal(n), size)
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = irfft(spectrum, size)[:n]
    return noise / noise.std()


def _gabor(time_s: np.ndarray, centre_s: float, sigma_s: float, freq_hz: float, phase: float) -> np.ndarray:
    t = time_s - centre_s
    return np.exp(-(t**2) / (2 * sigma_s**2)) * np.cos(2 * np.pi * freq_hz * t + phase)


def _around(beat_s: float, before_s: float, after_s: float) -> slice:
    """The samples from ``before_s`` before a beat to ``after_s`` after it."""
    return slice(max(0, int((beat_s - before_s) * RATE_HZ)), max(0, int((beat_s + after_s) * RATE_HZ)))


def _heart_sounds(
    heart: Heart, time_s: np.ndarray, s1: np.ndarray, s2: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """S1 and S2, each of two kernels for its two valves."""
    signal = np.zeros_like(time_s)
    for times, hz, gain, low_s, high_s in (
        (s1, heart.s1_hz, 1.0, 0.015, 0.025),
        (s2, heart.s2_hz, heart.s2_gain, 0.010, 0.018),
    ):
        for beat_s in times:
            near = _around(beat_s, 0.15, 0.2)
            level = gain * rng.uniform(0.85, 1.15)
            sigma_s = rng.uniform(low_s, high_s)
            second_s = beat_s + rng.uniform(0.01, 0.03)
            signal[near] += level * _gabor(time_s[near], beat_s, sigma_s, hz, rng.uniform(-0.5, 0.5))
            signal[near] += 0.6 * level * _gabor(time_s[near], second_s, sigma_s, 1.2 * hz, rng.uniform(-0.5, 0.5))
    return signal


def _murmur(heart: Heart, time_s: np.ndarray, s1: np.ndarray, s2: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Band-passed noise between S1 and S2, or S2 and the next S1."""
    noise = _band_pass(rng.standard_normal(len(time_s)), 4, heart.murmur_band_hz)
    noise /= noise.std()
    envelope = np.zeros_like(time_s)
    starts_s, ends_s = (s2[:-1] + 0.03, s1[1:] - 0.03) if heart.diastolic else (s1 + 0.03, s2 - 0.01)
    for start_s, end_s in zip(starts_s, ends_s, strict=True):
        during = slice(*np.searchsorted(time_s, (start_s, max(end_s, start_s + 1e-3))))
        u = (time_s[during] - start_s) / max(end_s - start_s, 1e-3)
        envelope[during] = np.maximum(envelope[during], MURMUR_SHAPES[heart.murmur_shape](u))
    return noise * envelope


def _extra_sounds(
    extra: tuple[str, float, float, float], time_s: np.ndarray, s1: np.ndarray, s2: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """S3 after each S2, or S4 before each S1."""
    name, after_s, freq_hz, gain = extra
    signal = np.zeros_like(time_s)
    for beat_s in (s2 if name == "S3" else s1) + after_s:
        near = _around(beat_s, 0.15, 0.15)
        sigma_s = rng.uniform(0.012, 0.02)
        level = gain * rng.uniform(0.85, 1.15)
        signal[near] += level * _gabor(time_s[near], beat_s, sigma_s, freq_hz, rng.uniform(-0.5, 0.5))
    return signal


def _friction(time_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rubbing, knocks and bursts in the band of speech at random times, without a heart."""
    signal = np.zeros_like(time_s)
    for _ in range(rng.integers(4, 10)):
        at, width_s = rng.uniform(0, time_s[-1]), rng.uniform(0.05, 0.8)
        low_hz = round(rng.uniform(60, 300))
        burst = _band_pass(rng.standard_normal(len(time_s)), 2, (low_hz, 3 * low_hz))
        signal += rng.uniform(0.3, 1) * burst / burst.std() * np.exp(-(((time_s - at) / width_s) ** 2))
    for _ in range(rng.integers(1, 6)):
        signal[rng.integers(len(signal))] += rng.choice([-3, 3])
    return signal
