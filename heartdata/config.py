"""The configuration of a whole run: one frozen object, refused when a key is unknown or a value out of range."""

import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import ValidationConfig
from heartdata.dataset.splits import SplitConfig
from heartdata.errors import ConfigError
from heartdata.scoring.calibration import DecisionConfig
from heartdata.scoring.metrics import EvaluationConfig
from heartdata.settings import Settings
from heartdata.sources import SOURCES, AnySource, DemoSource
from heartdata.training.recipe import TrainingConfig


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


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_plain)]


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
    decision: DecisionConfig = DecisionConfig()
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
        values = source_named(values)
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
        wanted = {"weighted_accuracy": "murmur", "cost_per_patient": "outcome"}.get(self.decision.operating_point)
        if wanted is not None and getattr(self.source, "target", None) != wanted:
            raise ValueError(
                f"decision.operating_point = {self.decision.operating_point} is for source circor2022 with source.target = "
                f"{wanted}: set that, or choose macro_f1, balanced_accuracy or none"
            )
        return self


def source_named(values: dict[str, Any]) -> dict[str, Any]:
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


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``base``, nested mappings merged; neither is changed."""
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found
