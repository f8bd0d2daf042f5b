"""The configuration of a whole run: one frozen object, refused when a key is unknown or a value out of range."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import RecordingBounds, ValidationConfig
from heartdata.dataset.splits import SplitConfig
from heartdata.errors import ConfigError
from heartdata.settings import Settings
from heartdata.sources import SOURCES, AnySource, DemoSource
from heartdata.storage.remote import names_a_password


def _plain(name: str) -> str:
    if not name.isprintable() or any(c in name for c in "/:'\""):
        raise ValueError("a name without / : quotes and control characters is needed")
    return name


def _without_user(uri: str) -> str:
    rest = uri.partition("://")[2]
    if "@" in rest and not rest.startswith("/"):
        raise PydanticCustomError(
            "secret",
            "names a user or a password, which every run would record: leave them out and put them in the environment as "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (of a database: the whole URI as "
            "MLFLOW_TRACKING_URI)",
        )
    return uri


def _web(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("an address that begins with http:// or https:// is needed")
    return url.rstrip("/")


View = Literal["windows", "whole"]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_plain)]


class NetworkConfig(Settings):
    """How one network is trained. Counts are of epochs unless they say otherwise."""

    init: str = Field(default="auto", description="imagenet | random | auto | a .safetensors | models:/...")
    epochs: int = Field(default=12, ge=0, le=1000, description="of all layers; 0: only the frozen epochs")
    frozen_epochs: int = Field(
        default=1, ge=0, le=1000, description="of the last layer alone, before; not from random weights"
    )
    patience: int = Field(
        default=10, ge=1, le=1000, description="epochs in a row not as good as the best, until training stops"
    )
    batch: int = Field(default=16, ge=2, le=4096)
    width: int = Field(default=128, ge=32, le=65536, description="spectrogram columns in a window")
    view: View = Field(default="windows", description="whole: a recording as one picture, squeezed to the width")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="the highest of the one-cycle schedule")
    backbone_rate: float = Field(
        default=0.3, gt=0, le=1, description="of all layers but the last, as a share of learning_rate; given weights"
    )
    weight_decay: float = Field(default=0.01, ge=0)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    balance: Literal["class", "class_and_collection", "none"] = Field(
        default="class", description="what is drawn equally often; none: recordings; see docs/training.md"
    )
    mask_fraction: float = Field(default=0.15, ge=0, le=0.5, description="longest hidden stretch of time and of bands")
    mixup: float = Field(default=0.0, ge=0, le=10, description="alpha of the mixing share's beta distribution; 0: none")
    contrast: float = Field(
        default=0.0,
        ge=0,
        le=100,
        exclude_if=lambda weight: not weight,  # trainings of before it was there keep their names
        description="weight of telling two windows of a recording from all others; see docs/training.md",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of forward passes; auto: bfloat16 where the processor has it"
    )
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _trains_something(self) -> "NetworkConfig":
        if self.epochs + (self.frozen_epochs if self.init != "random" else 0) == 0:
            raise ValueError("epochs = 0 needs frozen_epochs above 0, and weights to start from (init)")
        return self

    @model_validator(mode="after")
    def _contrasts_recordings(self) -> "NetworkConfig":
        if self.contrast and (self.balance != "none" or self.mixup or self.view != "windows"):
            raise ValueError("contrast needs balance = none (a recording once an epoch), mixup = 0 and view = windows")
        return self

    @field_validator("init")
    @classmethod
    def _known(cls, init: str) -> str:
        if init in ("imagenet", "random", "auto") or init.startswith("models:/") or init.endswith(".safetensors"):
            return init
        raise ValueError("choose imagenet, random, auto, a .safetensors file or models:/name@alias")


class TrainingConfig(NetworkConfig):
    """How networks that answer together are trained: all alike, each with draws of its own."""

    members: int = Field(default=1, ge=1, le=20, description="networks that answer by the mean of their probabilities")

    def networks(self) -> list[NetworkConfig]:
        """One for each member; the first is trained as it would be if it were alone."""
        shared = self.model_dump(exclude={"members", "seed"})
        seeds = [self.seed, *(100 * (self.seed + 1) + number for number in range(1, self.members))]
        return [NetworkConfig.model_validate({**shared, "seed": seed}) for seed in seeds]


class AnswersConfig(Settings):
    """How probabilities become answers; everything is fitted to the validation part."""

    temperature: bool = Field(default=True, description="scale the probabilities so that they are as sure as right")
    operating_point: Literal["macro_f1", "balanced_accuracy", "weighted_accuracy", "cost_per_patient", "none"] = Field(
        default="macro_f1",
        description="the score that the classes' weights in an answer are to better; none: the most probable; "
        "weighted_accuracy and cost_per_patient: CirCor's, of murmurs and of outcomes",
    )
    max_risk: float = Field(default=0.2, ge=0, le=1, description="share of wrong answers among those not unsure")
    min_coverage: float = Field(default=0.5, gt=0, le=1, description="share of recordings that are answered at least")


class EngineConfig(Settings):
    """Where recordings are measured and rendered. The results are the same everywhere."""

    name: Literal["processes", "threads", "dask"] = "processes"
    workers: int | None = Field(default=None, ge=1, le=1024, description="null: as many as processors may be used")
    address: str | None = Field(
        default=None, description="of a running Dask scheduler, as tcp://host:8786; null: local"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "EngineConfig":
        if self.address and self.name != "dask":
            raise ValueError("engine.address is for engine.name = dask")
        return self


class Calibration(Settings):
    """From a network's probabilities to answers."""

    temperature: float = Field(default=1.0, gt=0, description="above 1: less sure than the network was")
    class_weights: tuple[float, ...] | None = Field(
        default=None, description="multiply the probabilities before the highest is the answer; null: all 1"
    )
    unsure_below: float = Field(default=0.0, ge=0, le=1, description="answers of lower probability are unsure")
    coverage: float = Field(default=1.0, ge=0, le=1, description="share of the validation answers that is not unsure")
    risk: float = Field(default=0.0, ge=0, le=1, description="share of those that is wrong")


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


