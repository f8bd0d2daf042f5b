"""What a served model needs beside its weights."""

from pydantic import Field

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import RecordingBounds
from heartdata.scoring.calibration import Calibration
from heartdata.settings import Settings
from heartdata.training.recipe import View


class ModelConfig(Settings):
    """All that is needed, beside the weights, to answer for a recording: stands as JSON beside them."""

    classes: tuple[str, ...]
    members: int = Field(default=1, ge=1, description="networks whose probabilities are averaged")
    width: int = Field(gt=0, description="spectrogram columns in a window")
    view: View = "windows"
    spectrogram: SpectrogramConfig
    preprocessing: dict[str, str] = Field(
        default={}, description="versions of the code that made what it was trained on"
    )
    calibration: Calibration = Calibration()
    measure: MeasureConfig = MeasureConfig()
    accepts: RecordingBounds = Field(default=RecordingBounds(), description="what else is no recording to answer for")
    dataset_version: str
    init: str
