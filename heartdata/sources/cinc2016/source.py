"""The PhysioNet/CinC Challenge 2016: databases training-a to training-f, validation, and others of the same layout.

A database is a folder of ``.wav`` and ``.hea`` files with ``REFERENCE.csv`` (name, 1 abnormal or -1 normal) and, most
often, the signal quality (1 good, 0 poor) in ``REFERENCE-SQI.csv``.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from heartdata.errors import SourceError
from heartdata.sources.archives import ArchiveSource
from heartdata.sources.base import SourceListing, SourceRecording
from heartdata.sources.cinc2016.subjects import ANNOTATIONS, annotation_folders, read_rows, read_subjects
from heartdata.sources.folders import subfolders, wav_files

WHAT = "folder (or zip) of the challenge"
DATABASES = (*(f"training-{letter}" for letter in "abcdef"), "validation")
REFERENCE = "REFERENCE.csv"
QUALITY = ("REFERENCE-SQI.csv", "REFERENCE_withSQI.csv")
RECORDS = "RECORDS"  # marks a database that has no table of labels
CHALLENGE_NAME = re.compile(r"[a-f]\d{4,5}", re.IGNORECASE)
CODES = {"normal": "-1", "abnormal": "1"}
LABELS = {"-1": "normal", "1": "abnormal", "0": None, "": None}


class Cinc2016Source(ArchiveSource):
    """Configuration: ``data`` holds some of the databases, or is one of them, or a zip of them."""

    preset: ClassVar[dict[str, Any]] = {"training": {"epochs": 20}}

    name: Literal["cinc2016"] = "cinc2016"
    databases: tuple[str, ...] | None = Field(default=None, min_length=1, description="read these only; null: all")

    def check(self) -> None:
        """Raise `SourceError` when a database, or the table of one, does not exist."""
        with self.browsed(WHAT) as folder:
            self._chosen(folder)

    def listing(self, workdir: Path) -> SourceListing:
        """Every row of each REFERENCE.csv, also without a file, and the recordings that are in none."""
        rows: list[SourceRecording] = []
        notes: list[str] = []
        root = self.unpacked(WHAT, workdir)
        chosen = self._chosen(root)
        for database, folder in chosen.items():
            recordings, more = _read_database(database, folder, annotation_folders(folder, root))
            rows += recordings
            notes += more
        if self.databases is None and (unread := _unread(root, list(chosen.values()))):
            notes.append(
                f"The recordings in {', '.join(map(str, unread))} are not read: a database is a folder with a {REFERENCE} of "
                "its own, at most two levels below --data. Put one there, or move them elsewhere"
            )
        if unknown := sum(row.subject is None for row in rows):
            notes.append(
                f"The subjects of {unknown} of {len(rows)} recordings are not known, so each counts as a subject of "
                "its own: if somebody was recorded twice, scores are too high"
            )
        return SourceListing(rows, notes)

    def _chosen(self, folder: Path) -> dict[str, Path]:
        """Name to folder of the chosen databases; raises `SourceError`."""
        data = self.existing(WHAT)
        databases = _databases(folder, data.name if data.is_dir() else data.stem)
        chosen = [_official(name) or name for name in self.databases or databases]
        for name in chosen:
            if name not in databases:
                raise SourceError(
                    f"{folder} has no {name}, which source.databases names: download it, or choose among {', '.join(databases)}"
                )
            if not _tables(databases[name]) and not _header_labels(databases[name]):
                raise SourceError(f"{databases[name]} holds no {REFERENCE}: complete the download of {name}")
        return {name: databases[name] for name in chosen}


def _official(name: str) -> str | None:
    """The challenge's own spelling of a database's name in any letter case; None for other names."""
    return name.casefold() if name.casefold() in DATABASES else None


def _tables(folder: Path, names: tuple[str, ...] = (REFERENCE, *QUALITY)) -> list[Path]:
    """The tables of labels in ``folder``, in the order of ``names``, in any letter case."""
    wanted = [name.casefold() for name in names]
    tables = [f for f in folder.iterdir() if f.name.casefold() in wanted and f.is_file()] if folder.is_dir() else []
    return sorted(tables, key=lambda f: (wanted.index(f.name.casefold()), f.name))


def _header_labels(folder: Path) -> dict[str, str]:
    """Recording name to label, from the .hea files in ``folder``; empty unless it has RECORDS."""
    if not (folder / RECORDS).is_file():
        return {}
    names = sorted(f.name.removesuffix(".hea") for f in folder.iterdir() if f.name.endswith(".hea"))
    labels = {name: _comment(folder / f"{name}.hea").casefold() for name in names}
    return {name: label for name, label in labels.items() if label in ("normal", "abnormal")}


def _databases(folder: Path, folder_name: str) -> dict[str, Path]:
    """Name to folder of every database up to two levels below ``folder``, or of ``folder`` if it is one itself.

    Raises `SourceError` when there is none.
    """
    databases: dict[str, Path] = {}
    folders = _within(folder) or ([folder] if _tables(folder) or _header_labels(folder) else [])
    folders.sort(
        key=lambda f: _official(f.name) is not None
    )  # of a folder and a link to it, the challenge's name counts
    for database in {Path(str(f)).resolve(): f for f in folders}.values():
        name = _name_of(folder, folder_name) if database is folder else _official(database.name) or database.name
        if databases.setdefault(name, database) is not database:
            raise SourceError(f"{folder} holds {name} twice, {databases[name]} and {database}: keep one of them")
    if not databases:
        zips = ", ".join(sorted(f.name for f in folder.iterdir() if f.name.lower().endswith(".zip")))
        remedy = f"unpack {zips} there" if zips else f"give the {WHAT} with --data"
        raise SourceError(f"{folder} holds none of {', '.join(DATABASES)}, nor a {REFERENCE}: {remedy}")
    return dict(sorted(databases.items()))


def _within(folder: Path, levels: int = 2) -> list[Path]:
    """The databases below ``folder``, or ``folder`` where it has a table and recordings itself.

    A table beside the challenge's own databases is not one, nor is a table above others without recordings beside it.
    """
    below: list[Path] = []
    for sub in _subfolders(folder) if levels else []:
        below += [sub] if _official(sub.name) else _within(sub, levels - 1)
    if any(_official(sub.name) for sub in below) or not _tables(folder):
        return below
    return [folder] if _holds_wavs(folder, levels=0 if below else 2) else below


def _subfolders(folder: Path) -> list[Path]:
    """All but ``annotations``, which has folders of the databases' names."""
    return [sub for sub in subfolders(folder) if sub.name.casefold() != ANNOTATIONS]


