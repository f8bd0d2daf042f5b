"""Files whose header does not say where the sound is, as recorders write them that die before they finish it."""

import struct

FIRST_CHUNK = 12  # RIFF, its size, WAVE
PLACEHOLDER = 44  # data of at most so many bytes is the size of a header, or 0
UNKNOWN = 0xFFFFFFFF  # the length of data, also where an RF64 file has it elsewhere
MP3 = 0x55  # the encoding of WAV files that hold an MP3 stream


def repaired(content: bytes) -> bytes | None:
    """The sound of a WAV, AU or CAF file under a header that is right; None where nothing in it is wrong.

    Wrong are a length of the data that is a placeholder while sound follows, or is exceeded by what follows without a
    header of its own (both are read to the end of the file), and a chunk of odd length without the byte that should
    follow it.
    """
    if content[:4] == b".snd":
        return _repaired_au(content)
    if content[:4] == b"caff":
        return _repaired_caf(content)
    if content[:4] not in (b"RIFF", b"RF64") or content[8:12] != b"WAVE":
        return None
    kept, is_wrong, at, long_bytes = [], False, FIRST_CHUNK, UNKNOWN
    while (size := _chunk_bytes(content, at)) is not None:
        name, start = content[at : at + 4], at + 8
        if name == b"data":
            declared = long_bytes if size == UNKNOWN else size
            sound = _sound_bytes(content, start, declared)
            is_wrong |= sound != declared
            kept.append((name, content[start : start + sound]))
            break
        if name == b"ds64" and size >= 16 and len(content) >= start + 16:
            (long_bytes,) = struct.unpack_from("<Q", content, start + 8)
        if name in (b"fmt ", b"fact"):
            kept.append((name, content[start : start + size]))
        at = start + size + size % 2
        if size % 2 and _chunk_bytes(content, at) is None and _chunk_bytes(content, at - 1) is not None:
            at, is_wrong = at - 1, True
    if not is_wrong or not kept or kept[-1][0] != b"data":
        return None
    chunks = b"".join(n + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for n, body in kept)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _sound_bytes(content: bytes, start: int, size: int) -> int:
    """How long the data at ``start`` are: ``size``, or to the end of the file where that is wrong."""
    end, rest = start + size, len(content) - start
    if _chunk_bytes(content, end) is not None or (size % 2 and _chunk_bytes(content, end + 1) is not None):
        return size
    is_exceeded = size < rest - size and bool(content[end:].strip(b"\0"))
    return rest if size <= PLACEHOLDER < rest or is_exceeded else size


def mp3_inside(content: bytes) -> bytes | None:
    """The MP3 stream that a WAV file holds, of which libsndfile guesses the length; None for other files."""
    at, is_mp3 = FIRST_CHUNK, False
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    while (size := _chunk_bytes(content, at)) is not None:
        name, start = content[at : at + 4], at + 8
        if name == b"fmt ":
            is_mp3 = content[start : start + 2] == struct.pack("<H", MP3)
        elif name == b"data":
            return content[start : start + size] if is_mp3 else None
        at = start + size + size % 2
    return None


def _repaired_au(content: bytes) -> bytes | None:
    """As `repaired`, of an AU file: only a length of 0 is wrong, as others may be unknown."""
    if len(content) < 24 or len(content) <= struct.unpack_from(">I", content, 4)[0] + PLACEHOLDER:
        return None
    return content[:8] + b"\xff" * 4 + content[12:] if content[8:12] == bytes(4) else None


def _repaired_caf(content: bytes) -> bytes | None:
    """As `repaired`, of a CAF file, whose data may go to the end of the file, which libsndfile does not know."""
    at = 8
    while len(content) >= at + 12:
        name, (size,) = content[at : at + 4], struct.unpack_from(">q", content, at + 4)
        if name == b"data":
            rest = len(content) - at - 12
            is_open = size == -1 or size <= 4 < rest - PLACEHOLDER
            return content[: at + 4] + struct.pack(">q", rest) + content[at + 12 :] if is_open else None
        if size < 0:
            return None
        at += 12 + size
    return None


def _chunk_bytes(content: bytes, at: int) -> int | None:
    """The length of the chunk at ``at`` as it says itself; None where there is no chunk."""
    name = content[at : at + 4]
    if len(content) < at + 8 or not name.strip() or not all(32 <= byte < 127 for byte in name):
        return None
    return struct.unpack_from("<I", content, at + 4)[0]
