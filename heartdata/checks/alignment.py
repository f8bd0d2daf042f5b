"""Alignments of fingerprints (`heartdata.audio.fingerprint`) that agree: the compiled part of `near_duplicates`.

A few codes make a key; recordings with a common key in a similar context are compared over their whole overlap (seed and
extend, Altschul et al. 1990). Whether two recordings match depends on these two alone.
"""

from math import sqrt
from typing import Any, NamedTuple

import numba
import numpy as np

from heartdata.audio.fingerprint import HOP_S, MIN_FRAMES, MINUTE

ENOUGH_FRAMES = 500  # ten seconds of overlap are enough, however long the recordings are

SAME_CODES = 0.45  # agreement of codes that suffices alone
SIMILAR_CODES = 0.2  # agreement of codes that suffices when the envelopes correlate,
SIMILAR_FRAMES = 150  # over at least three seconds
SHORT_PENALTY = 0.15  # subtracted from the agreement, over sqrt(seconds): a short overlap agrees more by chance

KEY_STEP = 3  # frames between the codes of a key, and of its context
KEY_BITS = 24  # three codes
KEYS = 512  # about so many per recording, or per minute of a longer one
CONTEXT_CODES = 8  # on each side of a key
CONTEXT_BITS = 49  # of 128 may differ
OFFSETS = 3  # alignments of a pair that are compared over the whole overlap
REPEATS = 4  # of a key in a minute count
SLOTS = 4096  # for counting them

NONE = 1 << 20  # differing bits where there is no alignment
BITS = np.array([byte.bit_count() for byte in range(256)], np.uint8)
_jit: Any = numba.njit(cache=True, nogil=True)


class Prints(NamedTuple):
    """Fingerprints one after the other: recording r has its codes at data[starts[r]] and then as many envelope bytes."""

    data: np.ndarray  # uint8
    starts: np.ndarray  # int64
    frames: np.ndarray  # int64


class Index(NamedTuple):
    """The keys of some recordings: those of key k are ``starts[k]`` to ``starts[k + 1]``, in the recordings' order."""

    starts: np.ndarray  # int32
    owner: np.ndarray  # int32, the recording
    frame: np.ndarray  # uint16
    before: np.ndarray  # uint64, see `_context`
    after: np.ndarray


