"""Anybody's recordings: a table of audio files and their labels, or a folder whose names tell the labels."""

import codecs
import json
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from heartdata.errors import SourceError
from heartdata.sources.base import FolderSource, SourceListing, SourceRecording, audio_files, with_unique_ids
from heartdata.sources.circor2022 import patients as circor2022_patients
from heartdata.sources.table import columns as tables
from heartdata.sources.table.columns import Columns, Entry, plain, read_table
from heartdata.sources.table.file_lookup import FileLookup
from heartdata.sources.table.folder import FOLDERS_HINT, SUBJECTS_HINT, checked_pattern, groups, read_folder, read_names
from heartdata.sources.table.merged_cells import ALONE, empty_subjects
from heartdata.storage.remote import is_remote
from heartdata.storage.schemas import SUBJECT_AS_WRITTEN

MANY_LABELS = 50  # more than these are not classes if they are numbers or most are in one row only
NAME_LABEL = (
    "name a column that holds one target, such as yes or no for one finding, with --set source.columns.label=COLUMN"
)
PATTERN_LABEL = "the group label of source.pattern"
AMBIGUOUS = "none"  # of the default missing values, the one that may also be a class
MANY_AMBIGUOUS = 0.05  # the share of recordings with that label above which the user is asked
SEPARATOR = re.compile(r"[;|+]")  # of several labels in one cell
SEPARATOR_OR_NAME = re.compile(r"[,/&]|\sand\s")  # the same, but may also be part of one label's name
LIST = re.compile(r"""\[.*\]|[({].*['",].*[)}]""", re.DOTALL)  # several values that a program wrote into a cell
EXAMPLES = 10  # files named in a note


