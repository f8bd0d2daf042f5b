"""From raw audio bytes to a label and class probabilities: what is served, and what evaluation measures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from heartdata.audio import decode
from heartdata.config import ModelConfig
from heartdata.dataset import as_images, window, window_starts
from heartdata.errors import BadAudio
from heartdata.model import load_net
from heartdata.spectrograms import log_mel

WINDOWS_AT_ONCE = 32


@dataclass(frozen=True)
class Answer:
    """The most probable class and the probability of each, in the order of the model's classes."""

    label: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Predictor:
    """A trained network with its configuration."""

    net: nn.Module
    config: ModelConfig

    @classmethod
    def load(cls, weights: str | Path, config: str | Path) -> "Predictor":
        """From the two files of a model: ``weights.safetensors`` and ``config.json``."""
        settings = ModelConfig.model_validate_json(Path(config).read_text())
        return cls(load_net(Path(weights), settings.classes), settings)

    def answer_spectrogram(self, spectrogram: np.ndarray) -> Answer:
        """The mean of the class probabilities over overlapping windows of a spectrogram (columns, mel_bands)."""
        width = self.config.width
        starts, answers = window_starts(len(spectrogram), width), []
        with torch.inference_mode():
            for i in range(0, len(starts), WINDOWS_AT_ONCE):
                some = starts[i : i + WINDOWS_AT_ONCE]
                windows = as_images(np.stack([window(spectrogram, at, width) for at in some]))
                answers.append(self.net(windows).softmax(1))
        probabilities = torch.cat(answers).mean(0).tolist()
        return Answer(self.config.classes[int(np.argmax(probabilities))], tuple(probabilities))

    def answer_bytes(self, content: bytes) -> Answer:
        """The answer for the bytes of an audio file. Raises `BadAudio` when they are none."""
        audio = decode(content)
        if not np.isfinite(audio.samples).all():
            raise BadAudio("holds samples that are not numbers (NaN or infinite)")
        return self.answer_spectrogram(log_mel(audio.mono, audio.rate_hz, self.config.spectrogram))
