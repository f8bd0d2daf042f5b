"""Anybody's recordings: a spreadsheet that names audio files and their labels, or a folder whose names do."""

import codecs
import json
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import combinations
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from heartdata.errors import SourceError
from heartdata.remote import is_remote, names_a_password
from heartdata.schemas import SUBJECT_AS_WRITTEN
from heartdata.sources import circor2022_patients
from heartdata.sources.base import FolderSource, Listed, Listing, audio_files, with_unique_ids
from heartdata.sources.folder import checked_pattern, groups, read_folder, read_names, subjects_hint
from heartdata.sources.merged import ALONE, empty_subjects
from heartdata.sources.named import NamedFiles
from heartdata.sources.tables import (
    SUFFIXES,
    UTF_8,
    Columns,
    Entry,
    plain,
    possible_subjects,
    read_table,
    recurring_columns,
    rival_labels,
    zero_one_columns,
)

MANY_LABELS = 50  # more than these are no classes when they are numbers or stand in one row each, more or less
NAME_LABEL = (
    "name a column that holds one target, such as yes or no for one finding, with --set source.columns.label=COLUMN"
)
PATTERN_LABEL = "the group label of source.pattern"
AMBIGUOUS = "none"  # of the default missing values, the one that is also a word for a finding
MANY_ABSENT = 0.05  # when it is the label of more of the recordings than these, it may be the name of a class
OF_NAMES = (",", "/", "&", r"\sand\s", r"[,/&]|\sand\s")  # part labels, but may belong to the name of one
LIST = re.compile(r"""\[.*\]|[({].*['",].*[)}]""", re.DOTALL)  # a cell that a program wrote several values into
NAMED = 10  # of the files that are left out


