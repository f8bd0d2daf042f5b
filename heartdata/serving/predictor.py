"""From raw audio bytes to a label and class probabilities: what is served, and what evaluation measures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from torch import nn

from heartdata.audio.decode import decode
from heartdata.audio.measurements import measure_samples
from heartdata.audio.spectrograms import log_mel
from heartdata.checks.suite import quarantine_reason
from heartdata.dataset.windows import Shards, as_images, scoring_views
from heartdata.errors import BadAudio, ConfigError
from heartdata.scoring.calibration import apply_temperature, decide
from heartdata.serving.model_config import ModelConfig
from heartdata.storage.store import Store
from heartdata.training.network import computing_device, load_net
from heartdata.versions import PREPROCESSING

WINDOWS_AT_ONCE = 64  # in the network; of several recordings where they are short


@dataclass(frozen=True)
class Prediction:
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
        """From the two files of a model, ``weights.safetensors`` and ``config.json``, on `computing_device`.

        Raises `ConfigError` when the installed code would give the network other input than it was trained on.
        """
        try:
            settings = ModelConfig.model_validate_json(Path(config).read_text())
        except ValidationError as error:
            raise ConfigError(
                f"{config} is no model configuration that this version of heartbeat reads ({error.error_count()} "
                "faults): use the version that wrote it, or train the model again"
            ) from error
        check_preprocessing(settings, config)
        return cls(load_net(Path(weights), settings.classes, settings.members).to(computing_device()), settings)

    def probabilities(self, spectrograms: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The network's own for each spectrogram (columns, mel_bands), in their order: shape (classes,), float64.

        The mean over the overlapping windows. ``spectrograms`` are taken as they are needed, so that no more than
        about WINDOWS_AT_ONCE windows, or those of one recording, are held at a time.
        """
        waiting: list[list[np.ndarray]] = []
        for spectrogram in spectrograms:
            waiting.append(scoring_views(spectrogram, self.config.width, self.config.view))
            if sum(map(len, waiting)) >= WINDOWS_AT_ONCE:
                yield from self._means(waiting)
                waiting = []
        if waiting:
            yield from self._means(waiting)

    def _means(self, recordings: Sequence[Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """The mean probabilities over each recording's windows, each of shape (width, mel_bands)."""
        windows, batches = [window for each in recordings for window in each], []
        at = next(self.net.parameters()).device
        # TensorFloat-32 would make a recording's probabilities depend on those beside it, in the third decimal
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for i in range(0, len(windows), WINDOWS_AT_ONCE):
                images = as_images(np.stack(windows[i : i + WINDOWS_AT_ONCE])).to(at)
                batches.append(self.net(images).softmax(1).cpu())
        for of_one in torch.cat(batches).split([len(each) for each in recordings]):
            yield of_one.mean(0).numpy().astype(float)

    def predict(self, contents: Iterable[bytes]) -> list[Prediction | BadAudio]:
        """The answer for the bytes of each audio file, in their order.

        `BadAudio` stands for those that are none, and for recordings that validation would send to quarantine.
        """
        faults: dict[int, BadAudio] = {}

        def readable() -> Iterator[np.ndarray]:
            for number, content in enumerate(contents):
                try:
                    yield self._spectrogram(content)
                except BadAudio as fault:
                    faults[number] = fault

        found = list(self.probabilities(readable()))
        given = iter(self._answers(np.stack(found)) if found else [])
        return [faults[n] if n in faults else next(given) for n in range(len(found) + len(faults))]

    def _spectrogram(self, content: bytes) -> np.ndarray:
        audio = decode(content)
        if fault := quarantine_reason(measure_samples(audio, self.config.measure), self.config.accepts):
            raise BadAudio(fault)
        return log_mel(audio.mono, audio.rate_hz, self.config.spectrogram)

    def _answers(self, probabilities: np.ndarray) -> list[Prediction]:
        """By the network's ``probabilities`` (n, classes) and the model's calibration."""
        classes, calibration = list(self.config.classes), self.config.calibration
        scaled = apply_temperature(probabilities, calibration.temperature)
        labels = decide(scaled, classes, np.array(calibration.class_weights or [1.0] * len(classes)))
        return [
            Prediction(label, row[classes.index(label)] < calibration.unsure_below, tuple(row))
            for label, row in zip(labels, scaled.tolist(), strict=True)
        ]


def check_preprocessing(model: ModelConfig, named: str | Path) -> None:
    """Raises `ConfigError` when what a model was trained on was made by other versions of the code than is installed."""
    other = [
        f"{stage} is of version {version}, the model needs {model.preprocessing.get(stage, 'one that it does not name')}"
        for stage, version in PREPROCESSING.items()
        if model.preprocessing.get(stage) != version
    ]
    if other:
        raise ConfigError(
            f"{named} is of a model for other input than the installed heartdata makes ({'; '.join(other)}): train a new "
            "version, or serve it by `mlflow models serve`, which uses the code that was logged with it"
        )


def predict_probabilities(
    predictor: Predictor, rows: pd.DataFrame, store: Store, on_done: Callable[[int], None] = lambda done: None
) -> np.ndarray:
    """The network's probabilities for each recording of manifest ``rows``: shape (recordings, classes)."""
    shards, found = Shards(store), []
    shards.open(rows)
    spectrograms = (shards.spectrogram(row.shard, row.start, row.frames) for row in rows.itertuples(index=False))
    for done, probabilities in enumerate(predictor.probabilities(spectrograms), 1):
        found.append(probabilities)
        on_done(done)
    return np.array(found)
