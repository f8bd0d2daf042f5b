"""The ways to part recordings: each a pure function from rows to the part of each row (None: left out).

``rows`` are recordings with a label and the columns recording_id, sha256, source, collection, label, unit (the subject,
or the recording itself where none is known) and group (units that near-duplicates tie together are one).
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from heartdata.errors import DataRefused
from heartdata.storage.schemas import PART_NAMES

PARTS = ("train", "valid", "test")
UNLABELLED = "unlabelled"  # the part of what is trained on without a label


def stratified(rows: pd.DataFrame, fractions: Sequence[float], seed: int, attempts: int) -> pd.Series:
    """The number of the part of each row: whole groups, each class in the shares ``fractions`` as far as can be.

    The most even of ``attempts`` trials of iterative stratification is taken, of equals the first.
    """
    counts = pd.crosstab(rows["group"], rows["label"])
    held, wanted = counts.to_numpy(), np.array(fractions)
    trials = _iterative(held, wanted, [seed + 1000 * i for i in range(attempts)])
    best = min(trials, key=lambda part_of: _unevenness(held, part_of, wanted))
    return rows["group"].map(dict(zip(counts.index, best, strict=True)))


def by_subject(rows: pd.DataFrame, fractions: Sequence[float], seed: int, attempts: int) -> pd.Series:
    """Groups to parts with ``fractions`` (of train, valid, test) of each class."""
    return stratified(rows, fractions, seed, attempts).map(dict(enumerate(PARTS)))


def with_valid(rows: pd.DataFrame, is_test: pd.Series, fraction: float, seed: int, attempts: int) -> pd.Series:
    """The test part as it is given; groups of the rest to train and valid, ``fraction`` of the rest to valid."""
    parts = pd.Series("test", index=rows.index, dtype=object)
    rest = rows[~is_test]
    if len(rest):
        parts[rest.index] = stratified(rest, (1 - fraction, fraction), seed, attempts).map(dict(enumerate(PARTS)))
    return parts


def is_held_out(rows: pd.DataFrame, name: str) -> pd.Series:
    """Whether a row is of the source ``name``, where there are several; else whether it is of that collection."""
    sources, collections = (sorted(rows[column].unique()) for column in ("source", "collection"))
    sources = sources if len(sources) > 1 else []
    if not sources and len(collections) < 2:
        raise DataRefused(
            f"all recordings in use are of one source and one collection, {collections[0]!r}: nothing would be left to "
            "train on when it is held out; add another (see split.collections) or use split.strategy=subject"
        )
    if name not in sources + collections:
        names = ", ".join(dict.fromkeys(sources + collections))
        raise DataRefused(
            f"there is no source or collection {name!r} to hold out: set split.held_out to one of {names}"
        )
    return rows["source" if name in sources else "collection"] == name


def by_blocks(rows: pd.DataFrame, fractions: Sequence[float], gap: int) -> pd.Series:
    """Contiguous blocks (train, valid, test) in natural order of ids in each source, collection and label.

    ``gap`` recordings on each of the two borders are left out. Where there are too few for three blocks, all go to
    train. Near-duplicates that stand in several blocks are kept in the one that has most of them.
    """
    parts = pd.Series(None, index=rows.index, dtype=object)
    for _, block in rows.groupby(["source", "collection", "label"], dropna=False):
        order = sorted(block.index, key=lambda i: natural_key(rows.at[i, "recording_id"]))
        room = len(order) - 2 * gap
        valid, test = (max(1, int(f * room + 1e-9)) if room >= len(PARTS) else 0 for f in fractions[1:])
        train = room - valid - test if test else len(order)
        parts[order[:train]] = "train"
        if test:
            parts[order[train + gap : train + gap + valid]] = "valid"
            parts[order[-test:]] = "test"
    refuse_torn(rows, parts, "unit", "as blocks, which are for recordings without subjects: use split.strategy=subject")
    standing = pd.crosstab(rows["group"], parts).reindex(columns=PARTS, fill_value=0)
    home = rows["group"].map(standing[list(reversed(PARTS))].idxmax(axis=1))
    return parts.where(parts == home, None)


def natural_key(name: str) -> tuple[list[object], str]:
    """Sorts the numbers in names as numbers: 2 before 10."""
    pieces: list[object] = list(re.split(r"(\d+)", name))
    pieces[1::2] = [int(str(digits)) for digits in pieces[1::2]]
    return pieces, name


def by_column(rows: pd.DataFrame, column: str) -> pd.Series:
    """What the user's own column says, read from the JSON in the column ``extra``."""
    extras = [json.loads(text) if isinstance(text, str) else {} for text in rows["extra"]]
    if not any(column in extra for extra in extras):
        others = ", ".join(sorted({str(name) for extra in extras for name in extra})) or "none"
        raise DataRefused(f"no recording has a column {column!r}: set split.column to one of those there are: {others}")
    said = [str(extra.get(column, "")).strip() for extra in extras]
    parts = pd.Series([PART_NAMES.get(word.casefold()) for word in said], index=rows.index, dtype=object)
    unknown = [name for name, part in zip(rows["recording_id"], parts, strict=True) if part is None]
    if unknown:
        word = said[list(rows["recording_id"]).index(unknown[0])]
        raise DataRefused(
            f"the column {column!r} says {word!r} of the recording {unknown[0]!r} ({len(unknown)} such in all): "
            f"write one of {', '.join(PART_NAMES)}"
        )
    refuse_torn(rows, parts, "group", f"as the column {column!r} says: give all its recordings one part")
    return parts


