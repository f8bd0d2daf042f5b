"""The PhysioNet/CinC Challenge 2016: databases training-a to training-f, the folder validation, others laid out alike.

A database is a folder of ``.wav`` and ``.hea`` files with ``REFERENCE.csv`` (name, 1 abnormal or -1 normal) and, most
often, the signal quality (1 good, 0 poor) in ``REFERENCE-SQI.csv``.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from heartdata.errors import SourceError
from heartdata.sources.archives import ArchiveSource
from heartdata.sources.base import SourceListing, SourceRecording
from heartdata.sources.cinc2016_subjects import ANNOTATIONS, annotation_folders, read_rows, read_subjects
from heartdata.sources.folders import subfolders, wav_files

WHAT = "folder (or zip) of the challenge"
DATABASES = (*(f"training-{letter}" for letter in "abcdef"), "validation")
REFERENCE = "REFERENCE.csv"
QUALITY = ("REFERENCE-SQI.csv", "REFERENCE_withSQI.csv")
RECORDS = "RECORDS"  # what a database without any table of labels is known by
CHALLENGE_NAME = re.compile(r"[a-f]\d{4,5}", re.IGNORECASE)
LABELS = {"-1": "normal", "1": "abnormal", "0": None, "": None}


class Cinc2016Source(ArchiveSource):
    """Configuration: ``data`` holds some of the databases in the official layout, or is one of them, or their zip."""

    preset: ClassVar[dict[str, Any]] = {"training": {"epochs": 20}}

    name: Literal["cinc2016"] = "cinc2016"
    databases: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="read these only; null: all that are there"
    )

    def check(self) -> None:
        """Raise `SourceError` when a database, or the table of one, is not there."""
        with self.browsed(WHAT) as folder:
            self._chosen(folder)

    def listing(self, workdir: Path) -> SourceListing:
        """Every row of each REFERENCE.csv, missing ones included, and the recordings that stand in none."""
        rows: list[SourceRecording] = []
        notes: list[str] = []
        root = self.unpacked(WHAT, workdir)
        chosen = self._chosen(root)
        for database, folder in chosen.items():
            listed, remarks = _read_database(database, folder, annotation_folders(folder, root))
            rows += listed
            notes += remarks
        if self.databases is None and (unread := _unread(root, list(chosen.values()))):
            notes.append(
                f"The recordings in {', '.join(map(str, unread))} are not read: a database is a folder with a {REFERENCE} of "
                "its own, at most two levels below --data. Put one there, or move them elsewhere"
            )
        unknown = sum(row.subject is None for row in rows)
        if unknown:
            notes.append(
                f"The subjects of {unknown} of {len(rows)} recordings are not known, so each counts as a subject of "
                "its own: if somebody was recorded twice, scores are too high"
            )
        return SourceListing(rows, notes)

    def _chosen(self, folder: Path) -> dict[str, Path]:
        """The wanted databases' folders by name; raises `SourceError`."""
        data = self.existing(WHAT)
        found = _databases(folder, data.name if data.is_dir() else data.stem)
        wanted = [_known(name) or name for name in self.databases or found]
        for name in wanted:
            if name not in found:
                raise SourceError(
                    f"{folder} has no {name}, which source.databases names: download it, or choose among "
                    f"{', '.join(found)}"
                )
            if not _tables(found[name]) and not _header_labels(found[name]):
                raise SourceError(f"{found[name]} holds no {REFERENCE}: complete the download of {name}")
        return {name: found[name] for name in wanted}


def _known(name: str) -> str | None:
    """The challenge's own spelling of a database's name in whatever letter case; None for other names."""
    return name.casefold() if name.casefold() in DATABASES else None


def _tables(folder: Path, names: tuple[str, ...] = (REFERENCE, *QUALITY)) -> list[Path]:
    """The tables of labels in ``folder``, in the order of ``names``, whatever the letter case of theirs."""
    wanted = [name.casefold() for name in names]
    found = [f for f in folder.iterdir() if f.name.casefold() in wanted and f.is_file()] if folder.is_dir() else []
    return sorted(found, key=lambda f: (wanted.index(f.name.casefold()), f.name))


def _header_labels(folder: Path) -> dict[str, str]:
    """Recording name to label of the .hea files in ``folder`` that tell one; empty unless RECORDS lies beside them."""
    if not (folder / RECORDS).is_file():
        return {}
    told = ((f.name.removesuffix(".hea"), _comment(f).casefold()) for f in folder.iterdir() if f.name.endswith(".hea"))
    return {name: label for name, label in sorted(told) if label in ("normal", "abnormal")}


