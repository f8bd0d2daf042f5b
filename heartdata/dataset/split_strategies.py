"""Split strategies: each a pure function from rows to the part of each row (None: left out).

``rows`` are labelled recordings with the columns recording_id, sha256, source, collection, label, unit (the subject, or
the recording itself when the subject is unknown) and group (units connected by near-duplicates).
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from heartdata.errors import DataRefused
from heartdata.sources.text import clean_cell, enumerated, quoted
from heartdata.storage.schemas import PART_NAMES

PARTS = ("train", "valid", "test")
UNLABELLED = "unlabelled"  # trained on without labels


def stratified(rows: pd.DataFrame, fractions: Sequence[float], seed: int, attempts: int) -> pd.Series:
    """The number of the part of each row: groups stay whole, each class is split by ``fractions`` as evenly as possible.

    Takes the most even of ``attempts`` trials of iterative stratification, or the first of several.
    """
    counts = pd.crosstab(rows["group"], rows["label"])
    held, shares = counts.to_numpy(), np.array(fractions)
    trials = _iterative(held, shares, [seed + 1000 * i for i in range(attempts)])
    best = min(trials, key=lambda part_of: _unevenness(held, part_of, shares))
    return rows["group"].map(dict(zip(counts.index, best, strict=True)))


def by_subject(rows: pd.DataFrame, fractions: Sequence[float], seed: int, attempts: int) -> pd.Series:
    """Whole groups to PARTS, ``fractions`` of each class to each."""
    return stratified(rows, fractions, seed, attempts).map(dict(enumerate(PARTS)))


def with_valid(rows: pd.DataFrame, is_test: pd.Series, fraction: float, seed: int, attempts: int) -> pd.Series:
    """The test part by ``is_test``; groups of the rest to train and valid, ``fraction`` of the rest to valid."""
    parts = pd.Series("test", index=rows.index, dtype=object)
    rest = rows[~is_test]
    if len(rest):
        parts[rest.index] = stratified(rest, (1 - fraction, fraction), seed, attempts).map(dict(enumerate(PARTS)))
    return parts


def nested_share(rows: pd.DataFrame, share: float, seed: int) -> pd.Series:
    """Which of ``rows`` are in a share of the groups: whole groups, each class by the same share but at least one of each.

    The groups of a smaller share are among those of a larger one with the same seed. A group with several classes counts
    as one of its rarest.
    """
    counts = pd.crosstab(rows["group"], rows["label"])
    holds = counts.to_numpy() > 0
    groups_of = holds.sum(axis=0)
    rarest = np.where(holds, groups_of, len(holds) + 1).argmin(axis=1)
    place = np.random.default_rng(seed).random(len(holds))  # of a group among those of its class, in 0-1
    for number in np.unique(rarest):
        of_class = np.flatnonzero(rarest == number)
        place[of_class[place[of_class].argsort()]] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    order = list(np.argsort(place, kind="stable"))
    first: list[int] = []  # one of each class, the rarest first
    for number in np.argsort(groups_of, kind="stable"):
        if not holds[first, number].any():
            first.append(next(group for group in order if holds[group, number]))
    order = first + [group for group in order if group not in first]
    kept = order[: max(len(first), round(share * len(order)))]
    return rows["group"].isin(counts.index[kept])


def is_held_out(rows: pd.DataFrame, name: str) -> pd.Series:
    """Whether a row is of the source ``name``, if there are several sources, else of the collection ``name``."""
    sources, collections = (sorted(rows[column].unique()) for column in ("source", "collection"))
    sources = sources if len(sources) > 1 else []
    if not sources and len(collections) < 2:
        raise DataRefused(
            f"all recordings in use are of one source and one collection, {collections[0]!r}, so nothing would be left to "
            "train on: add another (see split.collections) or use split.strategy=subject"
        )
    if name not in sources + collections:
        names = ", ".join(dict.fromkeys(sources + collections))
        raise DataRefused(f"split.held_out={name!r} is not a source or collection in use: set it to one of {names}")
    return rows["source" if name in sources else "collection"] == name


def by_blocks(rows: pd.DataFrame, fractions: Sequence[float], gap: int) -> pd.Series:
    """Contiguous blocks (train, valid, test) in natural order of ids within each source, collection and label.

    ``gap`` recordings at each of the two borders are left out. If there are too few for three blocks, all go to train.
    Of near-duplicates in several blocks, those in the block that has most of them are kept.
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
    _refuse_leak(
        rows, parts, "unit", "as blocks, which are for recordings without subjects: use split.strategy=subject"
    )
    counts = pd.crosstab(rows["group"], parts).reindex(columns=PARTS, fill_value=0)
    home = rows["group"].map(counts[list(reversed(PARTS))].idxmax(axis=1))
    return parts.where(parts == home, None)


