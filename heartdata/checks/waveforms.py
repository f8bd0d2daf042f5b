"""Whether two recordings that look like near-duplicates are one recording: their waveforms agree, and nowhere else as well.

Recordings of one regular heart have similar envelopes, but not the same waveform. A sound that repeats perfectly (a
simulator, a hum) has nearly the same waveform whenever it is recorded, so a copy must also agree clearly better than the
same two waveforms some beats apart. docs/checks.md has the measurements behind the constants.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import fft
from scipy.signal import butter, sosfiltfilt

from heartdata.audio.fingerprint import HOP, RATE_HZ
from heartdata.audio.measurements import MeasureConfig, sound_reader
from heartdata.checks.near_duplicates import near_duplicates
from heartdata.checks.suite import ValidationConfig
from heartdata.storage.schemas import CONFIRMED_PAIRS

HEART_HZ = (25, 150)  # noise changes it least
HIGH_HZ = (150, 500)  # remains where a filter changed what is below
LEAST = 0.9  # correlation of copies, in one of the bands,
LEAST_ALIKE = 0.7  # of recordings that are kept together in the split
ENOUGH_S = 2.0  # over so long; over half of it .95, and so on: single beats of one heart agree by more
DISTINCT = 0.5  # of what correlation leaves unexplained at other beats, a copy leaves at most so much
BLOCK_S = 5.0  # compared at a time, so that clocks that differ a little do not matter
SHORTEST_S = 0.4
NEAR_S = 0.2  # from the offset, where the best lag is looked for
FARTHEST_S = 3.0  # from the offset, where other lags are compared
SAME_S = 0.0005
FINER = 4  # steps of a lag in a sample: high frequencies correlate less between samples
ELSEWHERE_S = 0.25  # from the best lag, and farther: other beats
KEPT_SOUNDS = 32  # in memory, of pairs in a row
KEY = ["sha256_a", "sha256_b", "offset_frames"]
NO_PAIRS = CONFIRMED_PAIRS.empty_table().to_pandas()
SoundOf = Callable[[str], np.ndarray | None]  # mono samples at RATE_HZ by sha256; None where it cannot be read


class Agreement(NamedTuple):
    """Correlations (0 to 1, whichever the polarity) of two waveforms at their best lag, and the highest at other beats."""

    heart: float
    heart_elsewhere: float
    high: float
    high_elsewhere: float
    duration_s: float


def near_duplicate_pairs(
    recordings: pa.Table,
    facts: pa.Table,
    config: ValidationConfig = ValidationConfig(),
    measure: MeasureConfig = MeasureConfig(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame | None:
    """Pairs of recordings of one sound that differ in codec, rate, loudness, cut or noise (schema CONFIRMED_PAIRS).

    ``recordings`` and ``facts`` have the schemas RECORDINGS and FACTS. None where ``config.near_duplicates`` is off.
    """
    if config.near_duplicates == "off":
        return None
    found = near_duplicates(facts.to_pandas(), config.near_duplicate_similarity).pairs
    return confirm(found, sound_reader(recordings, measure), progress=progress)


def confirm(
    pairs: pd.DataFrame,
    sound_of: SoundOf,
    known: pd.DataFrame | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """``pairs`` (sha256_a, sha256_b, offset_frames: where b's first frame is in a) with what their waveforms say.

    ``waveform``: the correlation in the band that agrees more, null where a sound cannot be read. ``confirmed``: whether
    `is_copy`; ``alike``: whether `is_alike`; both where a sound cannot be read. Pairs that are ``known`` (with the same columns) and have a correlation are not compared again.
    """
    before = NO_PAIRS if known is None else known[known["waveform"].notna()]
    table = pairs.merge(before[[*KEY, "waveform", "confirmed", "alike"]], how="left", on=KEY).set_index(pairs.index)
    new = table.index[table["waveform"].isna()]
    sound = lru_cache(KEPT_SOUNDS)(sound_of)
    for done, row in enumerate(table.loc[new].itertuples()):
        x, y = sound(row.sha256_a), sound(row.sha256_b)
        found = waveform_agreement(x, y, int(row.offset_frames) * HOP) if x is not None and y is not None else None
        table.at[row.Index, "waveform"] = None if found is None else round(max(found.heart, found.high), 4)
        table.at[row.Index, "confirmed"] = found is None or is_copy(found)
        table.at[row.Index, "alike"] = found is None or is_alike(found)
        progress(done + 1, len(new))
    return table.astype({"waveform": float, "confirmed": bool, "alike": bool})


def is_copy(agreement: Agreement) -> bool:
    """Whether waveforms that agree so are of one recording."""
    heart, heart_elsewhere, high, high_elsewhere, duration_s = agreement
    least = _least(LEAST, duration_s)
    bands = ((heart, heart_elsewhere), (high, high_elsewhere))
    return any(same >= least and 1 - same <= DISTINCT * (1 - elsewhere) for same, elsewhere in bands)


def is_alike(agreement: Agreement) -> bool:
    """Whether waveforms that agree so may be of one recording with much noise, or of one sound that repeats perfectly."""
    heart, heart_elsewhere, high, high_elsewhere, duration_s = agreement
    may_be_copy = max(heart, high) >= _least(LEAST_ALIKE, duration_s)
    return is_copy(agreement) or may_be_copy or max(heart_elsewhere, high_elsewhere) >= _least(LEAST, duration_s)


def _least(correlation: float, duration_s: float) -> float:
    """The bound for an overlap of that length where ``correlation`` is that for ENOUGH_S."""
    return 1 - (1 - correlation) * min(1, duration_s / ENOUGH_S)


def waveform_agreement(a: np.ndarray, b: np.ndarray, offset: int) -> Agreement:
    """Agreement of mono samples at RATE_HZ, b's first at about a's sample ``offset``, in the block of them that agrees best."""
    best = Agreement(0, 0, 0, 0, 0)
    for agreement in _blocks(a, b, offset):
        if is_copy(agreement):
            return agreement
        best = max(best, agreement)
    return best


def _blocks(a: np.ndarray, b: np.ndarray, offset: int) -> Iterator[Agreement]:
    """The agreement in each of the blocks, about as long as BLOCK_S, of what both recordings contain."""
    start, end = max(0, offset), min(len(a), len(b) + offset)
    if end - start < SHORTEST_S * RATE_HZ:
        return
    x, y = a[start:end], b[start - offset : end - offset]
    bands = [[_band(sound, *hz) for sound in (x, y)] for hz in (HEART_HZ, HIGH_HZ)]
    edges = np.linspace(0, end - start, 1 + max(1, int((end - start) / (BLOCK_S * RATE_HZ))), dtype=int)
    for i, j in zip(edges[:-1], edges[1:], strict=True):
        farthest = min(int(FARTHEST_S * RATE_HZ), (j - i) // 2)
        heart, high = (np.abs(_correlations(x[i:j], y[i:j], farthest)) for x, y in bands)
        lags_s = np.linspace(-farthest, farthest, len(heart)) / RATE_HZ
        near = np.where(np.abs(lags_s) <= NEAR_S, np.maximum(heart, high), 0)
        from_best_s = np.abs(lags_s - lags_s[near.argmax()])
        same, elsewhere = from_best_s <= SAME_S, from_best_s >= ELSEWHERE_S
        if elsewhere.any():
            high_same, high_elsewhere = high[same].max(), high[elsewhere].max()
            yield Agreement(heart[same].max(), heart[elsewhere].max(), high_same, high_elsewhere, (j - i) / RATE_HZ)


def _band(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    return sosfiltfilt(butter(3, (low, high), "bandpass", fs=RATE_HZ, output="sos"), sound.astype(np.float64))


def _correlations(x: np.ndarray, y: np.ndarray, farthest: int) -> np.ndarray:
    """The correlation (-1 to 1) of two blocks of one length where x is -farthest to farthest samples later than y.

    In steps of 1 / FINER samples, over what is left of both.
    """
    size = fft.next_fast_len(2 * len(x), real=True)
    products = FINER * fft.irfft(fft.rfft(x, size) * fft.rfft(y, size).conj(), FINER * size)
    steps = np.arange(-FINER * farthest, FINER * farthest + 1)
    lags = steps // FINER
    power_x, power_y = (np.concatenate([[0], np.cumsum(s * s)]) for s in (x, y))
    start, end = np.maximum(0, lags), np.minimum(len(x), len(x) + lags)
    power = (power_x[end] - power_x[start]) * (power_y[end - lags] - power_y[start - lags])
    return products[steps] / np.sqrt(np.maximum(power, 1e-24))
