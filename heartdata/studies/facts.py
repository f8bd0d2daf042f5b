"""What the page of a study needs beside its tables: the command, and where, when and by which code it was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from pydantic import ValidationError

from heartdata.errors import HeartbeatError
from heartdata.scoring.metrics import Rule
from heartdata.settings import Settings
from heartdata.storage.schemas import EXTRAPOLATION, LEARNING_CURVE, STUDY_METRICS
from heartdata.studies.protocols import STUDIES, Study

FACTS, METRICS, CURVE, GAINS = "study.json", "metrics.parquet", "curve.parquet", "extrapolation.parquet"


class Measured(Settings):
    """Where, when and by which code a study was recorded.

    ``changed``: whether the code had changes that were not committed; ``trained_on``: the machines of its trainings, which
    may be older than the record.
    """

    recorded_at: str
    commit: str = ""
    changed: bool = False
    machine: str = ""
    trained_on: tuple[str, ...] = ()
    versions: dict[str, str] = {}


class StudyFacts(Settings):
    """A study as it was run. ``weights`` is the sha256 of the initial ones, empty for random; ``plots`` are names of PNGs.

    ``subjects``: of the ``recordings`` that are scored, those that near-duplicates link counted once, with one for each
    recording that names none; ``unnamed``: how many of these are not named. ``patients``: ids that are scored, 0 where
    recordings are. ``labels``: how many of what is scored are of each; ``collections``: how many recordings.
    ``recordings_sha256``: sha256 of the sorted sha256 of the recordings, as JSON.
    """

    study: Study
    command: str
    recordings: int
    subjects: int
    unnamed: int = 0
    patients: int = 0
    recordings_sha256: str = ""
    labels: dict[str, int]
    collections: dict[str, int]
    operating_point: str
    subject_rule: Rule
    init: str
    weights: str = ""
    warning: str = ""
    plots: tuple[str, ...] = ()
    measured: Measured


@dataclass(frozen=True)
class StudyRecord:
    """A study's facts and tables: of schema STUDY_METRICS, and of a learning curve LEARNING_CURVE and EXTRAPOLATION."""

    facts: StudyFacts
    metrics: pd.DataFrame
    curve: pd.DataFrame | None = None
    extrapolation: pd.DataFrame | None = None


def read_study(folder: Path) -> StudyRecord:
    """The study recorded in ``folder``. Raises `HeartbeatError` for one that another version recorded."""
    try:
        facts = StudyFacts.model_validate_json((folder / FACTS).read_bytes())
        tables = {METRICS: STUDY_METRICS} | (
            {CURVE: LEARNING_CURVE, GAINS: EXTRAPOLATION} if facts.study.is_learning_curve else {}
        )
        read = [pq.read_table(folder / name, columns=schema.names).to_pandas() for name, schema in tables.items()]
    except (OSError, ValidationError, KeyError, ValueError) as error:
        name = folder.name.removeprefix("study-")
        again = f"type `heartbeat study {name} --data FOLDER`, which takes what is unchanged from the cache"
        remedy = again if name in STUDIES else f"there is no study {name!r}, so delete that folder"
        raise HeartbeatError(f"{folder} is not as this version records a study: {remedy}") from error
    return StudyRecord(facts, *read)


def in_order(names: Sequence[str]) -> list[str]:
    """Names of studies as `heartbeat study list` has them; unknown ones last."""
    known = list(STUDIES)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def commit_text(measured: Measured) -> str:
    """The commit, and whether the code had changes that were not in it."""
    if not measured.commit:
        return "not known"
    return f"`{measured.commit[:12]}`" + (" with uncommitted changes" if measured.changed else "")


def scored_text(facts: StudyFacts) -> str:
    """How many recordings of how many subjects are scored, and whether these are named."""
    recordings = f"{facts.recordings:,} recordings"
    if facts.patients:
        return f"{facts.patients:,} patient ids, with {recordings} of {facts.subjects:,} subjects"
    if facts.unnamed < facts.subjects:
        unnamed = f", {facts.unnamed:,} of them unnamed" if facts.unnamed else ""
        return f"{recordings} of {facts.subjects:,} subjects{unnamed}"
    alike = f", {facts.subjects:,} without near-duplicates" if facts.subjects < facts.recordings else ""
    return f"{recordings} of unnamed subjects{alike}"


def differs_from_protocol(facts: StudyFacts) -> bool:
    """Whether the study ran with another source, other settings or another number of seeds than its own."""
    study = STUDIES.get(facts.study.name, facts.study)
    given = facts.command.removeprefix(f"heartbeat study {study.name}").replace(" --data FOLDER", "")
    return given != f" --seeds {len(study.seeds)}"


def versions_text(measured: Measured) -> str:
    return ", ".join(f"{name} {number}" for name, number in measured.versions.items())