def natural_key(name: str) -> tuple[list[object], str]:
    """A sort key by which numbers in names are ordered as numbers: 2 before 10."""
    pieces: list[object] = list(re.split(r"(\d+)", name))
    pieces[1::2] = [int(str(digits)) for digits in pieces[1::2]]
    return pieces, name


def by_column(rows: pd.DataFrame, column: str) -> pd.Series:
    """The parts in the user's own column, read from the JSON in the column ``extra``."""
    extras = [json.loads(text) if isinstance(text, str) else {} for text in rows["extra"]]
    if not any(column in extra for extra in extras):
        others = enumerated(sorted({str(name) for extra in extras for name in extra})) or "none"
        raise DataRefused(f"no recording has a column {column!r}: set split.column to an existing column: {others}")
    words = pd.Series([clean_cell(str(extra.get(column, ""))) for extra in extras], index=rows.index, dtype=object)
    parts = words.map(lambda word: PART_NAMES.get(word.casefold())).astype(object)
    unknown = rows.index[parts.isna()]
    if len(unknown):
        raise DataRefused(
            f"the column {column!r} has {quoted(words[unknown[0]])} for the recording {rows.at[unknown[0], 'recording_id']!r} "
            f"({len(unknown)} such in all): write one of {', '.join(PART_NAMES)}"
        )
    _refuse_leak(rows, parts, "group", f"by the column {column!r}: give all its recordings the same part")
    return parts


def by_hash(
    rows: pd.DataFrame, fractions: Sequence[float], seed: int, spellings: Mapping[str, Collection[str]] | None = None
) -> pd.Series:
    """The part by a hash of the seed and the unit, independent of the rest of the table; shares hold in expectation.

    Units connected by near-duplicates (``near_group``, which also names units whose recordings were all refused as
    copies) all go to test if one would, else to valid if one would. So later data can move a unit into the test part but
    never out of it. The same holds for the ``spellings`` of a unit, as the one that names it is the most common one.
    """
    _, valid, test = fractions
    others = spellings or {}

    def rank_of(unit: str, near_group: object) -> int:
        units = [unit, *(json.loads(near_group) if isinstance(near_group, str) else ())]
        drawn = min(_uniform(seed, name) for u in units for name in (u, *others.get(u, ())))
        return 2 if drawn < test else 1 if drawn < test + valid else 0

    near_groups = rows["near_group"] if "near_group" in rows else pd.Series(None, index=rows.index)
    rank = pd.Series(list(map(rank_of, rows["unit"], near_groups)), index=rows.index)
    return rank.groupby(rows["group"]).transform("max").map(dict(enumerate(PARTS)))


def _refuse_leak(rows: pd.DataFrame, parts: pd.Series, column: str, when: str) -> None:
    """Raise `DataRefused` naming a unit or group (``column``) that is in two parts; rows left out do not count."""
    counts = parts.groupby(rows[column]).nunique()
    leaking = counts.index[counts > 1]
    if len(leaking):
        first = rows[column] == leaking[0]
        ids = ", ".join(rows.loc[first, "recording_id"].head(3))
        raise DataRefused(
            f"{quoted(leaking[0])} ({ids}, ...: one subject, or near-duplicates) would be in "
            f"{' and in '.join(sorted(parts[first].dropna().unique()))} {when}; "
            f"{len(leaking)} such in all, and scores would be too high"
        )


def _uniform(seed: int, name: str) -> float:
    """A number in [0, 1) that depends on the seed and the name only."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:6], "big") / 2**48


def _iterative(held: np.ndarray, fractions: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
    """Number of the part of each group, shape (seeds, groups), by iterative stratification.

    ``held``: recordings, groups x classes. Groups of the rarest class come first, large ones before small ones; each goes
    to the part that is furthest from its share of that class. So a class with three groups is in all of three parts. The
    trials are independent, and vectorized over seeds. After Sechidis, Tsoumakas and Vlahavas 2011, On the stratification
    of multi-label data, ECML PKDD; scikit-learn's StratifiedGroupKFold makes equal folds only.
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
    """Distance of the parts' shares of each class from ``fractions``; a class absent from a part outweighs all else."""
    shares = np.stack([held[part_of == number].sum(axis=0) for number in range(len(fractions))]) / held.sum(axis=0)
    return 1e3 * (shares == 0).sum() + np.abs(shares - fractions[:, None]).sum()
