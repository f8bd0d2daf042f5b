"""From raw audio bytes to a label and class probabilities: what is served, and what evaluation measures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from heartdata.audio import decode
from heartdata.calibration import answers, apply_temperature
from heartdata.config import ModelConfig
from heartdata.dataset import Shards, as_images, views_of
from heartdata.errors import BadAudio
from heartdata.measure import facts
from heartdata.model import load_net
from heartdata.spectrograms import log_mel
from heartdata.store import Store
from heartdata.suite import fault_of

WINDOWS_AT_ONCE = 32


@dataclass(frozen=True)
class Answer:
    """The label, whether its probability is too low to rely on it, and the probability of each of the classes."""

    label: str
    unsure: bool
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
        return cls(load_net(Path(weights), settings.classes, settings.members), settings)

    def answer_spectrogram(self, spectrogram: np.ndarray) -> Answer:
        """The answer for a spectrogram (columns, mel_bands), by `probabilities` and the model's calibration."""
        classes, calibration = self.config.classes, self.config.calibration
        scaled = apply_temperature(self.probabilities(spectrogram)[None], calibration.temperature)
        label = answers(scaled, list(classes), np.array(calibration.class_weights or [1.0] * len(classes)))[0]
        given = tuple(scaled[0].tolist())
        return Answer(label, given[classes.index(label)] < calibration.unsure_below, given)

    def probabilities(self, spectrogram: np.ndarray) -> np.ndarray:
        """The network's own: the mean over the overlapping windows of a spectrogram (columns, mel_bands)."""
        views, found = views_of(spectrogram, self.config.width, self.config.view), []
        with torch.inference_mode():
            for i in range(0, len(views), WINDOWS_AT_ONCE):
                found.append(self.net(as_images(np.stack(views[i : i + WINDOWS_AT_ONCE]))).softmax(1))
        return torch.cat(found).mean(0).numpy().astype(float)

    def answer_bytes(self, content: bytes) -> Answer:
        """The answer for the bytes of an audio file.

        Raises `BadAudio` when they are none, or a recording that validation would send to quarantine by itself.
        """
        audio = decode(content)
        if fault := fault_of(facts(audio, self.config.measure), self.config.accepts):
            raise BadAudio(fault)
        return self.answer_spectrogram(log_mel(audio.mono, audio.rate_hz, self.config.spectrogram))


def probabilities_of(
    predictor: Predictor, rows: pd.DataFrame, store: Store, on_done: Callable[[int], None] = lambda done: None
) -> np.ndarray:
    """The network's probabilities for each recording of manifest ``rows``: shape (recordings, classes)."""
    shards, found = Shards(store), []
    shards.open(rows)
    for done, row in enumerate(rows.itertuples(index=False), 1):
        found.append(predictor.probabilities(shards.spectrogram(row.shard, row.start, row.frames)))
        on_done(done)
    return np.array(found)
