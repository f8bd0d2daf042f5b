"""Recordings of the same sound: which of several copies are kept, and which are refused, also for conflicting labels."""

import json
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterator
from itertools import chain
from typing import Any

import pandas as pd

from heartdata.checks.groups import connected_groups, subject_units
from heartdata.checks.near_duplicates import PARTNERS

MARKS = ("other_labels", "same_sound", "duplicate_of", "near_duplicate_of")
LONGER = 1.1  # how much longer a copy must be to take the place of one that was kept last time
Similarities = dict[str, dict[str, float]]  # sha256 of a file to those of its near-duplicates, and how similar they are


def mark_duplicates(
    table: pd.DataFrame,
    passed: pd.Series,
    in_use: pd.Series,
    pairs: pd.DataFrame | None = None,
    kept_before: Collection[str] = (),
    refuse_near: bool = True,
) -> pd.DataFrame:
    """``table`` (of `heartdata.checks.validation.join_facts`) with the columns MARKS and ``near_group``.

    Recordings are copies when their samples are equal, near-duplicates when they are one of ``pairs`` (schema
    CONFIRMED_PAIRS). Only direct and ``confirmed`` pairs conflict or are refused, and of more than PARTNERS copies, whose
    pairs are not all known, those of a refused one; chains of ``alike`` pairs are kept together in the split.

    - ``other_labels``, ``same_sound``: where labels conflict, the sound's other labels, and which recording has one.
    - ``duplicate_of``, ``near_duplicate_of``: the kept recording that it is a copy of, or (with ``refuse_near``) a
      near-duplicate of. Kept are, in this order, those that ``passed`` their own checks, may be trained on
      (``in_use``), are labelled, are longest, come first by id. Durations of those kept last time
      (``kept_before``, ids) count LONGER-fold, so that only a much longer copy takes the place of one, and in the same
      part of the split, since ``near_group`` names both.
    - ``near_group``: JSON list of the subjects that have a sound in common (one person under two names, or one name for
      two people), so that the split keeps them together.

    Both masks have the index of ``table``.
    """
    table = table.assign(**dict.fromkeys(MARKS))
    length = table["duration_s"].fillna(0) * table["recording_id"].isin(kept_before).map({True: LONGER, False: 1.0})
    ranked = table.assign(failed=~passed, unused=~in_use, unlabelled=table["label"].isna(), shortness=-length)
    ranked = ranked.sort_values(["failed", "unused", "unlabelled", "shortness", "recording_id"])
    ranked = ranked[ranked["samples_sha256"].notna()]
    sounds = _sounds(ranked, pairs)
    copied = sounds.duplicated(keep=False)
    table["near_group"] = subject_units(table).map(_near_groups(subject_units(ranked[copied]), sounds[copied]))
    near, crowded = _similarities(pairs), _crowded(pairs)
    for _, copies in ranked[copied].groupby(sounds[copied]):
        for index, marks in _marks(list(copies.itertuples()), near, crowded, refuse_near).items():
            for name, value in marks.items():
                table.at[index, name] = value
    return table


def _marks(rows: list[Any], near: Similarities, crowded: set[str], refuse_near: bool) -> dict[Hashable, dict[str, str]]:
    """MARKS by row label for recordings that a chain connects, the preferred first."""
    equal: dict[str, dict[str, str]] = defaultdict(dict)  # samples to labels, and the first recording with each
    of_file: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        of_file[row.sha256].append(row)
        if isinstance(row.label, str):
            first = equal[row.samples_sha256].get(row.label, row.recording_id)
            equal[row.samples_sha256][row.label] = min(first, row.recording_id)
    kept: dict[str, str] = {}  # recordings by their samples
    near_to: dict[str, str] = {}  # refused recordings to the kept one that each is a near-duplicate of
    marks: dict[Hashable, dict[str, str]] = {}
    for row in rows:
        similar = [(o, s) for sha256, s in near.get(row.sha256, {}).items() for o in of_file[sha256]]
        similar.sort(key=lambda pair: (-pair[1], pair[0].recording_id))
        alike: Iterator[tuple[str, float]] = (
            (o.recording_id, s) for o, s in similar if kept.get(o.samples_sha256) == o.recording_id
        )
        if row.sha256 in crowded:
            through = ((near_to[o.recording_id], s) for o, s in similar if o.recording_id in near_to)
            alike = chain(alike, through)
        if conflict := _conflict(row, equal[row.samples_sha256], similar):
            marks[row.Index] = conflict
        elif row.samples_sha256 in kept:
            marks[row.Index] = {"duplicate_of": kept[row.samples_sha256]}
        elif refuse_near and (other := next(alike, None)):
            marks[row.Index] = {"near_duplicate_of": f"{other[0]} (similarity {other[1]:.3f})"}
            near_to[row.recording_id] = other[0]
        elif not row.failed:
            kept[row.samples_sha256] = row.recording_id
    return marks


def _conflict(row: Any, equal: dict[str, str], similar: list[tuple[Any, float]]) -> dict[str, str] | None:
    """The marks of a row of which a copy (of the labels ``equal``) or a near-duplicate has another label; else None."""
    if len(equal) > 1:
        others = {label: recording_id for label, recording_id in equal.items() if label != row.label}
        return {"other_labels": ", ".join(sorted(others)), "same_sound": f"the same sound ({min(others.values())})"}
    labelled = isinstance(row.label, str)
    unlike = [(o, s) for o, s in similar if labelled and isinstance(o.label, str) and o.label != row.label]
    if not unlike:
        return None
    where = f"nearly the same sound ({unlike[0][0].recording_id}, similarity {unlike[0][1]:.3f})"
    return {"other_labels": ", ".join(sorted({o.label for o, _ in unlike})), "same_sound": where}


def _near_groups(units: pd.Series, sounds: pd.Series) -> dict[str, str]:
    """Each unit that has a sound in common with another, to the JSON list of all units so connected."""
    groups: dict[str, str] = {}
    for group in map(sorted, connected_groups(units, sounds)):
        if len(group) > 1:
            groups |= dict.fromkeys(group, json.dumps(group))
    return groups


def _similarities(pairs: pd.DataFrame | None) -> Similarities:
    near: Similarities = defaultdict(dict)
    if pairs is not None:
        confirmed = pairs.loc[pairs["confirmed"], ["sha256_a", "sha256_b", "similarity"]]
        for a, b, similarity in confirmed.itertuples(index=False):
            near[a][b] = near[b][a] = similarity
    return near


def _crowded(pairs: pd.DataFrame | None) -> set[str]:
    """The sha256 of recordings with so many partners that only some of their pairs are known."""
    if pairs is None:
        return set()
    counts = pairs["sha256_b"].value_counts()
    return set(counts.index[counts >= PARTNERS])


def _sounds(rows: pd.DataFrame, pairs: pd.DataFrame | None) -> pd.Series:
    """An id for each row, the same for recordings of one sound: connected components of copies and pairs."""
    from scipy.cluster.hierarchy import DisjointSet  # slow to load, also where only settings are needed

    samples = dict(zip(rows["sha256"], rows["samples_sha256"], strict=True))
    sounds = DisjointSet(rows["samples_sha256"])
    if pairs is not None:
        known = pairs[pairs["alike"] & pairs["sha256_a"].isin(samples) & pairs["sha256_b"].isin(samples)]
        for a, b in known[["sha256_a", "sha256_b"]].itertuples(index=False):
            sounds.merge(samples[a], samples[b])
    return rows["samples_sha256"].map(sounds.__getitem__)
