"""The PhysioNet/CinC Challenge 2016: databases training-a to training-f, and the folder validation.

A database is a folder of ``.wav`` and ``.hea`` files with ``REFERENCE.csv`` (name, 1 abnormal or -1 normal) and, most
often, the signal quality (1 good, 0 poor) in ``REFERENCE-SQI.csv``.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from heartdata.errors import SourceError
from heartdata.sources.archives import ArchiveSource
from heartdata.sources.base import Listed, Listing
from heartdata.sources.cinc2016_subjects import read_subjects
from heartdata.sources.folders import subfolders, wav_files

WHAT = "folder (or zip) of the challenge"
Database = Literal[
    "training-a", "training-b", "training-c", "training-d", "training-e", "training-f", "validation"
]  # fmt: skip
DATABASES = (*(f"training-{letter}" for letter in "abcdef"), "validation")
REFERENCE = "REFERENCE.csv"
QUALITY = ("REFERENCE-SQI.csv", "REFERENCE_withSQI.csv")
RECORDS = "RECORDS"  # what a database without any table of labels is known by
LABELS = {"-1": "normal", "1": "abnormal", "0": None, "": None}


class Cinc2016Source(ArchiveSource):
    """Configuration: ``data`` holds some of the databases in the official layout, or is one of them, or their zip."""

    preset: ClassVar[dict[str, Any]] = {"training": {"epochs": 20}}

    name: Literal["cinc2016"] = "cinc2016"
    databases: tuple[Database, ...] | None = Field(
        default=None, min_length=1, description="read these only; null: all that are there"
    )

    def check(self) -> None:
        """Raise `SourceError` when a database, or the table of one, is not there."""
        with self.looked_into(WHAT) as folder:
            self._chosen(folder)

    def listing(self, workdir: Path) -> Listing:
        """Every row of each REFERENCE.csv, missing ones included, and the recordings that stand in none."""
        rows: list[Listed] = []
        notes: list[str] = []
        for database, folder in self._chosen(self.unpacked(WHAT, workdir)).items():
            listed, remarks = _read_database(database, folder)
            rows += listed
            notes += remarks
        unknown = sum(row.subject is None for row in rows)
        if unknown:
            notes.append(
                f"The subjects of {unknown} of {len(rows)} recordings are not known, so each counts as a subject of "
                "its own: if somebody was recorded twice, scores are too high"
            )
        return Listing(rows, notes)

    def _chosen(self, folder: Path) -> dict[str, Path]:
        """The wanted databases' folders by name; raises `SourceError`."""
        found = _databases(folder)
        wanted: tuple[str, ...] = self.databases or tuple(found)
        for name in wanted:
            if name not in found:
                raise SourceError(
                    f"{folder} has no {name}, which source.databases names: download it, or choose among "
                    f"{', '.join(found)}"
                )
            if not _has_table(found[name]) and not _header_labels(found[name]):
                raise SourceError(f"{found[name]} holds no {REFERENCE}: complete the download of {name}")
        return {name: found[name] for name in wanted}


def _has_table(folder: Path) -> bool:
    return any((folder / name).exists() for name in (REFERENCE, *QUALITY))


def _header_labels(folder: Path) -> dict[str, str]:
    """Recording name to label of the .hea files in ``folder`` that tell one; empty unless RECORDS lies beside them."""
    if not (folder / RECORDS).is_file():
        return {}
    told = ((f.name.removesuffix(".hea"), _comment(f).casefold()) for f in folder.iterdir() if f.name.endswith(".hea"))
    return {name: label for name, label in sorted(told) if label in ("normal", "abnormal")}


def _databases(folder: Path) -> dict[str, Path]:
    """Name to folder of every database up to two levels down, else the one that ``folder`` itself is.

    Raises `SourceError` when there is none.
    """
    found: dict[str, Path] = {}
    level = [folder]
    for _ in range(2):
        level = [sub for parent in level for sub in subfolders(parent) if parent.name not in found]
        level = [sub for sub in level if sub.name != "annotations"]  # it has folders of the same names
        for sub in level:
            if sub.name in DATABASES and found.setdefault(sub.name, sub) is not sub:
                raise SourceError(f"{folder} holds {sub.name} twice, {found[sub.name]} and {sub}: give one of them")
    if not found and (_has_table(folder) or _header_labels(folder)):
        return {_name_of(folder): folder}
    if not found:
        zips = ", ".join(sorted(f.name for f in folder.iterdir() if f.name.lower().endswith(".zip")))
        remedy = f"unpack {zips} there" if zips else f"give the {WHAT} with --data"
        raise SourceError(f"{folder} holds none of {', '.join(DATABASES)}, nor a {REFERENCE}: {remedy}")
    return dict(sorted(found.items()))


