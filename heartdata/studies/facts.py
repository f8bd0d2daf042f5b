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

    ``subjects``: of the ``recordings`` that are scored, with one for each recording whose subject is not known;
    ``labels`` and ``collections``: how many of the recordings are of each.
    """

    study: Study
    command: str
    recordings: int
    subjects: int
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
        raise HeartbeatError(
            f"{folder} is not as this version records a study: type `heartbeat study {name} --data FOLDER`, which takes "
            "what is unchanged from the cache"
        ) from error
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
    """How many recordings of how many subjects are scored."""
    return f"{facts.recordings:,} recordings of {facts.subjects:,} subjects"


def versions_text(measured: Measured) -> str:
    return ", ".join(f"{name} {number}" for name, number in measured.versions.items())
