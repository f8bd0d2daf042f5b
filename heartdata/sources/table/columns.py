"""Which column of a table has which role: path, label, subject, site or collection."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd
from pydantic import Field

from heartdata.errors import SourceError
from heartdata.settings import Settings
from heartdata.sources.base import AUDIO_SUFFIXES
from heartdata.sources.circor2022 import patients as circor2022
from heartdata.sources.text import clean_cell, enumerated, quoted, shortened

# Usual names of the columns, as `normal_name` writes them.
USUAL_NAMES = {
    "path": (
        "path", "file", "filename", "filepath", "fname", "wav", "wavfile", "wavpath", "audio", "audiofile",
        "audiopath", "recording", "recordingname", "recordingid", "record", "recordname", "recordid",
    ),
    "label": ("label", "labels", "class", "diagnosis", "target", "category"),
    "subject": (
        "subject", "subjectid", "subjectno", "subjectnumber", "patient", "patientid", "patientno",
        "patientnumber", "patientcode", "patid", "pid", "mrn", "caseid", "caseno", "childid", "participant",
        "participantid", "participantcode", "volunteerid",
    ),
    "site": ("site", "location", "position", "auscultationsite"),
    "collection": ("collection", "database", "dataset", "device"),
}  # fmt: skip

_DEFAULT = "null: the one with a usual name; an empty text: none"
_YES = (
    "true", "t", "yes", "y", "present", "positive", "pos", "+", "x", "✓", "✔", "ja", "oui", "si", "sí", "sim", "да", "是",
)  # fmt: skip
_NO = ("false", "f", "no", "n", "absent", "negative", "neg", "nein", "non", "não", "нет", "否")
YES_OR_NO = dict.fromkeys(_YES, "1") | dict.fromkeys(_NO, "0")
ROLES = ("label", "subject", "site", "collection")  # what may be known of a recording beside its path


@dataclass(frozen=True)
class Entry:
    """One recording: its path as the source writes it, the cell of each role, all other cells, and its file if listed."""

    name: str
    roles: dict[str, str]
    extra: dict[str, str]
    path: Path | None = None

    @classmethod
    def of(cls, name: str, cells: dict[str, str], path: Path | None = None) -> "Entry":
        """Sort ``cells`` into roles and others; empty others are left out."""
        roles = {key: cell for key, cell in cells.items() if key in ROLES}
        return cls(name, roles, {key: cell for key, cell in cells.items() if key not in ROLES and cell}, path)


class Columns(Settings):
    """Which column has which role. Null: the one with a usual name; an empty text: none."""

    path: str | None = Field(default=None, description=f"the column of the audio files; {_DEFAULT}")
    label: str | None = Field(default=None, description=f"the column of the labels; {_DEFAULT}")
    subject: str | None = Field(default=None, description=f"the column that identifies who was recorded; {_DEFAULT}")
    site: str | None = Field(default=None, description=f"the column of the auscultation sites; {_DEFAULT}")
    collection: str | None = Field(default=None, description=f"the column of collections or devices; {_DEFAULT}")

    def resolve(self, present: list[str]) -> dict[str, str]:
        """Role to the name of its column, for the roles that have one; the first of several counts."""
        by_name = {normal_name(name): name for name in reversed(present) if normal_name(name)}
        roles = {}
        for role, usual in USUAL_NAMES.items():
            wanted = getattr(self, role)
            names = [normal_name(wanted)] if wanted else usual if wanted is None else []
            column = wanted if wanted in present else next((by_name[name] for name in names if name in by_name), None)
            if column:
                roles[role] = column
        return roles


def normal_name(name: str) -> str:
    """A column's name for comparison: ``Patient ID``, ``patient_id`` and ``PatientID`` are all ``patientid``."""
    return re.sub(r"[\W_]+", "", clean_cell(name).lower())


def distinct(header: list[str]) -> list[str]:
    """Cleaned column names with the number, from 1, of those that have no name or the name of an earlier one."""
    names = [clean_cell(name) for name in header]
    return [name if name and name not in names[:i] else f"{name or 'column'}.{i + 1}" for i, name in enumerate(names)]


def no_paths(table: str | Path, column: str) -> str:
    """The message on a column of paths that holds something else."""
    return (
        f"{table} holds lists or objects in the column {quoted(column)}, where a path should be: write one row per recording, "
        "with the path of its file, or a source of your own (docs/development.md)"
    )


