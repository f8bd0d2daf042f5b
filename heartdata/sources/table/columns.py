"""Reading a table of recordings as text, and finding which column has which role."""

import codecs
import csv
import io
import re
import unicodedata
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from heartdata.errors import SourceError
from heartdata.settings import Settings
from heartdata.sources.table.merged_cells import Range, fill_merged

UTF_8 = "utf-8"

# Usual names of the columns, as `normal_name` writes them.
USUAL_NAMES = {
    "path": (
        "path", "file", "filename", "filepath", "fname", "wav", "wavfile", "wavpath", "audio", "audiofile",
        "audiopath", "recording", "recordingname", "recordingid", "record", "recordname", "recordid",
    ),
    "label": ("label", "labels", "class", "diagnosis", "target", "category"),
    "subject": (
        "subject", "subjectid", "subjectno", "subjectnumber", "patient", "patientid", "patientno",
        "patientnumber", "patientcode", "patid", "pid", "mrn", "caseid", "caseno", "childid", "participant",
        "participantid", "participantcode", "volunteerid",
    ),
    "site": ("site", "location", "position", "auscultationsite"),
    "collection": ("collection", "database", "dataset", "device"),
}  # fmt: skip

# Names of columns that identify persons, in words: `patients`, `subjectcode`, `case id anonymised`.
_IDENTIFIER = r"(u?u?ids?|no|nr|num|number|code|name|key|hash)"
_QUALIFIER = rf"({_IDENTIFIER}|identifier|index|study|the|of|(anonym|pseudonym)(ous|i[sz]ed)?)"
_PERSON = rf"(subject|patient|participant|person|individual|volunteer|proband|case)s?{_IDENTIFIER}?"
PERSON_COLUMN = re.compile(rf"({_QUALIFIER} )*{_PERSON}( ({_PERSON}|{_QUALIFIER}))*")

ROLES = ("label", "subject", "site", "collection")  # what is known of a recording beside its path
PARQUET = (".parquet", ".pq")
EXCEL = (".xlsx", ".xlsm")
OTHER_BOOKS = (".xls", ".xlsb", ".ods")  # not read: a damaged one may hang the reader or crash the process
ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar")
SUFFIXES = (".csv", ".tsv", *EXCEL, *PARQUET)
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")  # is in a workbook that has a password

MAX_UNPACKED_MB = 500  # of a workbook
MAX_ROWS = 20_000_000  # of Parquet

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}  # in the order in which they are tried


@dataclass(frozen=True)
class Entry:
    """One recording: its path as the source writes it, the cell of each known role, and all other cells."""

    name: str
    roles: dict[str, str]
    extra: dict[str, str]

    @classmethod
    def of(cls, name: str, cells: dict[str, str]) -> "Entry":
        """``cells`` by role or other name; empty ones without a role are left out."""
        roles = {key: cell for key, cell in cells.items() if key in ROLES}
        return cls(name, roles, {key: cell for key, cell in cells.items() if key not in ROLES and cell})


class Columns(Settings):
    """Which column has which role. Null: the one with a usual name; an empty text: none."""

    path: str | None = None
    label: str | None = None
    subject: str | None = None
    site: str | None = None
    collection: str | None = None

    def resolve(self, present: list[str]) -> dict[str, str]:
        """Role to the name of its column, for the roles that have one; the first of several counts."""
        by_name = {normal_name(name): name for name in reversed(present) if normal_name(name)}
        roles = {}
        for role, usual in USUAL_NAMES.items():
            wanted = getattr(self, role)
            names = [normal_name(wanted)] if wanted else usual if wanted is None else []
            column = wanted if wanted in present else next((by_name[name] for name in names if name in by_name), None)
            if column:
                roles[role] = column
        return roles


def normal_name(name: str) -> str:
    """A column's name for comparison: ``Patient ID``, ``patient_id`` and ``PatientID`` are all ``patientid``."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", name).lower())


def plain(cell: str) -> str:
    """A cell in one form: accents composed (Unicode NFC), single blanks, none around it."""
    return " ".join(unicodedata.normalize("NFC", cell).split())


def folded(text: str) -> str:
    """What upper and lower case, and composed and decomposed accents, have in common."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def other_label_columns(columns: dict[str, str], table: pd.DataFrame) -> list[str]:
    """A note when further columns have usual names of a label."""
    usual = [name for name in table.columns if normal_name(name) in USUAL_NAMES["label"]]
    others = ", ".join(repr(name) for name in usual if name not in columns.values())
    note = "The label was taken from the column {!r}; if {} holds it, say so with --set source.columns.label=COLUMN"
    return [note.format(columns["label"], others)] if others and "label" in columns else []


