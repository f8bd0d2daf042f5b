"""MP3 files whose length no header gives, with tags and damage, and those that end before their header says."""

import io
import struct

import numpy as np
import pytest
import soundfile

from heartdata.audio.decode import decode
from heartdata.audio.mp3 import with_length

RATE_HZ = 16_000


def id3(size: int) -> bytes:
    """A tag with a picture of ``size`` random bytes."""
    body = b"APIC" + struct.pack(">I", size) + b"\0\0" + np.random.default_rng(size).bytes(size)
    return b"ID3\3\0\0" + bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


def encoded(channels: int = 1) -> tuple[bytes, int]:
    """An MP3 file that begins loud and ends quiet, so of falling bit rate, and the length of its first frame."""
    sound = (
        np.random.default_rng(0).normal(0, 0.3, (8 * RATE_HZ, channels)) * np.linspace(1, 0, 8 * RATE_HZ)[:, None] ** 8
    )
    file = io.BytesIO()
    soundfile.write(file, sound, RATE_HZ, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE")
    content = file.getvalue()
    return content, content.index(content[:2], 4)  # the second frame's header begins as the first


def in_wav(frames: bytes) -> bytes:
    """A WAV file of encoding 0x55, as phones write it."""
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE_HZ, 8000, 1, 0, 12, 1, 2, 1152, 1, 1393)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(frames)) + frames
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_with_a_length_keeps_its_samples(channels: int):
    content, _ = encoded(channels)
    plain, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    audio = decode(content)
    assert np.allclose(audio.samples, plain, atol=1e-6)
    assert audio.declared_frames == len(plain) == 8 * RATE_HZ


@pytest.mark.parametrize(
    "change",
    [lambda frames: frames,
     lambda frames: id3(200_000) + frames,
     lambda frames: id3(10) + id3(100) + frames + b"APETAGEX" + id3(3000) + b"TAG" + bytes(125),
     lambda frames: frames[:5000] + bytes(700) + frames[5000:],
     lambda frames: bytes(5000) + frames,
     lambda frames: frames[100:],
     lambda frames: b"junk\r\n" * 300 + frames,
     lambda frames: in_wav(frames)],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_without_a_length_the_whole_is_read_and_nothing_is_missing(channels: int, change, capfd):
    content, first = encoded(channels)
    whole, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    audio = decode(change(content[first:]))
    assert len(audio.samples) == audio.declared_frames == pytest.approx(len(whole), abs=2500)
    assert capfd.readouterr().err == ""


def test_what_a_header_declares_and_is_absent_is_missing():
    content, _ = encoded()
    audio = decode(content[: len(content) // 2])
    assert audio.declared_frames == 8 * RATE_HZ > 1.2 * len(audio.samples)


def test_damage_prints_nothing(capfd):
    content, _ = encoded()
    rng, damaged = np.random.default_rng(3), bytearray(content)
    for place in rng.integers(2000, len(content), 200):
        damaged[place] = rng.integers(256)
    decode(bytes(damaged))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"\xff", b"ID3", b"\xff\xfb" * 5000, b"RIFF", b"fLaC" * 99, id3(50)])
def test_other_content_stays_as_it_is(content: bytes):
    assert with_length(content) == content
