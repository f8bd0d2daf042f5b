"""The subjects of the CinC 2016 recordings, as far as the appendix beside the databases identifies them."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

from heartdata.sources.base import read_cells, subfolders

ANNOTATIONS = "annotations"
APPENDIX = "online*appendix*training*.csv"
APPENDIX_NAME = "Online_Appendix_training_set.csv"
IDENTIFIED = ("training-a", "training-b", "training-c", "training-e")  # the databases whose subjects it identifies
NAME = "Challenge record name"
SUBJECT_IN_NAME = re.compile(r"(?:C|S|id)(\d+)", re.IGNORECASE)  # C45S1 in a, S34f2.e4k_data in b, id17 in c


def annotation_folders(folder: Path, root: Path) -> list[Path]:
    """The folders ``annotations`` from the database ``folder`` up to ``root``, the nearest first; the one beside
    ``folder``, too, when it is ``root`` itself.
    """
    between = [place for place in (folder, *folder.parents) if place == root or root in place.parents]
    inside = [sub for place in between for sub in subfolders(place) if sub.name.casefold() == ANNOTATIONS]
    beside = folder.parent / ANNOTATIONS
    return [*inside, beside] if folder == root and beside.is_dir() else inside


def appendices(annotations: list[Path]) -> list[Path]:
    """The tables of subjects in the first of the folders ``annotations`` that has any."""
    folders = ([f for f in folder.iterdir() if fnmatchcase(f.name.casefold(), APPENDIX)] for folder in annotations)
    return sorted(next(filter(None, folders), []))


def read_subjects(annotations: list[Path], database: str, names: list[str]) -> tuple[dict[str, str], list[str]]:
    """Recording to subject, for those of ``names`` that ``Online_Appendix_training_set.csv`` identifies, and notes.

    The first of the folders ``annotations`` with an appendix counts. Database b has a column of subjects. In a and c the
    subject is in the original record's name; in e the raw record, from which several recordings were cut, stands for
    the subject. The subjects of d and f are unknown. Raises `SourceError` when the appendix cannot be read.
    """
    tables = appendices(annotations)
    known: dict[str, str | None] = {}
    for table in tables:
        for cells in _rows_about(database, table):
            name = _normal_name(cells.get(NAME, ""))
            known[name] = _subject(cells, database) or known.get(name)
    subjects = {name: subject for name in names if (subject := known.get(_normal_name(name)))}
    if not tables or any(_normal_name(name) in known for name in names):
        return subjects, []
    return {}, [
        f"{', '.join(map(str, tables))} has none of the {len(names)} recordings in {database}: if it should, compare its "
        f"column {NAME!r} with the names of the files"
    ]


def _rows_about(database: str, table: Path) -> list[dict[str, str]]:
    """The rows of an appendix by column; for a database that is not the challenge's, only those that name it or none."""
    header, *lines = read_cells(table, ",;", errors="replace") or [[]]
    rows = [dict(zip(header, line, strict=False)) for line in lines]
    if database.startswith("training-"):
        return rows
    return [cells for cells in rows if cells.get("Database", "").casefold() in ("", database.casefold())]


def _normal_name(name: str) -> str:
    return name.casefold().removesuffix(".wav")


def _subject(cells: dict[str, str], database: str) -> str | None:
    letter = database.removeprefix("training-")
    original, number = cells.get("Original record name", ""), _whole(cells.get("Subject ID", ""))
    if number:
        return f"{letter}{number}" if len(letter) == 1 else f"{letter}_{number}"
    named = SUBJECT_IN_NAME.match(original)
    if letter in ("a", "b", "c") and named:
        return f"{letter}{int(named[1])}"
    raw = _whole(cells.get("# Raw record", ""))
    if letter == "e" and raw and original:  # two groups of people, numbered alike: e01430 and plain 14
        return f"e_{'normal' if original[0] in 'eE' else 'patient'}{raw}"
    return None


def _whole(cell: str) -> str | None:
    """The text of a whole number that a spreadsheet may have written as ``14.0`` or ``14,0``; None for anything else."""
    number = re.fullmatch(r"(\d+)(?:[.,]0*)?", cell)
    return str(int(number[1])) if number else None
