"""From raw audio bytes to a label and class probabilities: what is served, and what evaluation measures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from torch import nn

from heartdata.audio.channels import choose
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

BATCH_WINDOWS = 64  # in one forward pass; of several recordings if they are short


@dataclass(frozen=True)
class Prediction:
    """The label, whether its probability is too low to rely on it, and the probability of each class."""

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

        Raises `ConfigError` when this version of heartbeat cannot read the configuration, or preprocesses audio
        otherwise than the model's training did.
        """
        try:
            model = ModelConfig.model_validate_json(Path(config).read_text())
        except ValidationError as error:
            raise ConfigError(
                f"{config} is not a model configuration that this version of heartbeat reads ({error.error_count()} "
                "faults): use the version that wrote it, or train the model again"
            ) from error
        differences = [
            f"{stage}: installed version {version}, the model's {model.preprocessing.get(stage, 'unknown')}"
            for stage, version in PREPROCESSING.items()
            if model.preprocessing.get(stage) != version
        ]
        if differences:
            raise ConfigError(
                f"{config} is of a model trained with other preprocessing than is installed ({'; '.join(differences)}): "
                "train a new version, or serve it by `mlflow models serve`, which uses the code that was logged with it"
            )
        return cls(load_net(Path(weights), model.classes, model.members).to(computing_device()), model)

    def probabilities(self, spectrograms: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The network's probabilities for each spectrogram (columns, mel_bands), in order: shape (classes,), float64.

        The mean over the overlapping windows. ``spectrograms`` are consumed lazily, so that no more than about
        BATCH_WINDOWS windows, or those of one recording, are in memory at a time.
        """
        batch: list[list[np.ndarray]] = []
        for spectrogram in spectrograms:
            batch.append(scoring_views(spectrogram, self.config.width, self.config.view))
            if sum(map(len, batch)) >= BATCH_WINDOWS:
                yield from self._means(batch)
                batch = []
        if batch:
            yield from self._means(batch)

    def _means(self, recordings: Sequence[Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """The mean probabilities over each recording's windows, each of shape (width, mel_bands)."""
        windows, outputs = [window for each in recordings for window in each], []
        device = next(self.net.parameters()).device
        # TensorFloat-32 would make a recording's probabilities depend on its batch, in the third decimal
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for i in range(0, len(windows), BATCH_WINDOWS):
                images = as_images(np.stack(windows[i : i + BATCH_WINDOWS])).to(device)
                outputs.append(self.net(images).softmax(1).cpu())
        for of_one in torch.cat(outputs).split([len(each) for each in recordings]):
            yield of_one.mean(0).numpy().astype(float)

    def predict(self, contents: Iterable[bytes]) -> list[Prediction | BadAudio]:
        """One prediction for the bytes of each audio file, in order.

        `BadAudio` replaces it for files that cannot be decoded, and for recordings that validation would quarantine.
        """
        errors: list[BadAudio | None] = []

        def spectrograms() -> Iterator[np.ndarray]:
            for content in contents:
                try:
                    spectrogram = self._spectrogram(content)
                except BadAudio as error:
                    errors.append(error)
                else:
                    errors.append(None)
                    yield spectrogram

        probabilities = list(self.probabilities(spectrograms()))
        predictions = iter(self._decide(np.stack(probabilities)) if probabilities else [])
        return [error or next(predictions) for error in errors]

    def _spectrogram(self, content: bytes) -> np.ndarray:
        audio = decode(content)
        if reason := quarantine_reason(measure_samples(audio, self.config.measure), self.config.accepts):
            raise BadAudio(reason)
        try:
            return log_mel(choose(audio, self.config.measure.channel).mono, audio.rate_hz, self.config.spectrogram)
        except Exception as error:  # one recording must not stop the others
            raise BadAudio(f"cannot be rendered ({type(error).__name__}: {error}): export it again") from error

    def _decide(self, probabilities: np.ndarray) -> list[Prediction]:
        """Calibrate the network's ``probabilities`` (n, classes) and choose labels."""
        classes, calibration = list(self.config.classes), self.config.calibration
        scaled = apply_temperature(probabilities, calibration.temperature)
        labels = decide(scaled, classes, np.array(calibration.class_weights or [1.0] * len(classes)))
        return [
            Prediction(label, row[classes.index(label)] < calibration.unsure_below, tuple(row))
            for label, row in zip(labels, scaled.tolist(), strict=True)
        ]


def predict_probabilities(
    predictor: Predictor, rows: pd.DataFrame, store: Store, on_done: Callable[[int], None] = lambda done: None
) -> np.ndarray:
    """The network's probabilities for each recording of manifest ``rows``: shape (recordings, classes)."""
    shards, probabilities = Shards(store), []
    shards.open(rows)
    spectrograms = (shards.spectrogram(row.shard, row.start, row.frames) for row in rows.itertuples(index=False))
    for done, of_one in enumerate(predictor.probabilities(spectrograms), 1):
        probabilities.append(of_one)
        on_done(done)
    return np.array(probabilities)
