"""Reading a sheet of an Excel workbook as a table of text."""

import io
import posixpath
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from heartdata.errors import SourceError
from heartdata.sources.table.columns import Columns, distinct
from heartdata.sources.text import enumerated, quoted

ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # is in a workbook that has a password
MAX_UNPACKED_MB = 500
EXACT = 1e15  # whole numbers from here on have more digits than Excel keeps

Range = tuple[tuple[int, int], tuple[int, int]]  # of merged cells: row and column, from 0, of the first and the last


def read_workbook(
    path: Path, columns: Columns, sheet: str | None, needed: Collection[str]
) -> tuple[pd.DataFrame, list[str]]:
    """One sheet of a workbook, whose first row that is not empty is the header, and a note on sheets with the same roles.

    ``sheet``, or the first if it has columns of the ``needed`` roles, or the only one that has. Raises `SourceError`.
    """
    book = io.BytesIO(path.read_bytes())
    if ENCRYPTED in book.getvalue():
        raise SourceError(f"{path} is protected by a password: save it without one")
    if not zipfile.is_zipfile(book):
        raise SourceError(f"{path} is damaged or another kind of file: save it as an Excel workbook (.xlsx)")
    archive = zipfile.ZipFile(book)
    size_mb = sum(member.file_size for member in archive.infolist()) / 1e6
    if size_mb > MAX_UNPACKED_MB:
        raise SourceError(
            f"{path} unpacks to {size_mb:.0f} MB, more than {MAX_UNPACKED_MB}: save the sheet of the recordings as CSV"
        )
    with pd.ExcelFile(book, engine="calamine") as opened:
        cells = pd.read_excel(opened, sheet_name=None, header=None, dtype=object, na_filter=False)
        merged = {name: opened.book.get_sheet_by_name(name).merged_cell_ranges or () for name in cells}
    sheets = {name: _sheet(frame, merged[name]) for name, frame in cells.items()}
    names = enumerated(list(map(quoted, sheets)))
    if sheet is not None and sheet not in sheets:
        raise SourceError(f"{path} has no sheet {quoted(sheet)}: choose among {names}")
    complete = [name for name, frame in sheets.items() if columns.resolve(list(frame.columns)).keys() >= set(needed)]
    first = next(iter(sheets))
    matching = [sheet] if sheet is not None else [first] if len(sheets) == 1 or first in complete else complete
    if len(matching) != 1:
        raise SourceError(
            f"{path} has {len(complete) or 'no'} sheets with columns for {' and '.join(sorted(needed))} of a usual name; "
            f"its sheets are {names}: choose one with --set source.sheet=NAME"
        )
    (chosen,) = matching
    table = sheets[chosen]
    _refuse_formulas(path, chosen, columns, table, archive)
    if sheet is not None or len(complete) < 2:
        return table, []
    others = enumerated([quoted(name) for name in complete if name != chosen])
    return table, [
        f"Of the sheets of {path.name} only {quoted(chosen)} was read, while {others} could be, too: choose one with "
        "--set source.sheet=NAME, or put all rows into one"
    ]


def _sheet(cells: pd.DataFrame, merged: Sequence[Range]) -> pd.DataFrame:
    rows = [[_text(cell) for cell in row] for row in cells.to_numpy().tolist()]
    for (first, column), (last, _) in merged:  # not over columns: a title above several is no header
        for row in rows[first + 1 : last + 1]:
            if column < len(row) and any(cell.strip() for cell in row):
                row[column] = rows[first][column]
    header, *rows = [row for row in rows if any(cell.strip() for cell in row)] or [[]]
    return pd.DataFrame(rows, columns=distinct(header), dtype=str)


def _text(cell: object) -> str:
    """A cell as text: dates in ISO form, without the time at midnight; whole numbers without a fraction, but those that
    Excel has rounded with an exponent.
    """
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ").removesuffix(" 00:00:00")
    if isinstance(cell, int | float) and abs(cell) >= EXACT:
        return f"{cell:.14E}"
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell)


def _refuse_formulas(path: Path, sheet: str, columns: Columns, table: pd.DataFrame, archive: zipfile.ZipFile) -> None:
    """Raise `SourceError` where cells of a role are formulas without a value, as programs other than Excel write them."""
    roles = columns.resolve(list(table.columns))
    if not any((table[column] == "").any() for column in roles.values()):
        return
    counts = _formulas_without_value(archive, sheet)
    for role, column in roles.items():
        if count := counts[list(table.columns).index(column)]:
            raise SourceError(
                f"{count} cells of the column {quoted(column)} ({role}) of {path} are formulas without a value: open the "
                "workbook in Excel or LibreOffice and save it, or write the values instead of formulas"
            )


def _formulas_without_value(archive: zipfile.ZipFile, sheet: str) -> Counter[int]:
    """How many cells of each column, from 0, are formulas that were never calculated."""
    counts: Counter[int] = Counter()
    try:
        book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
        relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    except KeyError:  # parts of other names are allowed, but written by hardly any program
        return counts
    (named,) = (e for e in book.iter() if e.tag.endswith("}sheet") and e.get("name") == sheet)
    number = next(value for key, value in named.items() if key.endswith("}id"))
    target = next(e.get("Target", "") for e in relations if e.get("Id") == number)
    with archive.open(posixpath.join("xl", target).lstrip("/")) as file:
        column = -1
        for _, element in ElementTree.iterparse(file):
            tag = element.tag.rpartition("}")[2]
            if tag == "row":
                column = -1
                element.clear()
            if tag != "c":
                continue
            column = _column(element.get("r")) if element.get("r") else column + 1
            parts = {part.tag.rpartition("}")[2]: part.text for part in element}
            if "f" in parts and not parts.get("v") and element.get("t") != "str":  # a text may be empty
                counts[column] += 1
    return counts


def _column(reference: str | None) -> int:
    """The number, from 0, of the column of a cell such as AB12."""
    number = 0
    for letter in re.sub(r"\d+", "", reference or "").upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1
