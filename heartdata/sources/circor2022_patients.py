"""The patients of CirCor: one row each in the table, and one ``.txt`` each beside their recordings."""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from heartdata.errors import SourceError

TABLE = "training_data.csv"
ID, OTHER_ID, LOCATIONS = "Patient ID", "Additional ID", "Recording locations:"
JUDGED = ("Murmur", "Outcome")


@dataclass(frozen=True)
class Patient:
    """One row of the table. ``subject`` is the same for all ids of one person, ``facts`` holds what is not empty."""

    name: str
    subject: str
    facts: dict[str, str]
    recordings: tuple[str, ...]  # names that his .txt gives, without suffix

    def expected(self, present: Iterable[str]) -> set[str]:
        """The recordings that there should be: those of his .txt, and one for each site that his ``present`` lack."""
        names = set(self.recordings)
        sites = re.findall(r"\w{1,20}", self.facts.get(LOCATIONS, ""))
        for site in sites:
            first = f"{self.name}_{site}"
            if not any(name == first or name.startswith(f"{first}_") for name in (*names, *present)):
                names.add(first)
        return names


def read_columns(table: Path) -> list[dict[str, str]]:
    """The rows of the table, each with its filled cells; raises `SourceError` when it is not the data set's table."""
    try:
        text = table.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)  # a spreadsheet may have saved it anew
        reader = csv.DictReader(io.StringIO(text), delimiter=separator)
        columns = {name.strip() for name in reader.fieldnames or []}
        rows = [_filled(row.items()) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table} cannot be read as a table ({error}): download it again") from error
    if not {ID, "Murmur"} <= columns:
        raise SourceError(f"{table} lacks the columns {ID}, Murmur: is it the data set's own table?")
    return rows


def read_patients(table: Path, folder: Path) -> tuple[dict[str, Patient], list[str]]:
    """Patient id to patient, and remarks. What the table leaves empty is taken from ``<patient>.txt`` in ``folder``."""
    facts: dict[str, dict[str, str]] = {}
    recordings: dict[str, tuple[str, ...]] = {}
    differing = []
    for row in read_columns(table):
        name = _whole(row.get(ID, ""))
        if name in facts or not re.fullmatch(r"\d{1,20}", name):
            raise SourceError(
                f"{table}: the {ID} {name!r} stands in two rows or is no number: download the table again"
            )
        told, recordings[name] = _read_text(folder / f"{name}.txt")
        if any(key in told and key in row and told[key].casefold() != row[key].casefold() for key in JUDGED):
            differing.append(name)
        facts[name] = told | row
    subjects = _same_person({name: _whole(row.get(OTHER_ID, "")) for name, row in facts.items()})
    notes = []
    if differing:
        notes.append(
            f"The .txt of {len(differing)} patients say another murmur or outcome than {TABLE}, which is believed: "
            f"{differing[0]}, ..."
        )
    return {name: Patient(name, subjects[name], facts[name], recordings[name]) for name in facts}, notes


def _read_text(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """The tags (``#Murmur: Present``) and the recordings' names of one patient; both empty where there is no file."""
    if not path.is_file():
        return {}, ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    tags = (line[1:].partition(":") for line in lines if line.startswith("#"))
    words = (word for line in lines if not line.startswith("#") for word in line.split())
    found = (re.fullmatch(r"([\w-]{1,100})\.wav", word, re.IGNORECASE) for word in words)
    names = tuple(match[1] for match in found if match)
    return _filled((key, value) for key, _, value in tags), names


def _filled(cells: Iterable[tuple[str | None, str | None]]) -> dict[str, str]:
    """The cells that hold something; ``nan`` is how the data set writes that nothing is known."""
    stripped = ((key.strip(), (value or "").strip()) for key, value in cells if isinstance(key, str))
    return {key: value for key, value in stripped if value and value.casefold() != "nan"}


def _whole(cell: str) -> str:
    """An id without the ``.0`` that a spreadsheet adds."""
    return cell.removesuffix(".0")


def _same_person(others: dict[str, str]) -> dict[str, str]:
    """Patient id to subject id, the smallest id of all that are linked, whichever of them names the other."""
    leader: dict[str, str] = {}

    def lead(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for name, other in others.items():
        first, *rest = sorted({lead(name), lead(other or name)}, key=lambda x: (len(x), x))
        for follower in rest:
            leader[follower] = first
    return {name: lead(name) for name in others}