class TableSource(FolderSource):
    """Configuration: ``data`` is a CSV, Excel or Parquet file with paths relative to ``folder``, or a folder of recordings
    labelled by the names of its sub-folders or by ``pattern``.
    """

    preset: ClassVar[dict[str, Any]] = {}

    name: Literal["table"] = "table"
    folder: Path | None = Field(default=None, description="default: the folder of the table")
    encoding: str = Field(
        default=tables.UTF_8,
        exclude_if=lambda encoding: encoding == tables.UTF_8,  # left out of the digest, so old cache keys stay valid
        description="of a CSV, such as cp1252",
    )
    sheet: str | None = Field(default=None, description="of a workbook; default: the first, or the one that fits")
    pattern: str | None = Field(default=None, description="a regular expression for paths, with groups named as roles")
    columns: Columns = Columns()
    missing_values: tuple[str, ...] = Field(
        default=("nan", "none", "null", "na", "n/a", "#n/a", "<na>", "?", "-", "unlabelled", "unlabeled"),
        description="cells of label, subject and site that count as empty, whatever their case",
    )

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            "".encode(encoding)  # base64 and the like are codecs, too, but not of text
            return codecs.lookup(encoding).name
        except LookupError as error:
            raise ValueError("there is no such encoding: utf-8, cp1252, latin-1, cp1250, shift_jis are some") from error

    @field_validator("pattern")
    @classmethod
    def _usable(cls, pattern: str | None, info: ValidationInfo) -> str | None:
        is_table = info.data.get("data", Path()).suffix.lower() in (*tables.SUFFIXES, ".txt")
        return None if pattern is None else checked_pattern(pattern, needs_label=not is_table)

    def listing(self, workdir: Path) -> SourceListing:
        """One recording a row, or a file of the folder. A row whose file does not exist is listed as missing."""
        root, entries, notes = self._read()
        files = [] if self._data().is_dir() else audio_files(root)
        lookup = FileLookup(root, files)
        labels = _spellings(self._values("label", entries))
        subjects = _spellings(self._values("subject", entries))
        rows = [self._recording(lookup, labels, subjects, entry) for entry in entries]
        notes = [*_respelled("Labels", labels), *_respelled("Subjects", subjects), *notes]
        notes += [*_leading_zeros(set(subjects.values())), *self._absent(entries), *_renamed(root, entries, rows)]
        listed = {row.path.resolve() for row in rows if isinstance(row.path, Path)} if files else set()
        if unlisted := [str(path.relative_to(root)) for path in files if path.resolve() not in listed]:
            more = f" and {len(unlisted) - EXAMPLES} more" if len(unlisted) > EXAMPLES else ""
            notes.append(
                f"Left out, as they are in no row of the table: {len(unlisted)} of {len(files)} audio files below {root}: "
                f"{', '.join(unlisted[:EXAMPLES])}{more}"
            )
        return SourceListing(with_unique_ids(rows), notes)

    def check(self) -> None:
        """Raise `SourceError` when the table or folder cannot be read or does not give each recording one label."""
        self._read()

    def _data(self) -> Path:
        return self.existing("table or folder of recordings")

    def _read(self) -> tuple[Path, list[Entry], list[str]]:
        """The folder that paths are relative to, an entry a recording, and notes."""
        data = self._data()
        root, entries, notes = self._read_folder(data) if data.is_dir() else self._read_table(data)
        count = sum(entry.roles.get("label", "").strip().casefold() == AMBIGUOUS for entry in entries)
        is_default = self.missing_values == type(self).model_fields["missing_values"].default
        if is_default and count > MANY_AMBIGUOUS * len(entries):
            others = [value for value in self.missing_values if value != AMBIGUOUS]
            raise SourceError(
                f"{count} of {len(entries)} recordings have the label {AMBIGUOUS!r}, which may be a class or mean that "
                f"there is no label. Decide: --set 'source.missing_values={json.dumps(others)}' makes it a class, --set "
                f"'source.missing_values={json.dumps([AMBIGUOUS, *others])}' leaves these recordings unlabelled"
            )
        return root, entries, notes

    def _read_folder(self, root: Path) -> tuple[Path, list[Entry], list[str]]:
        if self.folder or self.sheet or self.columns != Columns():
            raise SourceError(
                f"{root} is a folder: give the table itself with --data, or leave out source.folder, source.sheet and "
                "source.columns, which are for tables"
            )
        entries, notes = read_folder(root, self.pattern)
        place = PATTERN_LABEL if self.pattern else f"the names of the sub-folders of {root}"
        refuse_labels(place, self._values("label", entries), "correct it, or give a table")
        if "subject" not in groups(self.pattern):
            hint = SUBJECTS_HINT if self.pattern else FOLDERS_HINT
            notes.append(f"The subjects of the recordings are unknown: {ALONE}. {hint}")
        return root, entries, notes

    def _read_table(self, path: Path) -> tuple[Path, list[Entry], list[str]]:
        needed = {"path", "label"} - groups(self.pattern)
        table = read_table(path, self.columns, self.sheet, needed, self.encoding)
        if table.empty:
            raise SourceError(f"{path} has no rows: add one row a recording")
        columns = self._columns(path, table, needed)
        notes = [] if self.columns.label else tables.other_label_columns(columns, table)
        by_name: list[dict[str, str]] = [{}] * len(table)
        if self.pattern:
            by_name, unmatched = read_names(self.pattern, list(table[columns["path"]]))
            notes += unmatched
        entries = [_entry(columns, *row) for row in zip(table.to_dict("records"), by_name, strict=True)]
        place = f"the column {columns['label']!r} of {path}" if "label" in columns else PATTERN_LABEL
        refuse_labels(place, self._values("label", entries), NAME_LABEL)
        if "subject" in columns:
            cells = list(table[columns["subject"]])
            notes += empty_subjects(path, columns["subject"], cells, [self._value(cell) for cell in cells])
        elif "subject" not in groups(self.pattern):
            notes.append(self._no_subjects(path, *tables.possible_subjects(columns, table)))
        return self.folder.expanduser().resolve() if self.folder else path.parent, entries, notes

    def _no_subjects(self, path: Path, by_name: list[str], by_values: list[str]) -> str:
        """A note on a table without subjects; raises `SourceError` when columns' names speak of them and none is denied."""
        if by_name and self.columns.subject is None:
            raise SourceError(
                f"{path} has no subject column of a usual name, but {' and '.join(map(repr, by_name))} may identify who was "
                "recorded: recordings of one person might be in both training and test. Name it with "
                f"--set 'source.columns.subject={by_name[0]}'; if no column identifies people, go on with "
                "--set source.columns.subject= (and nothing after the sign)"
            )
        repeated = f" (values recur in {', '.join(map(repr, by_values))})" if by_values else ""
        return f"The table has no subject column: {ALONE}. Name it with --set source.columns.subject=COLUMN{repeated}"

    def _columns(self, path: Path, table: pd.DataFrame, needed: Collection[str]) -> dict[str, str]:
        """Role to column name; raises `SourceError` when a needed or a configured column does not exist."""
        present = list(table.columns)
        if {circor2022_patients.ID, circor2022_patients.LOCATIONS} <= set(present):
            raise SourceError(
                f"{path} is the table of patients of the data set circor2022: use --source circor2022 --data {path.parent}"
            )
        columns = self.columns.resolve(present)
        for role, wanted in self.columns:
            if wanted and role not in columns:
                raise SourceError(f"{path} has no column {wanted!r} for the {role}; it has: {', '.join(present)}")
        absent = [role for role, _ in self.columns if role in needed and role not in columns]
        targets = tables.binary_columns(table) if absent == ["label"] else []
        if len(targets) > 1:
            raise SourceError(
                f"{path} has no label column but several of zeros and ones: {', '.join(targets)}. Name one as "
                "the target with --set source.columns.label=COLUMN: its 0 and 1 are then the labels"
            )
        if absent:
            unnamed = sum(bool(re.fullmatch(r"column\.\d+", name)) for name in present)
            title = " (the first row that is not empty must be the header)" if 2 * unnamed >= len(present) else ""
            unknown = [*absent, *({"subject"} - columns.keys())]
            raise SourceError(
                f"{path} has no {' and no '.join(f'{role} column' for role in absent)} of a usual name; it has: "
                f"{', '.join(present)}{title}. "
                f"Name them with {' '.join(f'--set source.columns.{role}=COLUMN' for role in unknown)}"
                + (" (of the subject, if there is one)" if "subject" in unknown else "")
            )
        chosen = [role for role in columns if role in ("path", "label") or getattr(self.columns, role)]
        for one, other in combinations(chosen, 2):
            if columns[one] == columns[other]:
                raise SourceError(
                    f"the column {columns[one]!r} of {path} is both the {one} and the {other}, but can have one role: set "
                    f"source.columns.{one} or source.columns.{other} to another, or to nothing where no column has the role"
                )
        return columns

    def _value(self, cell: str | None) -> str | None:
        """The cell as `plain` writes it; None when it is empty or one of ``missing_values``."""
        value = plain(cell or "")
        return None if not value or value.casefold() in _folded(self.missing_values) else value

    def _values(self, role: str, entries: list[Entry]) -> list[str]:
        """The label, subject or site of each recording that has one."""
        return [value for entry in entries if (value := self._value(entry.roles.get(role)))]

    def _absent(self, entries: list[Entry]) -> list[str]:
        """A note on each text in place of a label that counts as none."""
        cells = Counter(entry.roles.get("label", "").strip() for entry in entries)
        absent = sorted((cell, count) for cell, count in cells.items() if cell and self._value(cell) is None)
        return [f"{count} labels {cell!r} were taken as absent (source.missing_values)" for cell, count in absent]

    def _recording(
        self, lookup: FileLookup, labels: dict[str, str], subjects: dict[str, str], entry: Entry
    ) -> SourceRecording:
        path, missing = lookup.find(entry.name)
        label = self._value(entry.roles.get("label"))
        subject = self._value(entry.roles.get("subject"))
        respelled = subject is not None and subjects[subject] != subject
        return SourceRecording(
            recording_id=_recording_id(entry.name),
            path=path,
            label=labels[label] if label else None,
            subject=subjects[subject] if subject else None,
            site=self._value(entry.roles.get("site")),
            collection=plain(entry.roles.get("collection", "")),
            missing=missing,
            extra={**entry.extra, SUBJECT_AS_WRITTEN: subject} if respelled else dict(entry.extra),
        )