class TableSource(FolderSource):
    """Configuration: ``data`` is a CSV, Excel or Parquet file, in which paths are relative to ``folder``; or it is a
    folder of recordings, labelled by the names of its sub-folders or by ``pattern``.
    """

    preset: ClassVar[dict[str, Any]] = {}

    name: Literal["table"] = "table"
    folder: Path | None = Field(default=None, description="default: the folder that the table lies in")
    encoding: str = Field(
        default=UTF_8,
        exclude_if=lambda encoding: encoding == UTF_8,  # sources of before it was there keep their digest
        description="of a CSV, such as cp1252",
    )
    sheet: str | None = Field(default=None, description="of a workbook; default: the first, or the one that suits")
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
            "".encode(encoding)  # refuses what is no encoding of text, too
            return codecs.lookup(encoding).name
        except LookupError as error:
            raise ValueError("there is no such encoding: utf-8, cp1252, latin-1, cp1250, shift_jis are some") from error

    @field_validator("pattern")
    @classmethod
    def _usable(cls, pattern: str | None, info: ValidationInfo) -> str | None:
        of_table = info.data.get("data", Path()).suffix.lower() in (*SUFFIXES, ".txt")
        return None if pattern is None else checked_pattern(pattern, needs_label=not of_table)

    def listing(self, workdir: Path) -> Listing:
        """One recording a row, or a file of the folder. A row whose file is not there is listed as missing."""
        root, entries, notes = self._read()
        files = [] if self._data().is_dir() else audio_files(root)
        named = NamedFiles(root, files)
        labels = _spellings(self._values("label", entries))
        subjects = _spellings(self._values("subject", entries))
        rows = [self._listed(named, labels, subjects, entry) for entry in entries]
        notes = [*_respelled("Labels", labels), *_respelled("Subjects", subjects), *notes]
        notes += [*_zeros(set(subjects.values())), *self._absent(entries), *_otherwise(root, entries, rows)]
        listed = {row.path.resolve() for row in rows if isinstance(row.path, Path)} if files else set()
        if beside := [path for path in files if path.resolve() not in listed]:
            names = ", ".join(str(path.relative_to(root)) for path in beside[:NAMED])
            more = f" and {len(beside) - NAMED} more" if len(beside) > NAMED else ""
            notes.append(
                f"Left out, as they stand in no row of the table: {len(beside)} of {len(files)} audio files below {root}: "
                f"{names}{more}"
            )
        return Listing(with_unique_ids(rows), notes)

    def check(self) -> None:
        """Raise `SourceError` when the table or folder cannot be read, or does not tell one label a recording."""
        self._read()

    def _data(self) -> Path:
        return self.existing("table or folder of recordings")

    def _read(self) -> tuple[Path, list[Entry], list[str]]:
        """The folder that paths are relative to, what is said of each recording, and remarks."""
        data = self._data()
        root, entries, notes = self._read_folder(data) if data.is_dir() else self._read_table(data)
        count = sum(entry.roles.get("label", "").strip().casefold() == AMBIGUOUS for entry in entries)
        undecided = self.missing_values == type(self).model_fields["missing_values"].default
        if undecided and count > MANY_ABSENT * len(entries):
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
        refuse_labels(place, self._values("label", entries), "mend it, or give a table")
        if "subject" not in groups(self.pattern):
            notes.append(
                f"The names of the recordings tell no subjects: {ALONE}. "
                + subjects_hint([entry.name for entry in entries], self.pattern)
            )
        return root, entries, notes

    def _read_table(self, path: Path) -> tuple[Path, list[Entry], list[str]]:
        needed = {"path", "label"} - groups(self.pattern)
        table = read_table(path, self.columns, self.sheet, needed, self.encoding)
        if table.empty:
            raise SourceError(f"{path} has no rows: add one row a recording")
        columns = self._columns(path, table, needed)
        notes = [] if self.columns.label else rival_labels(columns, table)
        told: list[dict[str, str]] = [{}] * len(table)
        if self.pattern:
            told, unmatched = read_names(self.pattern, list(table[columns["path"]]))
            notes += unmatched
        rows = zip(table.to_dict("records"), told, strict=True)
        entries = [_entry(columns, row, by_name) for row, by_name in rows]
        place = f"the column {columns['label']!r} of {path}" if "label" in columns else PATTERN_LABEL
        refuse_labels(place, self._values("label", entries), NAME_LABEL)
        if "subject" in columns:
            cells = list(table[columns["subject"]])
            notes += empty_subjects(path, columns["subject"], cells, [self._value(cell) for cell in cells])
        elif "subject" not in groups(self.pattern):
            self._refuse_unnamed_subjects(path, possible_subjects(columns, table))
            recurring = ", ".join(map(repr, recurring_columns(columns, table)))
            notes.append(
                f"The table has no subject column: {ALONE}. Name the column with --set source.columns.subject=COLUMN"
                + (f" (values recur in {recurring})" if recurring else "")
            )
        return self.folder.expanduser().resolve() if self.folder else path.parent, entries, notes

    def _refuse_unnamed_subjects(self, path: Path, possible: list[str]) -> None:
        """Raise `SourceError` when columns of ``possible`` subjects are not used and it is not said that none is."""
        if possible and self.columns.subject is None:
            raise SourceError(
                f"{path} has no subject column that can be told from its name, but {' and '.join(map(repr, possible))} may "
                "say who was recorded: recordings of one person might stand in training and in test. Name it with "
                f"--set 'source.columns.subject={possible[0]}'; if no column says it, go on with "
                "--set source.columns.subject= (and nothing after the sign)"
            )

    def _columns(self, path: Path, table: pd.DataFrame, needed: Collection[str]) -> dict[str, str]:
        """Role to column name; raises `SourceError` when a needed or a configured column is not there."""
        present = list(table.columns)
        if {circor2022_patients.ID, circor2022_patients.LOCATIONS} <= set(present):
            raise SourceError(
                f"{path} is the table of patients of the data set circor2022: use --source circor2022 --data {path.parent}"
            )
        found = self.columns.found(present)
        for role, wanted in self.columns:
            if wanted and role not in found:
                raise SourceError(f"{path} has no column {wanted!r} for the {role}; it has: {', '.join(present)}")
        absent = [role for role, _ in self.columns if role in needed and role not in found]
        targets = zero_one_columns(table) if absent == ["label"] else []
        if len(targets) > 1:
            raise SourceError(
                f"{path} has no label column but several of zeros and ones: {', '.join(targets)}. Name one as "
                f"the target with --set source.columns.label=COLUMN: its 0 and 1 are then the labels"
            )
        if absent:
            unnamed = sum(bool(re.fullmatch(r"column\.\d+", name)) for name in present)
            title = " (the first row that is not empty must be the header)" if 2 * unnamed >= len(present) else ""
            unknown = [*absent, *({"subject"} - found.keys())]
            raise SourceError(
                f"{path} has no {' and no '.join(f'{role} column' for role in absent)} that can be told from its name; "
                f"it has: {', '.join(present)}{title}. "
                f"Say which it is with {' '.join(f'--set source.columns.{role}=COLUMN' for role in unknown)}"
                + (" (of the subject, if there is one)" if "subject" in unknown else "")
            )
        chosen = [role for role in found if role in ("path", "label") or getattr(self.columns, role)]
        for one, other in combinations(chosen, 2):
            if found[one] == found[other]:
                raise SourceError(
                    f"the column {found[one]!r} of {path} is taken for the {one} and for the {other}, and can be only one: "
                    f"set source.columns.{one} or source.columns.{other} to another, or to nothing where no column has the role"
                )
        return found

    def _value(self, cell: str | None) -> str | None:
        """The cell as `plain` writes it; None when it is empty or one of ``missing_values``."""
        value = plain(cell or "")
        return None if not value or value.casefold() in _folded(self.missing_values) else value

    def _values(self, role: str, entries: list[Entry]) -> list[str]:
        """The label, subject or site of each recording that has one."""
        return [value for entry in entries if (value := self._value(entry.roles.get(role)))]

    def _absent(self, entries: list[Entry]) -> list[str]:
        """A note on each text that stands for a label and counts as none."""
        cells = Counter(entry.roles.get("label", "").strip() for entry in entries)
        absent = sorted((cell, count) for cell, count in cells.items() if cell and self._value(cell) is None)
        return [f"{count} labels {cell!r} were taken as absent (source.missing_values)" for cell, count in absent]

    def _listed(self, named: NamedFiles, labels: dict[str, str], subjects: dict[str, str], entry: Entry) -> Listed:
        path, missing = _file(named, entry.name)
        label = self._value(entry.roles.get("label"))
        subject = self._value(entry.roles.get("subject"))
        respelled = subject is not None and subjects[subject] != subject
        return Listed(
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
    """A row; what the file's name tells counts for roles that have no column."""
    told = Entry.of(row[columns["path"]].strip(), by_name)
    cells = {role: row[column] for role, column in columns.items()}
    rest = {column: cell for column, cell in row.items() if column not in columns.values() and cell}
    return Entry(told.name, told.roles | cells, told.extra | rest)


def refuse_labels(place: str, labels: list[str], remedy: str) -> None:
    """Raise `SourceError` when ``labels``, one a recording, are no classes of which each recording has one."""
    different = sorted(set(labels))
    numbers = all(re.fullmatch(r"[-+]?\d+([.,]\d+)?", label) for label in different)
    if len(different) > MANY_LABELS and (numbers or 2 * len(different) > len(labels)):
        raise SourceError(
            f"{len(labels)} recordings have {len(different)} different labels in {place}, such as "
            f"{', '.join(map(repr, different[:3]))}, so these are no classes: {remedy}"
        )
    joined = joined_labels(different) | {label for label in different if LIST.fullmatch(label)}
    if joined:
        raise SourceError(
            f"{sum(label in joined for label in labels)} of {len(labels)} recordings have several labels in {place}, such "
            f"as {min(joined)!r}, and can have only one: {remedy}"
        )


def joined_labels(labels: Collection[str]) -> set[str]:
    """Those of ``labels`` that are several, parted by ``;``, ``|``, ``+``, a comma, ``/``, ``&`` or ``and``.

    One part must be a label itself, or all must recur in others; with a comma and what follows it above, which may
    belong to a name, every part must be a label itself.
    """
    alone = {label.casefold() for label in labels}
    joined: set[str] = set()
    for separator in (";", r"\|", r"\+", *OF_NAMES):
        split = re.compile(separator).split
        parts = {label: {p for part in split(label.casefold()) if (p := part.strip())} for label in labels}
        counts = Counter(part for several in parts.values() for part in several)
        for label, several in parts.items():
            known = [part in alone for part in several]
            told = all(known) if separator in OF_NAMES else any(known) or all(counts[part] > 1 for part in several)
            if len(several) > 1 and told:
                joined.add(label)
    return joined


def _recording_id(name: str) -> str:
    if not name:
        return "(no path)"
    return name if is_remote(name) else posixpath.normpath(unicodedata.normalize("NFC", name.replace("\\", "/")))


def _file(named: NamedFiles, name: str) -> tuple[Path | str | None, str | None]:
    """The file that ``name`` means below the root of ``named``, or why there is none; a URI is left as it is.

    A backslash may stand for a slash. Raises `SourceError` for a URI with a password.
    """
    if not name:
        return None, "the table gives no path"
    if names_a_password(name):
        raise SourceError("a path of the table names a password: leave it out and put it in the environment")
    if is_remote(name):
        return name, None
    slashed = name.replace("\\", "/")
    try:
        for spelled in dict.fromkeys((name, slashed)):
            if (path := named.root / spelled).is_file():
                return path, None
    except OSError as error:  # a name too long for the file system, a folder that is closed to us
        return None, f"the path cannot be read: {error}"
    meant = named.meant(slashed)
    if meant:
        first, *others = meant
        told = " and ".join(str(path.relative_to(named.root)) for path in meant[:2])
        return (None, f"{name} may mean {len(meant)} files, such as {told}") if others else (first, None)
    if PureWindowsPath(name).is_absolute() and not name.startswith("/"):
        return None, f"{name} is a place on a Windows computer, while paths should begin at {named.root}"
    link = (named.root / slashed).is_symlink()
    return None, f"{named.root / slashed} is a link to nothing" if link else f"there is no file {named.root / slashed}"


def _otherwise(root: Path, entries: list[Entry], rows: list[Listed]) -> list[str]:
    """A note on the files that the table calls otherwise than they are called on the disk."""
    pairs = ((e.name, r.path) for e, r in zip(entries, rows, strict=True) if isinstance(r.path, Path))
    pairs = ((name, path) for name, path in pairs if str(path) != f"{root}/{name}")  # the quick look
    pairs = ((name, path) for name, path in pairs if plain(str(path)) != plain(f"{root}/{name}"))
    others = [(name, path) for name, path in pairs if path not in (root / name, root / name.replace("\\", "/"))]
    if not others:
        return []
    name, path = others[0]
    return [
        f"{len(others)} files were found under another name than the table's: {name} as {path.relative_to(root)}, ..."
    ]


def _spellings(labels: Iterable[str]) -> dict[str, str]:
    """Each label to the most frequent spelling, or the first sorted, of those that differ in case or ``.0`` alone."""
    counts = Counter(labels)
    best: dict[str, str] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        best.setdefault(_alike(label), label)
    return {label: best[_alike(label)] for label in counts}


def _alike(label: str) -> str:
    """What spellings of one label have in common: a spreadsheet may write 1 as 1.0."""
    return re.sub(r"^([-+]?\d+)\.0+$", r"\1", label.casefold())


def _respelled(what: str, spellings: dict[str, str]) -> list[str]:
    """A note on the spellings that gave way to another."""
    changed = ", ".join(f"{value!r} as {best!r}" for value, best in sorted(spellings.items()) if value != best)
    return (
        [f"{what} that differ only in upper and lower case, or in .0, were taken as one: {changed}"] if changed else []
    )


def _zeros(subjects: Collection[str]) -> list[str]:
    """A note on the subjects that would be one but for zeros before a number."""
    alike = defaultdict(list)
    for subject in sorted(subjects):
        alike[re.sub(r"(?<!\d)0+(?=\d)", "", subject.casefold())].append(subject)
    told = ", ".join(" and ".join(map(repr, group)) for group in alike.values() if len(group) > 1)
    return [f"Subjects that differ only in leading zeros count as different ones: {told}"] if told else []
