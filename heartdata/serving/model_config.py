"""The configuration that is served with a model's weights."""

import hashlib

from pydantic import Field

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import RecordingBounds
from heartdata.scoring.calibration import Calibration
from heartdata.settings import Settings
from heartdata.training.recipe import View


class ModelConfig(Settings):
    """All that a model needs to predict in addition to its weights: ``config.json`` of a registered version."""

    classes: tuple[str, ...]
    members: int = Field(default=1, ge=1, description="networks whose probabilities are averaged")
    width: int = Field(gt=0, description="spectrogram columns in a window")
    view: View = "windows"
    spectrogram: SpectrogramConfig
    preprocessing: dict[str, str] = Field(
        default={}, description="versions of the code that prepared the training data, by stage"
    )
    calibration: Calibration = Calibration()
    measure: MeasureConfig = MeasureConfig()
    accepts: RecordingBounds = Field(
        default=RecordingBounds(), description="recordings outside these bounds are refused"
    )
    dataset_version: str
    init: str


def digest_of(weights_sha256: str, config_sha256: str) -> str:
    """Names a model by its content: 12 hex digits, from the sha256 of its weights and of its configuration."""
    return hashlib.sha256(f"{weights_sha256}{config_sha256}".encode()).hexdigest()[:12]
