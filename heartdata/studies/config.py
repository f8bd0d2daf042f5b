"""What a study runs with: its own settings, and what somebody typed over them."""

from pathlib import Path
from typing import Any

from heartdata.config import SOURCES, RunConfig, deep_merge
from heartdata.config_file import build_config, nested
from heartdata.dataset.splits import SplitConfig
from heartdata.errors import ConfigError
from heartdata.settings import Settings
from heartdata.studies.protocols import Study, study_named


class StudyConfig(Settings):
    """A protocol, and the settings of each of its trainings."""

    study: Study
    run: RunConfig


OF_STUDIES = ("collections", "valid_fraction", "attempts", "seed")  # what of split.* their protocols leave open


def study_config(
    name: str,
    data: str | None = None,
    file: Path | None = None,
    changes: dict[str, Any] | None = None,
    seeds: int | None = None,
) -> StudyConfig:
    """The study ``name`` with its own settings, what ``file`` and ``changes`` say laid over them (see `build_config`).

    ``seeds``: how many repetitions instead of the study's own. Raises `ConfigError`.
    """
    study = study_named(name)
    if seeds is not None:
        study = study.model_copy(update={"seeds": tuple(range(seeds))})
    base = deep_merge({"source": {"name": study.source}}, nested(study.settings))
    run = build_config(None, data, file, changes, base)
    if run.source.name != study.source:
        raise ConfigError(f"the study {name} is of the source {study.source}, not of {run.source.name}")
    own = SplitConfig.model_validate(deep_merge(SOURCES[study.source].preset, base).get("split", {}))
    fixed = [
        key
        for key in SplitConfig.model_fields
        if key not in OF_STUDIES and getattr(run.split, key) != getattr(own, key)
    ]
    if fixed:
        raise ConfigError(
            f"the study {name} parts recordings in its own way: leave out split.{fixed[0]}; it takes "
            f"split.{', split.'.join(OF_STUDIES)}"
        )
    for key, value in study.settings.items():
        section, _, setting = key.partition(".")
        if section == "source" and getattr(run.source, setting) != value:
            raise ConfigError(
                f"the study {name} is scored for {key} = {value}: leave that as it is, or take another study"
            )
    return StudyConfig(study=study, run=run)