def _databases(folder: Path, called: str) -> dict[str, Path]:
    """Name to folder of every database up to two levels down, else the one that ``folder``, ``called`` so, itself is.

    Raises `SourceError` when there is none.
    """
    found: dict[str, Path] = {}
    folders = _within(folder) or ([folder] if _tables(folder) or _header_labels(folder) else [])
    folders.sort(key=lambda f: _known(f.name) is not None)  # of a folder and a link to it, the challenge's name counts
    for database in {Path(str(f)).resolve(): f for f in folders}.values():
        name = _name_of(folder, called) if database is folder else _known(database.name) or database.name
        if found.setdefault(name, database) is not database:
            raise SourceError(f"{folder} holds {name} twice, {found[name]} and {database}: give one of them")
    if not found:
        zips = ", ".join(sorted(f.name for f in folder.iterdir() if f.name.lower().endswith(".zip")))
        remedy = f"unpack {zips} there" if zips else f"give the {WHAT} with --data"
        raise SourceError(f"{folder} holds none of {', '.join(DATABASES)}, nor a {REFERENCE}: {remedy}")
    return dict(sorted(found.items()))


def _within(folder: Path, levels: int = 2) -> list[Path]:
    """The databases below ``folder``, or ``folder`` where it has a table and recordings itself.

    A table beside the challenge's own databases, or above others that have no recordings beside it, makes no database.
    """
    below: list[Path] = []
    for sub in _subfolders(folder) if levels else []:
        below += [sub] if _known(sub.name) else _within(sub, levels - 1)
    if any(_known(sub.name) for sub in below) or not _tables(folder):
        return below
    return [folder] if _holds_wavs(folder, levels=0 if below else 2) else below


def _subfolders(folder: Path) -> list[Path]:
    """Those that may be or hold databases; ``annotations`` has folders of the same names."""
    return [sub for sub in subfolders(folder) if sub.name.casefold() != ANNOTATIONS]


def _holds_wavs(folder: Path, levels: int) -> bool:
    """Whether a recording lies in ``folder`` or at most ``levels`` below it."""
    if any(f.name.lower().endswith(".wav") and f.name[:1] != "." for f in folder.iterdir()):
        return True
    return levels > 0 and any(_holds_wavs(sub, levels - 1) for sub in subfolders(folder))


def _unread(folder: Path, read: list[Path]) -> list[Path]:
    """The folders, ``folder`` included, that hold recordings and belong to no database in ``read``."""
    if any(folder.samefile(database) for database in read):
        return []
    if not any(folder in database.parents for database in read):
        return [folder] if _holds_wavs(folder, levels=2) else []
    own = [folder] if _holds_wavs(folder, levels=0) else []
    return own + [unread for sub in subfolders(folder) for unread in _unread(sub, read)]


def _name_of(folder: Path, called: str) -> str:
    """What the database in ``folder`` is called: as its folder, or as the one of the challenge whose recordings it has."""
    names = {name.casefold() for name in (_reference([folder])[0] or _header_labels(folder))}
    if _known(called) or not names or not all(map(CHALLENGE_NAME.fullmatch, names)):
        return _known(called) or called
    letters = {name[0] for name in names}
    return f"training-{letters.pop()}" if len(letters) == 1 else called


def _homes(database: str, names: list[str]) -> dict[str, str]:
    """Recording to the database that it is of: where most are of several of the challenge's, the one of its letter.

    The folder validation, whose recordings are copies of theirs, stays one.
    """
    letters = {name: name[0].casefold() for name in names if CHALLENGE_NAME.fullmatch(name)}
    if database == "validation" or len(set(letters.values())) < 2 or 2 * len(letters) <= len(names):
        return dict.fromkeys(names, database)
    return {name: f"training-{letters[name]}" if name in letters else database for name in names}


