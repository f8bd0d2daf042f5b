"""From raw audio bytes to a label and class probabilities: what is served, and what evaluation measures."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from torch import nn

from heartdata.audio.beats import Beats, find_beats
from heartdata.audio.channels import choose
from heartdata.audio.decode import Audio, decode
from heartdata.audio.measurements import measure_audio
from heartdata.audio.spectrograms import log_mel
from heartdata.checks.suite import quarantine_reason, warnings_of
from heartdata.dataset.windows import Shards, scoring_views
from heartdata.errors import BadAudio, ConfigError
from heartdata.scoring.calibration import apply_calibration, decide
from heartdata.serving.model_config import ModelConfig, digest_of
from heartdata.storage.store import Store, sha256_file
from heartdata.training.features import kept_features, outputs_of
from heartdata.training.network import computing_device, load_net
from heartdata.versions import PREPROCESSING


@dataclass(frozen=True)
class Prediction:
    """A prediction: the label, whether its probability is too low to rely on it, and the probability of each class.

    ``warnings``: names of the failed checks of severity warning; ``heart_rate_bpm``: None where it is not clear.
    """

    label: str
    unsure: bool
    probabilities: tuple[float, ...]
    warnings: tuple[str, ...] = ()
    heart_rate_bpm: float | None = None


@dataclass(frozen=True)
class Recording:
    """What a recording is predicted from, and what is said beside the prediction.

    ``samples``: the mono signal, shape (n,), at ``rate_hz``; ``spectrogram``: shape (columns, mel_bands); ``beats``: None
    where they are not clear.
    """

    samples: np.ndarray
    rate_hz: int
    spectrogram: np.ndarray
    warnings: tuple[str, ...]
    beats: Beats | None


@dataclass(frozen=True)
class Predictor:
    """A trained network with what it needs to predict from audio files: preprocessing, classes, calibration.

    ``digest``: 12 hex digits that tell models apart by their content.
    """

    net: nn.Module
    config: ModelConfig
    digest: str = ""

    @classmethod
    def load(cls, weights: str | Path, config: str | Path) -> "Predictor":
        """Load a model from its two files, ``weights.safetensors`` and ``config.json``, onto the GPU if there is one.

        Raises `ConfigError` when this version of heartbeat cannot read the configuration, or preprocesses audio
        otherwise than the model's training did.
        """
        try:
            model = ModelConfig.model_validate_json(Path(config).read_text(encoding="utf-8"))
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
        net = load_net(Path(weights), model.classes, model.members)
        net = net.to(computing_device()).to(memory_format=torch.channels_last)
        return cls(net, model, model_digest(weights, config))

    def probabilities(self, spectrograms: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The network's probabilities for each spectrogram (columns, mel_bands), in order: shape (classes,), float64.

        The mean over the overlapping windows. ``spectrograms`` are consumed lazily, see `outputs_of`.
        """
        views = (scoring_views(spectrogram, self.config.width, self.config.view) for spectrogram in spectrograms)
        return map(_mean_probabilities, outputs_of(self.net, views))

    def predict(self, contents: Iterable[bytes | Recording]) -> list[Prediction | BadAudio]:
        """One prediction for each audio file, in order: for its bytes, or for what `prepare` makes of them.

        `BadAudio` replaces it for files that cannot be decoded, and for recordings that validation would quarantine.
        """
        prepared: list[Recording | BadAudio] = []
        nothing = np.empty(0)

        def spectrograms() -> Iterator[np.ndarray]:
            for content in contents:
                try:
                    recording = content if isinstance(content, Recording) else self.prepare(decode(content))
                except BadAudio as error:
                    prepared.append(error)
                else:
                    prepared.append(replace(recording, samples=nothing, spectrogram=nothing))  # large, and needed once
                    yield recording.spectrogram

        probabilities = list(self.probabilities(spectrograms()))
        decisions = iter(self._decide(np.stack(probabilities)) if probabilities else [])
        return [
            each
            if isinstance(each, BadAudio)
            else replace(
                next(decisions),
                warnings=each.warnings,
                heart_rate_bpm=None if each.beats is None else float(each.beats.heart_rate_bpm),
            )
            for each in prepared
        ]

    def prepare(self, audio: Audio) -> Recording:
        """What `predict` needs of a decoded recording. Raises `BadAudio` for one that validation would quarantine."""
        facts = measure_audio(audio, self.config.measure)
        if reason := quarantine_reason(facts, self.config.accepts):
            raise BadAudio(reason)
        try:
            mono = choose(audio, self.config.measure.channel).mono
            spectrogram = log_mel(mono, audio.rate_hz, self.config.spectrogram)
        except (BadAudio, MemoryError):
            raise
        except Exception as error:  # one recording must not stop the others
            raise BadAudio(f"cannot be rendered ({type(error).__name__}: {error}): export it again") from error
        warnings = warnings_of(facts, self.config.accepts)
        return Recording(mono, audio.rate_hz, spectrogram, warnings, _beats(mono, audio.rate_hz))

    def _decide(self, probabilities: np.ndarray) -> list[Prediction]:
        """Calibrate the network's ``probabilities`` (n, classes) and choose labels."""
        classes, calibration = list(self.config.classes), self.config.calibration
        scaled = apply_calibration(probabilities, calibration)
        labels = decide(scaled, classes, np.array(calibration.class_weights or [1.0] * len(classes)))
        return [
            Prediction(label, row[classes.index(label)] < calibration.unsure_below, tuple(row))
            for label, row in zip(labels, scaled.tolist(), strict=True)
        ]


