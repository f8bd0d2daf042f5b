"""What the text of a cell means: several spellings of one value, other names of labels, several labels in one cell."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from heartdata.errors import SourceError
from heartdata.sources.base import SourceRecording
from heartdata.sources.labels import LABEL_IN_SOURCE
from heartdata.sources.table.columns import ROLES, Entry
from heartdata.sources.text import clean_cell, enumerated, is_unclean, quoted, same_text

LONG_LABEL = 200  # characters; longer ones are descriptions
MANY_LABELS = 50  # more than these are not classes if they are numbers or most are in one row only
SEPARATOR = re.compile(r"[;|+]")  # of several labels in one cell
SEPARATOR_OR_NAME = re.compile(r"[,/&]|\sand\s")  # the same, but may also be part of one label's name
LIST = re.compile(r"""\[.*\]|[({].*['",].*[)}]""", re.DOTALL)  # several values that a program wrote into a cell


def folded(text: str) -> str:
    """What upper and lower case, and all other spellings that `clean_cell` makes one, have in common."""
    cleaned = clean_cell(text).casefold()
    return cleaned if cleaned.isascii() else unicodedata.normalize("NFC", cleaned)


def common_spellings(values: Iterable[str]) -> dict[str, str]:
    """Each value to the most frequent spelling, or the first sorted, of those that are the `same_text`."""
    counts = Counter(values)
    keys = {value: same_text(value) for value in counts}
    best: dict[str, str] = {}
    for value in sorted(counts, key=lambda value: (-counts[value], value)):
        best.setdefault(keys[value], value)
    return {value: best[key] for value, key in keys.items()}


def respelled(what: str, spellings: dict[str, str]) -> list[str]:
    """A note on the spellings that were replaced by another."""
    changed = [f"{quoted(value)} as {quoted(best)}" for value, best in sorted(spellings.items()) if value != best]
    note = f"{what} that differ only in letter case, in .0 or in forms of a character, were taken as one"
    return [f"{note}: {enumerated(changed)}"] if changed else []


def cleaned_cells(root: Path, entries: Sequence[Entry], rows: Sequence[SourceRecording]) -> list[str]:
    """A note on cells that were cleaned of more than blanks; not on paths that name a file as they are written."""
    cells = [cell for entry in entries for role in ROLES if is_unclean(cell := entry.roles.get(role, ""))]
    for entry, row in zip(entries, rows, strict=True):
        if is_unclean(entry.name) and str(row.path) not in (entry.name, f"{root}/{entry.name}".replace("\\", "/")):
            cells.append(entry.name)
    if not cells:
        return []
    held = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
    more = ", ..." if len(cells) > 1 else ""
    return [
        f"{held} held invisible or full-width characters, which were taken out or replaced: {quoted(cells[0])} was read as "
        f"{quoted(clean_cell(cells[0]))}{more}"
    ]


def relabelled(entries: list[Entry], names: Mapping[str, str | None]) -> list[Entry]:
    """The entries with the labels that ``names`` gives instead of their own; raises `SourceError` for a label of none."""
    if not names:
        return entries
    labels = [clean_cell(entry.roles.get("label", "")) for entry in entries]
    present = {same_text(label): label for label in labels if label}
    new_names: dict[str, str] = {}
    for old, new in names.items():
        if new_names.setdefault(same_text(clean_cell(old)), new or "") != (new or ""):
            raise SourceError(f"source.labels gives two names to the label {quoted(old)}: leave one of them out")
    if absent := [quoted(name) for name in names if same_text(clean_cell(name)) not in present]:
        raise SourceError(
            f"source.labels names {enumerated(absent)}, which no recording has as its label: choose among "
            f"{enumerated(sorted(map(quoted, present.values())))}"
        )
    renamed = []
    for entry, label in zip(entries, labels, strict=True):
        new = new_names.get(same_text(label), label)
        extra = entry.extra if new == label else {**entry.extra, LABEL_IN_SOURCE: label}
        renamed.append(replace(entry, roles={**entry.roles, "label": new}, extra=extra))
    return renamed


def refuse_labels(place: str, labels: list[str], remedy: str) -> None:
    """Raise `SourceError` when ``labels``, one a recording, are not classes, or some are several labels."""
    different = sorted(set(labels))
    are_numbers = all(re.fullmatch(r"[-+]?\d+([.,]\d+)?", label) for label in different)
    if long := [label for label in different if len(label) > LONG_LABEL]:
        raise SourceError(
            f"{len(long)} labels in {place} have more than {LONG_LABEL} characters, such as {quoted(long[0])}, so these are "
            f"not classes: {remedy}"
        )
    if len(different) > MANY_LABELS and (are_numbers or 2 * len(different) > len(labels)):
        raise SourceError(
            f"{len(labels)} recordings have {len(different)} different labels in {place}, such as "
            f"{', '.join(map(quoted, different[:3]))}, so these are not classes: {remedy}"
        )
    joined = joined_labels(different) | {label for label in different if LIST.fullmatch(label)}
    if joined:
        raise SourceError(
            f"{sum(label in joined for label in labels)} of {len(labels)} recordings have several labels in {place}, such "
            f"as {quoted(min(joined))}, and can have only one: {remedy}"
        )


def joined_labels(labels: Collection[str]) -> set[str]:
    """Those of ``labels`` that are several, joined by SEPARATOR or SEPARATOR_OR_NAME.

    By the first, where one part is a label itself or all parts recur in others; by the second, where all are labels.
    """
    known = {label.casefold() for label in labels}
    joined: set[str] = set()
    for separator in (SEPARATOR, SEPARATOR_OR_NAME):
        parts = {label: {part.strip() for part in separator.split(label.casefold())} - {""} for label in labels}
        counts = Counter(part for several in parts.values() for part in several)
        for label, several in parts.items():
            recur = separator is SEPARATOR and (several & known or all(counts[part] > 1 for part in several))
            if len(several) > 1 and (several <= known or recur):
                joined.add(label)
    return joined