@lru_cache(maxsize=8)
def _folded(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(text.strip().casefold() for text in texts)


def _entry(columns: dict[str, str], row: dict[str, str], by_name: dict[str, str]) -> Entry:
    """A row; what the file's name tells (``by_name``) counts for roles without a column."""
    named = Entry.of(row[columns["path"]].strip(), by_name)
    roles = {role: row[column] for role, column in columns.items()}
    rest = {column: cell for column, cell in row.items() if column not in columns.values() and cell}
    return Entry(named.name, named.roles | roles, named.extra | rest)


def refuse_labels(place: str, labels: list[str], remedy: str) -> None:
    """Raise `SourceError` when ``labels``, one a recording, are not classes, or some are several labels."""
    different = sorted(set(labels))
    are_numbers = all(re.fullmatch(r"[-+]?\d+([.,]\d+)?", label) for label in different)
    if len(different) > MANY_LABELS and (are_numbers or 2 * len(different) > len(labels)):
        raise SourceError(
            f"{len(labels)} recordings have {len(different)} different labels in {place}, such as "
            f"{', '.join(map(repr, different[:3]))}, so these are not classes: {remedy}"
        )
    joined = joined_labels(different) | {label for label in different if LIST.fullmatch(label)}
    if joined:
        raise SourceError(
            f"{sum(label in joined for label in labels)} of {len(labels)} recordings have several labels in {place}, such "
            f"as {min(joined)!r}, and can have only one: {remedy}"
        )


def joined_labels(labels: Collection[str]) -> set[str]:
    """Those of ``labels`` that are several, joined by SEPARATOR or SEPARATOR_OR_NAME.

    By the first, where one part is a label itself or all parts recur in others; by the second, where all are labels.
    """
    known = {label.casefold() for label in labels}
    joined: set[str] = set()
    for separator in (SEPARATOR, SEPARATOR_OR_NAME):
        parts = {label: {part.strip() for part in separator.split(label.casefold())} - {""} for label in labels}
        counts = Counter(part for several in parts.values() for part in several)
        for label, several in parts.items():
            recur = separator is SEPARATOR and (several & known or all(counts[part] > 1 for part in several))
            if len(several) > 1 and (several <= known or recur):
                joined.add(label)
    return joined


def _recording_id(name: str) -> str:
    if not name:
        return "(no path)"
    return name if is_remote(name) else posixpath.normpath(unicodedata.normalize("NFC", name.replace("\\", "/")))


def _renamed(root: Path, entries: list[Entry], rows: list[SourceRecording]) -> list[str]:
    """A note on the files that the table calls by another name than the disk."""
    pairs = [(e.name, r.path) for e, r in zip(entries, rows, strict=True) if isinstance(r.path, Path)]
    pairs = [(name, path) for name, path in pairs if str(path) != f"{root}/{name}"]  # quick, and true of few
    pairs = [(name, path) for name, path in pairs if plain(str(path)) != plain(f"{root}/{name}")]
    pairs = [(name, path) for name, path in pairs if path not in (root / name, root / name.replace("\\", "/"))]
    if not pairs:
        return []
    (name, path), *_ = pairs
    return [
        f"{len(pairs)} files were found under another name than the table's: {name} as {path.relative_to(root)}, ..."
    ]


def _spellings(values: Iterable[str]) -> dict[str, str]:
    """Each value to the most frequent spelling, or the first sorted, of those that differ in case or ``.0`` alone."""
    counts = Counter(values)
    best: dict[str, str] = {}
    for value in sorted(counts, key=lambda value: (-counts[value], value)):
        best.setdefault(_spelling_key(value), value)
    return {value: best[_spelling_key(value)] for value in counts}


def _spelling_key(value: str) -> str:
    return re.sub(r"^([-+]?\d+)\.0+$", r"\1", value.casefold())  # a spreadsheet may write 1 as 1.0


def _respelled(what: str, spellings: dict[str, str]) -> list[str]:
    """A note on the spellings that were replaced by another."""
    changed = ", ".join(f"{value!r} as {best!r}" for value, best in sorted(spellings.items()) if value != best)
    return [f"{what} that differ only in letter case, or in .0, were taken as one: {changed}"] if changed else []


def _leading_zeros(subjects: Collection[str]) -> list[str]:
    """A note on the subjects that differ only in zeros before a number."""
    similar = defaultdict(list)
    for subject in sorted(subjects):
        similar[re.sub(r"(?<!\d)0+(?=\d)", "", subject.casefold())].append(subject)
    groups = ", ".join(" and ".join(map(repr, group)) for group in similar.values() if len(group) > 1)
    return [f"Subjects that differ only in leading zeros count as different ones: {groups}"] if groups else []
