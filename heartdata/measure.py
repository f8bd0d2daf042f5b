"""The facts of a recording that the checks judge: length, level, clipping, silence, periodicity."""

import hashlib

import numpy as np
from pydantic import Field

from heartdata.audio import Audio, decode, read_bytes, resample
from heartdata.errors import BadAudio
from heartdata.settings import Settings

VERSION = "1"  # raise when a fact is computed in another way: stale rows are then measured again
ENVELOPE_HZ = 100
FRAME_S = 0.05


class MeasureConfig(Settings):
    """How facts are taken."""

    clip_level: float = Field(
        default=0.999, gt=0, le=1, description="samples at or above this share of the peak count as clipped"
    )
    silence_rms: float = Field(
        default=1e-4, ge=0, lt=1, description="a 50 ms frame with a lower RMS (full scale 1) counts as silent"
    )


def measure_file(uri: str, sha256: str, config: MeasureConfig) -> dict[str, object]:
    """One row of schema FACTS. Bad audio becomes a row with its ``error``; OSError is raised (worth a retry)."""
    try:
        audio = decode(read_bytes(uri, sha256))
    except BadAudio as error:
        return {"sha256": sha256, "error": str(error)}
    return {"sha256": sha256, **facts(audio, config)}


def facts(audio: Audio, config: MeasureConfig) -> dict[str, object]:
    """The facts of decoded audio (columns of schema FACTS without the file's sha256)."""
    samples = audio.samples
    frames, channels = samples.shape
    finite = bool(np.isfinite(samples).all())
    row: dict[str, object] = {
        "error": None,
        "format": audio.format,
        "rate_hz": audio.rate_hz,
        "channels": channels,
        "frames": frames,
        "duration_s": frames / audio.rate_hz,
        "missing_fraction": 1 - frames / audio.declared_frames,
        "finite": finite,
        "samples_sha256": hashlib.sha256(
            f"{audio.rate_hz}/{channels}/".encode() + np.ascontiguousarray(samples).tobytes()
        ).hexdigest(),
    }
    if not finite:
        return row
    mono = audio.mono.astype(np.float64)
    level = np.abs(samples)
    peak = float(level.max())
    return row | {
        "peak": peak,
        "rms": float(np.sqrt(np.mean(mono**2))),
        "dc_offset": float(mono.mean()),
        "clipped_fraction": float(np.mean(level >= config.clip_level * peak)) if peak > 0 else 0.0,
        "silent_fraction": float(np.mean(frame_rms(mono, audio.rate_hz) < config.silence_rms)),
        "periodicity": periodicity(mono, audio.rate_hz),
    }


def frame_rms(mono: np.ndarray, rate_hz: int, frame_s: float = FRAME_S) -> np.ndarray:
    """RMS of each whole frame of ``frame_s`` seconds (of the whole sound when it is shorter), shape (n,)."""
    size = max(1, min(len(mono), round(frame_s * rate_hz)))
    whole = len(mono) // size * size
    return np.sqrt(np.mean(mono[:whole].reshape(-1, size) ** 2, axis=1))


def periodicity(mono: np.ndarray, rate_hz: int) -> float:
    """How strongly the envelope repeats at heart rates: its highest autocorrelation at lags .3-2 s, in 0-1.

    Lags .3-2 s are 30-200 beats a minute, children included. The envelope is the RMS of 10 ms frames of the
    sound at 2 kHz, smoothed over 50 ms; the autocorrelation is normalised for the overlap at each lag. After the
    periodicity index of segmentation-free quality measures (Springer et al. 2016, J. Med. Eng. Technol. 40:342).
    """
    sound = resample(mono.astype(np.float32), rate_hz, 2000).astype(np.float64)
    envelope = frame_rms(sound, 2000, 1 / ENVELOPE_HZ)
    if len(envelope) < ENVELOPE_HZ:  # under a second nothing can be said
        return 0.0
    envelope = np.convolve(envelope, np.ones(5) / 5, mode="same")
    envelope -= envelope.mean()
    n = len(envelope)
    spectrum = np.fft.rfft(envelope, 2 * n)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:n]
    if correlation[0] <= 1e-12:
        return 0.0
    lags = np.arange(int(0.3 * ENVELOPE_HZ), min(2 * ENVELOPE_HZ, n // 2) + 1)
    unbiased = correlation[lags] / correlation[0] * n / (n - lags)
    return float(np.clip(unbiased.max(), 0.0, 1.0))