def by_hash(
    rows: pd.DataFrame, fractions: Sequence[float], seed: int, spellings: Mapping[str, Collection[str]] | None = None
) -> pd.Series:
    """The part that a hash of the seed and the unit gives, whatever else is in the table; shares hold in expectation.

    Where near-duplicates tie units together (``near_group``, those whose recordings were all refused as copies
    included), all go to test if one would, else to valid if one would: so data that come later can draw a unit into
    the test part, but never out of it. The same where a table has a unit in other ``spellings``, too: which of them is its
    name depends on how many rows have each.
    """
    _, valid, test = fractions
    others = spellings or {}

    def rank_of(unit: str) -> int:
        drawn = _uniform(seed, unit)
        return 2 if drawn < test else 1 if drawn < test + valid else 0

    tied = rows["near_group"] if "near_group" in rows else pd.Series(None, index=rows.index)
    names = [
        [unit, *(json.loads(near) if isinstance(near, str) else ())]
        for unit, near in zip(rows["unit"], tied, strict=True)
    ]
    spelled = [[spelling for name in of for spelling in (name, *others.get(name, ()))] for of in names]
    rank = pd.Series([max(map(rank_of, of)) for of in spelled], index=rows.index)
    return rank.groupby(rows["group"]).transform("max").map(dict(enumerate(PARTS)))


def refuse_torn(rows: pd.DataFrame, parts: pd.Series, column: str, when: str) -> None:
    """Raise `DataRefused` naming a unit or group (``column``) that stands in two parts; left out rows do not count."""
    standing = parts.groupby(rows[column]).nunique()
    torn = standing.index[standing > 1]
    if len(torn):
        first = rows[column] == torn[0]
        ids = ", ".join(rows.loc[first, "recording_id"].head(3))
        raise DataRefused(
            f"{torn[0]!r} ({ids}, ...: one subject, or near-duplicates) would stand in "
            f"{' and in '.join(sorted(parts[first].dropna().unique()))} {when}; "
            f"{len(torn)} such in all, and scores would be too high"
        )


def _uniform(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on the seed and the name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:6], "big") / 2**48


def _iterative(held: np.ndarray, fractions: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
    """Number of the part of each group, shape (seeds, groups), by iterative stratification.

    ``held``: recordings, groups x classes. Groups of the class that fewest have come first, large ones before small
    ones; each goes to the part that has the least of the share of that class that it should get. So a class with three
    groups stands in all of three parts. The trials are independent and go side by side, a step a group. After
    Sechidis, Tsoumakas and Vlahavas 2011, On the stratification of multi-label data, ECML PKDD.
    """
    having = (held > 0).sum(axis=0)
    rarest = np.where(held > 0, having, len(held) + 1).argmin(axis=1)
    draws = [np.random.default_rng(seed) for seed in seeds]
    ties = [rng.random(len(held)) for rng in draws]
    order = np.stack([np.lexsort((tie, -held.sum(axis=1), having[rarest])) for tie in ties], axis=1)
    lots = np.stack([rng.random((len(held), len(fractions))) for rng in draws])
    wanted = np.outer(fractions, held.sum(axis=0))
    trial = np.arange(len(seeds))
    placed, part_of = np.zeros((len(seeds), *wanted.shape)), np.empty((len(seeds), len(held)), dtype=int)
    for groups in order:
        classes = rarest[groups]
        filled = placed[trial, :, classes] / wanted[:, classes].T
        room = (wanted - placed).sum(axis=2)
        parts = np.lexsort((lots[trial, groups], -room, filled), axis=1)[:, 0]
        part_of[trial, groups] = parts
        placed[trial, parts] += held[groups]
    return part_of


def _unevenness(held: np.ndarray, part_of: np.ndarray, fractions: np.ndarray) -> float:
    """How far the parts' shares of each class are from the wanted ones; a class absent from a part outweighs all."""
    shares = np.stack([held[part_of == number].sum(axis=0) for number in range(len(fractions))]) / held.sum(axis=0)
    return 1e3 * (shares == 0).sum() + np.abs(shares - fractions[:, None]).sum()
