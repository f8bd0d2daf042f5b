"""Recordings of one sound: which is kept of several, and which are refused because their labels contradict."""

import json
from collections.abc import Collection, Hashable
from typing import Any

import pandas as pd
from scipy.cluster.hierarchy import DisjointSet

MARKS = ("other_labels", "same_sound", "duplicate_of", "near_duplicate_of")
Likeness = dict[str, dict[str, float]]  # sha256 of a recording to those that it is like, and how much


def mark_duplicates(
    table: pd.DataFrame,
    sound: pd.Series,
    in_use: pd.Series,
    pairs: pd.DataFrame | None = None,
    known: Collection[str] = (),
) -> pd.DataFrame:
    """``table`` (rows of `heartdata.checks.validation.join_facts`) with what other recordings of the same sound say.

    The same sound: the same samples, or joined by ``pairs`` (of `heartdata.checks.near_duplicates.near_duplicates`), however
    many pairs lie between. ``other_labels``: the labels that the sound has elsewhere, ``same_sound``: where.
    ``duplicate_of``, ``near_duplicate_of``: the recording that is kept of several: one that passed its own checks
    (``sound``) before others, one that may be trained on (``in_use``), a labelled one and one that was kept last time
    (``known``, ids) before others, then the first by id. ``near_group``: JSON list of the subjects that have a sound in
    common, so that splits keep them together (one person under two names, or a name given twice). Both masks are
    indexed as ``table``.
    """
    table = table.assign(**dict.fromkeys(MARKS))
    new = ~table["recording_id"].isin(known)
    ranked = table.assign(unsound=~sound, unused=~in_use, unlabelled=table["label"].isna(), new=new)
    ranked = ranked.sort_values(["unsound", "unused", "unlabelled", "new", "recording_id"])
    ranked = ranked[ranked["samples_sha256"].notna()]
    near = _neighbours(pairs)
    sound_of = _clusters(ranked, near)
    several = sound_of.duplicated(keep=False)
    table["near_group"] = _unit(table).map(_tied(_unit(ranked[several]), sound_of[several]))
    for _, copies in ranked[several].groupby(sound_of[several]):
        for index, marks in _marks(copies, near).items():
            for name, value in marks.items():
                table.at[index, name] = value
    return table


def _marks(copies: pd.DataFrame, near: Likeness) -> dict[Hashable, dict[str, str]]:
    """MARKS by row label for recordings of one sound, the one to keep first."""
    labels = sorted(copies["label"].dropna().unique())
    of_file = {sha256: list(rows.itertuples()) for sha256, rows in copies.groupby("sha256")}
    kept, *_ = rows = list(copies.itertuples())
    marks: dict[Hashable, dict[str, str]] = {}
    for row in rows if len(labels) > 1 else rows[1:]:
        like = [
            (-s, o.recording_id, o) for sha256, s in near.get(row.sha256, {}).items() for o in of_file.get(sha256, ())
        ]
        like.sort(key=lambda entry: entry[:2])
        if len(labels) > 1:
            others = [name for name in labels if name != row.label]
            same = (copies["samples_sha256"] == row.samples_sha256) & copies["label"].isin(others)
            named = copies["recording_id"][same]
            marks[row.Index] = {
                "other_labels": ", ".join(others),
                "same_sound": f"the same sound ({min(named)})" if len(named) else _where(row, like),
            }
        elif row.samples_sha256 == kept.samples_sha256:
            marks[row.Index] = {"duplicate_of": kept.recording_id}
        else:
            marks[row.Index] = {"near_duplicate_of": _kept(row, kept, like, near)}
    return marks


def _where(row: Any, like: list[tuple[float, str, Any]]) -> str:
    """Where a sound has another label, when not in the same samples: in something nearly the same."""
    other = [entry for entry in like if isinstance(entry[2].label, str) and entry[2].label != row.label]
    if not (other or like):
        return "nearly the same sound"
    similarity, name, _ = (other or like)[0]
    return f"nearly the same sound ({'' if other else 'by way of '}{name}, similarity {-similarity:.3f})"


def _kept(row: Any, kept: Any, like: list[tuple[float, str, Any]], near: Likeness) -> str:
    """The kept recording's name and how like it is, or by way of which other it is like."""
    direct = near.get(row.sha256, {}).get(kept.sha256)
    if direct is not None:
        return f"{kept.recording_id} (similarity {direct:.3f})"
    if not like:
        return str(kept.recording_id)
    similarity, name, _ = like[0]
    return f"{kept.recording_id} (by way of {name}, similarity {-similarity:.3f})"


def _unit(rows: pd.DataFrame) -> pd.Series:
    """The subject within its source, or the recording where none is known."""
    return rows["source"] + "/" + rows["subject"].where(rows["subject"].notna(), "recording " + rows["sha256"])


def _tied(units: pd.Series, sounds: pd.Series) -> dict[str, str]:
    """Each unit that has a sound in common with another, to the JSON list of all that are so connected."""
    ties = DisjointSet(units)
    for _, (first, *others) in units.groupby(sounds):
        for other in others:
            ties.merge(first, other)
    tied = [sorted(subset) for subset in ties.subsets() if len(subset) > 1]
    return {name: text for names in tied for text in [json.dumps(names)] for name in names}


def _neighbours(pairs: pd.DataFrame | None) -> Likeness:
    """sha256 of each recording in a pair to those that it is like, and how much."""
    near: Likeness = {}
    for a, b, similarity in (
        [] if pairs is None else pairs[["sha256_a", "sha256_b", "similarity"]].itertuples(index=False)
    ):
        near.setdefault(a, {})[b] = similarity
        near.setdefault(b, {})[a] = similarity
    return near


def _clusters(rows: pd.DataFrame, near: Likeness) -> pd.Series:
    """A name for each row, the same for recordings of one sound: connected components of copies and pairs."""
    samples = dict(zip(rows["sha256"], rows["samples_sha256"], strict=True))
    sounds = DisjointSet(rows["samples_sha256"])
    for a in near.keys() & samples.keys():
        for b in near[a].keys() & samples.keys():
            sounds.merge(samples[a], samples[b])
    return rows["samples_sha256"].map(sounds.__getitem__)