def _name_of(folder: Path) -> str:
    """The database that a folder, perhaps under another name, is: told from its recordings' first letters."""
    if folder.name in DATABASES:
        return folder.name
    letters = {name[:1] for name in (_reference(folder)[0] or _header_labels(folder))}
    if not letters <= set("abcdef"):
        raise SourceError(f"{folder}: which database is it? Name the folder one of {', '.join(DATABASES)}")
    return f"training-{letters.pop()}" if len(letters) == 1 else "validation"


def _reference(folder: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Recording name to ``challenge_label`` and ``sqi`` as the tables give them, and remarks; raises `SourceError`."""
    beside = Path(str(folder)).parent / "annotations" / "updated" / folder.name
    rows: dict[str, dict[str, str]] = {}
    notes = []
    tables = [folder / REFERENCE, *(f / name for f in (folder, beside) for name in QUALITY)]
    tables = [table for table in tables if table.exists()]
    for table in tables:
        other = []
        for line, cells in _lines(table):
            name, *values = cells
            if not re.fullmatch(r"[\w.-]{1,100}", name):
                raise SourceError(f"{table}: line {line}: {name!r} is no recording's name: download the table again")
            columns = ("challenge_label",) if table.name == REFERENCE else ("challenge_label", "sqi")[-len(values) :]
            if len(values) != len(columns):
                raise SourceError(f"{table}: line {line} has {len(cells)} cells: is it the challenge's own table?")
            name = re.sub(r"\.wav$", "", name, flags=re.IGNORECASE)
            told = rows.setdefault(name, {})
            for column, value in zip(columns, values, strict=True):
                if value not in (LABELS if column == "challenge_label" else ("1", "0", "")):
                    raise SourceError(f"{table}: line {line}: {value!r} is none of the values that the challenge uses")
                if table.name == REFERENCE and told.get(column, value) != value:
                    raise SourceError(f"{table}: line {line} gives {name} a second label: find out which is right")
                if {told.setdefault(column, value), value} == {"1", "-1"}:
                    other.append(name)
        if other:
            notes.append(
                f"{table} says the opposite of {tables[0].name}, which is believed, of {len(other)} recordings: "
                f"{other[0]}, ..."
            )
    return rows, notes


def _reference_of_headers(folder: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """As `_reference`, where there is no table."""
    codes = {"normal": "-1", "abnormal": "1"}
    rows = {name: {"challenge_label": codes[label]} for name, label in _header_labels(folder).items()}
    return rows, [f"{folder} holds no {REFERENCE}: the labels of {len(rows)} recordings are those of the .hea files"]


def _lines(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Number, from 1, and cells of each line that is not empty."""
    try:
        rows = list(csv.reader(io.StringIO(table.read_text(encoding="utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table} cannot be read as a table ({error}): download it again") from error
    for line, cells in enumerate(rows, 1):
        if any(cell.strip() for cell in cells):
            yield line, [cell.strip() for cell in cells]


def _read_database(database: str, folder: Path) -> tuple[list[Listed], list[str]]:
    """The recordings of one database and remarks on them."""
    reference, notes = _reference(folder) if _has_table(folder) else _reference_of_headers(folder)
    subjects = {} if database == "validation" else read_subjects(folder.parent / "annotations")
    files = wav_files(folder)
    unnamed = sorted(files.keys() - reference.keys())
    rows, other = [], []
    for name in [*reference, *unnamed]:
        extra = {key: value for key, value in reference.get(name, {}).items() if value}
        label = LABELS[extra.get("challenge_label", "")]
        comment = _comment(folder / f"{name}.hea")
        if comment and comment.casefold() != label:
            extra["comment"] = comment
        if label and {comment.casefold(), label} == {"normal", "abnormal"}:
            other.append(name)
        rows.append(
            Listed(
                recording_id=f"{database}/{name}.wav",
                path=files.get(name),
                label=label,
                subject=subjects.get(name),
                collection=database,
                missing=None if name in files else f"there is no file {folder / name}.wav",
                extra=extra,
            )
        )
    if unnamed:
        notes.append(
            f"{len(unnamed)} recordings in {database} stand in no row of its {REFERENCE}; kept as unlabelled: "
            f"{unnamed[0]}.wav, ..."
        )
    if other:
        notes.append(
            f"The .hea files of {len(other)} recordings in {database} say the opposite of {REFERENCE}, which is "
            f"believed: {other[0]}, ..."
        )
    return rows, notes


def _comment(header: Path) -> str:
    """The comments of a WFDB header, joined; empty where there is none."""
    if not header.is_file():
        return ""
    lines = header.read_text(encoding="utf-8", errors="replace").splitlines()
    return "; ".join(line.lstrip("# ").strip() for line in lines if line.startswith("#"))
