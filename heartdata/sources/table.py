"""Anybody's recordings: a spreadsheet that names audio files and their labels."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from heartdata.errors import SourceError
from heartdata.settings import Settings
from heartdata.sources.base import FolderSource, Listed, Listing, audio_files

# What a column is called where the configuration does not say.
USUAL_NAMES = {
    "path": (
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "fname",
        "wav",
        "audio",
        "recording",
    ),
    "label": ("label", "class", "diagnosis", "target", "category"),
    "subject": (
        "subject",
        "subject_id",
        "patient",
        "patient_id",
        "participant",
        "participant_id",
    ),
    "site": ("site", "location", "position", "auscultation_site"),
    "collection": ("collection", "database", "dataset", "device"),
}


class Columns(Settings):
    """Which column holds what. A null is looked for under the usual names."""

    path: str | None = None
    label: str | None = None
    subject: str | None = None
    site: str | None = None
    collection: str | None = None


class TableSource(FolderSource):
    """Configuration: ``data`` is a CSV or Parquet file; paths in it are relative to ``folder``."""

    preset: ClassVar[dict[str, Any]] = {}

    name: Literal["table"] = "table"
    folder: Path | None = Field(default=None, description="default: the folder that the table lies in")
    columns: Columns = Columns()
    unlabelled: tuple[str, ...] = ("", "nan", "none", "unlabelled", "unlabeled")

    def listing(self, workdir: Path) -> Listing:
        """One recording a row. A row whose file is not there is listed as missing."""
        csv, table, columns = self._read()
        root = self.folder.expanduser().resolve() if self.folder else csv.parent
        rows = [self._listed(root, columns, row) for row in table.to_dict("records")]
        return Listing(_with_unique_ids(rows), self._notes(root, columns, rows))

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
        table = read_table(csv)
        if table.empty:
            raise SourceError(f"{csv} has no rows: add one row a recording")
        return csv, table, self._columns(csv, list(table.columns))

    def _columns(self, csv: Path, present: list[str]) -> dict[str, str]:
        """Role to column name; raises `SourceError` when the path or label column cannot be told."""
        found: dict[str, str] = {}
        for role, usual in USUAL_NAMES.items():
            wanted = getattr(self.columns, role)
            if wanted is not None and wanted not in present:
                raise SourceError(f"{csv} has no column {wanted!r} for the {role}; it has: {', '.join(present)}")
            by_name = {str(name).strip().lower(): name for name in reversed(present)}
            name = wanted or next((by_name[u] for u in usual if u in by_name), None)
            if name is not None:
                found[role] = name
            elif role in ("path", "label"):
                raise SourceError(
                    f"{csv} has no {role} column that can be told from its name; it has: {', '.join(present)}. "
                    f"Name it with --set source.columns.{role}=COLUMN"
                )
        return found

    def _listed(self, root: Path, columns: dict[str, str], row: dict[str, str]) -> Listed:
        name = row[columns["path"]].strip()
        path = root / name
        label = row[columns["label"]].strip()
        role_of = {column: role for role, column in columns.items()}
        found = bool(name) and path.is_file()
        return Listed(
            recording_id=name or "(no path)",
            path=path if found else None,
            label=None if label.lower() in self.unlabelled else label,
            subject=row[columns["subject"]].strip() or None if "subject" in columns else None,
            site=row[columns["site"]].strip() or None if "site" in columns else None,
            collection=row[columns["collection"]].strip() if "collection" in columns else "",
            missing=None if found else ("the table gives no path" if not name else f"there is no file {path}"),
            extra={column: value for column, value in row.items() if column not in role_of and value},
        )

    def _notes(self, root: Path, columns: dict[str, str], rows: list[Listed]) -> list[str]:
        notes = []
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


def read_table(path: Path) -> pd.DataFrame:
    """All columns as text, absent values as empty strings; raises `SourceError` naming the file."""
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            frame = pd.read_parquet(path).astype("string").fillna("")
        else:
            frame = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                sep=None,
                engine="python",
            )
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from error
    except Exception as error:  # each parser has its own exceptions; all mean the same to the user
        raise SourceError(f"{path} cannot be read as a table ({str(error).splitlines()[0]})") from error
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _with_unique_ids(rows: list[Listed]) -> list[Listed]:
    """A path that stands in several rows gets ``#2``, ``#3``: the duplicate check then judges them."""
    seen: dict[str, int] = {}
    unique = []
    for row in rows:
        count = seen[row.recording_id] = seen.get(row.recording_id, 0) + 1
        unique.append(row if count == 1 else Listed(**{**vars(row), "recording_id": f"{row.recording_id}#{count}"}))
    return unique
