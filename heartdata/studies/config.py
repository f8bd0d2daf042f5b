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
    source: str | None = None,
) -> StudyConfig:
    """The study ``name`` with its own settings, overridden by ``file`` and then ``changes`` (see `build_config`).

    ``seeds``: the number of repetitions, instead of the study's own; ``source``: another source than its own, where the
    study allows that. Raises `ConfigError`.
    """
    study = study_named(name)
    if seeds is not None:
        study = study.model_copy(update={"seeds": tuple(range(seeds))})
    base = deep_merge({"source": {"name": study.source}}, unflatten(study.settings))
    run = build_config(source, data, file, changes, base)
    if run.source.name == study.source:
        base = deep_merge(base, unflatten(study.own_settings))
        run = build_config(source, data, file, changes, base)
    elif not study.any_source:
        raise ConfigError(
            f"the study {name} uses the source {study.source}, not {run.source.name}: leave source.name out of the settings"
        )
    own = SplitConfig.model_validate(deep_merge(SOURCES[run.source.name].preset, base).get("split", {}))
    for key in SplitConfig.model_fields:
        if key not in FREE_SPLIT_SETTINGS and getattr(run.split, key) != getattr(own, key):
            raise ConfigError(
                f"the study {name} splits recordings by its own protocol: leave out split.{key}; you may change "
                f"split.{', split.'.join(FREE_SPLIT_SETTINGS)}"
            )
    needed = {key: value for key, value in study.settings.items() if key.startswith("source.")}
    as_needed = deep_merge(run.source.model_dump(), unflatten(needed).get("source", {}))
    if run.source != type(run.source).model_validate(as_needed):
        settings = " and ".join(f"{key} = {value}" for key, value in needed.items())
        raise ConfigError(f"the study {name} needs {settings}: leave that unchanged, or choose another study")
    return StudyConfig(study=study, run=run)
