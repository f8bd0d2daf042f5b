"""Signal quality of a heart sound recording: one index in 0-1, and the features that it is computed from.

No segmentation is needed. The features are after Springer et al. 2016 (J. Med. Eng. Technol. 40:342: periodicity and
autocorrelation of the envelope, kurtosis, band shares, sample entropy) and the CinC 2016 entries that used them. The
weights are a logistic regression against the 690 verdicts of CinC 2016's REFERENCE-SQI.csv (databases b, c, d, f),
printed by ``python -m benchmarks.quality --data data``; docs/checks.md says how well it does on databases
that it was not fitted to.
"""

import numpy as np
from scipy import fft

from heartdata.audio.fingerprint import RATE_HZ

ENVELOPE_HZ = 100
FRAME_S = 0.05
WINDOW = 256  # samples of a spectrum: 128 ms
_HANN = np.hanning(WINDOW).astype(np.float32)

# feature: mean, standard deviation, weight of its z-score (clipped to -3..3); see the module's docstring.
WEIGHTS = {
    "periodicity": (0.3714, 0.1898, 0.7338),
    "rhythm": (0.1489, 0.0384, 0.0997),
    "kurtosis": (2.0274, 0.7494, 0.4035),
    "heart_share": (-0.2611, 0.1092, 0.3314),
    "high_share": (-2.8314, 1.0948, -0.3025),
    "range": (1.9718, 0.5929, 0.5121),
    "entropy": (0.8447, 0.2336, -0.1366),
}
INTERCEPT = 0.7331


def quality(sound: np.ndarray) -> float:
    """The index of mono samples at RATE_HZ, shape (n,): 1 for a clear heart; 0 when silent or shorter than a second."""
    features = quality_features(sound)
    return 0.0 if features is None else quality_index(features)


def quality_index(features: dict[str, float]) -> float:
    """The logistic combination of `quality_features`."""
    logit = INTERCEPT
    for name, (mean, deviation, weight) in WEIGHTS.items():
        logit += weight * min(3.0, max(-3.0, (features[name] - mean) / deviation))
    return float(1 / (1 + np.exp(-logit)))


def quality_features(sound: np.ndarray) -> dict[str, float] | None:
    """The features of mono samples at RATE_HZ; None when silent or shorter than a second.

    ``periodicity``: see `periodicity`. ``rhythm``: deviation of the envelope's autocorrelation over lags 0-5 s.
    ``kurtosis``: log of the samples' fourth standardised moment. ``heart_share``, ``high_share``: log10 of the share
    of the power above 20 Hz in 24-144 and in 300-600 Hz. ``range``: log10 of the 90th over the 10th percentile of the
    power in 31-156 Hz. ``entropy``: sample entropy (m = 2, r = 0.2 standard deviations) of the autocorrelation.
    """
    if len(sound) < RATE_HZ:
        return None
    sound = sound.astype(np.float32) - np.float32(sound.mean())
    power = float(np.mean(sound**2))
    if power <= 1e-12:
        return None
    correlation = autocorrelation(envelope(sound))
    lags = correlation[: min(500, len(correlation) // 2) : 3].astype(np.float64)
    hz = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)
    frames = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[:: WINDOW // 2] * _HANN
    spectra = np.abs(fft.rfft(frames, axis=1)) ** 2
    mean = spectra.mean(axis=0)

    def share(low: float, high: float) -> float:
        return float(np.log10(mean[(hz >= low) & (hz < high)].sum() / mean[hz >= 20].sum() + 1e-6))

    heart = spectra[:, (hz >= 31) & (hz < 156)].sum(axis=1)
    low, high = np.percentile(heart + 1e-6 * heart.max(), [10, 90])
    squares = sound**2
    return {
        "periodicity": _peak(correlation),
        "rhythm": float(lags.std()),
        "kurtosis": float(np.log(np.mean(squares**2) / power**2)),
        "heart_share": share(24, 144),
        "high_share": share(300, 600),
        "range": float(np.log10(high / low)),
        "entropy": sample_entropy(lags, 0.2 * float(lags.std())),
    }


def frame_rms(mono: np.ndarray, rate_hz: int, frame_s: float = FRAME_S) -> np.ndarray:
    """RMS of each whole frame of ``frame_s`` seconds (of the whole sound if it is shorter), shape (n,)."""
    size = max(1, min(len(mono), round(frame_s * rate_hz)))
    whole = len(mono) // size * size
    return np.sqrt(np.mean(mono[:whole].reshape(-1, size) ** 2, axis=1))


def envelope(sound: np.ndarray) -> np.ndarray:
    """Zero-mean RMS of 10 ms frames, smoothed over 50 ms, of mono samples at RATE_HZ less their offset, shape (n,)."""
    frames = frame_rms(sound.astype(np.float64) - sound.mean(), RATE_HZ, 1 / ENVELOPE_HZ)
    smooth = np.convolve(frames, np.ones(5) / 5, mode="same")
    return smooth - smooth.mean()


def autocorrelation(signal: np.ndarray) -> np.ndarray:
    """Autocorrelation at lags 0..n-1, 1 at lag 0 (all zero for a constant), shape as ``signal``."""
    n = len(signal)
    correlation = fft.irfft(np.abs(fft.rfft(signal, fft.next_fast_len(2 * n, real=True))) ** 2)[:n]
    return correlation / correlation[0] if correlation[0] > 1e-12 else np.zeros(n)


def periodicity(sound: np.ndarray) -> float:
    """How strongly the envelope repeats at heart rates: its highest autocorrelation at lags 0.3-2 s, in 0-1.

    Of mono samples at RATE_HZ, shape (n,); 0 when shorter than a second. Lags of 0.3-2 s are 30-200 beats a minute,
    children included; the autocorrelation is normalised for the overlap at each lag (after Springer et al. 2016).
    """
    return _peak(autocorrelation(envelope(sound))) if len(sound) >= RATE_HZ else 0.0


def _peak(correlation: np.ndarray) -> float:
    n = len(correlation)
    lags = np.arange(int(0.3 * ENVELOPE_HZ), min(2 * ENVELOPE_HZ, n // 2) + 1)
    return float(np.clip((correlation[lags] * n / (n - lags)).max(), 0.0, 1.0))


def sample_entropy(signal: np.ndarray, tolerance: float) -> float:
    """-log of the probability that runs of 2 values that match within ``tolerance`` match in a third (Richman 2000)."""
    near = np.abs(signal[:, None] - signal) <= tolerance
    pairs = near[:-2, :-2] & near[1:-1, 1:-1]
    n = len(pairs)
    two, three = pairs.sum() - n, (pairs & near[2:, 2:]).sum() - n
    return float(-np.log(max(three, 1) / max(two, 1)))
