"""Decoding: every format and width, and every fault of a file told in a sentence."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import tone, write_wav

from heartdata.audio.decode import decode, read_bytes, resample
from heartdata.audio.measurements import MeasureConfig, measure_file
from heartdata.errors import BadAudio, SourceError
from heartdata.storage.store import sha256_file


def with_remarks(content: bytes, remarks: bytes) -> bytes:
    """A wav file with a LIST chunk between format and data, as recording programs write it."""
    chunk = b"LIST" + len(remarks).to_bytes(4, "little") + remarks + b"\0" * (len(remarks) % 2)
    size = int.from_bytes(content[4:8], "little") + len(chunk)
    return content[:4] + size.to_bytes(4, "little") + content[8:36] + chunk + content[36:]


@pytest.mark.parametrize("channels", [1, 2, 33])
@pytest.mark.parametrize("remarks", [None, b"INFOINAM\x04\0\0\0103_", b"INFOINAM\x03\0\0\0ab\0"])
def test_a_16_bit_wav_has_exactly_its_samples(tmp_path: Path, channels: int, remarks: bytes | None):
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, (4001, channels), dtype=np.int16)
    content = write_wav(tmp_path / "x.wav", noise).read_bytes()
    audio = decode(content if remarks is None else with_remarks(content, remarks))
    assert (audio.rate_hz, audio.declared_frames) == (4000, 4001)
    assert np.array_equal(audio.samples, noise / np.float32(2**15))


def test_what_is_cut_or_appended_is_noticed(tmp_path: Path):
    content = write_wav(tmp_path / "x.wav", tone(100)).read_bytes()
    for changed, frames in ((content[:-2], 11_999), (content[:-4000], 10_000), (content + b"\0\0", 12_000)):
        audio = decode(changed)
        assert (len(audio.samples), audio.declared_frames) == (frames, 12_000)
    for changed in (content[:40], content[:44], content.replace(b"data", b"dato")):
        with pytest.raises(BadAudio):
            decode(changed)


def test_a_wav_without_channels_is_refused(tmp_path: Path):
    content = bytearray(write_wav(tmp_path / "x.wav", tone(100)).read_bytes())
    content[22:24] = content[32:34] = bytes(2)  # channels, bytes of a frame
    content[28:32] = bytes(4)  # bytes a second: consistent with no channels
    with pytest.raises(BadAudio, match="cannot be decoded"):
        decode(bytes(content))


@pytest.mark.parametrize(
    "raised", [ValueError("negative dimensions"), RuntimeError("x"), MemoryError(), OverflowError("too large")]
)
def test_whatever_a_decoder_raises_is_bad_audio(tmp_path: Path, monkeypatch, raised: Exception):
    def read(*args, **settings):
        raise raised

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    path = write_wav(tmp_path / "x.wav", tone(100))
    with pytest.raises(BadAudio, match=f"cannot be decoded as audio \\({str(raised) or 'MemoryError'}\\)"):
        decode(path.read_bytes())
    row = measure_file(str(path), sha256_file(path), MeasureConfig())
    assert str(row["error"]).startswith("cannot be decoded")


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [("wav", "PCM_U8", 0.01), ("wav", "PCM_16", 1e-4), ("wav", "PCM_24", 1e-6), ("wav", "PCM_32", 1e-6),
     ("wav", "FLOAT", 1e-7), ("flac", "PCM_16", 1e-4), ("ogg", "VORBIS", 0.05)],
)  # fmt: skip
def test_formats_and_widths(tmp_path: Path, suffix: str, subtype: str, tolerance: float):
    sound = tone(100)
    path = write_wav(tmp_path / f"süß one.{suffix}", sound, subtype=subtype)
    audio = decode(path.read_bytes())
    assert (audio.rate_hz, audio.samples.shape, audio.samples.dtype) == (4000, (12000, 1), np.float32)
    assert np.abs(audio.mono - sound).max() < tolerance


def test_stereo_is_mixed_down(tmp_path: Path):
    both = np.stack([tone(100), -tone(100)], axis=1)
    audio = decode(write_wav(tmp_path / "stereo.wav", both).read_bytes())
    assert audio.samples.shape == (12000, 2)
    assert np.abs(audio.mono).max() < 1e-4


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "0 bytes"), (b"no audio at all", "cannot be decoded"), (bytes(1000), "cannot be decoded"),
     (b"RIFF\x24\x00\x00\x00WAVEfmt ", "cannot be decoded")],
)  # fmt: skip
def test_what_is_no_audio_is_told(content: bytes, said: str):
    with pytest.raises(BadAudio, match=said):
        decode(content)


def test_file_without_samples(tmp_path: Path):
    with pytest.raises(BadAudio, match="no samples"):
        decode(write_wav(tmp_path / "none.wav", np.zeros(0, np.float32)).read_bytes())


def test_truncated_file_knows_what_its_header_declared(tmp_path: Path):
    whole = write_wav(tmp_path / "whole.wav", tone(100)).read_bytes()
    assert decode(whole).declared_frames == 12000
    half = decode(whole[: len(whole) // 2])
    assert half.declared_frames == 12000
    assert 5900 < len(half.samples) < 6000


def test_file_that_changed_is_noticed(tmp_path: Path):
    path = write_wav(tmp_path / "a.wav", tone(100))
    listed = sha256_file(path)
    assert read_bytes(str(path), listed) == path.read_bytes()
    write_wav(path, tone(101))
    with pytest.raises(SourceError, match="changed during the run"):
        read_bytes(str(path), listed)


def test_resampling_keeps_a_tone():
    sound = resample(tone(100, rate_hz=44100), 44100, 2000)
    assert len(sound) == 6000
    assert np.abs(np.fft.rfft(sound)).argmax() == 300  # 100 Hz in 3 s


def test_mp3_is_read(tmp_path: Path):
    audio = decode(write_wav(tmp_path / "a.mp3", tone(100, rate_hz=16000), 16000, "MPEG_LAYER_III").read_bytes())
    assert (audio.rate_hz, audio.format) == (16000, "MP3/MPEG_LAYER_III")
    assert audio.mono.size == pytest.approx(48000, rel=0.1)
    assert np.abs(np.fft.rfft(audio.mono[:16000])).argmax() == 100


def with_header(content: bytes, at: int, number: int) -> bytes:
    """A wav file with another 32-bit number at byte ``at``: 24 holds the rate, 40 the length of the data."""
    return content[:at] + number.to_bytes(4, "little") + content[at + 4 :]


@pytest.mark.parametrize("rate_hz", [1, 99, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_refused(tmp_path: Path, rate_hz: int):
    content = write_wav(tmp_path / "a.wav", tone(100)).read_bytes()
    with pytest.raises(BadAudio, match="rate|decoded"):
        decode(with_header(content, 24, rate_hz))


def test_more_than_a_recording_can_be_is_refused(tmp_path: Path):
    hours = write_wav(tmp_path / "long.flac", np.zeros(7300 * 100, np.int16), 100)
    with pytest.raises(BadAudio, match="7300 s of sound is more than"):
        decode(hours.read_bytes())
    dense = write_wav(tmp_path / "dense.flac", np.zeros(61_000_000, np.int16), 96_000)
    with pytest.raises(BadAudio, match="635 s of sound is more than"):
        decode(dense.read_bytes())
    with (tmp_path / "huge.wav").open("wb") as file:
        file.truncate(2 << 30)  # sparse
    with pytest.raises(BadAudio, match="2.1 GB are more than"):
        read_bytes(str(tmp_path / "huge.wav"))


def test_a_streamed_file_of_unknown_length_is_whole(tmp_path: Path):
    content = write_wav(tmp_path / "a.wav", tone(100)).read_bytes()
    for unknown in (0xFFFFFFFF, 0x7FFFFFFF):
        streamed = decode(with_header(content, 40, unknown))
        assert streamed.declared_frames == len(streamed.samples) == 12000