def model_digest(weights: str | Path, config: str | Path) -> str:
    """What tells models apart by their content: 12 hex digits of the sha256 of both files."""
    return digest_of(sha256_file(Path(weights)), sha256_file(Path(config)))


def prediction_frame(results: Sequence[Prediction | BadAudio], predictor: Predictor) -> pd.DataFrame:
    """The results of `Predictor.predict`, one row each.

    Columns: ``label``, ``unsure``, ``error`` (why there is no label), ``warnings`` (names of failed checks, comma
    separated), ``heart_rate_bpm``, ``model_digest`` and ``p_<class>``. What is not known is None, NA or, of numbers, NaN.
    """
    names = [f"p_{name}" for name in predictor.config.classes]
    rows: list[dict[str, Any]] = [
        {"label": None, "unsure": None, "error": str(result), "warnings": ""}
        if isinstance(result, BadAudio)
        else {
            "label": result.label,
            "unsure": result.unsure,
            "error": None,
            "warnings": ", ".join(result.warnings),
            "heart_rate_bpm": result.heart_rate_bpm,
            **dict(zip(names, result.probabilities, strict=True)),
        }
        for result in results
    ]
    columns = ["label", "unsure", "error", "warnings", "heart_rate_bpm", "model_digest", *names]
    frame = pd.DataFrame(rows, columns=columns, dtype=object)  # None stays None
    frame["model_digest"] = predictor.digest
    return frame.astype({"unsure": "boolean", "heart_rate_bpm": float, **dict.fromkeys(names, float)})


def _beats(mono: np.ndarray, rate_hz: int) -> Beats | None:
    """None where they are not clear, whatever the reason: a prediction does not depend on them."""
    try:
        return find_beats(mono, rate_hz)
    except Exception:
        return None


def predict_probabilities(
    predictor: Predictor, rows: pd.DataFrame, store: Store, on_done: Callable[[int], None] = lambda done: None
) -> np.ndarray:
    """The network's probabilities for each recording of manifest ``rows``: shape (recordings, classes)."""
    probabilities = []
    for done, of_one in enumerate(_probabilities(predictor, rows, store), 1):
        probabilities.append(of_one)
        on_done(done)
    return np.array(probabilities)


def _probabilities(predictor: Predictor, rows: pd.DataFrame, store: Store) -> Iterable[np.ndarray]:
    """Those of each recording, from the features of its training where only the last layer was trained."""
    config = predictor.config
    if features := kept_features(predictor.net, config.width, config.view):
        head = copy.deepcopy(predictor.net.get_submodule("fc")).cpu()
        with torch.inference_mode():
            return [_mean_probabilities(head(of_one)) for of_one in features.of(rows, store)]
    shards = Shards(store)
    shards.open(rows)
    return predictor.probabilities(
        shards.spectrogram(row.shard, row.start, row.frames) for row in rows.itertuples(index=False)
    )


def _mean_probabilities(logits: torch.Tensor) -> np.ndarray:
    """Over the windows of a recording: ``logits`` has shape (windows, classes)."""
    return logits.softmax(1).mean(0).numpy().astype(float)
