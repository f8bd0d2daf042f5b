"""What the text of a cell means: several spellings of one value, and several labels in one cell."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable

from heartdata.errors import SourceError

MANY_LABELS = 50  # more than these are not classes if they are numbers or most are in one row only
SEPARATOR = re.compile(r"[;|+]")  # of several labels in one cell
SEPARATOR_OR_NAME = re.compile(r"[,/&]|\sand\s")  # the same, but may also be part of one label's name
LIST = re.compile(r"""\[.*\]|[({].*['",].*[)}]""", re.DOTALL)  # several values that a program wrote into a cell


def clean_cell(cell: str) -> str:
    """A cell in one form: accents composed (Unicode NFC), single blanks, none around it."""
    return " ".join(unicodedata.normalize("NFC", cell).split())


def folded(text: str) -> str:
    """What upper and lower case, and composed and decomposed accents, have in common."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def common_spellings(values: Iterable[str]) -> dict[str, str]:
    """Each value to the most frequent spelling, or the first sorted, of those that differ in case or ``.0`` alone."""
    counts = Counter(values)
    keys = {value: re.sub(r"^([-+]?\d+)\.0+$", r"\1", value.casefold()) for value in counts}  # a spreadsheet's 1.0
    best: dict[str, str] = {}
    for value in sorted(counts, key=lambda value: (-counts[value], value)):
        best.setdefault(keys[value], value)
    return {value: best[key] for value, key in keys.items()}


def respelled(what: str, spellings: dict[str, str]) -> list[str]:
    """A note on the spellings that were replaced by another."""
    changed = ", ".join(f"{value!r} as {best!r}" for value, best in sorted(spellings.items()) if value != best)
    return [f"{what} that differ only in letter case, or in .0, were taken as one: {changed}"] if changed else []


def refuse_labels(place: str, labels: list[str], remedy: str) -> None:
    """Raise `SourceError` when ``labels``, one a recording, are not classes, or some are several labels."""
    different = sorted(set(labels))
    are_numbers = all(re.fullmatch(r"[-+]?\d+([.,]\d+)?", label) for label in different)
    if len(different) > MANY_LABELS and (are_numbers or 2 * len(different) > len(labels)):
        raise SourceError(
            f"{len(labels)} recordings have {len(different)} different labels in {place}, such as "
            f"{', '.join(map(repr, different[:3]))}, so these are not classes: {remedy}"
        )
    joined = joined_labels(different) | {label for label in different if LIST.fullmatch(label)}
    if joined:
        raise SourceError(
            f"{sum(label in joined for label in labels)} of {len(labels)} recordings have several labels in {place}, such "
            f"as {min(joined)!r}, and can have only one: {remedy}"
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
