"""Tables that would be misread: two columns of one name, ids that a spreadsheet rounded, rows that are segments."""

import re
from pathlib import Path

import pandas as pd

from heartdata.errors import SourceError
from heartdata.sources.table.columns import Columns, normal_name
from heartdata.sources.text import clean_cell, enumerated, quoted, shortened

IDENTIFYING = ("path", "subject", "collection")  # roles whose values no two things may share
ROUNDED = re.compile(r"[-+]?\d+([.,]\d+)?[eE]\+\d+")  # 1.30678E+12, as Excel, LibreOffice and pandas write
ERROR = re.compile(r"#(REF|NAME|VALUE|DIV/0|NUM|NULL|SPILL|CALC|ERROR)[!?]|#{3,}|Err:\d+")
FEW = 3  # recordings in several rows, below which nothing is said of the table
EXACT_DIGITS = 15  # that a spreadsheet keeps of a number; it writes zeros for the others

_TIME = r"(timestamp|time|sample|samples|frame|frames|index|idx|pos|position)?(in)?(s|sec|secs|second|seconds|ms|msec)?"
_OF = r"(segment|seg|event|cycle|beat|interval|window|chunk|clip|crop|time|t|sample|frame|audio)?"
START = re.compile(rf"{_OF}(start|begin|beginning|onset|from){_TIME}|startoffset|tmin|t0")
END = re.compile(rf"{_OF}(end|stop|offset|finish|to|duration|length){_TIME}|endoffset|tmax|t1")
TIME = re.compile(r"-?(\d+:){0,2}\d+([.,]\d+)?([eE][-+]?\d+)? ?(s|sec|ms)?")  # 12.5, 00:12.5 or 12.5 s


def misreadings(path: Path, columns: dict[str, str], table: pd.DataFrame, configured: Columns) -> list[str]:
    """Notes on what may be misread in a table with these ``columns`` (role to name); raises `SourceError` where it is."""
    _refuse_errors(path, columns, table)
    _refuse_rounded(path, columns, table)
    return [*_same_names(path, columns, table, configured), *_segments(path, columns, table)]


def _same_names(path: Path, columns: dict[str, str], table: pd.DataFrame, configured: Columns) -> list[str]:
    """A note on columns that have the same name and cells as one with a role that ``configured`` leaves to its name."""
    notes = []
    for role, column in columns.items():
        if getattr(configured, role) is not None:
            continue
        free = table.columns.difference(columns.values(), sort=False)
        for other in (name for name in free if _original_name(name) == _original_name(column)):
            pair = table[[column, other]].map(clean_cell)
            if (pair[other] == "").all():
                continue
            if differing := int((pair[column] != pair[other]).sum()):
                raise SourceError(
                    f"{path} has several columns of the name {quoted(column)}, which differ in {differing} of {len(table)} "
                    f"rows: rename or remove those that are not the {role}, or choose with "
                    f"--set 'source.columns.{role}={column}' or --set 'source.columns.{role}={other}'"
                )
            notes.append(f"The {role} was taken from the first of several equal columns of the name {quoted(column)}")
    return list(dict.fromkeys(notes))


def _original_name(column: str) -> str:
    """A column's name without the number that `distinct`, or pandas, adds to the second of one name."""
    name = re.sub(r"\.\d+$", "", column)
    return normal_name(name) or name


def _refuse_errors(path: Path, columns: dict[str, str], table: pd.DataFrame) -> None:
    """Raise `SourceError` where a spreadsheet wrote an error, or number signs for a column that is too narrow."""
    for role, column in columns.items():
        marked = [cell for cell in table[column].unique() if cell.lstrip()[:1] in ("#", "E")]
        cells = table[column][table[column].isin([cell for cell in marked if ERROR.fullmatch(clean_cell(cell))])]
        if len(cells):
            raise SourceError(
                f"{len(cells)} of {len(table)} cells of the column {quoted(column)} ({role}) of {path}, such as "
                f"{quoted(cells.iloc[0])}, are errors of a spreadsheet or too wide for its column: correct them, or widen the "
                "column, and export the table again"
            )


def _refuse_rounded(path: Path, columns: dict[str, str], table: pd.DataFrame) -> None:
    """Raise `SourceError` where a spreadsheet wrote identifiers with an exponent, or zeros for their last digits."""
    for role in IDENTIFYING:
        if role not in columns:
            continue
        cells = table[columns[role]].map(clean_cell)
        long = [cell for cell in cells.unique() if len(cell) > EXACT_DIGITS and re.fullmatch(r"\d+", cell)]
        all_zeros = len(long) > 2 and not any(cell[EXACT_DIGITS:].strip("0") for cell in long)
        rounded = cells[cells.map(lambda cell: ROUNDED.fullmatch(cell) is not None)]
        rounded = cells[cells.isin(long)] if all_zeros and rounded.empty else rounded
        if len(rounded):
            raise SourceError(
                f"{len(rounded)} of {len(cells)} cells of the column {quoted(columns[role])} ({role}) of {path}, such as "
                f"{quoted(rounded.iloc[0])}, are numbers that a spreadsheet rounded, so different ones may have become the "
                "same: where their digits are still known, format the column as text and export the table again"
                + (
                    ""
                    if role == "path"
                    else f"; or leave the column out with --set source.columns.{role}= (and nothing after the sign)"
                )
            )


def _segments(path: Path, columns: dict[str, str], table: pd.DataFrame) -> list[str]:
    """A note on columns of start and end; raises `SourceError` where they are of several segments of a recording."""
    if "path" not in columns:
        return []
    others = [name for name in table.columns if name not in columns.values() and _are_times(table[name])]
    starts = [name for name in others if START.fullmatch(normal_name(name))]
    ends = [name for name in others if END.fullmatch(normal_name(name)) and name not in starts]
    files = table[columns["path"]].map(clean_cell)
    if not starts:
        _refuse_repeated(path, files, table[others])
        return []
    names = " and ".join(map(quoted, [*starts, *ends]))
    counts = table[starts[0]].groupby(files).nunique()
    if (several := counts[(counts > 1) & (counts.index != "")]).any():
        raise SourceError(
            f"{path} has several rows for {len(several)} of {len(counts)} recordings ({shortened(several.index[0])} and "
            f"others), which differ in {names}, so its rows are segments: a row must be a whole recording. Cut the "
            "segments into files and give a table of those, or keep one row for each recording"
        )
    return [f"{names} are not used: each recording is read whole"] if ends else []


def _refuse_repeated(path: Path, files: pd.Series, times: pd.DataFrame) -> None:
    """Raise `SourceError` where most of ``files`` are in several rows that all differ in a column of ``times``."""
    named = files != ""
    counts = files[named].value_counts()
    several = counts[counts > 1]
    if len(several) < FEW or 2 * len(several) <= len(counts):
        return
    differing = [name for name in times if (times[name][named].groupby(files[named]).nunique() == counts).all()]
    if differing:
        raise SourceError(
            f"{path} has several rows for {len(several)} of {len(counts)} recordings ({shortened(several.index[0])} and "
            f"others), which differ in {enumerated(list(map(quoted, differing)))}: a row must be a whole recording. If the rows "
            "are segments, cut them into files and give a table of those; else keep one row for each recording"
        )


def _are_times(cells: pd.Series) -> bool:
    filled = cells[cells.str.strip() != ""]
    return len(filled) > 0 and bool(filled.str.strip().map(lambda cell: TIME.fullmatch(cell) is not None).all())