class EvaluationConfig(Settings):
    """How scores on the test part are given."""

    bootstrap: int = Field(default=500, ge=20, le=100_000, description="resamples of subjects behind each interval")
    seed: int = Field(default=0, ge=0)
    subject_rule: Literal["mean", "max"] = Field(
        default="mean", description="of the probabilities of a subject's recordings, which makes his own"
    )


class RegistryConfig(Settings):
    """Where runs and models are recorded."""

    model_name: Name = "heartbeat"
    experiment: Name = "heartbeat"
    aliases: tuple[Name, ...] = Field(default=(), description="what a new version is called, beside challenger")
    tracking_uri: Annotated[str, AfterValidator(_without_user)] | None = Field(
        default=None, description="null: SQLite in the output folder"
    )
    ui_url: Annotated[str, AfterValidator(_without_user), AfterValidator(_web)] = Field(
        default="http://127.0.0.1:5000", description="where links to runs point"
    )


class RunConfig(Settings):
    """Everything a run depends on; it travels whole into the run record."""

    source: AnySource = DemoSource()
    measure: MeasureConfig = MeasureConfig()
    validation: ValidationConfig = ValidationConfig()
    split: SplitConfig = SplitConfig()
    spectrogram: SpectrogramConfig = SpectrogramConfig()
    engine: EngineConfig = EngineConfig()
    training: TrainingConfig = TrainingConfig()
    answers: AnswersConfig = AnswersConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    registry: RegistryConfig = RegistryConfig()
    store: str = Field(
        default_factory=lambda: os.environ.get("HEARTBEAT_STORE") or "out",
        min_length=1,
        description="output folder, or an fsspec URI such as s3://bucket/name",
    )

    @model_validator(mode="before")
    @classmethod
    def _lay_over_preset(cls, values: Any) -> Any:
        """What is not said is taken from the source's preset before the defaults, however the object is made."""
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("source"), Settings):
            return merged(values["source"].preset, values)
        values = _source_named(values)
        values["source"] = {"name": "demo", **values["source"]}
        return merged(SOURCES[values["source"]["name"]].preset, values)

    @model_validator(mode="after")
    def _uses_what_it_keeps(self) -> "RunConfig":
        if self.split.unlabelled and not self.training.contrast:
            raise ValueError(
                "split.unlabelled keeps recordings for training.contrast, which is 0: set both, or neither"
            )
        return self

    @model_validator(mode="after")
    def _scores_its_labels(self) -> "RunConfig":
        wanted = {"weighted_accuracy": "murmur", "cost_per_patient": "outcome"}.get(self.answers.operating_point)
        if wanted is not None and getattr(self.source, "target", None) != wanted:
            raise ValueError(
                f"answers.operating_point = {self.answers.operating_point} is for source circor2022 with source.target = "
                f"{wanted}: set that, or choose macro_f1, balanced_accuracy or none"
            )
        return self