def _reference(folders: list[Path]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Recording name to ``challenge_label`` and ``sqi`` as the tables give them, and remarks; raises `SourceError`.

    All tables in the first of ``folders`` count, and those of quality in the others; the earlier are believed.
    """
    rows: dict[str, dict[str, str]] = {}
    notes = []
    tables = [*_tables(folders[0]), *(table for folder in folders[1:] for table in _tables(folder, QUALITY))]
    for table in tables:
        other = []
        for line, name, values in _labels_in(table):
            told = rows.setdefault(name, {})
            for column, value in values.items():
                if _is_reference(table) and told.get(column, value) != value:
                    raise SourceError(f"{table}: line {line} gives {name} a second label: find out which is right")
                if {told.setdefault(column, value), value} == {"1", "-1"}:
                    other.append(name)
        if other:
            notes.append(
                f"{table} says the opposite of {tables[0].name}, which is believed, of {len(other)} recordings: "
                f"{other[0]}, ..."
            )
    return rows, notes


def _is_reference(table: Path) -> bool:
    return table.name.casefold() == REFERENCE.casefold()


def _labels_in(table: Path) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Number, from 1, recording and cells by column of each line with any; raises `SourceError` for a broken one."""
    for line, (name, *values) in _lines(table):
        if not re.fullmatch(r"[\w.-]{1,100}", name):
            raise SourceError(f"{table}: line {line}: {name!r} is no recording's name: download the table again")
        columns = ("challenge_label",) if _is_reference(table) else ("challenge_label", "sqi")[-len(values) :]
        if len(values) != len(columns):
            raise SourceError(f"{table}: line {line} has {len(values) + 1} cells: is it the challenge's own table?")
        for column, value in zip(columns, values, strict=True):
            if value not in (LABELS if column == "challenge_label" else ("1", "0", "")):
                raise SourceError(f"{table}: line {line}: {value!r} is none of the values that the challenge uses")
        name = re.sub(r"\.wav$", "", name, flags=re.IGNORECASE)
        yield line, name, dict(zip(columns, values, strict=True))


def _reference_of_headers(folder: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """As `_reference`, where there is no table."""
    codes = {"normal": "-1", "abnormal": "1"}
    rows = {name: {"challenge_label": codes[label]} for name, label in _header_labels(folder).items()}
    return rows, [f"{folder} holds no {REFERENCE}: the labels of {len(rows)} recordings are those of the .hea files"]


def _lines(table: Path) -> list[tuple[int, list[str]]]:
    """Number, from 1, and cells of each line that is not empty, without a header."""
    try:
        rows = read_rows(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table} cannot be read as a table ({error}): download it again") from error
    filled = [(line, cells) for line, cells in enumerate(rows, 1) if any(cells)]
    return filled[1:] if filled and _is_header(filled[0][1]) else filled


def _is_header(cells: list[str]) -> bool:
    """Whether the second cell is a word instead of a label, and the first has no digit, as recordings' names have."""
    if len(cells) < 2 or cells[1] in LABELS:
        return False
    return not re.search(r"\d", cells[0]) and not re.fullmatch(r"[-+\d.]+", cells[1])


def _read_database(database: str, folder: Path, annotations: list[Path]) -> tuple[list[SourceRecording], list[str]]:
    """The recordings of one database and remarks on them."""
    updated = [beside / "updated" / name for beside in annotations for name in dict.fromkeys((folder.name, database))]
    reference, notes = _reference([folder, *updated]) if _tables(folder) else _reference_of_headers(folder)
    files = wav_files(folder)
    unnamed = sorted(files.keys() - reference.keys())
    homes = _homes(database, [*reference, *unnamed])
    subjects, remarks = _subjects(homes, annotations)
    notes += remarks
    if several := sorted(set(homes.values()) - {database}):
        notes.append(
            f"{folder} holds recordings of {', '.join(several)}: each is in the collection of the letter of its name"
        )
    rows, other = [], []
    for name, home in homes.items():
        extra = {key: value for key, value in reference.get(name, {}).items() if value}
        label = LABELS[extra.get("challenge_label", "")]
        comment = _comment(folder / f"{name}.hea")
        if comment and comment.casefold() != label:
            extra["comment"] = comment
        if label and {comment.casefold(), label} == {"normal", "abnormal"}:
            other.append(name)
        rows.append(
            SourceRecording(
                recording_id=f"{database}/{name}.wav",
                path=files.get(name),
                label=label,
                subject=subjects.get(name),
                collection=home,
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


def _subjects(homes: dict[str, str], annotations: list[Path]) -> tuple[dict[str, str], list[str]]:
    """As `read_subjects`, of all the databases in ``homes`` but the validation set."""
    subjects: dict[str, str] = {}
    notes: list[str] = []
    for home in sorted(set(homes.values()) - {"validation"}):
        found, remarks = read_subjects(annotations, home, [name for name in homes if homes[name] == home])
        subjects |= found
        notes += remarks
    return subjects, notes


def _comment(header: Path) -> str:
    """The comments of a WFDB header, joined; empty where there is none."""
    if not header.is_file():
        return ""
    lines = header.read_text(encoding="utf-8", errors="replace").splitlines()
    return "; ".join(line.lstrip("# ").strip() for line in lines if line.startswith("#"))
