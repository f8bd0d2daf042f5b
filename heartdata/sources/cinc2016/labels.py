"""The labels of a database: ``REFERENCE.csv``, the tables of signal quality, and the comments of the ``.hea`` files."""

import re
from collections.abc import Iterator
from pathlib import Path

from heartdata.errors import SourceError
from heartdata.sources.base import read_cells
from heartdata.sources.text import quoted

REFERENCE = "REFERENCE.csv"
QUALITY = ("REFERENCE-SQI.csv", "REFERENCE_withSQI.csv")
RECORDS = "RECORDS"  # marks a database without a table of labels
CODES = {"normal": "-1", "abnormal": "1"}
LABELS = {"-1": "normal", "1": "abnormal", "0": None, "": None}


def label_tables(folder: Path, names: tuple[str, ...] = (REFERENCE, *QUALITY)) -> list[Path]:
    """The tables of labels in ``folder``, in the order of ``names``, in any letter case."""
    wanted = [name.casefold() for name in names]
    tables = [f for f in folder.iterdir() if f.name.casefold() in wanted and f.is_file()] if folder.is_dir() else []
    return sorted(tables, key=lambda f: (wanted.index(f.name.casefold()), f.name))


def has_labels(folder: Path) -> bool:
    return bool(label_tables(folder) or header_labels(folder))


def read_labels(folders: list[Path]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Recording name to ``challenge_label`` and ``sqi``, and notes; raises `SourceError` for a malformed table.

    All tables in the first of ``folders`` count, and those of quality in the others; earlier ones take precedence. If the
    first has no table, the labels are those of its ``.hea`` files.
    """
    folder = folders[0]
    if not label_tables(folder):
        labels = {name: {"challenge_label": CODES[label]} for name, label in header_labels(folder).items()}
        return labels, [
            f"{folder} holds no {REFERENCE}: the labels of {len(labels)} recordings are those of the .hea files"
        ]
    rows: dict[str, dict[str, str]] = {}
    notes = []
    tables = [*label_tables(folder), *(table for other in folders[1:] for table in label_tables(other, QUALITY))]
    for table in tables:
        contradicted = []
        for line, name, cells in _rows(table):
            row = rows.setdefault(name, {})
            for column, cell in cells.items():
                if _is_reference(table) and row.get(column, cell) != cell:
                    raise SourceError(
                        f"{table}: line {line} has a second label for {name}: find out which is right, and remove the other"
                    )
                if {row.setdefault(column, cell), cell} == {"1", "-1"}:
                    contradicted.append(name)
        if contradicted:
            notes.append(
                f"{table} contradicts {tables[0].name}, which takes precedence, on {len(contradicted)} recordings: "
                f"{contradicted[0]}, ..."
            )
    return rows, notes


def _is_reference(table: Path) -> bool:
    return table.name.casefold() == REFERENCE.casefold()


def _rows(table: Path) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Line number, from 1, recording and cells by column, without a header; raises `SourceError` for a malformed line."""
    rows = [(line, cells) for line, cells in enumerate(read_cells(table, ",;"), 1) if any(cells)]
    for line, (name, *values) in rows[1:] if rows and _is_header(rows[0][1]) else rows:
        if not re.fullmatch(r"[\w.-]{1,100}", name):
            raise SourceError(
                f"{table}: line {line}: {quoted(name)} is not a recording's name: download the table again"
            )
        columns = ("challenge_label",) if _is_reference(table) else ("challenge_label", "sqi")[-len(values) :]
        if len(values) != len(columns):
            raise SourceError(
                f"{table}: line {line} has {len(values) + 1} cells: give the challenge's own table, or one of its form"
            )
        for column, value in zip(columns, values, strict=True):
            if value not in (LABELS if column == "challenge_label" else ("1", "0", "")):
                raise SourceError(
                    f"{table}: line {line}: {quoted(value)} is none of the values that the challenge uses: correct it"
                )
        yield line, re.sub(r"\.wav$", "", name, flags=re.IGNORECASE), dict(zip(columns, values, strict=True))


def _is_header(cells: list[str]) -> bool:
    """Whether the second cell is a word instead of a label, and the first has no digit, as names of recordings have."""
    is_word = len(cells) > 1 and cells[1] not in LABELS and not re.fullmatch(r"[-+\d.]+", cells[1])
    return is_word and not re.search(r"\d", cells[0])


def header_labels(folder: Path) -> dict[str, str]:
    """Recording name to label, from the ``.hea`` files in ``folder``; empty unless it has ``RECORDS``."""
    if not (folder / RECORDS).is_file():
        return {}
    names = sorted(f.name.removesuffix(".hea") for f in folder.iterdir() if f.name.endswith(".hea"))
    labels = {name: header_comment(folder / f"{name}.hea").casefold() for name in names}
    return {name: label for name, label in labels.items() if label in CODES}


def header_comment(header: Path) -> str:
    """The comments of a WFDB header, joined; empty where there is no such file."""
    if not header.is_file():
        return ""
    lines = header.read_text(encoding="utf-8", errors="replace").splitlines()
    return "; ".join(line.lstrip("# ").strip() for line in lines if line.startswith("#"))
