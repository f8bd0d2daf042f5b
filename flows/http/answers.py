"""What the server answers, as the JSON that its OpenAPI page describes."""

import base64
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from heartdata.errors import BadAudio
from heartdata.serving.explain import Explanation
from heartdata.serving.files import most_probable
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Prediction

WAVE_POINTS = 1000  # of a waveform that is drawn
CONTRAST = (2, 99.5)  # percentiles of a spectrogram that are drawn as its darkest and lightest points
EXAMPLE: dict[str, Any] = {
    "model": {"name": "heartbeat", "version": "3"},
    "predictions": [
        {
            "label": "murmur",
            "most_probable": "murmur",
            "probabilities": {"murmur": 0.91, "normal": 0.09},
            "unsure": False,
            "warnings": ["poor_quality"],
            "heart_rate_bpm": 72.3,
            "error": None,
        }
    ],
}


class Model(BaseModel):
    """The registered model that answers."""

    name: str
    version: str


class Answer(BaseModel):
    """What the model says of one recording."""

    label: str | None = Field(description="the decision; null where there is none")
    most_probable: str | None = Field(
        description="the class of the highest probability, which a decision rule may overrule"
    )
    probabilities: dict[str, float] = Field(description="calibrated, by class")
    unsure: bool | None = Field(description="whether the label's probability is too low to rely on it")
    warnings: list[str] = Field(description="quality checks that the recording fails")
    heart_rate_bpm: float | None = Field(description="beats a minute; null where they are not clear")
    error: str | None = Field(description="why there is no label, and what to do")


class Answers(BaseModel):
    """One answer for each recording, in the order of the request."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    model: Model
    predictions: list[Answer]


class Ready(BaseModel):
    """The server is warmed up."""

    status: Literal["ready"]
    model: Model
    classes: list[str]
    max_seconds: float = Field(description="longest recording that is accepted")


class Problem(BaseModel):
    """Why a request is refused."""

    error: str = Field(examples=["the file is empty (0 bytes): copy or download it again"])


class Waveform(BaseModel):
    """The lowest and highest sample (full scale 1) in each of equal pieces of the recording."""

    low: list[float]
    high: list[float]


class HeartBeats(BaseModel):
    """The heart rate, how sure it is (0-1), and when the first and second heart sounds begin, in seconds."""

    heart_rate_bpm: float
    confidence: float
    s1_s: list[float]
    s2_s: list[float]
    may_be_swapped: bool = Field(description="S1 may be S2 and S2 S1, as in a fast heart")

    @field_validator("s1_s", "s2_s", mode="before")
    @classmethod
    def _as_list(cls, times: np.ndarray) -> list[float]:
        return list(times)


class Picture(BaseModel):
    """A spectrogram and its relevance for the explained class, each a byte a point in base64, column by column."""

    columns: int
    bands: int = Field(description="mel bands in a column, the lowest first")
    low_hz: float = Field(description="lower edge of the lowest band")
    high_hz: float = Field(description="upper edge of the highest band")
    levels: str
    relevance: str = Field(
        description="Grad-CAM: 255 where the recording speaks most for the class; 0 everywhere if hardly anything does"
    )


class Explained(BaseModel):
    """An answer with what it rests on."""

    model: Model
    prediction: Answer
    explained: str = Field(description="the class whose relevance is shown")
    duration_s: float
    waveform: Waveform
    beats: HeartBeats | None = Field(description="null where they are not clear")
    spectrogram: Picture


def answer(result: Prediction | BadAudio, classes: tuple[str, ...]) -> Answer:
    """The answer for a prediction, or for the reason why there is none."""
    if isinstance(result, BadAudio):
        return Answer(
            label=None, most_probable=None, probabilities={}, unsure=None, warnings=[], heart_rate_bpm=None,
            error=str(result),
        )  # fmt: skip
    return Answer(
        label=result.label,
        most_probable=most_probable(result, classes),
        probabilities=dict(zip(classes, result.probabilities, strict=True)),
        unsure=result.unsure,
        warnings=list(result.warnings),
        heart_rate_bpm=result.heart_rate_bpm,
        error=None,
    )


def explained(of: Explanation, model: Model, config: ModelConfig) -> Explained:
    """The parts of an explanation that a page draws."""
    pieces = np.array_split(of.samples, min(WAVE_POINTS, len(of.samples)))
    spectrogram = of.spectrogram.astype(np.float32)
    low, high = np.percentile(spectrogram, CONTRAST)
    return Explained(
        model=model,
        prediction=answer(of.prediction, config.classes),
        explained=of.explained,
        duration_s=len(of.samples) / of.rate_hz,
        waveform=Waveform(
            low=[round(float(piece.min()), 4) for piece in pieces],
            high=[round(float(piece.max()), 4) for piece in pieces],
        ),
        beats=None if of.beats is None else HeartBeats.model_validate(of.beats, from_attributes=True),
        spectrogram=Picture(
            columns=spectrogram.shape[0],
            bands=spectrogram.shape[1],
            low_hz=config.spectrogram.low_hz,
            high_hz=config.spectrogram.high_hz,
            levels=_bytes((spectrogram - low) / max(high - low, 1e-6)),
            relevance=_bytes(of.relevance),
        ),
    )


def _bytes(values: np.ndarray) -> str:
    """Values of 0-1 as bytes in base64."""
    return base64.b64encode((255 * np.clip(values, 0, 1)).astype(np.uint8).tobytes()).decode()
