"""Cells of a table that stand for several rows: merged ones of a workbook, and the gaps that they leave in a CSV."""

from collections.abc import Sequence
from pathlib import Path

from heartdata.errors import SourceError

Range = tuple[tuple[int, int], tuple[int, int]]  # row and column, from 0, of the first cell and of the last
MANY_EMPTY = 0.2  # from this share of empty cells on, a column may have had merged cells
ALONE = "every recording counts as a subject of its own, so if somebody was recorded twice, scores are too high"


def fill_merged(rows: list[list[str]], ranges: Sequence[Range]) -> None:
    """Copy the value of each merged cell, which is in its first row, to its other rows, except wholly empty ones.

    Not to its other columns: a title above all of them is not a header.
    """
    for (first, column), (last, _) in ranges:
        for row in rows[first + 1 : last + 1]:
            if column < len(row) and any(cell.strip() for cell in row):
                row[column] = rows[first][column]


def empty_subjects(path: Path, column: str, cells: Sequence[str], subjects: Sequence[str | None]) -> list[str]:
    """A note on the rows of ``path`` without a subject. Raises `SourceError` where they look like merged cells: the first
    row has a subject, no subject is in two rows, and many ``cells`` are empty (not words such as *unknown*).
    """
    known = [subject.casefold() for subject in subjects if subject is not None]
    if len(known) == len(subjects):
        return []
    fault = f"{len(subjects) - len(known)} of {len(subjects)} rows of {path} have no subject in the column {column!r}"
    is_unique = len(set(known)) == len(known) > 1
    empty = sum(not cell.strip() for cell in cells)
    if is_unique and subjects[0] is not None and empty >= MANY_EMPTY * len(cells):
        raise SourceError(
            f"{fault}, and no subject is in two rows, as where merged cells were saved as CSV: recordings of one person "
            "might be in both training and test. Write the subject into every row (or give the workbook with its merged "
            "cells); if an empty cell means that the subject is unknown, use --set source.columns.subject= (and nothing "
            f"after the sign), by which {ALONE}"
        )
    return [f"{fault}: of these, {ALONE}. Fill the column where the subject is known"]