def build_config(
    source: str | None = None,
    data: str | None = None,
    file: Path | None = None,
    changes: dict[str, Any] | None = None,
    base: dict[str, Any] | None = None,
) -> RunConfig:
    """A run's configuration: defaults, the source's preset, ``base``, ``file`` (YAML), and last what somebody typed:
    ``source``, ``data`` and ``changes``, dotted keys to values (``{"training.epochs": 3}``).

    Raises `ConfigError` naming the key.
    """
    typed: dict[str, Any] = {"source": {k: v for k, v in (("name", source), ("data", data)) if v is not None}}
    typed = merged(typed, nested(changes or {}))
    values: dict[str, Any] = {}
    for layer in (base or {}, _read_yaml(file) if file else {}, typed):
        values = _laid_over(values, _source_named(layer))
    if data is not None and values["source"].get("name", "demo") == "demo":
        raise ConfigError("the source demo makes its recordings: name another source beside --data")
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(e) for e in error.errors())) from error


def parse_change(text: str) -> tuple[str, Any]:
    """``training.epochs=3`` to a key and a typed value (read as YAML). Raises `ConfigError`."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {text!r} is not of the form key=value, such as training.epochs=3")
    try:
        return key.strip(), parse_yaml(value) if value else ""
    except ValueError as error:
        raise ConfigError(f"--set {text!r}: the value cannot be read: {error}") from error


def parse_yaml(text: str) -> Any:
    """The value of a YAML 1.2 document, in which ``yes``, ``no``, ``on`` and ``off`` are text.

    Raises ValueError, whose message is one line that names the line of the document where it is known.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from error
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the configuration {file} cannot be read: {error}") from error
    if not isinstance(values or {}, dict):
        raise ConfigError(f"the configuration {file} must be a mapping of keys, such as 'training: {{epochs: 3}}'")
    return values or {}


def _source_named(values: dict[str, Any]) -> dict[str, Any]:
    """A copy whose section ``source`` is a mapping; a word alone names the source, or the engine. Raises `ConfigError`."""
    source = values.get("source", {})
    section = {"name": source} if isinstance(source, str) else source
    choices = ", ".join(SOURCES)
    if not isinstance(section, dict):
        raise ConfigError(
            f"source = {source!r}: give one of {choices}, or a mapping such as {{name: table, data: ...}}"
        )
    name = section.get("name", "demo")
    if not isinstance(name, str) or name not in SOURCES:
        raise ConfigError(f"there is no source {name!r}: choose one of {choices}")
    engine = values.get("engine")
    return {**values, "source": section} | ({"engine": {"name": engine}} if isinstance(engine, str) else {})


def nested(changes: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings."""
    found: dict[str, Any] = {}
    for key, value in changes.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        found = merged(found, value)
    return found


def _laid_over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """As `merged`; but where ``over`` names another source, nothing of the section ``source`` in ``base`` is kept."""
    below, name = base.get("source", {}), over["source"].get("name")
    if name is not None and below.get("name", name) != name:
        base = {**base, "source": {}}
    return merged(base, over)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``base``, nested mappings merged; neither is changed."""
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found


def _sentence(error: Any) -> str:
    """One fault that pydantic found, as a sentence with the dotted key."""
    place, chosen = [str(part) for part in error["loc"]], ""
    if len(place) > 1 and place[0] == "source" and place[1] in SOURCES:  # pydantic names the chosen source
        chosen = place.pop(1)
    key = ".".join(place)
    if not place:  # of several sections
        return str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"unknown configuration key {key!r}{_did_you_mean(place, chosen)}"
    if error["type"] == "missing":
        return f"{key} is needed" + (": give it with --data" if key == "source.data" else "")
    if error["type"] == "secret":  # never shown
        return f"{key} {error['msg']}"
    shown = "(not shown, as it names a password)" if names_a_password(str(error["input"])) else repr(error["input"])
    return f"{key} = {shown}: {error['msg'].removeprefix('Value error, ')}"


def _did_you_mean(place: list[str], source: str) -> str:
    """The key that was probably meant, or those that there are."""
    known: Any = RunConfig
    for part in place[:-1]:
        field = getattr(known, "model_fields", {}).get(part)
        known = SOURCES.get(source) if part == "source" else field.annotation if field else None
    names = list(getattr(known, "model_fields", ()))
    close = get_close_matches(place[-1], names, n=1)
    return f": did you mean {close[0]}?" if close else f"; there are: {', '.join(names)}" if names else ""
