"""The subject column of a table, which must not let recordings of one person into both training and test."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from heartdata.errors import SourceError
from heartdata.sources.text import enumerated, quoted

ALONE = "every recording counts as a subject of its own, so if somebody was recorded twice, scores are too high"
MANY_EMPTY = 0.2  # from this share of empty cells on, a column may have had merged cells

# Names of columns that identify persons, in words: `patients`, `subjectcode`, `case id anonymised`.
_IDENTIFIER = r"(u?u?ids?|no|nr|num|number|code|name|key|hash)"
_QUALIFIER = rf"({_IDENTIFIER}|identifier|index|study|the|of|(anonym|pseudonym)(ous|i[sz]ed)?)"
_ENGLISH = "subject|patient|participant|person|individual|volunteer|proband|case|speaker|donor|child"
_OTHERS = "patienten|proband(en|in)|paciente|paziente|sujeto?|soggetto|пациент|患者|病人|受试者|被试|환자"
_PERSON = rf"({_ENGLISH}|{_OTHERS})s?({_IDENTIFIER}|编号|番号|번호|号)?"
PERSON_COLUMN = re.compile(rf"({_QUALIFIER} )*{_PERSON}( ({_PERSON}|{_QUALIFIER}))*")


def without_subjects(path: Path, columns: dict[str, str], table: pd.DataFrame, is_denied: bool) -> str:
    """A note on a table without a subject column, which names columns that may be it.

    Raises `SourceError` when one is named like an identifier of persons, unless the settings deny it (``is_denied``).
    """
    by_name, by_values = possible_subjects(columns, table)
    if by_name and not is_denied:
        raise SourceError(
            f"{path} has no subject column of a usual name, but {' and '.join(map(quoted, by_name))} may identify who was "
            "recorded: recordings of one person might be in both training and test. Name it with "
            f"--set 'source.columns.subject={by_name[0]}'; if no column identifies people, use "
            "--set source.columns.subject= (and nothing after the sign)"
        )
    repeated = f" (values recur in {enumerated(list(map(quoted, by_values)))})" if by_values else ""
    return f"The table has no subject column: {ALONE}. Name it with --set source.columns.subject=COLUMN{repeated}"


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


def empty_subjects(path: Path, column: str, cells: Sequence[str], subjects: Sequence[str | None]) -> list[str]:
    """A note on the rows of ``path`` without a subject. Raises `SourceError` where they look like merged cells: the first
    row has a subject, no subject is in two rows, and many ``cells`` are empty (not words such as *unknown*).
    """
    known = [subject.casefold() for subject in subjects if subject is not None]
    if len(known) == len(subjects):
        return []
    fault = (
        f"{len(subjects) - len(known)} of {len(subjects)} rows of {path} have no subject in the column {quoted(column)}"
    )
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


def leading_zeros(subjects: Collection[str]) -> list[str]:
    """A note on the subjects that differ only in zeros before a number."""
    similar = defaultdict(list)
    for subject in sorted(subjects):
        similar[re.sub(r"(?<!\d)0+(?=\d)", "", subject.casefold())].append(subject)
    groups = [" and ".join(map(quoted, group)) for group in similar.values() if len(group) > 1]
    return (
        [f"Subjects that differ only in leading zeros count as different ones: {enumerated(groups)}"] if groups else []
    )