def _holds_wavs(folder: Path, levels: int) -> bool:
    """Whether a recording is in ``folder`` or at most ``levels`` below it."""
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


def _name_of(folder: Path, folder_name: str) -> str:
    """The name of the database in ``folder``: the folder's, or that of the challenge's database whose recordings it has."""
    names = {name.casefold() for name in (_reference([folder])[0] or _header_labels(folder))}
    letters = {name[0] for name in names}
    if _official(folder_name) or len(letters) != 1 or not all(map(CHALLENGE_NAME.fullmatch, names)):
        return _official(folder_name) or folder_name
    return f"training-{letters.pop()}"


def _homes(database: str, names: list[str]) -> dict[str, str]:
    """Recording to database: where most are of several of the challenge's, the one of its letter.

    The folder validation, whose recordings are copies of theirs, stays one.
    """
    letters = {name: name[0].casefold() for name in names if CHALLENGE_NAME.fullmatch(name)}
    if database == "validation" or len(set(letters.values())) < 2 or 2 * len(letters) <= len(names):
        return dict.fromkeys(names, database)
    return {name: f"training-{letters[name]}" if name in letters else database for name in names}


def _reference(folders: list[Path]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Recording name to ``challenge_label`` and ``sqi`` of the tables, and notes; raises `SourceError`.

    All tables in the first of ``folders`` count, and those of quality in the others; the earlier take precedence.
    """
    rows: dict[str, dict[str, str]] = {}
    notes = []
    tables = [*_tables(folders[0]), *(table for folder in folders[1:] for table in _tables(folder, QUALITY))]
    for table in tables:
        opposite = []
        for line, name, values in _labels_in(table):
            row = rows.setdefault(name, {})
            for column, value in values.items():
                if _is_reference(table) and row.get(column, value) != value:
                    raise SourceError(f"{table}: line {line} gives {name} a second label: find out which is right")
                if {row.setdefault(column, value), value} == {"1", "-1"}:
                    opposite.append(name)
        if opposite:
            notes.append(
                f"{table} contradicts {tables[0].name}, which takes precedence, on {len(opposite)} recordings: "
                f"{opposite[0]}, ..."
            )
    return rows, notes


def _is_reference(table: Path) -> bool:
    return table.name.casefold() == REFERENCE.casefold()


def _labels_in(table: Path) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Line number, from 1, recording and cells by column, without a header; raises `SourceError` for a broken line."""
    rows = [(line, cells) for line, cells in enumerate(read_rows(table), 1) if any(cells)]
    for line, (name, *values) in rows[1:] if rows and _is_header(rows[0][1]) else rows:
        if not re.fullmatch(r"[\w.-]{1,100}", name):
            raise SourceError(f"{table}: line {line}: {name!r} is not a recording's name: download the table again")
        columns = ("challenge_label",) if _is_reference(table) else ("challenge_label", "sqi")[-len(values) :]
        if len(values) != len(columns):
            raise SourceError(f"{table}: line {line} has {len(values) + 1} cells: is it the challenge's own table?")
        for column, value in zip(columns, values, strict=True):
            if value not in (LABELS if column == "challenge_label" else ("1", "0", "")):
                raise SourceError(f"{table}: line {line}: {value!r} is none of the values that the challenge uses")
        yield line, re.sub(r"\.wav$", "", name, flags=re.IGNORECASE), dict(zip(columns, values, strict=True))


def _is_header(cells: list[str]) -> bool:
    """Whether the second cell is a word instead of a label, and the first has no digit, as recordings' names have."""
    is_word = len(cells) > 1 and cells[1] not in LABELS and not re.fullmatch(r"[-+\d.]+", cells[1])
    return is_word and not re.search(r"\d", cells[0])


def _read_database(database: str, folder: Path, annotations: list[Path]) -> tuple[list[SourceRecording], list[str]]:
    """The recordings of one database and notes on them."""
    updated = [beside / "updated" / name for beside in annotations for name in dict.fromkeys((folder.name, database))]
    reference, notes = _reference([folder, *updated])
    if not _tables(folder):
        reference = {name: {"challenge_label": CODES[label]} for name, label in _header_labels(folder).items()}
        notes = [
            f"{folder} holds no {REFERENCE}: the labels of {len(reference)} recordings are those of the .hea files"
        ]
    files = wav_files(folder)
    unlisted = sorted(files.keys() - reference.keys())
    homes = _homes(database, [*reference, *unlisted])
    subjects: dict[str, str] = {}
    for home in sorted(set(homes.values()) - {"validation"}):
        known, more = read_subjects(annotations, home, [name for name in homes if homes[name] == home])
        subjects |= known
        notes += more
    if several := sorted(set(homes.values()) - {database}):
        notes.append(
            f"{folder} holds recordings of {', '.join(several)}: each is in the collection of the letter of its name"
        )
    rows, opposite = [], []
    for name, home in homes.items():
        extra = {key: value for key, value in reference.get(name, {}).items() if value}
        label = LABELS[extra.get("challenge_label", "")]
        comment = _comment(folder / f"{name}.hea")
        if comment and comment.casefold() != label:
            extra["comment"] = comment
        if label and {comment.casefold(), label} == {"normal", "abnormal"}:
            opposite.append(name)
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
    if unlisted:
        notes.append(
            f"{len(unlisted)} recordings in {database} are in no row of its {REFERENCE}; kept as unlabelled: "
            f"{unlisted[0]}.wav, ..."
        )
    if opposite:
        notes.append(
            f"The .hea files of {len(opposite)} recordings in {database} contradict {REFERENCE}, which takes precedence: "
            f"{opposite[0]}, ..."
        )
    return rows, notes


def _comment(header: Path) -> str:
    """The comments of a WFDB header, joined; empty where there is none."""
    if not header.is_file():
        return ""
    lines = header.read_text(encoding="utf-8", errors="replace").splitlines()
    return "; ".join(line.lstrip("# ").strip() for line in lines if line.startswith("#"))
