"""A table of audio files and their labels, or a folder whose sub-folders or file names hold the labels."""

import codecs
import json
import os
import posixpath
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field, ValidationInfo, field_validator

from heartdata.errors import SourceError
from heartdata.sources.base import FolderSource, SourceListing, SourceRecording
from heartdata.sources.labels import LabelNames
from heartdata.sources.table.cells import cleaned_cells, common_spellings, refuse_labels, relabelled, respelled
from heartdata.sources.table.columns import Columns, Entry, find_columns, other_columns
from heartdata.sources.table.file_lookup import (
    FileLookup,
    Match,
    found_notes,
    lookup_beside,
    unlisted_notes,
    without_scheme,
)
from heartdata.sources.table.folder import (
    FOLDERS_HINT,
    SUBJECTS_HINT,
    checked_pattern,
    pattern_groups,
    read_folder,
    read_names,
)
from heartdata.sources.table.misreadings import misreadings
from heartdata.sources.table.parquet import audio_tables
from heartdata.sources.table.readers import SUFFIXES, UTF_8, read_table
from heartdata.sources.table.shards import read_shards, unpacked_audio
from heartdata.sources.table.subjects import ALONE, empty_subjects, leading_zeros, without_subjects
from heartdata.sources.table.targets import LABEL, with_target
from heartdata.sources.table.wide import FILE_COLUMN, melted
from heartdata.sources.text import PATH_LENGTH, clean_cell, quoted, shortened, visible
from heartdata.storage.remote import is_remote
from heartdata.storage.schemas import SUBJECT_AS_WRITTEN

NAME_LABEL = (
    "name a column that holds one target, such as yes or no for one finding, with --set source.columns.label=COLUMN"
)
CHOOSE_PATH = "to read one of these columns instead, name it with --set source.columns.path=COLUMN"
ROOT = "folder that the table's paths are relative to"
PATTERN_LABEL = "the group label of source.pattern"
AMBIGUOUS = "none"  # of the default missing values, the one that may also be a class
MANY_AMBIGUOUS = 0.05  # the share of recordings with that label above which the user is asked
LONG_PATH = 255  # characters; longer ones are mostly other text
LINK_ROWS = 100  # of a table that is a link, whose cells are looked up in both folders


