"""The configuration of a whole run: one frozen object, refused when a key is unknown or a value out of range."""

import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, model_validator

from heartdata.errors import ConfigError
from heartdata.measure import MeasureConfig
from heartdata.settings import Settings
from heartdata.sources import SOURCES, AnySource, DemoSource
from heartdata.spectrograms import SpectrogramConfig
from heartdata.splits import SplitConfig
from heartdata.suite import ValidationConfig


class TrainingConfig(Settings):
    """How a network is trained. Counts are of epochs unless they say otherwise."""

    init: str = Field(
        default="auto",
        min_length=1,
        description="imagenet | random | auto | a .safetensors | models:/...",
    )
    epochs: int = Field(default=12, ge=1, le=1000)
    frozen_epochs: int = Field(
        default=1,
        ge=0,
        description="of the last layer alone, before; not from random weights",
    )
    patience: int = Field(default=10, ge=1, description="epochs without a better one until training stops")
    batch: int = Field(default=16, ge=2)
    width: int = Field(default=256, ge=32, description="spectrogram columns in a window")
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    weight_decay: float = Field(default=0.01, ge=0)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)


class ModelConfig(Settings):
    """All that is needed, beside the weights, to answer for a recording: stands as JSON beside them."""

    classes: tuple[str, ...]
    width: int = Field(gt=0, description="spectrogram columns in a window")
    spectrogram: SpectrogramConfig
    dataset_version: str
    init: str


class EvaluationConfig(Settings):
    """How scores on the test part are given."""

    bootstrap: int = Field(default=500, ge=20, description="resamples of subjects behind each interval")
    seed: int = Field(default=0, ge=0)


class RegistryConfig(Settings):
    """Where runs and models are recorded."""

    model_name: str = Field(default="heartbeat", min_length=1)
    experiment: str = Field(default="heartbeat", min_length=1)
    tracking_uri: str | None = Field(default=None, description="null: SQLite in the output folder")
    ui_url: str = Field(default="http://127.0.0.1:5000", description="where links to runs point")


class RunConfig(Settings):
    """Everything a run depends on; it travels whole into the run record."""

    source: AnySource = DemoSource()
    measure: MeasureConfig = MeasureConfig()
    validation: ValidationConfig = ValidationConfig()
    split: SplitConfig = SplitConfig()
    spectrogram: SpectrogramConfig = SpectrogramConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    registry: RegistryConfig = RegistryConfig()
    store: str = Field(
        default_factory=lambda: os.environ.get("HEARTBEAT_STORE", "out"),
        description="output folder",
    )

    @model_validator(mode="before")
    @classmethod
    def _lay_over_preset(cls, values: Any) -> Any:
        """What is not said is taken from the source's preset before the defaults, however the object is made."""
        if not isinstance(values, dict):
            return values
        named = values.get("source", {})
        name = named.get("name", "demo") if isinstance(named, dict) else getattr(named, "name", "demo")
        return _merged(SOURCES[name].preset if name in SOURCES else {}, values)


def build_config(
    source: str = "demo",
    data: str | None = None,
    file: Path | None = None,
    changes: dict[str, Any] | None = None,
) -> RunConfig:
    """A run's configuration: defaults, then the source's preset, then ``file`` (YAML), then ``changes``.

    ``changes`` maps dotted keys to values (``{"training.epochs": 3}``). Raises `ConfigError` naming the key.
    """
    from_file = _read_yaml(file) if file else {}
    named = from_file.get("source")
    source = named.get("name", source) if isinstance(named, dict) else source
    if source not in SOURCES:
        raise ConfigError(f"there is no source {source!r}: choose one of {', '.join(SOURCES)}")
    values: dict[str, Any] = {"source": {"name": source}}
    if data is not None:
        if source == "demo":
            raise ConfigError("the source demo makes its recordings: name another source beside --data")
        values["source"]["data"] = data
    values = _merged(values, from_file)
    for key, value in (changes or {}).items():
        nested: dict[str, Any] = {}
        *parents, last = key.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
        values = _merged(values, nested)
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
        return key.strip(), yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value cannot be read ({error})") from error


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the configuration {file} cannot be read ({error})") from error
    if not isinstance(values or {}, dict):
        raise ConfigError(f"the configuration {file} must be a mapping of keys, such as 'training: {{epochs: 3}}'")
    return values or {}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``base``, nested mappings merged; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _sentence(error: Any) -> str:
    """One fault that pydantic found, as a sentence with the dotted key."""
    place = [str(part) for part in error["loc"]]
    if len(place) > 1 and place[0] == "source" and place[1] in SOURCES:  # pydantic names the chosen source
        place.pop(1)
    key = ".".join(place)
    if error["type"] == "extra_forbidden":
        return f"unknown configuration key {key!r}"
    if error["type"] == "missing":
        return f"{key} is needed" + (": give it with --data" if key == "source.data" else "")
    return f"{key} = {error['input']!r}: {error['msg'].removeprefix('Value error, ')}"
