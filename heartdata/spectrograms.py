"""Log-mel spectrograms: librosa's filter bank and conventions, stored as memory-mapped shards."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from heartdata.audio import decode, read_bytes, resample
from heartdata.settings import Settings
from heartdata.store import Store

VERSION = "1"  # raise when the same input gives other values
DTYPE = np.float16


class SpectrogramConfig(Settings):
    """Frozen settings of one spectrogram. One second is 1 / hop_s columns."""

    rate_hz: int = Field(default=2000, ge=500, le=96_000)
    fft_samples: int = Field(default=256, ge=32, le=65_536)
    window_s: float = Field(default=0.064, gt=0)
    hop_s: float = Field(default=0.016, gt=0, le=1)
    mel_bands: int = Field(default=64, ge=8, le=512)
    low_hz: float = Field(default=25.0, ge=0)
    high_hz: float = Field(default=800.0, gt=0)
    range_db: float = Field(default=80.0, gt=0, description="kept below the loudest point")
    normalise: Literal["band", "recording", "none"] = Field(
        default="band",
        description="to mean 0 and deviation 1; by band removes the device's colour",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "SpectrogramConfig":
        if not self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError("low_hz < high_hz <= rate_hz / 2 must hold")
        if self.window_samples > self.fft_samples:
            raise ValueError("fft_samples must hold a window of window_s * rate_hz samples")
        if self.window_samples < 2:
            raise ValueError("window_s must hold at least two samples")
        return self

    @property
    def window_samples(self) -> int:
        """Samples in a window."""
        return round(self.window_s * self.rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples from one column to the next."""
        return max(1, round(self.hop_s * self.rate_hz))


@lru_cache(maxsize=8)
def mel_filters(config: SpectrogramConfig) -> np.ndarray:
    """librosa's mel filter bank, shape (mel_bands, fft_samples / 2 + 1), float32; computed once per configuration."""
    import librosa

    return librosa.filters.mel(
        sr=config.rate_hz,
        n_fft=config.fft_samples,
        n_mels=config.mel_bands,
        fmin=config.low_hz,
        fmax=config.high_hz,
    )


@lru_cache(maxsize=8)
def _window(config: SpectrogramConfig) -> np.ndarray:
    from scipy.signal import get_window

    around = config.fft_samples - config.window_samples
    window = get_window("hann", config.window_samples)
    return np.pad(window, (around // 2, around - around // 2)).astype(np.float32)


def mel_power_db(mono: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """Mel power in dB below the loudest point, shape (columns, mel_bands), float32, of samples at config.rate_hz.

    Equals librosa.power_to_db(librosa.feature.melspectrogram(...), ref=np.max, top_db=range_db) with centred,
    zero-padded Hann windows, transposed.
    """
    half = config.fft_samples // 2
    padded = np.pad(mono.astype(np.float32), half)
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.fft_samples)[:: config.hop_samples]
    power = np.abs(np.fft.rfft(frames * _window(config), axis=1)) ** 2
    mel = power.astype(np.float32) @ mel_filters(config).T
    power_db = 10 * np.log10(np.maximum(mel, 1e-10)) - 10 * np.log10(max(float(mel.max()), 1e-10))
    return np.maximum(power_db, power_db.max() - config.range_db)


def log_mel(mono: np.ndarray, rate_hz: int, config: SpectrogramConfig) -> np.ndarray:
    """The spectrogram that is stored and learnt from, shape (columns, mel_bands), float16, normalised."""
    power_db = mel_power_db(resample(mono, rate_hz, config.rate_hz), config)
    if config.normalise == "none":
        return power_db.astype(DTYPE)
    axis = 0 if config.normalise == "band" else None
    mean, deviation = (
        power_db.mean(axis=axis, keepdims=True),
        power_db.std(axis=axis, keepdims=True),
    )
    return ((power_db - mean) / np.maximum(deviation, 1e-3)).astype(DTYPE)


def render_shard(
    name: str,
    recordings: Sequence[tuple[str, str]],
    config: SpectrogramConfig,
    store: Store,
) -> list[dict]:
    """Render recordings, given as (sha256, uri), into one ``.npy`` shard; returns rows of schema SPECTROGRAMS.

    The shard is all spectrograms one after the other, shape (columns, mel_bands), in the order of sha256, so the same
    recordings make the same bytes. Raises OSError when a file cannot be read.
    """
    rows, parts, start = [], [], 0
    for sha256, uri in sorted(recordings):
        audio = decode(read_bytes(uri, sha256))
        spectrogram = log_mel(audio.mono, audio.rate_hz, config)
        rows.append(
            {
                "sha256": sha256,
                "shard": name,
                "start": start,
                "frames": len(spectrogram),
            }
        )
        parts.append(spectrogram)
        start += len(spectrogram)
    digest = store.write_array(name, np.concatenate(parts))
    return [row | {"shard_sha256": digest} for row in rows]
