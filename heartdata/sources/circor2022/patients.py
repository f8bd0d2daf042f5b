"""The patients of CirCor: each has a row in the table, a ``.txt`` beside the recordings, or most often both."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from heartdata.errors import SourceError
from heartdata.sources.base import read_cells
from heartdata.sources.text import quoted

TABLE = "training_data.csv"
ID, OTHER_ID, LOCATIONS = "Patient ID", "Additional ID", "Recording locations:"
JUDGED = ("Murmur", "Outcome")


@dataclass(frozen=True)
class Patient:
    """One patient id. ``subject`` is the same for all ids of one person."""

    name: str
    subject: str
    facts: dict[str, str]  # by column or tag, without empty ones
    recordings: tuple[str, ...]  # names in the .txt, without suffix
    from_table: frozenset[str]  # the facts that are from the table; the others are from the .txt

    def expected(self, present: Iterable[str]) -> set[str]:
        """The recordings that should exist: those in the .txt, and one for each site that none of ``present`` has."""
        names = set(self.recordings)
        for site in re.findall(r"\w{1,20}", self.facts.get(LOCATIONS, "")):
            first = f"{self.name}_{site}"
            if not any(name == first or name.startswith(f"{first}_") for name in (*names, *present)):
                names.add(first)
        return names


def read_table(table: Path) -> list[dict[str, str]]:
    """The rows of the table, each with its filled cells; raises `SourceError` when it is not the data set's table."""
    header, *rows = read_cells(table, ",;\t") or [[]]
    if not {ID, "Murmur"} <= set(header):
        raise SourceError(f"{table} lacks the columns {ID}, Murmur: give the data set's own table")
    return [_filled(zip(header, row, strict=False)) for row in rows if row]


def names_of_texts(folder: Path) -> list[str]:
    """The ids of the patients who have a ``.txt`` in ``folder``, sorted; none where the folder does not exist."""
    files = (file.name for file in (folder.iterdir() if folder.is_dir() else ()))
    return sorted(name.removesuffix(".txt") for name in files if re.fullmatch(r"\d{1,20}\.txt", name))


def any_patient_has(fact: str, table: Path, folder: Path) -> bool:
    """Whether some patient has the fact in ``table`` or in a ``.txt`` in ``folder``; `SourceError` as in `read_table`."""
    rows = read_table(table) if table.exists() else []
    texts = (_read_text(folder / f"{name}.txt")[0] for name in names_of_texts(folder))
    return any(fact in row for row in rows) or any(fact in tags for tags in texts)


def read_patients(table: Path, folder: Path) -> tuple[dict[str, Patient], list[str]]:
    """Id to patient, for all who have a row in ``table`` or a ``<patient>.txt`` in ``folder``, and notes.

    The table takes precedence; it may be absent. Raises `SourceError` for a table with wrong ids.
    """
    rows = _rows_by_id(table) if table.exists() else {}
    only_text = [name for name in names_of_texts(folder) if name not in rows]
    texts = {name: _read_text(folder / f"{name}.txt") for name in (*rows, *only_text)}
    facts = {name: tags | rows.get(name, {}) for name, (tags, _) in texts.items()}
    differing = [name for name, row in rows.items() if _differ(row, texts[name][0])]
    subjects = _same_person({name: _whole(row.get(OTHER_ID, "")) for name, row in facts.items()})
    notes = []
    if only_text:
        notes.append(
            f"{len(only_text)} patients have no row in {TABLE} and are known only from their .txt: {only_text[0]}, ..."
        )
    if differing:
        notes.append(
            f"The .txt of {len(differing)} patients contradict the murmur or outcome in {TABLE}, which takes precedence: "
            f"{differing[0]}, ..."
        )
    return {
        name: Patient(name, subjects[name], facts[name], recordings, frozenset(rows.get(name, ())))
        for name, (_, recordings) in texts.items()
    }, notes


def _rows_by_id(table: Path) -> dict[str, dict[str, str]]:
    """The rows of the table by patient id; raises `SourceError` for an id that is not a number or is in two rows."""
    rows: dict[str, dict[str, str]] = {}
    for row in read_table(table):
        name = _whole(row.get(ID, ""))
        fault = "is in two rows" if name in rows else "is not a number"
        if name in rows or not re.fullmatch(r"\d{1,20}", name):
            raise SourceError(f"{table}: the {ID} {quoted(name)} {fault}: correct it, or download the table again")
        rows[name] = row
    return rows


def _differ(row: dict[str, str], tags: dict[str, str]) -> bool:
    return any(key in tags and key in row and tags[key].casefold() != row[key].casefold() for key in JUDGED)


def _read_text(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """The tags (``#Murmur: Present``) and the recordings' names of one patient; both empty where there is no file."""
    if not path.is_file():
        return {}, ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    tags = (line[1:].partition(":") for line in lines if line.startswith("#"))
    words = (word for line in lines if not line.startswith("#") for word in line.split())
    matches = (re.fullmatch(r"([\w-]{1,100})\.wav", word, re.IGNORECASE) for word in words)
    names = tuple(match[1] for match in matches if match)
    return _filled((key, value) for key, _, value in tags), names


def _filled(cells: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The cells that are not empty; the data set writes ``nan`` for unknown values."""
    stripped = ((key.strip(), value.strip()) for key, value in cells)
    return {key: value for key, value in stripped if value and value.casefold() != "nan"}


def _whole(cell: str) -> str:
    """An id without the ``.0`` that a spreadsheet adds."""
    return cell.removesuffix(".0")


def _same_person(others: dict[str, str]) -> dict[str, str]:
    """Patient id to subject id: the smallest of all ids that are linked, whichever names the other."""
    from scipy.cluster.hierarchy import DisjointSet  # slow to load, also where only settings are needed

    people = DisjointSet([*others, *filter(None, others.values())])
    for patient, other in others.items():
        people.merge(patient, other or patient)
    return {patient: min(people.subset(patient), key=lambda name: (len(name), name)) for patient in others}
