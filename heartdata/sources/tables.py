"""Reading a table of recordings as text, and telling which column plays which role."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from heartdata.errors import SourceError
from heartdata.settings import Settings

# What a column is called where the configuration does not say, as `normal_name` writes it.
USUAL_NAMES = {
    "path": (
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "fname",
        "wav",
        "audio",
        "audio_file",
        "audio_path",
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

# What may stand between cells, in the order of trial, and what to call it.
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab"}


class Columns(Settings):
    """Which column holds what. A null is looked for under the usual names."""

    path: str | None = None
    label: str | None = None
    subject: str | None = None
    site: str | None = None
    collection: str | None = None

    def found(self, present: list[str]) -> dict[str, str]:
        """Role to the name of its column, for the roles that can be told; the first of several counts."""
        by_name = {normal_name(name): name for name in reversed(present) if normal_name(name)}
        roles = {}
        for role, usual in USUAL_NAMES.items():
            wanted = getattr(self, role)
            names = usual if wanted is None else (normal_name(wanted),)
            name = wanted if wanted in present else next((by_name[n] for n in names if n in by_name), None)
            if name is not None:
                roles[role] = name
        return roles


def normal_name(name: str) -> str:
    """A column's name for comparison: ``Patient ID`` and ``patient-id`` are both ``patient_id``."""
    return re.sub(r"\W+", "_", name.strip().lower()).strip("_")


def read_table(path: Path, columns: Columns) -> pd.DataFrame:
    """All columns of a CSV or Parquet file as text, absent values as empty strings, without wholly empty rows.

    A CSV is separated by the first of comma, semicolon and tab that yields the path and label ``columns``, or by what
    a first line such as ``sep=;`` says. Raises `SourceError` naming the file, and the line that has too many cells.
    """
    try:
        return _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path, columns)
    except SourceError:
        raise
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text: save it as CSV UTF-8") from error
    except Exception as error:  # each parser has its own exceptions; all mean the same to the user
        raise SourceError(f"{path} cannot be read as a table ({str(error).partition(chr(10))[0]})") from error


def _parquet(path: Path) -> pd.DataFrame:
    """Whole numbers that pandas stored as floats, because some were absent, become whole again."""
    frame = pd.read_parquet(path).convert_dtypes().astype("string").fillna("")
    frame.columns = [str(name) for name in frame.columns]
    return frame[(frame != "").any(axis="columns")]


def _csv(path: Path, columns: Columns) -> pd.DataFrame:
    """Short rows are filled with empty cells. Not `pd.read_csv`: it cuts a first row that is too long."""
    text = path.read_text(encoding="utf-8-sig")
    told = re.match(r'"?sep=(.)"?(?=\n)', text, re.IGNORECASE)
    text = text[told.end() :] if told else text
    separator = told[1] if told else _separator(text, columns)
    lines = _filled_lines(text, separator, strict=True)
    _, header = next(lines, (0, []))
    rows = []
    for line, cells in lines:
        while len(cells) > len(header) and not cells[-1].strip():  # a separator at the end of the row
            cells.pop()
        if len(cells) > len(header):
            raise SourceError(
                f"{path}: line {line} has {len(cells)} cells, the header {len(header)}: put double quotes around the "
                f"cell that holds {SEPARATORS.get(separator, repr(separator))}, or remove the surplus cell"
            )
        rows.append(cells + [""] * (len(header) - len(cells)))
    return pd.DataFrame(rows, columns=_distinct(header), dtype=str)


def _separator(text: str, columns: Columns) -> str:
    """The first that yields the path and label columns, else the one that yields most columns."""
    headers = {separator: next(_filled_lines(text, separator), (0, []))[1] for separator in SEPARATORS}
    suiting = (s for s, header in headers.items() if columns.found(header).keys() >= {"path", "label"})
    return next(suiting, max(headers, key=lambda s: len(headers[s])))


def _filled_lines(text: str, separator: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each row with a cell that is not empty, and the number of the line, from 1, that it ends on."""
    rows = csv.reader(io.StringIO(text), delimiter=separator, strict=strict)
    return ((rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells))


def _distinct(header: list[str]) -> list[str]:
    """Columns without a name, and later ones of the same name, are called by their number, from 1."""
    return [
        name if name.strip() and name not in header[:i] else f"{name.strip() or 'column'}.{i + 1}"
        for i, name in enumerate(header)
    ]
