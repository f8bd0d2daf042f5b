"""The settings of a study: those of its protocol, and what the user changes."""

from pathlib import Path
from typing import Any

from heartdata.config import SOURCES, RunConfig
from heartdata.config_file import build_config
from heartdata.dataset.splits import SplitConfig
from heartdata.errors import ConfigError
from heartdata.settings import Settings, deep_merge, unflatten
from heartdata.studies.protocols import Study, study_named


class StudyConfig(Settings):
    """A protocol, and the settings of each of its trainings."""

    study: Study
    run: RunConfig


FREE_SPLIT_SETTINGS = ("collections", "valid_fraction", "attempts", "seed")  # the other split.* belong to the protocol


def study_config(
    name: str,
    data: str | None = None,
    file: Path | None = None,
    changes: dict[str, Any] | None = None,
    seeds: int | None = None,
) -> StudyConfig:
    """The study ``name`` with its own settings, overridden by ``file`` and then ``changes`` (see `build_config`).

    ``seeds``: the number of repetitions, instead of the study's own. Raises `ConfigError`.
    """
    study = study_named(name)
    if seeds is not None:
        study = study.model_copy(update={"seeds": tuple(range(seeds))})
    base = deep_merge({"source": {"name": study.source}}, unflatten(study.settings))
    run = build_config(None, data, file, changes, base)
    if run.source.name != study.source:
        raise ConfigError(
            f"the study {name} uses the source {study.source}, not {run.source.name}: leave source.name out of the settings"
        )
    own = SplitConfig.model_validate(deep_merge(SOURCES[study.source].preset, base).get("split", {}))
    for key in SplitConfig.model_fields:
        if key not in FREE_SPLIT_SETTINGS and getattr(run.split, key) != getattr(own, key):
            raise ConfigError(
                f"the study {name} splits recordings by its own protocol: leave out split.{key}; you may change "
                f"split.{', split.'.join(FREE_SPLIT_SETTINGS)}"
            )
    for key, value in study.settings.items():
        section, _, setting = key.partition(".")
        if section == "source" and getattr(run.source, setting) != value:
            raise ConfigError(f"the study {name} needs {key} = {value}: leave it unchanged, or choose another study")
    return StudyConfig(study=study, run=run)
