"""Anybody's recordings: a spreadsheet that names audio files and their labels."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from heartdata.errors import SourceError
from heartdata.sources.base import FolderSource, Listed, Listing, audio_files
from heartdata.sources.tables import Columns, read_table


class TableSource(FolderSource):
    """Configuration: ``data`` is a CSV or Parquet file; paths in it are relative to ``folder``."""

    preset: ClassVar[dict[str, Any]] = {}

    name: Literal["table"] = "table"
    folder: Path | None = Field(default=None, description="default: the folder that the table lies in")
    columns: Columns = Columns()
    missing_values: tuple[str, ...] = Field(
        default=("nan", "none", "null", "na", "n/a", "#n/a", "<na>", "?", "-", "unlabelled", "unlabeled"),
        description="cells of label, subject and site that count as empty, whatever their case",
    )

    def listing(self, workdir: Path) -> Listing:
        """One recording a row. A row whose file is not there is listed as missing."""
        csv, table, columns = self._read()
        root = self.folder.expanduser().resolve() if self.folder else csv.parent
        spellings = _spellings(filter(None, map(self._value, table[columns["label"]])))
        rows = [self._listed(root, columns, spellings, row) for row in table.to_dict("records")]
        return Listing(_with_unique_ids(rows), self._notes(root, columns, spellings, rows))

    def check(self) -> None:
        """Raise `SourceError` when the table cannot be read or its columns cannot be told."""
        self._read()

    def _read(self) -> tuple[Path, pd.DataFrame, dict[str, str]]:
        """The table's path, its content as text, and which column plays which role."""
        csv = self.existing("CSV or Parquet table of recordings")
        if csv.is_dir():
            raise SourceError(
                f"{csv} is a folder: give the table itself, such as {csv / 'recordings.csv'}, with --data"
            )
        table = read_table(csv, self.columns)
        if table.empty:
            raise SourceError(f"{csv} has no rows: add one row a recording")
        return csv, table, self._columns(csv, list(table.columns))

    def _columns(self, csv: Path, present: list[str]) -> dict[str, str]:
        """Role to column name; raises `SourceError` when the path, the label or a configured column is not there."""
        found = self.columns.found(present)
        for role, wanted in self.columns:
            if wanted is not None and role not in found:
                raise SourceError(f"{csv} has no column {wanted!r} for the {role}; it has: {', '.join(present)}")
            if role in ("path", "label") and role not in found:
                raise SourceError(
                    f"{csv} has no {role} column that can be told from its name; it has: {', '.join(present)}. "
                    f"Name it with --set source.columns.{role}=COLUMN"
                )
        return found

    def _value(self, cell: str) -> str | None:
        """The cell without blanks around it; None when it is empty or one of ``missing_values``."""
        value = cell.strip()
        missing = {text.strip().casefold() for text in self.missing_values}
        return None if not value or value.casefold() in missing else value

    def _listed(self, root: Path, columns: dict[str, str], spellings: dict[str, str], row: dict[str, str]) -> Listed:
        name = row[columns["path"]].strip()
        path, missing = _file(root, name)
        label = self._value(row[columns["label"]])
        return Listed(
            recording_id=name or "(no path)",
            path=path,
            label=spellings[label] if label else None,
            subject=self._value(row[columns["subject"]]) if "subject" in columns else None,
            site=self._value(row[columns["site"]]) if "site" in columns else None,
            collection=row[columns["collection"]].strip() if "collection" in columns else "",
            missing=missing,
            extra={column: value for column, value in row.items() if column not in columns.values() and value},
        )

    def _notes(self, root: Path, columns: dict[str, str], spellings: dict[str, str], rows: list[Listed]) -> list[str]:
        notes = []
        respelled = [f"{label!r} as {best!r}" for label, best in sorted(spellings.items()) if label != best]
        if respelled:
            notes.append(f"Labels that differ only in upper and lower case were taken as one: {', '.join(respelled)}")
        if "subject" not in columns:
            notes.append(
                "The table has no subject column: every recording counts as a subject of its own, so if somebody was "
                "recorded twice, scores are too high. Name the column with --set source.columns.subject=COLUMN"
            )
        named = {row.path for row in rows}
        beside = [p for p in audio_files(root) if p not in named]
        if beside:
            notes.append(
                f"{len(beside)} audio files below {root} stand in no row of the table and were left out: {beside[0].name}, ..."
            )
        return notes


def _file(root: Path, name: str) -> tuple[Path | None, str | None]:
    """The file that ``name`` means below ``root``, or why there is none. A backslash may stand for a slash."""
    if not name:
        return None, "the table gives no path"
    try:
        for path in (root / name, root / name.replace("\\", "/")):
            if path.is_file():
                return path, None
    except OSError as error:  # a name too long for the file system, a folder that is closed to us
        return None, f"the path cannot be read: {error}"
    return None, f"there is no file {root / name}"


def _spellings(labels: Iterable[str]) -> dict[str, str]:
    """Each label to the most frequent spelling, or the first sorted, of those that differ in case alone."""
    counts = Counter(labels)
    best: dict[str, str] = {}
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        best.setdefault(label.casefold(), label)
    return {label: best[label.casefold()] for label in counts}


def _with_unique_ids(rows: list[Listed]) -> list[Listed]:
    """A path that stands in several rows gets ``#2``, ``#3``: the duplicate check then judges them."""
    seen: dict[str, int] = {}
    unique = []
    for row in rows:
        count = seen[row.recording_id] = seen.get(row.recording_id, 0) + 1
        unique.append(row if count == 1 else Listed(**{**vars(row), "recording_id": f"{row.recording_id}#{count}"}))
    return unique
