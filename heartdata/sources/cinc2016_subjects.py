"""Who is heard in the CinC 2016 recordings, as far as the appendix beside the databases tells."""

import csv
import io
import re
from pathlib import Path

from heartdata.errors import SourceError

ANNOTATIONS = "annotations"
SUBJECT_IN_NAME = re.compile(r"(?:C|S|id)(\d+)", re.IGNORECASE)  # C45S1 in a, S34f2.e4k_data in b, id17 in c


def read_subjects(annotations: Path) -> dict[str, str]:
    """Recording name to subject from ``Online_Appendix_training_set.csv`` in ``annotations``; empty where it is not.

    The appendix names the subject in database b alone. In a and c he stands in the original record's name, in e the
    raw record, from which several recordings were cut, stands for him. For d and f it tells nothing. Raises
    `SourceError` when it cannot be read.
    """
    subjects = {}
    for table in sorted(annotations.glob("Online*Appendix*training*.csv")):
        text = table.read_text(encoding="utf-8-sig", errors="replace")
        try:
            rows = list(csv.DictReader(io.StringIO(text)))
        except csv.Error as error:
            raise SourceError(f"{table} cannot be read as a table ({error}): download it again") from error
        for row in rows:
            cells = {key.strip(): (value or "").strip() for key, value in row.items() if key is not None}
            subject = _subject(cells)
            if subject:
                subjects[cells.get("Challenge record name", "")] = subject
    return subjects


def read_rows(table: Path, errors: str = "strict") -> list[list[str]]:
    """The stripped cells of every line, separated by the one of comma and semicolon that the first line has more of.

    Raises UnicodeDecodeError, unless ``errors`` says otherwise, and `csv.Error`.
    """
    text = table.read_text(encoding="utf-8-sig", errors=errors)
    first = text.lstrip().partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    return [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=separator)]


def _subject(cells: dict[str, str]) -> str | None:
    letter = cells.get("Database", "")[-1:]
    original, number = cells.get("Original record name", ""), _whole(cells.get("Subject ID", ""))
    if number:
        return f"{letter}{number}"
    named = SUBJECT_IN_NAME.match(original)
    if letter in ("a", "b", "c") and named:
        return f"{letter}{int(named[1])}"
    raw = _whole(cells.get("# Raw record", ""))
    if letter == "e" and raw and original:  # two groups of people, numbered alike: e01430 and plain 14
        return f"e_{'normal' if original[0] in 'eE' else 'patient'}{raw}"
    return None


def _whole(cell: str) -> str | None:
    """The text of a whole number that a spreadsheet may have written as ``14.0``; None for anything else."""
    number = re.fullmatch(r"(\d+)(?:\.0*)?", cell)
    return str(int(number[1])) if number else None
