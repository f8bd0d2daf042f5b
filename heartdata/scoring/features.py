"""Simple features of a spectrogram, for the baseline without a network."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy import signal, stats

GROUPS = 4  # of neighbouring mel bands
MODULATION_HZ = (0.0, 0.8, 1.6, 3.0, 5.0, 8.0, 15.0, 31.0)
PERIOD_S = (0.3, 2.0)  # heart rates of 30-200 a minute


def spectrogram_features(spectrogram: np.ndarray, hop_s: float) -> np.ndarray:
    """A float64 vector, always finite, of a log-mel spectrogram (columns, mel_bands), one column every ``hop_s``.

    Of each mel band: standard deviation, skewness, kurtosis and percentiles; of four groups of bands: the shares of
    their modulation spectrum in ranges of rates, and their correlations; of the loudness: the strength and length of
    its period, and the intervals between its peaks. After Springer et al. 2016 and Potes et al. 2016.
    """
    power_db = np.asarray(spectrogram, dtype=np.float64)
    if len(power_db) < 3:
        power_db = np.resize(power_db, (3, power_db.shape[1]))
    bands = [power_db.std(axis=0), *(np.percentile(power_db, [10, 50, 90], axis=0) - power_db.mean(axis=0))]
    bands += [_moment(stats.skew, power_db), _moment(stats.kurtosis, power_db)]
    groups = np.stack([part.mean(axis=1) for part in np.array_split(power_db, GROUPS, axis=1)])
    loudness = power_db.mean(axis=1) - power_db.mean()
    pieces = [*bands, *(_modulation(group - group.mean(), hop_s) for group in groups), _correlations(groups)]
    pieces += [_period(loudness, hop_s), _peak_intervals(loudness, hop_s), np.array([len(power_db) * hop_s])]
    return np.nan_to_num(np.concatenate(pieces), posinf=0.0, neginf=0.0)


def _modulation(level: np.ndarray, hop_s: float) -> np.ndarray:
    """The share of the power of ``level`` in each range of MODULATION_HZ, and how fast it changes."""
    rate_hz, power = signal.welch(level, fs=1 / hop_s, nperseg=min(128, len(level)), nfft=128)
    edges = zip(MODULATION_HZ[:-1], MODULATION_HZ[1:], strict=True)
    shares = [power[(rate_hz >= low) & (rate_hz < high)].sum() for low, high in edges]
    return np.array([*shares / np.maximum(power.sum(), 1e-12), np.quantile(np.abs(np.diff(level)), 0.9)])


def _correlations(groups: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(groups)[np.triu_indices(len(groups), 1)]


def _period(loudness: np.ndarray, hop_s: float) -> np.ndarray:
    """Of the autocorrelation at heart periods: its maximum, that period in seconds, its minimum and standard deviation."""
    correlation = signal.correlate(loudness, loudness)[len(loudness) - 1 :]
    correlation = correlation / max(correlation[0], 1e-12)
    first = round(PERIOD_S[0] / hop_s)
    in_range = correlation[first : round(PERIOD_S[1] / hop_s)]
    if not len(in_range):
        return np.zeros(4)
    return np.array([in_range.max(), (first + in_range.argmax()) * hop_s, in_range.min(), in_range.std()])


def _peak_intervals(loudness: np.ndarray, hop_s: float) -> np.ndarray:
    """Of the seconds between loudness peaks: mean, standard deviation, skewness, percentiles; and peaks a second."""
    peaks, _ = signal.find_peaks(loudness, distance=max(1, round(0.16 / hop_s)), prominence=0.7 * loudness.std())
    intervals_s = np.diff(peaks) * hop_s
    rate_hz = len(peaks) / (len(loudness) * hop_s)
    if not len(intervals_s):
        return np.array([0.0] * 6 + [rate_hz])
    skewness, percentiles = _moment(stats.skew, intervals_s), np.percentile(intervals_s, [10, 50, 90])
    return np.array([intervals_s.mean(), intervals_s.std(), skewness, *percentiles, rate_hz])


def _moment(moment: Callable[..., np.ndarray], values: np.ndarray) -> np.ndarray:
    """A moment along the first axis, without scipy's warning that it is nan for constant values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return moment(values, axis=0)
