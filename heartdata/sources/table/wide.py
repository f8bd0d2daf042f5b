"""Wide tables, with a row a patient and several columns of files, as one row a recording."""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from heartdata.sources.base import AUDIO_SUFFIXES
from heartdata.sources.table.columns import USUAL_NAMES, Columns, normal_name
from heartdata.sources.table.file_lookup import GUESSES, FileLookup
from heartdata.sources.table.subjects import PERSON_COLUMN, possible_subjects
from heartdata.sources.text import quoted, shortened
from heartdata.storage.remote import is_remote

SITES = (
    "av", "pv", "tv", "mv", "phc", "aortic", "aorta", "aor", "pulmonary", "pulmonic", "pulm", "pul", "tricuspid", "tri",
    "mitral", "mit", "apex", "erb", "erbs", "lusb", "rusb", "llsb",
)  # fmt: skip
IDENTIFIERS = ("id", "uid", "uuid", "code", "name", "number", "no", "nr")  # of a person, where a row is one
FILE_COLUMN = "file_column"  # where a recording's file was named
EXAMPLES = 4  # columns named in a note
SAMPLE = 100  # cells of a column that are looked up

Value = Callable[[str], str | None]  # a cell as text, None where it counts as empty


def melted(
    path: Path, table: pd.DataFrame, lookup: FileLookup, configured: Columns, value: Value
) -> tuple[pd.DataFrame, list[str]]:
    """A row for each file of a wide table, with its column as the site if its name is one, and notes; any other table as
    it is. Columns that are numbered or named by site as the files' are (``label_1`` beside ``file_1``) go with them.
    """
    columns = file_columns(table, lookup, configured, value)
    if len(columns) < 2:
        return table, []
    notes: list[str] = []
    if configured.subject is None and "subject" not in configured.resolve(list(table.columns)):
        table, notes = _with_subject(table, columns, value)
    beside = _columns_beside(table, columns)
    shared = table.drop(columns=[*columns, *(name for names in beside.values() for name in names)])
    sites = {column: [word for word in _words(column) if word.casefold() in SITES] for column in columns}
    has_sites = configured.site is None and "site" not in configured.resolve([*shared.columns, *beside])
    parts = []
    for i, column in enumerate(columns):
        more = {stem: table[names[i]] for stem, names in beside.items()}
        if has_sites and all(len(words) == 1 for words in sites.values()):
            more["site"] = sites[column][0]
        parts.append(shared.assign(path=table[column], **{FILE_COLUMN: column}, **more))
    rows = pd.concat(parts).sort_index(kind="stable")
    rows = rows[rows["path"].map(value).notna()].reset_index(drop=True)
    without = int((table[columns].map(value).isna()).all(axis="columns").sum())
    nameless = f", of which {without} {'names' if without == 1 else 'name'} none," if without else ""
    names = columns if len(columns) <= EXAMPLES else [*columns[: EXAMPLES - 1], "...", columns[-1]]
    return rows, [
        f"The columns {', '.join(map(shortened, names))} of {path} name files, so its {len(table)} rows{nameless} were read as {len(rows)} "
        "recordings; to read one column only, name it with --set source.columns.path=COLUMN",
        *notes,
    ]


def file_columns(table: pd.DataFrame, lookup: FileLookup, configured: Columns, value: Value) -> list[str]:
    """The columns whose cells name files, each its own; none where ``configured`` names the one of the path.

    Where a column has the usual name of a path, only it and those that differ in a number or site (``wav``, ``wav_2``).
    """
    if configured.path:
        return []
    roles = configured.resolve(list(table.columns))
    groups: dict[str, list[str]] = defaultdict(list)
    for name in table.columns:
        if name not in roles.values() or name == roles.get("path"):
            groups[_stem(name)].append(name)
    if "path" in roles and not _names_no_file(table[roles["path"]], lookup, value):
        groups = {stem: names for stem, names in groups.items() if roles["path"] in names and len(names) > 1}
    columns: list[str] = []
    known: set[object] = set()
    for stem, names in groups.items():
        by_name = len(names) > 1 and normal_name(stem) in USUAL_NAMES["path"] and all(map(_key, names))
        for name in names:
            cells = list(filter(None, map(value, table[name].drop_duplicates().head(SAMPLE))))
            are_names = len(names) > 1 or not all(re.fullmatch(r"[\d.]+", cell) for cell in cells)
            files = {file for cell in cells if (file := _file(lookup, cell))} if are_names else set()
            differ = 2 * table[name].nunique() > (table[name].map(value).notna()).sum()
            is_new = 2 * len(files & known) <= len(files)  # not the bare name of a file whose path is in another column
            if (by_name or (cells and 2 * len(files) >= len(cells))) and differ and is_new:
                columns.append(name)
                known |= files
    return [name for name in table.columns if name in columns]


def _names_no_file(cells: pd.Series, lookup: FileLookup, value: Value) -> bool:
    """Whether ``cells`` are numbers or names of something else than files, such as a column called record of patients."""
    sample = list(filter(None, map(value, cells.drop_duplicates().head(SAMPLE))))
    return bool(sample) and not any(_file(lookup, cell) for cell in sample)


def _file(lookup: FileLookup, cell: str) -> object:
    """What ``cell`` names: a file or URI, or an absent file with the suffix of audio; None for other text."""
    match = lookup.find(cell)
    if is_remote(cell):
        return cell if cell.lower().endswith(AUDIO_SUFFIXES) else None
    if match.path and match.how not in GUESSES:
        return match.path
    return cell if cell.lower().endswith(AUDIO_SUFFIXES) else None


def _with_subject(table: pd.DataFrame, columns: Sequence[str], value: Value) -> tuple[pd.DataFrame, list[str]]:
    """``table`` with a column ``subject``, as its rows are persons: their id, else the first file's name; and a note.

    Nothing is added where a column may identify persons in several rows.
    """
    if possible_subjects({}, table)[0]:
        return table, []
    others = [name for name in table.columns if name not in columns]
    unique = [name for name in others if table[name].map(value).dropna().nunique() == len(table)]
    named = [name for name in unique if normal_name(name) in IDENTIFIERS or _is_person(name)]
    subjects = table[named[0]] if named else table[columns].map(value).bfill(axis="columns").iloc[:, 0].fillna("")
    what = f"its subject is in the column {quoted(named[0])}" if named else "its subject is named after its first file"
    note = f"Each row of the table was taken as one person: {what}; if not, name the column with --set source.columns.subject=COLUMN"
    return table.assign(subject=subjects), [note]


def _is_person(name: str) -> bool:
    return PERSON_COLUMN.fullmatch(" ".join(word for word in _words(name) if not word.isdigit()).lower()) is not None


def _columns_beside(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, list[str]]:
    """Stem to columns, in the order of the file columns ``columns``, of those that differ in just what these differ in."""
    keys = [_key(column) for column in columns]
    others: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    for name in table.columns.difference(columns, sort=False):
        others[_stem(name)][_key(name)] = name
    if not all(keys) or len(set(keys)) < len(keys):
        return {}
    return {stem: [names[key] for key in keys] for stem, names in others.items() if stem and set(keys) <= set(names)}


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+|\d+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))


def _key(name: str) -> tuple[str, ...]:
    """The numbers and sites in a column's name, by which several of one kind differ."""
    return tuple(word.casefold() for word in _words(name) if word.isdigit() or word.casefold() in SITES)


def _stem(name: str) -> str:
    return "_".join(word for word in _words(name) if not word.isdigit() and word.casefold() not in SITES)
