"""What stages return. Never move or rename this module or its classes.

A cached result names its class by this module's path; where that is gone, the result is not used and its stage runs
again. The modules of the stages may be moved freely. A plain `Artifact` is named by the path of its own module.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from heartdata.config import RegistryConfig
from heartdata.storage.store import Artifact
from heartdata.studies.protocols import Fold, Study

NOT_DIGESTED: dict[str, Any] = {"digested": "no"}  # on a field of text for people, which changes no result


class Result(BaseModel):
    """A frozen record of what a stage wrote."""

    model_config = ConfigDict(frozen=True)


class PreviouslyAccepted(Result):
    """The accepted recordings that new ones are compared with: those of the ``last`` run, and the ``reference``.

    The reference is what the champion was trained from, or the first accepted recordings; it stays until there is
    another champion or a change is accepted. ``champion``: digest of the champion's recordings when that was decided.
    ``verdicts``: of single recordings, which need not be judged again.
    """

    last: Artifact | None = None
    reference: Artifact | None = None
    champion: str | None = None
    verdicts: Artifact | None = Field(default=None, json_schema_extra=NOT_DIGESTED)


class AcceptedRecord(Result):
    """What ``accepted/last-*.json`` keeps for the next run.

    ``inputs``: digest of what was validated; ``compared_with``: the recordings it was compared with; ``reference``: the
    one for later runs. Defaults, as stores hold records that name only what was accepted.
    """

    accepted: Artifact
    inputs: str = ""
    compared_with: PreviouslyAccepted = PreviouslyAccepted()
    reference: Artifact | None = None
    verdicts: Artifact | None = None


class ValidationResult(AcceptedRecord):
    """The result of the checks. ``data_docs`` is their folder in the store; a ``refusal`` stops the run."""

    quarantine: Artifact
    checks: Artifact
    data_docs: str
    refusal: str | None = None
    notes: tuple[str, ...] = ()


class SpectrogramShard(Result):
    """One shard: its index, its array, and how many spectrograms were ``rendered`` now rather than copied."""

    index: Artifact
    array: Artifact
    rendered: int
    audio_s: float


class InitialWeights(Result):
    """Where training starts.

    ``weights``: a ``.safetensors`` file, or None for random ones; ``trained_on``: the recordings behind those of a
    registered model (schema TRAINED_ON); ``note``: a warning.
    """

    kind: str
    weights: Artifact | None = None
    trained_on: Artifact | None = None
    note: str = Field(default="", json_schema_extra=NOT_DIGESTED)


class TrainedModel(Result):
    """The files of a trained network: weights, configuration (`ModelConfig`) and training history (schema HISTORY).

    ``members``: the networks of an ensemble; epoch and precision are then those of the first. ``validation``: predictions
    for the validation part (`predictions_schema`), once calibrated. ``initial_sha256``: of the weights it started from;
    ``machine``: what it was trained on.
    """

    weights: Artifact
    config: Artifact
    history: Artifact
    kept_epoch: int
    classes: tuple[str, ...]
    init: str
    precision: str
    members: tuple["TrainedModel", ...] = ()
    validation: Artifact | None = Field(default=None, json_schema_extra=NOT_DIGESTED)
    initial_sha256: str = Field(default="", json_schema_extra=NOT_DIGESTED)
    machine: str = Field(default="", json_schema_extra=NOT_DIGESTED)
    note: str = Field(default="", json_schema_extra=NOT_DIGESTED)

    @property
    def networks(self) -> "tuple[TrainedModel, ...]":
        """The members, or this network alone."""
        return self.members or (self,)


class Evaluation(Result):
    """The test part's predictions (schemas `predictions_schema`, `subjects_schema`), metrics (METRICS) and plots (PNG).

    Metrics ``..._by_subject`` exist where a subject has several recordings. ``baselines``: predictions by the name of the
    baseline.
    """

    predictions: Artifact
    subjects: Artifact
    metrics: Artifact
    per_class: dict[str, dict[str, float]]
    confidence: dict[str, float]
    baselines: dict[str, Artifact] = {}
    plots: dict[str, Artifact]


class SliceResult(Result):
    """Which recordings are in which slice (schema SLICE_ATTRIBUTES), and the model's metrics in each (SLICES)."""

    attributes: Artifact
    metrics: Artifact


class RegisteredVersion(Result):
    """A model version in the registry."""

    name: str
    version: int
    run_id: str
    url: str
    registry: RegistryConfig


class Scored(Result):
    """Predictions of ``model`` (its URI) for recordings, in the file ``out``.

    ``failed``: recordings without a prediction; ``new``: files that were predicted now; ``counts``: rows for people.
    """

    out: str
    model: str
    recordings: int
    failed: int
    new: int
    counts: list[dict[str, Any]]


class RunReport(Result):
    """The page of a run (HTML), and the suspected labels to review (CSV)."""

    page: Artifact
    corrections: Artifact


class FoldResult(Result):
    """One fold (`study_schema`): ``predictions`` of the network and the baselines for its test part, and those of the
    network for its ``validation`` part.
    """

    fold: Fold
    manifest: Artifact
    model: TrainedModel
    predictions: Artifact
    validation: Artifact


class StudyResult(Result):
    """All folds' predictions (`study_schema`), metrics (STUDY_METRICS), and plots (PNG).

    ``study`` has the arms that there are folds of. ``curve`` and ``extrapolation`` (LEARNING_CURVE, EXTRAPOLATION): of a
    learning curve.
    """

    study: Study
    classes: tuple[str, ...]
    predictions: Artifact
    metrics: Artifact
    plots: dict[str, Artifact]
    curve: Artifact | None = None
    extrapolation: Artifact | None = None
