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
from heartdata.sources.text import PATH_LENGTH, quoted, shortened

UTF_8 = "utf-8"
EXCEL = (".xlsx", ".xlsm")
OTHER_BOOKS = (".xls", ".xlsb", ".ods")  # not read: a damaged one may hang the reader or crash the process
ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar")
JSON = (".jsonl", ".ndjson", ".json")
SUFFIXES = (".csv", ".tsv", *EXCEL, *PARQUET, *JSON)

AS_TEXT = re.compile(r"""="([^"]*)"|'(\d[^']*)""")  # ="001" or '001: how spreadsheets are told that a number is text
OTHER_CONTENT = {  # the first bytes of files that are no text, and what to do
    b"PK\x03\x04": "a workbook or another archive: name it as such (.xlsx), or save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "a workbook of an older kind: save it as an Excel workbook (.xlsx)",
    b"PAR1": "a Parquet file: name it .parquet",
    b"ARROW1": "an Arrow file: save it as Parquet (in datasets, with to_parquet)",
    b"RIFF": "a recording: give a folder of recordings, or a table of them",
    b"version https://git-lfs": "a placeholder of Git LFS: fetch the file itself with git lfs pull",
    **dict.fromkeys(
        (b"<!", b"<?xml", b"<html", b"<HTML"), "a web page or XML: download the table itself, or save it as CSV UTF-8"
    ),
}
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
            f"{path} is an archive, which the source table does not read: unpack it and give the table or folder in it; "
            "of PASCAL, CinC 2016 and CirCor, name the source with --source pascal, cinc2016 or circor2022"
        )
    if sheet is not None and suffix not in EXCEL:
        raise SourceError(f"{path} is not a workbook, so it has no sheets: leave out source.sheet={sheet}")
    try:
        _refuse_other_content(path)
        if suffix in EXCEL:
            return read_workbook(path, columns, sheet, needed)
        if suffix in JSON:
            return read_json(str(path), _text(path, encoding), columns), []
        return read_parquet(path, columns) if suffix in PARQUET else _csv(path, columns, needed, encoding), []
    except SourceError:
        raise
    except UnicodeError as error:
        raise SourceError(
            f"{path} is not {encoding.upper()} text: save it as {'UTF-8' if suffix in JSON else 'CSV UTF-8'}, or name its encoding with --set "
            "source.encoding=NAME (older Excel writes cp1252 in Western Europe, cp1250 in Central Europe, cp1251 in Cyrillic, "
            "gbk in China, shift_jis in Japan; UTF-16 without a byte-order mark is utf-16-le or utf-16-be)"
        ) from error
    except Exception as error:  # each parser has its own exceptions; all mean the same to the user
        reason = shortened(str(error).partition("\n")[0], PATH_LENGTH)
        raise SourceError(f"{path} cannot be read as a table ({reason}): repair the file, or save it again") from error


def _csv(path: Path, columns: Columns, needed: Collection[str], encoding: str) -> pd.DataFrame:
    """Short rows are filled with empty cells. Not `pd.read_csv`, which cuts a first row that is too long."""
    text = _text(path, encoding)
    declared = re.match(r'"?sep=(.)"?(?=\n)', text, re.IGNORECASE)
    text = text[declared.end() :] if declared else text
    separator = declared[1] if declared else _separator(text, columns, needed)
    lines = _filled_lines(text, separator, strict=True)
    _, header = next(lines, (0, []))
    rows = []
    has_marks = '="' in text or "'" in text
    for line, cells in lines:
        while len(cells) > len(header) and not cells[-1].strip():  # a separator at the end of the row
            cells.pop()
        if len(cells) > len(header):
            if len(header) == 1:
                raise SourceError(
                    f"{path}: line {line} has {len(cells)} cells, but the first line, {quoted(header[0])}, has one, so it is "
                    "no header: remove what is above the names of the columns"
                )
            raise SourceError(
                f"{path}: line {line} has {len(cells)} cells, the header {len(header)}: put double quotes around the "
                f"cell that holds {SEPARATORS.get(separator, repr(separator))}, or remove the surplus cell"
            )
        rows.append((list(map(_unquoted, cells)) if has_marks else cells) + [""] * (len(header) - len(cells)))
    return pd.DataFrame(rows, columns=distinct(header), dtype=str)


def _text(path: Path, encoding: str) -> str:
    """What is in the file, which may be UTF-16 with a byte-order mark whatever ``encoding`` says."""
    with path.open("rb") as file:
        has_mark = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    text = path.read_text(encoding="utf-16" if has_mark else encoding).removeprefix("\ufeff")
    if text[:1000].count("\0") > len(text[:1000]) / 4:
        raise UnicodeError("UTF-16 read as another encoding")
    return text


def _refuse_other_content(path: Path) -> None:
    """Raise `SourceError` where a file that is text by its name holds something else."""
    if path.suffix.lower() in (*EXCEL, *PARQUET):
        return
    with path.open("rb") as file:
        head = file.read(1000).removeprefix(codecs.BOM_UTF8).lstrip()
    for magic, remedy in OTHER_CONTENT.items():
        if head.startswith(magic):
            raise SourceError(f"{path} is {remedy}")
    places = {place % 2 for place, byte in enumerate(head) if byte == 0}
    if len(places) == 2:  # in UTF-16, every second byte at most
        raise SourceError(f"{path} is no text: save the table as CSV UTF-8, an Excel workbook, JSON or Parquet")


def _unquoted(cell: str) -> str:
    """A cell without what tells a spreadsheet that it is text."""
    match = AS_TEXT.fullmatch(cell.strip())
    return (match[1] or match[2] or "") if match else cell


def _separator(text: str, columns: Columns, needed: Collection[str]) -> str:
    """The first that yields the columns that are needed, else the one that yields most columns."""
    headers = {separator: next(_filled_lines(text, separator), (0, []))[1] for separator in SEPARATORS}
    matching = (s for s, header in headers.items() if columns.resolve(header).keys() >= set(needed))
    return next(matching, max(headers, key=lambda s: len(headers[s])))


def _filled_lines(text: str, separator: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Each row with a cell that is not empty, and the number, from 1, of the line that it ends on."""
    rows = csv.reader(io.StringIO(text), delimiter=separator, strict=strict)
    return ((rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells))
