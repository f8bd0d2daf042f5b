"""The configuration of a whole run: one frozen object, checked when it is made."""

import json
import os
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import ValidationConfig
from heartdata.dataset.prune import RetentionConfig
from heartdata.dataset.retraining import RetrainConfig
from heartdata.dataset.splits import SplitConfig
from heartdata.errors import ConfigError
from heartdata.scoring.calibration import DecisionConfig
from heartdata.scoring.metrics import EvaluationConfig
from heartdata.scoring.promotion import PromotionConfig
from heartdata.settings import Settings, deep_merge
from heartdata.sources import SOURCES, AnySource, DemoSource
from heartdata.training.recipe import TrainingConfig


def _check_name(name: str) -> str:
    if not name.isprintable() or any(c in name for c in "/:'\""):
        raise ValueError("a name without / : quotes and control characters is needed")
    return name


def _check_no_user(uri: str) -> str:
    rest = uri.partition("://")[2]
    if "@" in rest and not rest.startswith("/"):
        raise PydanticCustomError(
            "secret",
            "contains a user name or password, which every run would record: put them into the environment instead, as "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (for a database the whole URI, as "
            "MLFLOW_TRACKING_URI)",
        )
    return uri


def _check_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("an address that begins with http:// or https:// is needed")
    return url.rstrip("/")


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_check_name)
]


class EngineConfig(Settings):
    """How recordings are measured and rendered in parallel. The results are the same with any engine."""

    name: Literal["processes", "threads", "dask"] = Field(
        default="processes", description="what computes: worker processes, threads of this one, or a Dask cluster"
    )
    workers: int | None = Field(
        default=None, ge=1, le=1024, description="number of workers; null: one per available CPU"
    )
    address: str | None = Field(
        default=None,
        description="address of a running Dask scheduler, such as tcp://host:8786; null: start a local one",
    )

    @model_validator(mode="after")
    def _check_address(self) -> "EngineConfig":
        if self.address and self.name != "dask":
            raise ValueError("engine.address is for engine.name = dask")
        return self


class RegistryConfig(Settings):
    """Where runs and models are recorded."""

    model_name: Name = Field(default="heartbeat", description="the registered model that new versions belong to")
    experiment: Name = Field(default="heartbeat", description="the MLflow experiment that records the runs")
    aliases: tuple[Name, ...] = Field(default=(), description="aliases of each new version in addition to challenger")
    first_champion: Literal["gates", "always"] = Field(
        default="gates",
        description="the first champion must pass the gates, or is the first version whatever its scores (always)",
    )
    tracking_uri: Annotated[str, AfterValidator(_check_no_user)] | None = Field(
        default=None, description="MLflow server or database; null: $MLFLOW_TRACKING_URI, otherwise SQLite in the store"
    )
    ui_url: Annotated[str, AfterValidator(_check_no_user), AfterValidator(_check_url)] = Field(
        default="http://127.0.0.1:5000", description="MLflow server that links to runs point to"
    )


def _check_webhook(url: SecretStr | None) -> SecretStr | None:
    if url is not None and not url.get_secret_value().startswith(("http://", "https://")):
        raise PydanticCustomError(
            "secret",
            "must be an address that begins with http:// or https:// (HEARTBEAT_WEBHOOK_URL, or in the settings)",
        )
    return url


def _webhook_of_environment() -> Any:
    """A string, which is validated as one in a file or in JSON is."""
    return os.environ.get("HEARTBEAT_WEBHOOK_URL") or None


class NoticeConfig(Settings):
    """Notices for people, by a webhook. Its address is not in any record of a run."""

    webhook_url: Annotated[SecretStr | None, AfterValidator(_check_webhook)] = Field(
        default_factory=_webhook_of_environment,
        exclude=True,
        description="an address that gets a POST when a run fails, data are refused, the champion changes, or no run came "
        "for two nights; default: $HEARTBEAT_WEBHOOK_URL",
    )


class RunConfig(Settings):
    """Everything that a run depends on; the run record holds all of it."""

    source: AnySource = Field(default=DemoSource(), description="where the recordings come from")
    measure: MeasureConfig = MeasureConfig()
    validation: ValidationConfig = ValidationConfig()
    split: SplitConfig = SplitConfig()
    retrain: RetrainConfig = RetrainConfig()
    spectrogram: SpectrogramConfig = SpectrogramConfig()
    engine: EngineConfig = EngineConfig()
    training: TrainingConfig = TrainingConfig()
    decision: DecisionConfig = DecisionConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    promotion: PromotionConfig = PromotionConfig()
    registry: RegistryConfig = RegistryConfig()
    retention: RetentionConfig = RetentionConfig()
    notice: NoticeConfig = Field(default_factory=NoticeConfig)
    store: str = Field(
        default_factory=lambda: os.environ.get("HEARTBEAT_STORE") or "out",
        min_length=1,
        description="output folder, or an fsspec URI such as s3://bucket/name; default: $HEARTBEAT_STORE, otherwise out",
    )

    @model_validator(mode="before")
    @classmethod
    def _lay_over_preset(cls, values: Any) -> Any:
        """Values that are not set come from the source's preset, then from the defaults."""
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("source"), Settings):
            return deep_merge(values["source"].preset, values)
        values = expand_shorthand(values)
        values["source"] = {"name": "demo", **values["source"]}
        return deep_merge(SOURCES[values["source"]["name"]].preset, values)

    @model_validator(mode="after")
    def _check_unlabelled(self) -> "RunConfig":
        if self.split.unlabelled and not self.training.contrast:
            raise ValueError("split.unlabelled keeps recordings for training.contrast, which is 0: set both or neither")
        return self

    @model_validator(mode="after")
    def _check_operating_point(self) -> "RunConfig":
        wanted = {"weighted_accuracy": "murmur", "cost_per_patient": "outcome"}.get(self.decision.operating_point)
        if wanted and getattr(self.source, "target", None) != wanted:
            raise ValueError(
                f"decision.operating_point = {self.decision.operating_point} is for source circor2022 with "
                f"source.target = {wanted}: set that, or choose macro_f1, balanced_accuracy or none"
            )
        return self


def source_options(source: AnySource) -> list[str]:
    """The options of `heartbeat up` that make it read ``source``; none for the demo, its default."""
    if source.name == "demo":
        return []
    if (data := getattr(source, "data", None)) is not None:
        return ["--source", source.name, "--data", str(data)]
    return ["--set", f"source={json.dumps(source.model_dump(mode='json', exclude_unset=True))}"]


def expand_shorthand(values: dict[str, Any]) -> dict[str, Any]:
    """A copy with a mapping as section ``source``, and ``engine``, where either may be a name. Raises `ConfigError`."""
    section, engine = values.get("source", {}), values.get("engine")
    choices = ", ".join(SOURCES)
    if isinstance(section, str):
        section = {"name": section}
    if not isinstance(section, dict):
        raise ConfigError(
            f"source = {section!r}: give one of {choices}, or a mapping such as {{name: table, data: ...}}"
        )
    name = section.get("name", "demo")
    if not isinstance(name, str) or name not in SOURCES:
        raise ConfigError(f"there is no source {name!r}: choose one of {choices}")
    return {**values, "source": section, **({"engine": {"name": engine}} if isinstance(engine, str) else {})}
