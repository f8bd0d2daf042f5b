"""Recordings of the same sound: which of several copies is kept, and which are refused because their labels conflict."""

import json
from collections.abc import Collection, Hashable
from typing import Any

import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

from heartdata.checks.groups import connected_groups, subject_units

MARKS = ("other_labels", "same_sound", "duplicate_of", "near_duplicate_of")
Similarities = dict[str, dict[str, float]]  # sha256 of a file to those of its near-duplicates, and how similar they are


def mark_duplicates(
    table: pd.DataFrame,
    passed: pd.Series,
    in_use: pd.Series,
    pairs: pd.DataFrame | None = None,
    kept_before: Collection[str] = (),
) -> pd.DataFrame:
    """``table`` (of `heartdata.checks.validation.join_facts`) with the columns MARKS and ``near_group``.

    Recordings are of the same sound when their samples are equal or when a chain of ``pairs`` (of
    `heartdata.checks.near_duplicates.near_duplicates`) connects them.

    - ``other_labels``, ``same_sound``: where labels conflict, the sound's other labels, and which recording has one.
    - ``duplicate_of``, ``near_duplicate_of``: the copy that is kept instead. Preferred are, in this order: those that
      ``passed`` their own checks, may be trained on (``in_use``), are labelled, were kept last time (``kept_before``,
      ids), come first by id.
    - ``near_group``: JSON list of the subjects that have a sound in common (one person under two names, or one name for
      two people), so that the split keeps them together.

    Both masks have the index of ``table``.
    """
    table = table.assign(**dict.fromkeys(MARKS))
    new = ~table["recording_id"].isin(kept_before)
    ranked = table.assign(failed=~passed, unused=~in_use, unlabelled=table["label"].isna(), new=new)
    ranked = ranked.sort_values(["failed", "unused", "unlabelled", "new", "recording_id"])
    ranked = ranked[ranked["samples_sha256"].notna()]
    near = _similarities(pairs)
    sounds = _sounds(ranked, near)
    copied = sounds.duplicated(keep=False)
    table["near_group"] = subject_units(table).map(_near_groups(subject_units(ranked[copied]), sounds[copied]))
    for _, copies in ranked[copied].groupby(sounds[copied]):
        for index, marks in _marks(copies, near).items():
            for name, value in marks.items():
                table.at[index, name] = value
    return table


def _marks(copies: pd.DataFrame, near: Similarities) -> dict[Hashable, dict[str, str]]:
    """MARKS by row label for the recordings of one sound, of which the first is kept."""
    labels = sorted(copies["label"].dropna().unique())
    of_file = {sha256: list(rows.itertuples()) for sha256, rows in copies.groupby("sha256")}
    kept, *_ = rows = list(copies.itertuples())
    marks: dict[Hashable, dict[str, str]] = {}
    for row in rows if len(labels) > 1 else rows[1:]:
        similar = [(o, s) for sha256, s in near.get(row.sha256, {}).items() for o in of_file.get(sha256, ())]
        similar.sort(key=lambda pair: (-pair[1], pair[0].recording_id))
        if len(labels) > 1:
            others = [label for label in labels if label != row.label]
            equal = (copies["samples_sha256"] == row.samples_sha256) & copies["label"].isin(others)
            where = (
                f"the same sound ({copies.loc[equal, 'recording_id'].min()})"
                if equal.any()
                else _conflict(row, similar)
            )
            marks[row.Index] = {"other_labels": ", ".join(others), "same_sound": where}
        elif row.samples_sha256 == kept.samples_sha256:
            marks[row.Index] = {"duplicate_of": kept.recording_id}
        else:
            marks[row.Index] = {"near_duplicate_of": _kept(kept.recording_id, similar)}
    return marks


def _conflict(row: Any, similar: list[tuple[Any, float]]) -> str:
    """The most similar recording with another label, or else that by which ``row`` is connected with one."""
    if not similar:
        return "nearly the same sound"
    conflicting = [pair for pair in similar if isinstance(pair[0].label, str) and pair[0].label != row.label]
    other, similarity = (conflicting or similar)[0]
    return f"nearly the same sound ({'' if conflicting else 'via '}{other.recording_id}, similarity {similarity:.3f})"


def _kept(kept_id: str, similar: list[tuple[Any, float]]) -> str:
    """The kept recording's id and its similarity, or the recording by which it is connected."""
    for other, similarity in similar:
        if other.recording_id == kept_id:
            return f"{kept_id} (similarity {similarity:.3f})"
    return f"{kept_id} (via {similar[0][0].recording_id}, similarity {similar[0][1]:.3f})" if similar else kept_id


def _near_groups(units: pd.Series, sounds: pd.Series) -> dict[str, str]:
    """Each unit that has a sound in common with another, to the JSON list of all units so connected."""
    groups: dict[str, str] = {}
    for group in map(sorted, connected_groups(units, sounds)):
        if len(group) > 1:
            groups |= dict.fromkeys(group, json.dumps(group))
    return groups


def _similarities(pairs: pd.DataFrame | None) -> Similarities:
    near: Similarities = {}
    if pairs is not None:
        for a, b, similarity in pairs[["sha256_a", "sha256_b", "similarity"]].itertuples(index=False):
            near.setdefault(a, {})[b] = similarity
            near.setdefault(b, {})[a] = similarity
    return near


def _sounds(rows: pd.DataFrame, near: Similarities) -> pd.Series:
    """An id for each row, the same for recordings of one sound: connected components of copies and pairs."""
    samples = dict(zip(rows["sha256"], rows["samples_sha256"], strict=True))
    sounds = DisjointSet(rows["samples_sha256"])
    for a in near.keys() & samples.keys():
        for b in near[a].keys() & samples.keys():
            sounds.merge(samples[a], samples[b])
    return rows["samples_sha256"].map(sounds.__getitem__)