class TableSource(FolderSource):
    """Settings: ``data`` is a CSV, Excel, JSON or Parquet file with paths relative to ``folder``, a folder of recordings
    labelled by the names of its sub-folders or by ``pattern``, or one of Parquet files that hold the audio.
    """

    preset: ClassVar[dict[str, Any]] = {}
    needs_labels: ClassVar[bool] = True
    data_option: ClassVar[str] = "--data"  # what gives ``data``, for messages

    name: Literal["table"] = "table"
    folder: Path | None = Field(
        default=None, description="the folder that the table's paths are relative to; null: the table's own"
    )
    encoding: str = Field(
        default=UTF_8,
        exclude_if=lambda encoding: encoding == UTF_8,  # left out of the digest, so old cache keys stay valid
        description="the text encoding of a CSV file, such as cp1252 for older Excel",
    )
    sheet: str | None = Field(
        default=None,
        description="the sheet of a workbook; null: the first, or the only one with path and label columns",
    )
    pattern: str | None = Field(
        default=None, description="a regular expression for paths whose groups are roles, such as (?P<label>[^/]+)/.*"
    )
    columns: Columns = Columns()
    labels: LabelNames = Field(
        default={},
        exclude_if=lambda labels: not labels,  # as is the encoding
        description="other names of labels, such as {0: normal, 1: murmur}; null: unlabelled",
    )
    target: str | tuple[str, ...] | None = Field(
        default=None,
        exclude_if=lambda target: target is None,  # as is the encoding
        description="a column of zeros and ones, as a label against the rest; several such columns or argmax (all of them): "
        "the largest is the label; null: the column of labels",
    )
    missing_values: tuple[str, ...] = Field(
        default=("nan", "none", "null", "na", "n/a", "#n/a", "<na>", "?", "-", "unlabelled", "unlabeled"),
        description="texts of a label, subject or site that count as empty, in any letter case",
    )

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, encoding: str) -> str:
        try:
            "".encode(encoding)  # base64 and the like are codecs, too, but not of text
            return codecs.lookup(encoding).name
        except LookupError as error:
            raise ValueError(
                "no such encoding: use utf-8, cp1252, latin-1, cp1250 or shift_jis, for example"
            ) from error

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None, info: ValidationInfo) -> str | None:
        is_table = info.data.get("data", Path()).suffix.lower() in (*SUFFIXES, ".txt")
        return None if pattern is None else checked_pattern(pattern, needs_label=not is_table)

    def listing(self, workdir: Path) -> SourceListing:
        """One recording for each row, or file of the folder. A row whose file does not exist is listed as missing."""
        lookup, entries, notes = self._read(workdir)
        found = lookup.find_all(entry.name for entry in entries if entry.path is None)
        labels = common_spellings(self._values("label", entries))
        subjects = common_spellings(self._values("subject", entries))
        rows = [
            self._recording(found[entry.name] if entry.path is None else Match(entry.path), labels, subjects, entry)
            for entry in entries
        ]
        notes = [*respelled("Labels", labels), *respelled("Subjects", subjects), *notes]
        notes += [
            *leading_zeros(set(subjects.values())),
            *self._absent(entries),
            *cleaned_cells(lookup.root, entries, rows),
            *found_notes(lookup, found),
        ]
        listed = [row.path for row in rows if isinstance(row.path, Path)]
        cells = (item for entry in entries for item in entry.extra.items() if item[0] != FILE_COLUMN)
        remedy = "leave source.columns.path out to read all" if self.columns.path else CHOOSE_PATH
        notes += unlisted_notes(lookup, listed, cells, remedy)
        notes += lookup.files.left_out(companions=False, read=set(listed))
        return SourceListing(_with_unique_ids(rows), notes)

    def check(self) -> None:
        """Raise `SourceError` when the table or folder cannot be read or does not give each recording one label."""
        self._read()

    def _data(self) -> Path:
        """The file or folder, links resolved, except that of a table: paths may be relative to the link."""
        path = Path(os.path.abspath(os.path.expanduser(self.data)))  # noqa: PTH100, PTH111 (resolve follows the link)
        is_link = path.is_symlink() and path.is_file()
        return path if is_link else self.existing("table or folder of recordings", self.data_option)

    def _read(self, workdir: Path | None = None) -> tuple[FileLookup, list[Entry], list[str]]:
        """The files that paths may mean, an entry for each recording, and notes. Audio in a table is unpacked, if there is
        a ``workdir``.
        """
        data = self._data()
        shards = audio_tables(data) if data.is_dir() else [data]
        lookup, entries, notes = self._read_table(data, shards, workdir) if shards else self._read_folder(data)
        count = sum(clean_cell(entry.roles.get("label", "")).casefold() == AMBIGUOUS for entry in entries)
        is_default = self.missing_values == type(self).model_fields["missing_values"].default
        if self.needs_labels and is_default and count > MANY_AMBIGUOUS * len(entries):
            others = [value for value in self.missing_values if value != AMBIGUOUS]
            raise SourceError(
                f"{count} of {len(entries)} recordings have the label {AMBIGUOUS!r}, which may be a class or mean that "
                f"there is no label: choose --set 'source.missing_values={json.dumps(others)}' to make it a class, or --set "
                f"'source.missing_values={json.dumps([AMBIGUOUS, *others])}' to leave these recordings unlabelled"
            )
        return lookup, entries, notes

    def _read_folder(self, root: Path) -> tuple[FileLookup, list[Entry], list[str]]:
        if self.folder or self.sheet or self.target or self.columns != Columns():
            raise SourceError(
                f"{root} is a folder: give the table itself with --data, or leave out source.folder, source.sheet, "
                "source.target and source.columns, which are for tables"
            )
        entries, notes = read_folder(root, self.pattern)
        entries = relabelled(entries, self.labels)
        place = PATTERN_LABEL if self.pattern else f"the names of the sub-folders of {root}"
        refuse_labels(place, self._values("label", entries), "correct it, or give a table")
        if "subject" not in pattern_groups(self.pattern):
            hint = SUBJECTS_HINT if self.pattern else FOLDERS_HINT
            notes.append(f"The subjects of the recordings are unknown: {ALONE}. {hint}")
        return FileLookup(root, []), entries, notes

    def _read_table(
        self, path: Path, shards: list[Path], workdir: Path | None
    ) -> tuple[FileLookup, list[Entry], list[str]]:
        """The table ``path``, or the ``shards`` in that folder."""
        needed = {"path", *(["label"] if self.needs_labels and not self.target else [])} - pattern_groups(self.pattern)
        read = partial(read_table, columns=self.columns, sheet=self.sheet, needed=needed, encoding=self.encoding)
        table, audio, notes = read_shards(path, shards, self.columns, read, workdir)
        configured = self.columns.model_copy(update={"path": audio}) if audio else self.columns
        if table.empty:
            raise SourceError(f"{path} has no rows: add one row per recording")
        if audio:
            lookup = FileLookup(unpacked_audio(workdir or path), [])
        elif self.folder:
            lookup = FileLookup(self.model_copy(update={"data": self.folder}).existing(ROOT, "source.folder"))
        else:
            lookup, more = lookup_beside(path, table.head(LINK_ROWS).to_numpy().ravel())
            notes += more
        if self.target and self.columns.label:
            raise SourceError(
                "source.target and source.columns.label both say what the label is: leave one of them out"
            )
        if self.target:
            roles = configured.resolve(list(table.columns)).values()
            table, more = with_target(path, table, self.target, roles, self._value)
            configured = configured.model_copy(update={"label": LABEL})
            notes += more
        header = [name for name in table.columns if name != LABEL]
        table, more = melted(path, table, lookup, configured, self._value)
        columns = find_columns(path, table, configured, needed, header)
        notes += [*more, *misreadings(path, columns, table, configured), *other_columns(columns, table, configured)]
        table[columns["path"]] = table[columns["path"]].map(without_scheme)
        by_name: Sequence[dict[str, str]] = []
        if self.pattern:
            by_name, unmatched = read_names(self.pattern, list(table[columns["path"]]))
            notes += unmatched
        entries = _entries(columns, table, by_name)
        entries = relabelled(entries, self.labels)
        place = f"the column {quoted(columns['label'])} of {path}" if "label" in columns else PATTERN_LABEL
        if self.needs_labels:
            refuse_labels(place, self._values("label", entries), NAME_LABEL)
        if "subject" in columns:
            cells = list(table[columns["subject"]])
            notes += empty_subjects(path, columns["subject"], cells, [self._value(cell) for cell in cells])
        elif self.needs_labels and "subject" not in pattern_groups(self.pattern):
            notes.append(without_subjects(path, columns, table, is_denied=self.columns.subject is not None))
        return lookup, entries, notes

    def _value(self, cell: str | None) -> str | None:
        """The cell as `clean_cell` writes it; None when it is empty or one of ``missing_values``."""
        return _present(cell, self.missing_values) if cell else None

    def _values(self, role: str, entries: list[Entry]) -> list[str]:
        """The label, subject or site of each recording that has one."""
        return [value for entry in entries if (value := self._value(entry.roles.get(role)))]

    def _absent(self, entries: list[Entry]) -> list[str]:
        """A note on each text in place of a label that counts as none."""
        cells = Counter(entry.roles.get("label", "").strip() for entry in entries)
        absent = sorted((cell, count) for cell, count in cells.items() if cell and self._value(cell) is None)
        return [f"{count} labels {quoted(cell)} were taken as absent (source.missing_values)" for cell, count in absent]

    def _recording(
        self, match: Match, labels: dict[str, str], subjects: dict[str, str], entry: Entry
    ) -> SourceRecording:
        label = self._value(entry.roles.get("label"))
        subject = self._value(entry.roles.get("subject"))
        is_respelled = subject is not None and subjects[subject] != subject
        return SourceRecording(
            recording_id=_recording_id(entry.name),
            path=match.path,
            label=labels[label] if label else None,
            subject=subjects[subject] if subject else None,
            site=self._value(entry.roles.get("site")),
            collection=clean_cell(entry.roles.get("collection", "")),
            missing=match.missing and shortened(match.missing, 2 * PATH_LENGTH),
            extra={**entry.extra, SUBJECT_AS_WRITTEN: subject} if is_respelled else dict(entry.extra),
        )


