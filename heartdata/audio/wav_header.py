"""WAV files whose header does not say where the sound is, as recorders write them that die before they finish it."""

import struct

FIRST_CHUNK = 12  # RIFF, its size, WAVE
PLACEHOLDER = 44  # data of at most so many bytes is the size of a header, or 0


def repaired(content: bytes) -> bytes | None:
    """The format and the sound of a WAV file under a new header; None where neither a chunk nor its length is wrong.

    Wrong are a length of the data that is a placeholder while sound follows (read to the end of the file), and a chunk
    of odd length without the byte that should follow it.
    """
    if content[:4] not in (b"RIFF", b"RF64") or content[8:12] != b"WAVE":
        return None
    kept, is_wrong, at = [], False, FIRST_CHUNK
    while (size := _chunk_bytes(content, at)) is not None:
        name, start = content[at : at + 4], at + 8
        if name == b"data":
            rest = len(content) - start
            if size <= PLACEHOLDER < rest and _chunk_bytes(content, start + size) is None:
                size, is_wrong = rest, True
            kept.append((name, content[start : start + size]))
            break
        if name in (b"fmt ", b"fact"):
            kept.append((name, content[start : start + size]))
        at = start + size + size % 2
        if size % 2 and _chunk_bytes(content, at) is None and _chunk_bytes(content, at - 1) is not None:
            at, is_wrong = at - 1, True
    if not is_wrong or not kept or kept[-1][0] != b"data":
        return None
    chunks = b"".join(n + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for n, body in kept)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def _chunk_bytes(content: bytes, at: int) -> int | None:
    """The length of the chunk at ``at`` as it says itself; None where there is no chunk."""
    name = content[at : at + 4]
    if len(content) < at + 8 or not name.strip() or not all(32 <= byte < 127 for byte in name):
        return None
    return struct.unpack_from("<I", content, at + 4)[0]
