"""What stages return. Never move or rename this module or its classes.

A cached result names its class by this module's path; where that is gone, the result is not believed and its stage runs
again. The modules of the stages may be moved freely. A plain `Artifact` is named by the path of its own module.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from heartdata.config import RegistryConfig
from heartdata.storage.store import Artifact
from heartdata.studies.protocols import Fold, Study

NOT_DIGESTED: dict[str, Any] = {
    "digested": "no"
}  # on a field of a stage's result: words for people, which change no work


class Earlier(BaseModel):
    """The accepted recordings that tonight's are compared with: those of the ``last`` time, and the ``reference``.

    The reference is what the champion was trained from, or the first accepted recordings; it stays until there is
    another champion or a change is accepted. ``champion``: digest of the champion's recordings when that was decided.
    """

    model_config = ConfigDict(frozen=True)

    last: Artifact | None = None
    reference: Artifact | None = None
    champion: str | None = None


class ValidationResult(BaseModel):
    """The result of the checks. ``docs`` is the Data Docs' folder in the store; ``refusal`` stops the run.

    ``of`` names the inputs that were judged, ``before`` the accepted recordings that they were compared with, and
    ``reference`` those that later ones are to be compared with.
    """

    model_config = ConfigDict(frozen=True)

    accepted: Artifact
    quarantine: Artifact
    checks: Artifact
    docs: str
    of: str
    before: Earlier = Earlier()
    reference: Artifact | None = None
    refusal: str | None = None


class Rendered(BaseModel):
    """One shard: its index rows, its array file, and what was rendered for it (the rest was there already)."""

    model_config = ConfigDict(frozen=True)

    index: Artifact
    array: Artifact
    rendered: int
    audio_s: float


class InitialWeights(BaseModel):
    """Where training starts.

    ``weights``: a ``.safetensors`` file, or None for random ones; ``provenance``: what those of a registered model were
    trained on (schema HEARD); ``note``: a warning.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    weights: Artifact | None = None
    heard: Artifact | None = None
    note: str = Field(default="", json_schema_extra=NOT_DIGESTED)


class TrainedModel(BaseModel):
    """The files of a trained network: weights, configuration (`ModelConfig`), and what each epoch gave.

    ``members``: where several networks answer together, each of them; epochs and precision are then the first one's.
    """

    model_config = ConfigDict(frozen=True)

    weights: Artifact
    config: Artifact
    history: Artifact
    kept_epoch: int
    classes: tuple[str, ...]
    init: str
    precision: str
    members: tuple["TrainedModel", ...] = ()
    note: str = Field(default="", json_schema_extra=NOT_DIGESTED)

    @property
    def each(self) -> "tuple[TrainedModel, ...]":
        """The members, or this network alone."""
        return self.members or (self,)


class Evaluation(BaseModel):
    """Predictions and metrics (schemas `predictions_schema`, `subjects_schema` and FIGURES) of the test part, and PNGs.

    Metrics ``..._by_subject`` are there where some subject has several recordings.
    """

    model_config = ConfigDict(frozen=True)

    predictions: Artifact
    subjects: Artifact
    metrics: Artifact
    per_class: dict[str, dict[str, float]]
    confidence: dict[str, float]
    plots: dict[str, Artifact]


class Registered(BaseModel):
    """A model version in the registry."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    run_id: str
    url: str
    registry: RegistryConfig


class FoldResult(BaseModel):
    """What one fold gave (schema `study_schema`): the answers of the network and of the baselines for the test part,
    and ``validation``, those of the network for the validation part.
    """

    model_config = ConfigDict(frozen=True)

    fold: Fold
    manifest: Artifact
    model: TrainedModel
    predictions: Artifact
    validation: Artifact


class StudyResult(BaseModel):
    """All answers (`study_schema`), metrics (STUDY_FIGURES), and PNGs by name."""

    model_config = ConfigDict(frozen=True)

    study: Study
    classes: tuple[str, ...]
    predictions: Artifact
    metrics: Artifact
    plots: dict[str, Artifact]