def possible_subjects(columns: dict[str, str], table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Columns without a role that may identify subjects, by their name (`subject_code`, `PatientName`) and by their values.

    By name: with some value in several rows. By values: more than ten, which on average are in two rows or more.
    """
    by_name, by_values = [], []
    for name in table.columns.difference(columns.values(), sort=False):
        cells = table[name][table[name].str.strip() != ""]
        different = cells.nunique()
        words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
        if 1 < different < len(cells) and PERSON_COLUMN.fullmatch(" ".join(words).lower()):
            by_name.append(name)
        if different > 10 and len(cells) >= 2 * different:
            by_values.append(name)
    return by_name, by_values


def binary_columns(table: pd.DataFrame) -> list[str]:
    """The columns whose cells are 0 and 1, or false and true, or empty."""
    pairs = ({"0", "1"}, {"0.0", "1.0"}, {"false", "true"})
    return [name for name in table.columns if {cell.strip().casefold() for cell in table[name]} - {""} in pairs]


def read_table(
    path: Path, columns: Columns, sheet: str | None, needed: Collection[str], encoding: str = UTF_8
) -> pd.DataFrame:
    """All columns of a CSV, Excel or Parquet file as text, absent values as empty strings, without empty rows.

    A CSV is separated by the first of comma, semicolon, tab and bar that yields the ``columns`` of the ``needed`` roles, or
    by what a first line such as ``sep=;`` says; its text is in ``encoding``, or in UTF-16 with a byte-order mark. Of a
    workbook, ``sheet`` is read, or the first, or else the only one with those columns. Raises `SourceError`.
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
        raise SourceError(f"{path} has no sheets: leave out source.sheet={sheet}")
    try:
        if suffix in EXCEL:
            return _excel(path, columns, sheet, needed)
        return _parquet(path) if suffix in PARQUET else _csv(path, columns, needed, encoding)
    except SourceError:
        raise
    except UnicodeError as error:
        raise SourceError(
            f"{path} is not {encoding.upper()} text: save it as CSV UTF-8, or name its encoding with --set "
            "source.encoding=NAME (older Excel writes cp1252 in Western Europe, cp1250 in Central Europe; UTF-16 without a "
            "byte-order mark is utf-16-le or utf-16-be)"
        ) from error
    except Exception as error:  # each parser has its own exceptions; all mean the same to the user
        raise SourceError(f"{path} cannot be read as a table ({str(error).partition(chr(10))[0]})") from error


def _parquet(path: Path) -> pd.DataFrame:
    """Whole numbers that pandas stored as floats, because some were absent, become whole again; a named index is a
    column, and of lists of one value each the values count. Raises `SourceError` naming a column of bytes.
    """
    count = pq.read_metadata(path).num_rows
    if count > MAX_ROWS:
        raise SourceError(f"{path} has {count} rows, more than {MAX_ROWS}: a table needs one row a recording")
    frame = pd.read_parquet(path)
    frame = frame.reset_index([name for name in frame.index.names if name is not None and name not in frame.columns])
    frame.columns = [str(name) for name in frame.columns]
    frame = frame.apply(_without_lists).convert_dtypes()
    for name, cells in frame.select_dtypes("object").items():
        if any(isinstance(cell, bytes) for cell in cells):
            raise SourceError(f"{path} holds bytes in the column {name!r}: write it as text, or leave the column out")
    frame = frame.astype("string").fillna("")
    return frame[(frame != "").any(axis="columns")]


def _without_lists(cells: pd.Series) -> pd.Series:
    """The value of each list, where every cell is absent or a list of one."""
    lists = cells.dropna().map(lambda cell: isinstance(cell, np.ndarray) and len(cell) == 1)
    return cells.map(lambda values: values[0], na_action="ignore") if len(lists) and lists.all() else cells


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
        raise SourceError(f"{path} has no sheet {sheet!r}; it has: {names}")
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
    fill_merged(rows, merged)
    header, *rows = [row for row in rows if any(cell.strip() for cell in row)] or [[]]
    return pd.DataFrame(rows, columns=_distinct(header), dtype=str)


def _excel_text(cell: object) -> str:
    """Dates are ISO, without the time when it is midnight; numbers are whole where they can be."""
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ").removesuffix(" 00:00:00")
    return str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell)


def _csv(path: Path, columns: Columns, needed: Collection[str], encoding: str) -> pd.DataFrame:
    """Short rows are filled with empty cells. Not `pd.read_csv`: it cuts a first row that is too long."""
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
    """Each row with a cell that is not empty, and the number of the line, from 1, that it ends on."""
    rows = csv.reader(io.StringIO(text), delimiter=separator, strict=strict)
    return ((rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells))


def _distinct(header: list[str]) -> list[str]:
    """Columns without a name, and later ones of the same name, are called by their number, from 1."""
    return [
        name if name.strip() and name not in header[:i] else f"{name.strip() or 'column'}.{i + 1}"
        for i, name in enumerate(header)
    ]
