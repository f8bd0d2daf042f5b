"""MP3 streams as libmpg123 reads them right: nothing but frames, the first of which gives their number.

Without that number, libmpg123 guesses the length from the file's size and the first frame's bit rate: a file with tags
seems truncated, and of one whose first frames are its largest the end is never read. What is not a frame makes it print
to the terminal, or give up.
"""

import ctypes
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

BIT_RATES = {  # kbit/s of layer III by index; 0 is a free format, which is left to libmpg123
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
RATES_HZ = (44_100, 48_000, 32_000)  # of MPEG 1; halved by MPEG 2, halved again by 2.5
MOST_JUNK = 1 << 16  # bytes before the first frame, tags aside
FRAMES_IN_A_ROW = 3  # are no coincidence
FRAMES_AFTER_JUNK = 10  # are none either, in content that does not begin as MP3
SIDE_INFO = 4 + 32  # the most bytes between a frame's start and its note of the length
_LENGTH = re.compile(rb"(?:Xing|Info)\0\0\0(.)|VBRI", re.DOTALL)
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]")  # the start of a frame of layer III
_HAS_FRAMES, _HAS_BYTES = 1, 2  # flags of such a note


def with_length(content: bytes) -> bytes:
    """An MP3 file as its frames alone, the first of which gives their number; other content as it is."""
    start = _first_frame(content)
    if start is None:
        return content
    frames = list(_frames(content, start))
    first = frames[0]
    note = _LENGTH.search(first[: SIDE_INFO + 8])
    if note is None or note[0] == b"VBRI" or not note[1][0] & _HAS_FRAMES:
        declared = struct.unpack_from(">I", first, note.end() + 10)[0] if note and note[0] == b"VBRI" else 0
        audio = frames[1:] if note else frames
        return b"".join([_length_frame(first, max(declared, len(audio))), *audio])
    (declared,) = struct.unpack_from(">I", first, note.end())
    exact = bytearray(first)
    struct.pack_into(">I", exact, note.end(), max(declared, len(frames) - 1))
    if note[1][0] & _HAS_BYTES:  # else libmpg123 prints that the size is not as expected
        struct.pack_into(">I", exact, note.end() + 4, sum(map(len, frames)))
    return b"".join([exact, *frames[1:]])


def frames_after_junk(content: bytes) -> bytes | None:
    """The frames of an MP3 file that begins with something else, such as the rest of a frame; None when this is none."""
    start = _next_frame(content, 0, min(len(content), MOST_JUNK), FRAMES_AFTER_JUNK, whole=True)
    return None if start is None else with_length(content[start:])


def tag_bytes(content: bytes, start: int = 0) -> int:
    """The length of the ID3 tag at ``start``; 0 where there is none."""
    if content[start : start + 3] != b"ID3" or len(content) < start + 10:
        return 0
    a, b, c, d = content[start + 6 : start + 10]
    return 10 + (a << 21 | b << 14 | c << 7 | d)


def _first_frame(content: bytes) -> int | None:
    """Where the first frame begins, behind tags; None when this is no MP3."""
    if content[:3] != b"ID3" and content[:1] != b"\xff":
        return None
    start = 0
    while size := tag_bytes(content, start):
        start += size
    return _next_frame(content, start, min(len(content), start + MOST_JUNK), FRAMES_IN_A_ROW)


def _next_frame(
    content: bytes, start: int, end: int, in_a_row: int, kind: bytes = b"", whole: bool = False
) -> int | None:
    """The first place in ``start``..``end`` where so many frames follow each other, or the last ones unless ``whole``."""
    for sync in _SYNC.finditer(content, start, end):
        at, found = sync.start(), 0
        while found < in_a_row and (size := _frame_bytes(content, at)) and (not kind or _kind(content, at) == kind):
            at, found = at + size, found + 1
        if found == in_a_row or (not whole and found and at >= len(content)):
            return sync.start()
    return None


def _frames(content: bytes, start: int) -> Iterator[bytes]:
    """The whole frames of the same kind as the one at ``start``."""
    kind = _kind(content, start)
    at: int | None = start
    while at is not None and at < len(content):
        size = _frame_bytes(content, at)
        if size and _kind(content, at) == kind:
            if at + size <= len(content):
                yield content[at : at + size]
            at += size
        else:
            at = _next_frame(content, at, len(content), 2, kind)


def _frame_bytes(content: bytes, at: int) -> int:
    """The length of the frame at ``at``; 0 when there is none of layer III and a known bit rate."""
    if len(content) < at + 4 or content[at] != 0xFF or content[at + 1] & 0xE6 != 0xE2:
        return 0
    version, bit_rate, rate = content[at + 1] >> 3 & 3, content[at + 2] >> 4, content[at + 2] >> 2 & 3
    if version == 1 or bit_rate in (0, 15) or rate == 3:
        return 0
    is_first = version == 3
    rate_hz = RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return (144 if is_first else 72) * BIT_RATES[is_first][bit_rate] * 1000 // rate_hz + (content[at + 2] >> 1 & 1)


def _kind(content: bytes, at: int) -> bytes:
    """What the frames of one stream share: version, layer and rate."""
    return bytes((content[at + 1] & 0xFE, content[at + 2] & 0x0C))


def _length_frame(like: bytes, frames: int) -> bytes:
    """A silent frame that says how many ``frames`` follow; of the rate and channels of ``like``."""
    is_first, is_mono = like[1] >> 3 & 3 == 3, like[3] >> 6 == 3
    bit_rate = 9 if is_first else 8  # has room for the note at every rate
    header = bytes((0xFF, like[1] | 1, bit_rate << 4 | like[2] & 0x0C, like[3]))
    side_info = (17 if is_mono else 32) if is_first else (9 if is_mono else 17)
    note = b"Info" + struct.pack(">II", _HAS_FRAMES, frames)
    return (header + bytes(side_info) + note).ljust(_frame_bytes(header, 0), b"\0")


_quiet_lock, _quiet_calls, _terminal = Lock(), 0, None


@contextmanager
def quiet_libmpg123() -> Iterator[None]:
    """A context in which what C code prints to stderr is dropped: libmpg123 has no other way to be silent.

    The C library's variable is changed, not the file descriptor, so that Python and child processes still print.
    """
    global _quiet_calls, _terminal
    try:
        library = ctypes.CDLL(None)
        stderr = ctypes.c_void_p.in_dll(library, "stderr")
    except (OSError, TypeError, ValueError):  # no glibc
        yield
        return
    with _quiet_lock:
        if not _quiet_calls:
            _terminal, stderr.value = stderr.value, _null_stream()
        _quiet_calls += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_calls -= 1
            if not _quiet_calls:
                stderr.value = _terminal


@cache
def _null_stream() -> int:
    """A stream of the C library that drops what is written."""
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    return library.fopen(b"/dev/null", b"w")