@lru_cache(maxsize=2**16)
def _present(cell: str, missing_values: tuple[str, ...]) -> str | None:
    value = clean_cell(cell)
    return None if not value or value.casefold() in _folded(missing_values) else value


@lru_cache(maxsize=8)
def _folded(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(text.strip().casefold() for text in texts)


def _entries(columns: dict[str, str], table: pd.DataFrame, by_name: Sequence[dict[str, str]]) -> list[Entry]:
    """The rows, with the roles that a file's name holds (``by_name``) where the table has no column."""
    cells = {name: table[name].to_numpy(object) for name in table.columns}  # which Arrow's arrays are slow to loop over
    names = [cell.strip() for cell in cells[columns["path"]]]
    by_name = by_name or [{}] * len(names)
    entries = [Entry.of(name, texts) for name, texts in zip(names, by_name, strict=True)]
    for role, column in columns.items():
        for entry, cell in zip(entries, cells[column], strict=True):
            entry.roles[role] = cell
    for column in table.columns.difference(columns.values(), sort=False):
        for entry, cell in zip(entries, cells[column], strict=True):
            if cell:
                entry.extra[column] = cell
    return entries


def _recording_id(name: str) -> str:
    if not name:
        return "(no path)"
    if is_remote(name):
        return name
    path = posixpath.normpath(visible(name).replace("\\", "/"))
    return path if len(path) <= LONG_PATH else shortened(path, PATH_LENGTH)


def _with_unique_ids(rows: Sequence[SourceRecording]) -> list[SourceRecording]:
    """``rows`` with ``#2``, ``#3`` added to repeated ids, numbered by the rows' content, not by their order."""
    same: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        same[row.recording_id].append(i)
    unique = list(rows)
    for recording_id, places in same.items():
        if len(places) == 1:
            continue
        for number, i in enumerate(sorted(places, key=lambda i: _content(rows[i]))[1:], 2):
            unique[i] = replace(rows[i], recording_id=f"{recording_id}#{number}")
    return unique


def _content(row: SourceRecording) -> str:
    return repr((row.label, row.subject, row.site, row.collection, sorted(row.extra.items()), str(row.path)))
