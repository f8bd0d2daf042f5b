"""Near-duplicates: recordings of one sound that differ in codec, sampling rate, loudness, cut or some noise.

Two recordings are one sound when the codes of their fingerprints (`heartdata.audio.fingerprint`) agree, or when their
envelopes correlate and the codes agree more than those of different recordings of one heart; docs/checks.md has the
measurements behind the constants.

The search is near-linear: a few consecutive codes make a key; recordings with a common key are compared around it (seed
and extend, Altschul et al. 1990), and those that agree there over their whole overlap. The entries of a bucket are
sorted by the codes that follow the key and each is compared with its next NEIGHBOURS only: in a small collection with
all of its bucket, in a large one with those that agree furthest (LSH forest, Bawa et al. 2005, WWW).
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from heartdata.audio.fingerprint import HOP_S, MIN_FRAMES, MINUTE

ENOUGH_FRAMES = 500  # ten seconds of overlap are enough, however long the recordings are

SAME_CODES = 0.45  # agreement of codes that suffices alone
SIMILAR_CODES = 0.2  # agreement of codes that suffices when the envelopes correlate,
SIMILAR_FRAMES = 150  # over at least three seconds
SHORT_PENALTY = 0.15  # subtracted from the agreement, over sqrt(seconds): a short overlap agrees more by chance

KEY_CODES = 3
KEY_STEP = 3  # frames between the codes of a key
KEYS = 512  # about so many per recording, or per minute of a longer one
BEFORE_AGREEMENT = 0.2  # least agreement of the codes before equal keys
NEIGHBOURS = 16
AROUND = 24  # frames on each side of a common key that are compared first
SEED_AGREEMENT = 0.3  # least agreement of these
OFFSETS = 3  # alignments of a pair that are compared over the whole overlap
CHUNK = 4_000_000  # codes keyed at a time, which bounds memory
PAIRS = 100_000  # pairs compared at a time
COLUMNS = ["sha256_a", "sha256_b", "similarity", "agreement"]
AFTER_KEY = np.uint64(64 - 8 * KEY_CODES)  # bits of a word that follow its key
WHOLE_KEY = np.uint64((1 << 64) - (1 << 64 - 8 * KEY_CODES))


def near_duplicates(facts: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """The pairs of one sound among ``facts`` (columns sha256, and fingerprint: bytes or null), in any order.

    Returns ``sha256_a`` < ``sha256_b``, ``similarity`` (`envelope_similarity`) and ``agreement`` (`code_agreement`),
    sorted. ``threshold``: the similarity from which on recordings whose codes agree by SIMILAR_CODES are a pair. The
    overlap must be half of the frames with sound of the shorter recording, or ten seconds; of an overlap longer than a
    minute, one minute that agrees is enough.
    """
    facts = facts[["sha256", "fingerprint"]].dropna().drop_duplicates("sha256").sort_values("sha256")
    names = facts["sha256"].tolist()
    prints = [np.frombuffer(p, np.uint8).reshape(2, -1) for p in facts["fingerprint"]]
    rows = []
    for (a, b), offsets in _candidates([codes for codes, _ in prints]).items():
        match = compare(prints[a], prints[b], offsets, threshold)
        if match:
            rows.append((names[a], names[b], *match))
    return pd.DataFrame(sorted(rows), columns=COLUMNS)


def compare(a: np.ndarray, b: np.ndarray, offsets: list[int], threshold: float) -> tuple[float, float] | None:
    """Similarity and agreement of two fingerprints, shape (2, frames) each, if they are one sound; else None."""
    halves = (int(np.count_nonzero(codes)) // 2 for codes in (a[0], b[0]))
    min_frames = max(MIN_FRAMES, min(*halves, ENOUGH_FRAMES))
    promising = [  # only a few candidates pass
        o for o in offsets if any(code_agreement(x[0], y[0])[0] >= SIMILAR_CODES / 2 for x, y in _stretches(a, b, o))
    ]
    matches = []
    for offset in {o + step for o in promising for step in (-1, 0, 1)}:
        for x, y in _stretches(a, b, offset):
            agreement, frames = code_agreement(x[0], y[0])
            sure = agreement - SHORT_PENALTY / max(frames * HOP_S, HOP_S) ** 0.5
            if frames < min_frames or sure < SIMILAR_CODES:
                continue
            similarity = envelope_similarity(x[1], y[1])
            if sure >= SAME_CODES or (similarity >= threshold and frames >= SIMILAR_FRAMES):
                matches.append((round(similarity, 4), round(agreement, 4)))
    return max(matches, default=None)


def _stretches(a: np.ndarray, b: np.ndarray, offset: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The overlap of two fingerprints, and each minute of it where it is longer than one."""
    x, y = overlap(a, b, offset)
    minutes = range(0, x.shape[1], MINUTE) if x.shape[1] > MINUTE else ()
    return [(x, y), *((x[:, at : at + MINUTE], y[:, at : at + MINUTE]) for at in minutes)]


