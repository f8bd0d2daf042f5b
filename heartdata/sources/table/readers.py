"""Reading a CSV, an Excel workbook, JSON or a Parquet file as a table of text."""

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pandas as pd

from heartdata.errors import SourceError
from heartdata.sources.table.columns import Columns, distinct
from heartdata.sources.table.json_tables import read_json
from heartdata.sources.table.parquet import PARQUET, read_parquet
from heartdata.sources.table.workbook import read_workbook
from heartdata.sources.text import PATH_LENGTH, shortened

UTF_8 = "utf-8"
EXCEL = (".xlsx", ".xlsm")
OTHER_BOOKS = (".xls", ".xlsb", ".ods")  # not read: a damaged one may hang the reader or crash the process
ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar")
JSON = (".jsonl", ".ndjson", ".json")
SUFFIXES = (".csv", ".tsv", *EXCEL, *PARQUET, *JSON)

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}  # in the order in which they are tried


def read_table(
    path: Path, columns: Columns, sheet: str | None, needed: Collection[str], encoding: str = UTF_8
) -> tuple[pd.DataFrame, list[str]]:
    """All columns of a CSV, Excel, JSON or Parquet file as text, absent values as empty strings, without empty rows; and
    notes.

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
            return read_workbook(path, columns, sheet, needed)
        if suffix in JSON:
            return read_json(str(path), path.read_text(encoding=encoding), columns), []
        return read_parquet(path, columns) if suffix in PARQUET else _csv(path, columns, needed, encoding), []
    except SourceError:
        raise
    except UnicodeError as error:
        raise SourceError(
            f"{path} is not {encoding.upper()} text: save it as CSV UTF-8, or name its encoding with --set "
            "source.encoding=NAME (older Excel writes cp1252 in Western Europe, cp1250 in Central Europe; UTF-16 without a "
            "byte-order mark is utf-16-le or utf-16-be)"
        ) from error
    except Exception as error:  # each parser has its own exceptions; all mean the same to the user
        reason = shortened(str(error).partition("\n")[0], PATH_LENGTH)
        raise SourceError(f"{path} cannot be read as a table ({reason}): repair the file, or save it again") from error


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
    return pd.DataFrame(rows, columns=distinct(header), dtype=str)


def _separator(text: str, columns: Columns, needed: Collection[str]) -> str:
    """The first that yields the columns that are needed, else the one that yields most columns."""
    headers = {separator: next(_filled_lines(text, separator), (0, []))[1] for separator in SEPARATORS}
    matching = (s for s, header in headers.items() if columns.resolve(header).keys() >= set(needed))
    return next(matching, max(headers, key=lambda s: len(headers[s])))


def _filled_lines(text: str, separator: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each row with a cell that is not empty, and the number, from 1, of the line that it ends on."""
    rows = csv.reader(io.StringIO(text), delimiter=separator, strict=strict)
    return ((rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells))
