"""Recording to log-mel spectrogram: librosa's filter bank and conventions, several times as fast."""

from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from scipy import fft

from heartdata.audio.decode import resample
from heartdata.settings import Settings

DTYPE = np.float16  # measured to be enough: docs/spectrograms.md
DB_PER_NEPER = np.float32(10 / np.log(10))  # of power
MIN_DEVIATION_DB = 1e-3
BLOCK_FRAMES = 512  # transformed at once: fits into the processor's cache


class SpectrogramConfig(Settings):
    """How a recording becomes a log-mel spectrogram. One second is 1 / hop_s columns."""

    rate_hz: int = Field(default=2000, ge=500, le=96_000, description="recordings are resampled to this rate")
    fft_samples: int = Field(default=256, ge=32, le=65_536, description="length of the Fourier transform in samples")
    window_s: float = Field(default=0.064, gt=0, description="length of the Hann window")
    hop_s: float = Field(default=0.032, gt=0, le=1, description="time from one column to the next")
    mel_bands: int = Field(default=32, ge=8, le=512, description="number of mel bands")
    low_hz: float = Field(default=25.0, ge=0, description="lower edge of the lowest mel band")
    high_hz: float = Field(default=800.0, gt=0, description="upper edge of the highest mel band")
    range_db: float = Field(default=80.0, gt=0, description="dynamic range kept below the loudest point")
    normalise: Literal["band", "recording", "none"] = Field(
        default="band",
        description="what is scaled to mean 0 and standard deviation 1: each band, which removes the device's frequency response, or "
        "the whole recording",
    )

    @model_validator(mode="after")
    def _check_window(self) -> "SpectrogramConfig":
        if not self.low_hz < self.high_hz <= self.rate_hz / 2:
            raise ValueError("low_hz < high_hz <= rate_hz / 2 must hold")
        if self.window_samples > self.fft_samples:
            raise ValueError("fft_samples must be at least window_s * rate_hz")
        if self.window_samples < 2:
            raise ValueError("window_s must be at least two samples long")
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
    """librosa's mel filter bank, shape (mel_bands, fft_samples / 2 + 1), float32."""
    import librosa

    return librosa.filters.mel(
        sr=config.rate_hz, n_fft=config.fft_samples, n_mels=config.mel_bands, fmin=config.low_hz, fmax=config.high_hz
    )


@lru_cache(maxsize=8)
def _nonzero_filters(config: SpectrogramConfig) -> tuple[np.ndarray, slice]:
    """The filter bank as a matrix (bins, mel_bands) without outer bins of weight 0, and the slice of the bins kept."""
    filters = mel_filters(config)
    bins = np.flatnonzero(filters.any(axis=0))
    used = slice(int(bins[0]), int(bins[-1]) + 1) if len(bins) else slice(0, 1)
    return np.ascontiguousarray(filters[:, used].T), used


@lru_cache(maxsize=8)
def hann_window(config: SpectrogramConfig) -> np.ndarray:
    """What each frame is multiplied with, shape (window_samples,), float32."""
    from scipy.signal import get_window  # a second to import, which settings need not wait for

    return get_window("hann", config.window_samples).astype(np.float32)


def mel_power(mono: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """Mel power, shape (columns, mel_bands), float32, of samples at config.rate_hz.

    Equals librosa.feature.melspectrogram with centred, zero-padded Hann windows, transposed. librosa pads each window
    with zeros to fft_samples on both sides; here the zeros follow it, which changes the phase and not the power.
    """
    window = hann_window(config)
    filters, used = _nonzero_filters(config)
    before = (config.fft_samples - config.window_samples) // 2  # where librosa's window begins in its frame
    padded = np.pad(mono.astype(np.float32, copy=False), config.fft_samples // 2)
    columns = 1 + (len(padded) - config.fft_samples) // config.hop_samples
    frames = np.lib.stride_tricks.sliding_window_view(padded[before:], len(window))[:: config.hop_samples]
    mel = np.empty((columns, config.mel_bands), np.float32)
    for start in range(0, columns, BLOCK_FRAMES):
        block = slice(start, min(start + BLOCK_FRAMES, columns))
        spectrum = fft.rfft(frames[block] * window, config.fft_samples, axis=1)[:, used]
        np.matmul(spectrum.real**2 + spectrum.imag**2, filters, out=mel[block])
    return mel


def mel_power_db(mono: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """Mel power in dB, shape (columns, mel_bands), float32, of samples at config.rate_hz.

    0 dB is the loudest point. Equals librosa.power_to_db(..., ref=np.max, top_db=range_db) of `mel_power` to 0.002 dB.
    """
    power_db = mel_power(mono, config)
    np.maximum(power_db, 1e-10, out=power_db)
    np.log(power_db, out=power_db)  # numpy has vector instructions for log, none for log10
    power_db *= DB_PER_NEPER
    power_db -= power_db.max()
    return np.maximum(power_db, -config.range_db, out=power_db)


def log_mel(mono: np.ndarray, rate_hz: int, config: SpectrogramConfig = SpectrogramConfig()) -> np.ndarray:
    """The normalised log-mel spectrogram of mono samples, shape (n,): shape (columns, mel_bands), float16."""
    power_db = mel_power_db(resample(mono, rate_hz, config.rate_hz), config)
    if config.normalise == "recording":
        power_db -= power_db.mean()
        power_db /= max(power_db.std(), MIN_DEVIATION_DB)
    elif config.normalise == "band":
        power_db -= power_db.mean(axis=0)
        deviation_db = np.sqrt(np.einsum("ij,ij->j", power_db, power_db) / len(power_db))
        power_db /= np.maximum(deviation_db, MIN_DEVIATION_DB)
    return power_db.astype(DTYPE)