def overlap(a: np.ndarray, b: np.ndarray, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """The common frames (last axis) of ``a`` and ``b`` when b's first frame is at a's frame ``offset``."""
    start, end = max(0, offset), max(0, offset, min(a.shape[-1], b.shape[-1] + offset))
    return a[..., start:end], b[..., start - offset : end - offset]


def code_agreement(x: np.ndarray, y: np.ndarray) -> tuple[float, int]:
    """1 - 2 x the share of differing bits of aligned codes (1 equal, 0 as by chance), and the frames with sound in both."""
    sound = (x != 0) & (y != 0)
    frames = int(sound.sum())
    return 1 - 2 * float((np.bitwise_count(x ^ y) * sound).sum()) / (8 * max(frames, 1)), frames


def envelope_similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation (-1 to 1) of the amplitudes of two aligned envelopes, the best of none and half a frame of shift."""
    x, y = (np.square(envelope.astype(np.float64)) for envelope in (x, y))
    smooth = (y[:-2] + 2 * y[1:-1] + y[2:]) / 4
    between = (x[:-1] + x[1:]) / 2  # x half a frame later, as smooth as y
    shifted = (between[1:], (between[:-1] + between[1:]) / 2, between[:-1])
    return max(_correlation(part, smooth) for part in shifted)


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / max(np.sqrt((x @ x) * (y @ y)), 1e-12))


def _candidates(prints: list[np.ndarray]) -> dict[tuple[int, int], list[int]]:
    """Pairs (a < b) of recordings that agree around a common key, with their most likely offsets."""
    codes = np.concatenate([np.zeros(0, np.uint8), *prints])
    ends = np.cumsum([len(p) for p in prints], dtype=np.int64)
    owner = np.repeat(np.arange(len(prints), dtype=np.int32), [len(p) for p in prints])
    offsets: dict[tuple[int, int], dict[int, float]] = {}
    for at, other in _hits(codes, ends, owner):
        agreement = _around(codes, owner, at, other)
        for i in np.flatnonzero(agreement >= SEED_AGREEMENT):
            a, b = int(owner[at[i]]), int(owner[other[i]])
            starts = [int(ends[r]) - len(prints[r]) for r in (a, b)]
            offset = int(at[i]) - starts[0] - (int(other[i]) - starts[1])
            best = offsets.setdefault((a, b), {})
            best[offset] = max(best.get(offset, 0.0), float(agreement[i]))
    return {pair: sorted(best, key=lambda o: (-best[o], o))[:OFFSETS] for pair, best in offsets.items()}


def _hits(codes: np.ndarray, ends: np.ndarray, owner: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions in ``codes`` of keys that two recordings share and before which they agree; the first recording's first."""
    after, places = _keyed(codes, ends, owner)
    order = np.argsort(after, kind="stable")
    keys, places = after[order] >> AFTER_KEY, places[order]
    del after, order
    before = _words(codes, owner, places, -KEY_STEP)
    for step in range(1, NEIGHBOURS + 1):
        for start in range(0, len(keys) - step, PAIRS):
            end = min(start + PAIRS, len(keys) - step)
            equal = start + np.flatnonzero(keys[start:end] == keys[start + step : end + step])
            equal = equal[_agreement(before[equal], before[equal + step]) >= BEFORE_AGREEMENT]
            at, other = np.sort([places[equal], places[equal + step]], axis=0)
            differ = owner[at] != owner[other]
            yield at[differ], other[differ]


def _keyed(codes: np.ndarray, ends: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Words that begin with a key, and their positions: about KEYS a minute, those of lowest hash, so that copies agree."""
    lengths = np.minimum(np.diff(ends, prepend=0), MINUTE)
    parts = [(np.zeros(0, np.uint64), np.zeros(0, np.int64))]
    for start in range(0, len(codes), CHUNK):
        places = np.arange(start, min(start + CHUNK, len(codes)))
        words = _words(codes, owner, places, KEY_STEP)
        hashed = ((words >> AFTER_KEY) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
        chosen = _nonzero_bytes(words) >= WHOLE_KEY
        chosen &= hashed * lengths[owner[places]].astype(np.uint64) < np.uint64(KEYS << 32)
        parts.append((words[chosen], places[chosen]))
    return np.concatenate([w for w, _ in parts]), np.concatenate([p for _, p in parts])


def _words(codes: np.ndarray, owner: np.ndarray, places: np.ndarray, step: int) -> np.ndarray:
    """Eight codes from each position on, ``step`` frames apart, as uint64; 0 beyond the recording."""
    words, of = np.zeros(len(places), np.uint64), owner[places]
    for i in range(8):
        at = places + i * step
        inside = np.clip(at, 0, len(codes) - 1)
        part = np.where((at == inside) & (owner[inside] == of), codes[inside], 0)
        words = (words << np.uint64(8)) | part.astype(np.uint64)
    return words


def _agreement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`code_agreement` of words."""
    sound = _nonzero_bytes(x) & _nonzero_bytes(y)
    return 1 - 2 * np.bitwise_count((x ^ y) & sound) / np.maximum(np.bitwise_count(sound).astype(np.float32), 1)


def _nonzero_bytes(words: np.ndarray) -> np.ndarray:
    """255 where a byte of a word is not 0."""
    for shift in (4, 2, 1):
        words = words | (words >> np.uint64(shift))
    return (words & np.uint64(0x0101010101010101)) * np.uint64(255)


def _around(codes: np.ndarray, owner: np.ndarray, at: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`code_agreement` over the AROUND frames on each side of each hit, shape of ``at``."""
    reach = np.arange(-AROUND, AROUND)
    i, j = (np.clip(p[:, None] + reach, 0, len(codes) - 1) for p in (at, other))
    x, y = codes[i], codes[j]
    sound = (owner[i] == owner[at][:, None]) & (owner[j] == owner[other][:, None]) & (x != 0) & (y != 0)
    differing = (np.bitwise_count(x ^ y) * sound).sum(axis=1)
    return 1 - 2 * differing / np.maximum(8 * sound.sum(axis=1), 1)
