"""The channel of a recording that is its heart sound, where the others may be an ECG, a second microphone or nothing."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import numpy as np
from pydantic import Field
from scipy import fft

from heartdata.audio.decode import Audio, resample
from heartdata.audio.fingerprint import RATE_HZ
from heartdata.audio.quality import quality
from heartdata.errors import BadAudio

Name = Literal["mix", "first", "most_heart_like"]
NAMES: tuple[Name, ...] = get_args(Name)
Channel = Name | Annotated[int, Field(ge=1)]
DEFAULT: Channel = "most_heart_like"
MIN_AGREEMENT = 0.5  # correlation from which on channels are one sound, whose mean has less noise than each
HEART_HZ = (30, 150)
SLOW_HZ = (2, 20)  # most of an ECG, of breath and of pulse waves
AUDIBLE_HZ = (25, 400)


@dataclass(frozen=True)
class Sound:
    """What is measured, rendered and classified of a recording: ``mono`` samples, shape (frames,), float32.

    ``channel``: its number from 1; 0 for the mean of all. ``agreement``: the least correlation of two channels at
    HEART_HZ; None where only one was looked at.
    """

    mono: np.ndarray
    channel: int
    agreement: float | None = None


def choose(audio: Audio, channel: Channel) -> Sound:
    """The sound of ``channel``; of the mean or, where channels differ, of the one most like a heart by default.

    Raises `BadAudio` when the recording has fewer channels.
    """
    count = audio.samples.shape[1]
    number = 1 if channel == "first" else channel
    if isinstance(number, int):
        if number > count:
            raise BadAudio(
                f"has {count} channel{'s' if count > 1 else ''}, but measure.channel={number} was set (for a model: when it was "
                "trained): export it with that channel, or set measure.channel=most_heart_like (and train again)"
            )
        return Sound(np.ascontiguousarray(audio.samples[:, number - 1]), number)
    if count == 1:
        return Sound(audio.mono, 1)
    sounds = np.stack([resample(each, audio.rate_hz, RATE_HZ) for each in np.ascontiguousarray(audio.samples.T)])
    alike = agreement(sounds)
    if channel == "mix" or alike >= MIN_AGREEMENT:
        return Sound(audio.mono, 0, alike)
    best = int(np.argmax([heart_likeness(sound) for sound in sounds]))
    return Sound(np.ascontiguousarray(audio.samples[:, best]), best + 1, alike)


def agreement(sounds: np.ndarray) -> float:
    """The least correlation of two of ``sounds`` (channels, samples at RATE_HZ) at HEART_HZ; 0 with a silent one."""
    if (sounds == sounds[0]).all():
        return 1.0
    heart = _band(sounds, HEART_HZ)
    power = np.linalg.norm(heart, axis=1, keepdims=True)
    heart = np.divide(heart, power, out=np.zeros_like(heart), where=power > 0)
    return float(np.clip((heart @ heart.T)[np.triu_indices(len(heart), 1)].min(), -1, 1))


def heart_likeness(sound: np.ndarray) -> float:
    """How much mono samples at RATE_HZ are like a heart sound and unlike an ECG, which beats just as regularly, in 0-1.

    The quality index of the audible band, squared, times the share of HEART_HZ beside SLOW_HZ in the power, in which
    the median over frequencies keeps mains hum from counting. docs/checks.md says how often it is right.
    """
    if len(sound) < RATE_HZ:
        return 0.0
    from scipy import signal  # slow to load, also where only settings are needed

    hz, density = signal.welch(sound - sound.mean(), RATE_HZ, nperseg=1024)
    heart, slow = (density[(hz >= low) & (hz < high)] for low, high in (HEART_HZ, SLOW_HZ))
    heart_power = float(np.median(heart)) * (HEART_HZ[1] - HEART_HZ[0])
    slow_power = float(slow.mean()) * (SLOW_HZ[1] - SLOW_HZ[0])
    share = heart_power / (heart_power + slow_power) if heart_power else 0.0
    return quality(_band(sound, AUDIBLE_HZ)) ** 2 * share


def _band(sounds: np.ndarray, edges_hz: tuple[int, int]) -> np.ndarray:
    """Samples at RATE_HZ, along the last axis, without other frequencies."""
    n = sounds.shape[-1]
    spectrum, hz = fft.rfft(sounds), fft.rfftfreq(n, 1 / RATE_HZ)
    return fft.irfft(np.where((hz >= edges_hz[0]) & (hz < edges_hz[1]), spectrum, 0), n)