@_jit
def _keys(codes: np.ndarray, keys: np.ndarray, at: np.ndarray, recent: np.ndarray) -> int:
    """Write the keys of a recording and their frames to ``keys`` and ``at``; returns how many.

    Of all keys those of lowest hash are taken, so that copies agree, and each REPEATS times a minute, so that a tone or a hum has
    few. Silence (code 0) and codes that do not change make no key.
    """
    found = 0
    scale = np.uint64(min(len(codes), MINUTE))
    for t in range(len(codes) - 2 * KEY_STEP):
        if t % MINUTE == 0:
            recent[:] = 0
        a, b, c = codes[t], codes[t + KEY_STEP], codes[t + 2 * KEY_STEP]
        if a == 0 or b == 0 or c == 0 or a == b == c:
            continue
        key = (np.uint64(a) << np.uint64(16)) | (np.uint64(b) << np.uint64(8)) | np.uint64(c)
        hashed = (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
        slot = key * np.uint64(0x9E3779B1) >> np.uint64(8) & np.uint64(SLOTS - 1)
        if hashed * scale >= np.uint64(KEYS << 32):
            continue
        if recent[slot, 0] != key:
            recent[slot, 0], recent[slot, 1] = key, 0
        if recent[slot, 1] == REPEATS:
            continue
        recent[slot, 1] += 1
        keys[found], at[found] = key, t
        found += 1
    return found


@_jit
def _context(codes: np.ndarray, t: int) -> tuple[np.uint64, np.uint64]:
    """The CONTEXT_CODES before, and those after, the key at frame ``t``, 0 beyond the recording."""
    before, after = np.uint64(0), np.uint64(0)
    for i in range(1, CONTEXT_CODES + 1):
        early, late = t - i * KEY_STEP, t + (2 + i) * KEY_STEP
        before = before << np.uint64(8) | np.uint64(codes[early] if early >= 0 else 0)
        after = after << np.uint64(8) | np.uint64(codes[late] if late < len(codes) else 0)
    return before, after


@_jit
def _bit_count(word: np.uint64) -> np.uint64:
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@_jit
def index(prints: Any, recordings: np.ndarray) -> Any:
    """The `Index` arrays of ``recordings`` (ascending numbers)."""
    longest = max(np.max(prints.frames), 1)
    keys, at, recent = np.empty(longest, np.uint32), np.empty(longest, np.uint16), np.empty((SLOTS, 2), np.uint32)
    starts = np.zeros((1 << KEY_BITS) + 2, np.int32)
    for r in recordings:
        codes = prints.data[prints.starts[r] : prints.starts[r] + prints.frames[r]]
        for i in range(_keys(codes, keys, at, recent)):
            starts[keys[i] + 2] += 1
    for key in range(1, len(starts)):
        starts[key] += starts[key - 1]
    total = starts[-1]
    owner, frame = np.empty(total, np.int32), np.empty(total, np.uint16)
    before, after = np.empty(total, np.uint64), np.empty(total, np.uint64)
    for r in recordings:
        codes = prints.data[prints.starts[r] : prints.starts[r] + prints.frames[r]]
        for i in range(_keys(codes, keys, at, recent)):
            place = starts[keys[i] + 1]
            starts[keys[i] + 1] += 1
            owner[place], frame[place] = r, at[i]
            before[place], after[place] = _context(codes, np.int64(at[i]))
    return starts, owner, frame, before, after


@_jit
def code_agreement(x: np.ndarray, y: np.ndarray) -> tuple[float, int]:
    """1 - 2 x the share of differing bits of aligned codes (1 equal, 0 as by chance), and the frames with sound in both."""
    frames, differing = 0, 0
    for t in range(len(x)):
        if x[t] != 0 and y[t] != 0:
            frames += 1
            differing += BITS[x[t] ^ y[t]]
    return 1 - 2 * differing / (8 * max(frames, 1)), frames


@_jit
def envelope_similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation (-1 to 1) of the amplitudes of two aligned envelopes, the best of none and half a frame of shift."""
    n = len(x) - 2
    u, v = np.square(x.astype(np.float64)), np.square(y.astype(np.float64))
    smooth = (v[:-2] + 2 * v[1:-1] + v[2:]) / 4
    smooth -= smooth.sum() / n
    power = np.square(smooth).sum()
    best = -1.0
    for shift in (-1, 0, 1):  # x so many half frames later, as smooth as y
        if shift == 0:
            part = (u[:-2] + 2 * u[1:-1] + u[2:]) / 4
        elif shift == 1:
            part = (u[1:-1] + u[2:]) / 2
        else:
            part = (u[:-2] + u[1:-1]) / 2
        part -= part.sum() / n
        best = max(best, (part * smooth).sum() / max(sqrt(np.square(part).sum() * power), 1e-12))
    return best


@_jit
def _stretches(a_frames: int, b_frames: int, offset: int) -> list[tuple[int, int]]:
    """The overlap of two recordings, and each minute of it where it is longer: first frame and end in the first."""
    start, end = max(0, offset), min(a_frames, b_frames + offset)
    stretches = [(start, end)]
    if end - start > MINUTE:
        for low in range(start, end, MINUTE):
            stretches.append((low, min(low + MINUTE, end)))
    return stretches


@_jit
def compare(a: np.ndarray, b: np.ndarray, offsets: np.ndarray, threshold: float) -> tuple[float, float, int]:
    """Similarity, agreement and offset (of b's first frame in a) of two fingerprints, shape (2, frames) each, as aligned best.

    Looked for near ``offsets``, over the whole overlap and each minute of one that is longer. Similarity -2: no match.
    """
    n, m = a.shape[1], b.shape[1]
    halves = int(np.count_nonzero(a[0])) // 2, int(np.count_nonzero(b[0])) // 2
    min_frames = max(MIN_FRAMES, min(halves[0], halves[1], ENOUGH_FRAMES))
    best = (-2.0, 0.0, 0)
    for near in offsets:
        promising = False
        for low, high in _stretches(n, m, near):
            if low < high and code_agreement(a[0, low:high], b[0, low - near : high - near])[0] >= SIMILAR_CODES / 2:
                promising = True
        for offset in range(near - 1, near + 2) if promising else range(0):
            for low, high in _stretches(n, m, offset):
                if high - low < min_frames:
                    continue
                x, y = a[:, low:high], b[:, low - offset : high - offset]
                agreement, frames = code_agreement(x[0], y[0])
                sure = agreement - SHORT_PENALTY / sqrt(max(frames, 1) * HOP_S)
                if frames < min_frames or sure < SIMILAR_CODES:
                    continue
                similarity = envelope_similarity(x[1], y[1])
                if sure >= SAME_CODES or (similarity >= threshold and frames >= SIMILAR_FRAMES):
                    match = (similarity, agreement, offset)
                    best = match if match > best else best
    return best


@_jit
def _note(offsets: np.ndarray, differences: np.ndarray, offset: int, difference: int) -> None:
    """Keep the OFFSETS alignments with the fewest differing bits, each once, whatever order they come in."""
    place = OFFSETS - 1
    for i in range(OFFSETS):
        if differences[i] < NONE and offsets[i] == offset:
            place = i
    if (difference, offset) >= (differences[place], offsets[place]):
        return
    while place > 0 and (difference, offset) < (differences[place - 1], offsets[place - 1]):
        offsets[place], differences[place] = offsets[place - 1], differences[place - 1]
        place -= 1
    offsets[place], differences[place] = offset, difference


@_jit
def _find_candidates(
    prints: Any,
    index: Any,
    indexed: np.ndarray,
    s: int,
    scratch: Any,
    slot: np.ndarray,
    candidates: np.ndarray,
    offsets: np.ndarray,
    differences: np.ndarray,
) -> int:
    """Write the indexed recordings that share a key with recording ``s`` to the last four arrays; returns how many."""
    keys, at, recent = scratch
    codes, count = prints.data[prints.starts[s] : prints.starts[s] + prints.frames[s]], 0
    for i in range(_keys(codes, keys, at, recent)):
        first, end = index.starts[keys[i]], index.starts[keys[i] + 1]
        if first == end:
            continue
        t = np.int64(at[i])
        before, after = _context(codes, t)
        for place in range(first, end):
            r = index.owner[place]
            if r >= s and (r == s or indexed[s]):
                if indexed[s]:
                    break  # found from r's side
                continue
            differing = _bit_count(before ^ index.before[place]) + _bit_count(after ^ index.after[place])
            if differing > CONTEXT_BITS:
                continue
            u = np.int64(index.frame[place])
            if slot[r] < 0:
                slot[r], candidates[count] = count, r
                differences[count] = NONE
                count += 1
            _note(offsets[slot[r]], differences[slot[r]], u - t if r < s else t - u, np.int64(differing))
    return count


@_jit
def search(prints: Any, index: Any, indexed: np.ndarray, others: np.ndarray, threshold: float) -> np.ndarray:
    """The matches of the recordings in ``index`` (a mask says which) with ``others`` (numbers), each pair once.

    Rows: the two recordings, the first the lower, and what `compare` returns.
    """
    longest = max(np.max(prints.frames), 1)
    scratch = (np.empty(longest, np.uint32), np.empty(longest, np.uint16), np.empty((SLOTS, 2), np.uint32))
    slot = np.full(len(prints.frames), -1)  # of a recording among the candidates
    candidates = np.empty(len(prints.frames), np.int64)
    offsets = np.empty((len(prints.frames), OFFSETS), np.int64)
    differences = np.empty((len(prints.frames), OFFSETS), np.int64)  # bits of the most similar contexts
    rows, found = np.empty((256, 5)), 0
    for s in others:
        start, frames = prints.starts[s], prints.frames[s]
        print_s = prints.data[start : start + 2 * frames].reshape(2, frames)
        count = _find_candidates(prints, index, indexed, s, scratch, slot, candidates, offsets, differences)
        for c in range(count):
            r = candidates[c]
            slot[r] = -1
            start, length = prints.starts[r], prints.frames[r]
            print_r = prints.data[start : start + 2 * length].reshape(2, length)
            near = offsets[c][differences[c] < NONE]
            match = compare(print_r, print_s, near, threshold) if r < s else compare(print_s, print_r, near, threshold)
            if match[0] == -2:
                continue
            if found == len(rows):
                rows = np.concatenate((rows, np.empty_like(rows)))
            rows[found, 0], rows[found, 1] = min(r, s), max(r, s)
            rows[found, 2], rows[found, 3], rows[found, 4] = match
            found += 1
    return rows[:found]
