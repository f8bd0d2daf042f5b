"""Reading a CSV, an Excel workbook, JSON or a Parquet file as a table of text."""

import codecs
import csv
import io
import re
import zipfile
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd

from heartdata.errors import SourceError
from heartdata.sources.table.columns import Columns
from heartdata.sources.table.json_tables import read_json
from heartdata.sources.table.parquet import PARQUET, read_parquet

UTF_8 = "utf-8"
EXCEL = (".xlsx", ".xlsm")
OTHER_BOOKS = (".xls", ".xlsb", ".ods")  # not read: a damaged one may hang the reader or crash the process
ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar")
JSON = (".jsonl", ".ndjson", ".json")
SUFFIXES = (".csv", ".tsv", *EXCEL, *PARQUET, *JSON)
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # is in a workbook that has a password

MAX_UNPACKED_MB = 500  # of a workbook

Range = tuple[tuple[int, int], tuple[int, int]]  # of merged cells: row and column, from 0, of the first and the last
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}  # in the order in which they are tried


def read_table(
    path: Path, columns: Columns, sheet: str | None, needed: Collection[str], encoding: str = UTF_8
) -> pd.DataFrame:
    """All columns of a CSV, Excel, JSON or Parquet file as text, absent values as empty strings, without empty rows.

    A CSV is separated by the first of comma, semicolon, tab and bar that yields the ``columns`` of the ``needed`` roles, or
    by what a first line such as ``sep=;`` says; its text is in ``encoding``, or in UTF-16 with a byte-order mark. Of a
    workbook, ``sheet`` is read, or the first if it has those columns, or the only one that has. Raises `SourceError`.
    """
    suffix = path.suffix.lower()
    if suffix in OTHER_BOOKS:
        raise SourceError(f"{path} is a workbook of another kind: save it as an Excel workbook (.xlsx)")
    if suffix in ARCHIVES:
        raise SourceError(
            f"{path} is an archive, which the source table does not read: unpack it and give the table or folder in it "
            "with --data; of PASCAL, CinC 2016 and CirCor, name the source with --source pascal, cinc2016 or circor2022"
        )
    if sheet is not None and suffix not in EXCEL:
        raise SourceError(f"{path} is not a workbook, so it has no sheets: leave out source.sheet={sheet}")
    try:
        if suffix in EXCEL:
            return _excel(path, columns, sheet, needed)
        if suffix in JSON:
            return read_json(str(path), path.read_text(encoding=encoding), columns)
        return read_parquet(path, columns) if suffix in PARQUET else _csv(path, columns, needed, encoding)
    except SourceError:
        raise
    except UnicodeError as error:
        raise SourceError(
            f"{path} is not {encoding.upper()} text: save it as CSV UTF-8, or name its encoding with --set "
            "source.encoding=NAME (older Excel writes cp1252 in Western Europe, cp1250 in Central Europe; UTF-16 without a "
            "byte-order mark is utf-16-le or utf-16-be)"
        ) from error
    except Exception as error:  # each parser has its own exceptions; all mean the same to the user
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{path} cannot be read as a table ({reason}): repair the file, or save it again") from error


def _excel(path: Path, columns: Columns, sheet: str | None, needed: Collection[str]) -> pd.DataFrame:
    """One sheet of a workbook; its first row that is not empty is the header."""
    book = io.BytesIO(path.read_bytes())
    if ENCRYPTED in book.getvalue():
        raise SourceError(f"{path} is protected by a password: save it without one")
    if not zipfile.is_zipfile(book):
        raise SourceError(f"{path} is damaged or another kind of file: save it as an Excel workbook (.xlsx)")
    size_mb = sum(member.file_size for member in zipfile.ZipFile(book).infolist()) / 1e6
    if size_mb > MAX_UNPACKED_MB:
        raise SourceError(
            f"{path} unpacks to {size_mb:.0f} MB, more than {MAX_UNPACKED_MB}: save the sheet of the recordings as CSV"
        )
    with pd.ExcelFile(book, engine="calamine") as opened:
        cells = pd.read_excel(opened, sheet_name=None, header=None, dtype=object, na_filter=False)
        merged = {name: opened.book.get_sheet_by_name(name).merged_cell_ranges or () for name in cells}
    sheets = {name: _sheet(frame, merged[name]) for name, frame in cells.items()}
    names = ", ".join(map(repr, sheets))
    if sheet is not None and sheet not in sheets:
        raise SourceError(f"{path} has no sheet {sheet!r}: choose among {names}")
    complete = [name for name, frame in sheets.items() if columns.resolve(list(frame.columns)).keys() >= set(needed)]
    first = next(iter(sheets))
    matching = [sheet] if sheet is not None else [first] if len(sheets) == 1 or first in complete else complete
    if len(matching) != 1:
        raise SourceError(
            f"{path} has {len(complete) or 'no'} sheets with columns for {' and '.join(sorted(needed))} of a usual name; "
            f"its sheets are {names}: choose one with --set source.sheet=NAME"
        )
    return sheets[matching[0]]


def _sheet(cells: pd.DataFrame, merged: Sequence[Range]) -> pd.DataFrame:
    rows = [[_excel_text(cell) for cell in row] for row in cells.to_numpy().tolist()]
    for (first, column), (last, _) in merged:  # not over columns: a title above several is no header
        for row in rows[first + 1 : last + 1]:
            if column < len(row) and any(cell.strip() for cell in row):
                row[column] = rows[first][column]
    header, *rows = [row for row in rows if any(cell.strip() for cell in row)] or [[]]
    return pd.DataFrame(rows, columns=_distinct(header), dtype=str)


def _excel_text(cell: object) -> str:
    """A cell as text: dates in ISO form, without the time at midnight; whole numbers without a fraction."""
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ").removesuffix(" 00:00:00")
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell)


def _csv(path: Path, columns: Columns, needed: Collection[str], encoding: str) -> pd.DataFrame:
    """Short rows are filled with empty cells. Not `pd.read_csv`, which cuts a first row that is too long."""
    with path.open("rb") as file:
        has_mark = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = path.read_text(encoding="utf-16" if has_mark else encoding).removeprefix("\ufeff")
    if text[:1000].count("\0") > len(text[:1000]) / 4:
        raise UnicodeError("UTF-16 read as another encoding")
    declared = re.match(r'"?sep=(.)"?(?=\n)', text, re.IGNORECASE)
    text = text[declared.end() :] if declared else text
    separator = declared[1] if declared else _separator(text, columns, needed)
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


def _separator(text: str, columns: Columns, needed: Collection[str]) -> str:
    """The first that yields the columns that are needed, else the one that yields most columns."""
    headers = {separator: next(_filled_lines(text, separator), (0, []))[1] for separator in SEPARATORS}
    matching = (s for s, header in headers.items() if columns.resolve(header).keys() >= set(needed))
    return next(matching, max(headers, key=lambda s: len(headers[s])))


def _filled_lines(text: str, separator: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each row with a cell that is not empty, and the number, from 1, of the line that it ends on."""
    rows = csv.reader(io.StringIO(text), delimiter=separator, strict=strict)
    return ((rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells))


def _distinct(header: list[str]) -> list[str]:
    """Column names with the number, from 1, of those that have no name or the name of an earlier one."""
    return [
        name if name.strip() and name not in header[:i] else f"{name.strip() or 'column'}.{i + 1}"
        for i, name in enumerate(header)
    ]
