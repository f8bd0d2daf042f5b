"""Cells of a table that stand for several rows: merged ones of a workbook, and the gaps that they leave in a CSV."""

from collections.abc import Sequence
from pathlib import Path

from heartdata.errors import SourceError

Range = tuple[tuple[int, int], tuple[int, int]]  # row and column, from 0, of the first cell and of the last
MANY_EMPTY = 0.2  # so large a share of empty subjects may be what merged cells have left
ALONE = "every recording counts as a subject of its own, so if somebody was recorded twice, scores are too high"


def fill_merged(rows: list[list[str]], ranges: Sequence[Range]) -> None:
    """Write what a merged cell holds, which stands in its first row, into its other rows, but for wholly empty ones.

    Not into its other columns: a title over all of them is no header.
    """
    for (first, column), (last, _) in ranges:
        for row in rows[first + 1 : last + 1]:
            if column < len(row) and any(cell.strip() for cell in row):
                row[column] = rows[first][column]


def empty_subjects(path: Path, column: str, cells: Sequence[str], subjects: Sequence[str | None]) -> list[str]:
    """A note on the rows of ``path`` without a subject; raises `SourceError` where they look like merged cells.

    Then the first row has a subject, each stands once, and many ``cells`` are empty. (Others may say in words that there
    is none.)
    """
    known = [subject for subject in subjects if subject is not None]
    count = len(subjects) - len(known)
    if not count:
        return []
    told = f"{count} of {len(subjects)} rows of {path} have no subject in the column {column!r}"
    once = len({subject.casefold() for subject in known}) == len(known) > 1
    empty = sum(not cell.strip() for cell in cells)
    if once and subjects[0] is not None and empty >= MANY_EMPTY * len(cells):
        raise SourceError(
            f"{told}, and each subject stands in one row only, as where merged cells were saved as CSV: recordings of one "
            "person might stand in training and in test. Write the subject into every row of the column (or give the "
            "workbook with its merged cells); if an empty cell means that nobody knows who it is, go on with "
            f"--set source.columns.subject= (and nothing after the sign), by which {ALONE}"
        )
    return [f"{told}: of these, {ALONE}. Fill the column where the subject is known"]
