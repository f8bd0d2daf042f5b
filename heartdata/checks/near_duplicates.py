"""Near-duplicates: recordings of one sound that differ in codec, sampling rate, loudness, cut or some noise.

Two recordings are one sound when the codes of their fingerprints (`heartdata.audio.fingerprint`) agree, or when their
envelopes correlate and the codes agree more than those of different recordings of one heart; docs/checks.md has the
measurements behind the constants. Whether they are depends on these two alone, so that new recordings are compared with
all, and known ones not again.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from heartdata.storage.schemas import PAIRS
from heartdata.storage.store import table_from_frame

PARTNERS = (
    32  # pairs of a recording with those before it by sha256 that are kept, the first ones: bounds crowds of copies
)
FIRST_BLOCK = 64  # recordings indexed first; the next blocks are four times as long
CHUNK = 4096  # recordings that one call of the compiled search compares with the index
Progress = Callable[[float], None]  # is called with the share of the work that is done

NO_PAIRS = PAIRS.empty_table().to_pandas()


@dataclass(frozen=True)
class Search:
    """A finished search: the recordings (schema SEARCHED) and their pairs (schema PAIRS)."""

    searched: pd.DataFrame
    pairs: pd.DataFrame


def near_duplicates(
    facts: pd.DataFrame, threshold: float, known: Search | None = None, on_progress: Progress | None = None
) -> Search:
    """The pairs of one sound among ``facts`` (columns sha256, and fingerprint: bytes or null), in any order.

    A pair has ``sha256_a`` < ``sha256_b``, ``similarity`` of envelopes, ``agreement`` of codes and ``offset_frames``, the
    frame of a at which b begins. ``threshold``: the similarity from which on recordings whose codes agree by SIMILAR_CODES
    are a pair. The overlap must be half of the frames with sound of the shorter recording, or ten seconds; of an overlap
    longer than a minute, one minute that agrees is enough. Of each recording's pairs with others of smaller sha256, the
    first PARTNERS are kept.

    ``known``: an earlier search; what it has of the same recordings is taken from it, and the result is the same.
    """
    facts = _distinct(facts)
    searched = pd.DataFrame({
        "sha256": facts["sha256"],
        "fingerprint_sha256": [hashlib.sha256(f).hexdigest() for f in facts["fingerprint"]],
    })  # fmt: skip
    same, lost, pairs = _still_valid(known, searched) if known is not None else (set(), set(), NO_PAIRS)
    new, incomplete = (~facts["sha256"].isin(same)).to_numpy(), facts["sha256"].isin(lost).to_numpy()
    if 2 * new.sum() > len(new):
        found = _search_blocks(facts, np.ones(len(facts), bool), threshold, on_progress)
    else:
        again = _search_blocks(facts, incomplete, threshold)
        found = pd.concat([pairs, again, _pairs(facts, new, np.arange(len(new)), threshold, on_progress)])
    return Search(searched, _first_partners(found))


def near_duplicates_between(facts: pd.DataFrame, others: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The pairs, as `near_duplicates` has them, of one recording of ``facts`` and one of ``others``."""
    both = _distinct(pd.concat([facts, others], ignore_index=True))
    indexed = both["sha256"].isin(facts["sha256"]).to_numpy()
    return _pairs(both, indexed, np.flatnonzero(~indexed), threshold)


def _distinct(facts: pd.DataFrame) -> pd.DataFrame:
    facts = facts[["sha256", "fingerprint"]].dropna().drop_duplicates("sha256")
    return facts.sort_values("sha256", ignore_index=True)


def _still_valid(known: Search, searched: pd.DataFrame) -> tuple[set[str], set[str], pd.DataFrame]:
    """The recordings that were searched before, those of them that lost one of PARTNERS partners, and the known pairs."""
    same = set(known.searched.merge(searched)["sha256"])
    pairs = known.pairs
    kept = pairs["sha256_a"].isin(same) & pairs["sha256_b"].isin(same)
    full = pairs["sha256_b"].value_counts() >= PARTNERS
    lost = pairs.loc[~kept & pairs["sha256_b"].map(full).astype(bool), "sha256_b"]  # one further on may take the place
    return same, set(lost), pairs[kept]


def _first_partners(pairs: pd.DataFrame) -> pd.DataFrame:
    pairs = pairs.drop_duplicates(["sha256_a", "sha256_b"]).sort_values(["sha256_b", "sha256_a"])
    pairs = pairs[pairs.groupby("sha256_b").cumcount() < PARTNERS]
    return table_from_frame(pairs.sort_values(["sha256_a", "sha256_b"]), PAIRS).to_pandas()


def _search_blocks(
    facts: pd.DataFrame, wanted: np.ndarray, threshold: float, on_progress: Progress | None = None
) -> pd.DataFrame:
    """The pairs of the recordings ``wanted`` (a mask) with those before them.

    Blocks are indexed in turn, and recordings with enough partners left out: copies of one sound cost linear time.
    """
    numbers, found, parts = np.arange(len(facts)), np.zeros(len(facts), int), [NO_PAIRS]
    start, size = 0, FIRST_BLOCK
    while start < len(facts) and wanted[start:].any():
        block = (numbers >= start) & (numbers < start + size)
        wanted = wanted & (numbers > start) & (found < PARTNERS)
        parts.append(_pairs(facts, block, numbers[wanted], threshold))
        found += np.bincount(np.searchsorted(facts["sha256"], parts[-1]["sha256_b"]), minlength=len(facts))
        start, size = start + size, 4 * size
        if on_progress:
            on_progress(1 - max(0, 1 - start / len(facts)) ** 2)
    return pd.concat(parts)


def _pairs(
    facts: pd.DataFrame, indexed: np.ndarray, others: np.ndarray, threshold: float, on_progress: Progress | None = None
) -> pd.DataFrame:
    """The pairs of the recordings ``indexed`` (a mask) with ``others`` (numbers, ascending); schema PAIRS, in no order."""
    if not indexed.any() or not others.size:
        return NO_PAIRS
    from heartdata.checks import alignment  # numba takes .5 s to import

    prints = facts["fingerprint"].tolist()
    frames = np.array([len(p) // 2 for p in prints])
    data = np.frombuffer(b"".join(prints), np.uint8)
    packed = alignment.Prints(data, 2 * (np.cumsum(frames) - frames), frames)
    index = alignment.Index(*alignment.index(packed, np.flatnonzero(indexed)))
    chunks = np.array_split(others, -(-len(others) // CHUNK))
    rows = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda chunk: alignment.search(packed, index, indexed, chunk, threshold), chunks):
            rows.append(found)
            if on_progress:
                on_progress(len(rows) / len(chunks))
    first, second, similarity, agreement, offset = np.concatenate(rows).T
    names = facts["sha256"].to_numpy()
    return pd.DataFrame({
        "sha256_a": names[first.astype(int)],
        "sha256_b": names[second.astype(int)],
        "similarity": similarity.round(4),
        "agreement": agreement.round(4),
        "offset_frames": offset.astype(int),
    })  # fmt: skip