def find_columns(
    path: Path, table: pd.DataFrame, configured: Columns, needed: Collection[str], header: Sequence[str] = ()
) -> dict[str, str]:
    """Role to column of the table ``path``, whose own ``header`` messages name; raises `SourceError` when a needed or a
    configured column does not exist.
    """
    present = list(table.columns)
    if files := [name for name in header or present if name.lower().endswith(AUDIO_SUFFIXES)]:
        raise SourceError(
            f"{path} has no header: its first row names a recording ({shortened(files[0])}). Put the names of the columns, such "
            "as path and label, into a row above"
        )
    if {circor2022.ID, circor2022.LOCATIONS} <= set(present):
        raise SourceError(
            f"{path} is the table of patients of the data set circor2022: use --source circor2022 --data {path.parent}"
        )
    columns = configured.resolve(present)
    for role, wanted in configured:
        if wanted and role not in columns:
            raise SourceError(
                f"{path} has no column {quoted(wanted)} for the {role}: choose among {_named(header or present)}"
            )
    if absent := [role for role in USUAL_NAMES if role in needed and role not in columns]:
        raise SourceError(_absence(path, table, absent, "subject" in columns, header or present))
    chosen = [role for role in columns if role in ("path", "label") or getattr(configured, role)]
    for one, other in combinations(chosen, 2):
        if columns[one] == columns[other]:
            raise SourceError(
                f"the column {quoted(columns[one])} of {path} is both the {one} and the {other}, but can have one role: set "
                f"source.columns.{one} or source.columns.{other} to another, or to nothing where no column has the role"
            )
    return columns


def _absence(path: Path, table: pd.DataFrame, absent: list[str], has_subject: bool, header: Sequence[str]) -> str:
    """The message on needed roles that no column has."""
    binary = zero_one_columns(table)
    if absent == ["label"] and len(binary) > 1:
        return (
            f"{path} has no label column but several of zeros and ones: {_named(binary)}. Choose one against the rest with "
            f"--set source.target={binary[0]}, or the one that is 1 with --set source.target=argmax (of some: --set "
            f"'source.target=[{', '.join(binary[:2])}]')"
        )
    names = _named(header)
    unnamed = sum(bool(re.fullmatch(r"column\.\d+", name)) for name in table.columns)
    title = " (the first row that is not empty must be the header)" if 2 * unnamed >= len(table.columns) else ""
    if len(header) == 1:
        title = " only (cells are separated by commas, semicolons, tabs or bars)"
    changes = [f"--set source.columns.{role}=COLUMN" for role in (*absent, *([] if has_subject else ["subject"]))]
    return (
        f"{path} has no {' and no '.join(f'{role} column' for role in absent)} of a usual name; it has: "
        f"{names}{title}. Name {'them' if len(changes) > 1 else 'it'} with {' '.join(changes)}"
        + ("" if has_subject else " (of the subject, if there is one)")
    )


def _named(columns: Sequence[str]) -> str:
    return enumerated(list(map(shortened, columns)))


def other_columns(columns: dict[str, str], table: pd.DataFrame, configured: Columns) -> list[str]:
    """Notes on further columns with usual names of the label or subject, where ``configured`` names none."""
    notes = []
    for role in ("label", "subject"):
        usual = [name for name in table.columns if normal_name(name).rstrip("0123456789") in USUAL_NAMES[role]]
        others = ", ".join(quoted(name) for name in usual if name not in columns.values())
        if role in columns and others and getattr(configured, role) is None:
            notes.append(
                f"The {role} was taken from the column {quoted(columns[role])}; if {others} holds it, say so with --set "
                f"source.columns.{role}=COLUMN"
            )
    return notes


def zero_one_columns(table: pd.DataFrame) -> list[str]:
    """The columns that hold both zeros and ones, or no and yes, and nothing else."""
    numbers = {"0.0": "0", "1.0": "1"} | YES_OR_NO
    cells = {name: {clean_cell(cell).casefold() for cell in table[name].unique()} for name in table.columns}
    return [name for name in cells if {numbers.get(cell, cell) for cell in cells[name]} - {""} == {"0", "1"}]
