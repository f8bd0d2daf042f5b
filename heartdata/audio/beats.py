"""Heart sounds and heart rate of a recording, for people: no score uses them."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from heartdata.audio.decode import resample
from heartdata.audio.fingerprint import RATE_HZ
from heartdata.audio.quality import autocorrelation

FRAMES_HZ = 100
HEART_SOUNDS_HZ = (30, 120)
PERIODS_S = (0.27, 2.0)  # 220 to 30 beats a minute
SMOOTHING_S = 0.05
LEVEL_S = 1.5  # loudness is compared with that of so much around it
EVIDENCE = 0.2  # of one standard deviation of loudness in one frame, as a logarithm
HYPOTHESES = 4  # periods that are compared
S1_S, S2_S = 0.12, 0.105  # mean durations
FAST_S = 0.35  # at shorter periods they are shorter
SHORTEST_S, LONGEST_SOUND_S, LONGEST_SYSTOLE_S = 0.05, 0.2, 0.5
ANY_DURATION = -6.0  # log-density, over that of the mean, of an early beat or a pause

ONSET_S = 0.015  # the smoothed loudness rises so much before the sound begins

# feature: mean, standard deviation, weight of its z-score; printed by ``python -m benchmarks.beats --weights``
WEIGHTS = {
    "regularity": (0.533, 0.259, 1.099),
    "timing": (-0.143, 0.142, 1.600),
    "contrast": (1.498, 0.241, 1.632),
}
INTERCEPT = 3.433
MIN_CONFIDENCE = 0.7
SWAPPABLE_BPM = 110  # from here on systole and diastole are much alike


@dataclass(frozen=True)
class Beats:
    """The heart rate of a recording, in beats a minute, and when its heart sounds S1 and S2 begin.

    ``confidence``: the probability, in 0-1, that the rate is within 5 %. ``s1_s``, ``s2_s``: seconds, shape (n,) each.
    """

    heart_rate_bpm: float
    confidence: float
    s1_s: np.ndarray
    s2_s: np.ndarray

    @property
    def may_be_swapped(self) -> bool:
        """Whether S1 may be S2 and S2 S1: in a fast heart systole and diastole are equally long."""
        return self.heart_rate_bpm >= SWAPPABLE_BPM


@dataclass(frozen=True)
class Segmentation:
    """When S1 and S2 begin, in seconds, and how well a heart explains the sound.

    ``regularity``: autocorrelation of the loudness at the heart's period. ``timing``: mean log-density of the durations, 0 for
    the expected ones. ``contrast``: loudness of heart sounds over that of pauses, in standard deviations.
    """

    s1_s: np.ndarray
    s2_s: np.ndarray
    regularity: float
    timing: float
    contrast: float


def find_beats(mono: np.ndarray, rate_hz: int) -> Beats | None:
    """The heart rate and the times of S1 and S2 in mono samples, shape (n,); None where the beats are not clear.

    A hidden Markov model after Schmidt et al. 2010 (Physiol. Meas. 31:513), without trained emissions.
    """
    segmentation = segment(resample(mono, rate_hz, RATE_HZ))
    if segmentation is None or (sure := confidence(segmentation)) < MIN_CONFIDENCE:
        return None
    intervals_s = np.concatenate([np.diff(segmentation.s1_s), np.diff(segmentation.s2_s)])
    return Beats(heart_rate_bpm(intervals_s), sure, segmentation.s1_s, segmentation.s2_s)


def heart_rate_bpm(intervals_s: np.ndarray) -> float:
    """Beats a minute by the interquartile mean of the intervals, which missed and early beats hardly move."""
    from scipy.stats import trim_mean

    return 60 / float(trim_mean(intervals_s, 0.25))


def confidence(segmentation: Segmentation) -> float:
    """Probability that the heart rate is within 5 %: a logistic regression on the three measures."""
    logit = INTERCEPT
    for name, (mean, deviation, weight) in WEIGHTS.items():
        logit += weight * (getattr(segmentation, name) - mean) / deviation
    return float(1 / (1 + np.exp(-logit)))


def segment(sound: np.ndarray) -> Segmentation | None:
    """The most probable S1 and S2 in mono samples at RATE_HZ; None where the sound is silent or has less than two beats."""
    from heartdata.audio.heart_cycle import S1, S2, most_probable  # numba takes .5 s to import

    loudness = relative_loudness(sound)
    correlation = _autocorrelation(loudness)
    candidates = _periods(correlation)
    if not len(candidates):
        return None
    courses = []
    for period in candidates:
        durations = _durations(period / FRAMES_HZ)
        score, states = most_probable(EVIDENCE * loudness, durations)
        courses.append((score, period, states, durations))
    _, period, states, durations = max(courses, key=lambda course: course[0])
    starts = np.flatnonzero(np.diff(states)) + 1
    s1, s2 = (starts[states[starts] == state] for state in (S1, S2))
    if len(s1) + len(s2) < 4 or max(len(s1), len(s2)) < 2:
        return None
    heart_sound = (states == S1) | (states == S2)
    return Segmentation(
        s1 / FRAMES_HZ + ONSET_S,
        s2 / FRAMES_HZ + ONSET_S,
        regularity=float(correlation[period]),
        timing=float(durations[states[starts[:-1]], np.diff(starts)].mean()),
        contrast=float(loudness[heart_sound].mean() - loudness[~heart_sound].mean()),
    )


def relative_loudness(sound: np.ndarray) -> np.ndarray:
    """The envelope in HEART_SOUNDS_HZ as deviations from its surroundings, within -2.5 and 2.5, FRAMES_HZ a second."""
    n, step = len(sound), RATE_HZ // FRAMES_HZ
    size = fft.next_fast_len(max(n, 1), real=True)
    sound = (sound - (sound.mean(dtype=float) if n else 0)).astype(np.float32)
    spectrum, hz = fft.rfft(sound, size), fft.rfftfreq(size, 1 / RATE_HZ)
    spectrum[(hz < HEART_SOUNDS_HZ[0]) | (hz > HEART_SOUNDS_HZ[1])] = 0
    frames = fft.irfft(spectrum, size)[: n // step * step].reshape(-1, step)
    envelope = _mean_around(np.sqrt(np.mean(frames**2, axis=1)), SMOOTHING_S)
    envelope = np.sqrt(np.maximum(envelope, 0))  # loud beats and knocks weigh less
    deviation = envelope - _mean_around(envelope, LEVEL_S)
    scale = np.sqrt(np.maximum(_mean_around(deviation**2, LEVEL_S), 0))
    floor = 1e-3 * envelope.max(initial=0) + 1e-9
    return np.clip(deviation / np.maximum(scale, floor), -2.5, 2.5)


def _mean_around(values: np.ndarray, duration_s: float) -> np.ndarray:
    from scipy.ndimage import uniform_filter1d

    return (
        uniform_filter1d(values.astype(float), round(duration_s * FRAMES_HZ), mode="reflect") if len(values) else values
    )


def _autocorrelation(signal: np.ndarray) -> np.ndarray:
    """Autocorrelation at lags 0..n-1, normalised for the overlap at each."""
    n = len(signal)
    return autocorrelation(signal - signal.mean()) * n / (n - np.arange(n)) if n else signal


def _periods(correlation: np.ndarray) -> np.ndarray:
    """The lags, in frames, of the highest peaks of the autocorrelation at heart rates."""
    from scipy.signal import find_peaks

    shortest = round(PERIODS_S[0] * FRAMES_HZ)
    longest = min(round(PERIODS_S[1] * FRAMES_HZ), len(correlation) // 2)
    peaks = find_peaks(correlation[: longest + 2])[0]
    peaks = peaks[peaks >= shortest]
    return peaks[np.argsort(-correlation[peaks])][:HYPOTHESES]


def _durations(period_s: float) -> np.ndarray:
    """Log-density of each state lasting 0, 1, ... frames at a heart's period, over that of its mean: shape (4, frames).

    Systole grows with the period as in CirCor's annotations, and in adults (Weissler et al. 1968) much alike.
    """
    s1_to_s2_s = 0.14 + 0.187 * period_s
    longest_s = max(LONGEST_SYSTOLE_S, 1.7 * period_s)
    s1_s, s2_s = np.array([S1_S, S2_S]) * min(1, period_s / FAST_S)
    mean_s = np.array([s1_s, s1_to_s2_s - s1_s, s2_s, max(period_s - s1_to_s2_s - s2_s, 0.06)])
    deviation_s = np.array([0.02, 0.03, 0.02, 0.01 + 0.12 * period_s])
    greatest_s = np.array([LONGEST_SOUND_S, LONGEST_SYSTOLE_S, LONGEST_SOUND_S, longest_s])
    at_s = np.arange(round(longest_s * FRAMES_HZ) + 1) / FRAMES_HZ
    deviations = (at_s - mean_s[:, None]) / deviation_s[:, None]
    possible = (at_s >= SHORTEST_S) & (at_s <= greatest_s[:, None])
    return np.where(possible, np.logaddexp(-(deviations**2) / 2, ANY_DURATION), -np.inf)
