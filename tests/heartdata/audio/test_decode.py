"""Decoding: every format and width, and one sentence for every fault of a file."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import tone, write_wav

from heartdata.audio import decode as module
from heartdata.audio.decode import decode, read_bytes, resample
from heartdata.audio.measurements import MeasureConfig, measure_file
from heartdata.errors import BadAudio, SourceError
from heartdata.storage.store import sha256_file


@pytest.fixture
def wav(tmp_path: Path) -> bytes:
    """3 s of a tone at 4 kHz in 16 bits."""
    return write_wav(tmp_path / "tone.wav", tone(100)).read_bytes()


def with_remarks(content: bytes, remarks: bytes, padded: bool = True) -> bytes:
    """A wav file with a LIST chunk between format and data, as recording programs write it."""
    chunk = b"LIST" + struct.pack("<I", len(remarks)) + remarks + b"\0" * (padded and len(remarks) % 2)
    (size,) = struct.unpack_from("<I", content, 4)
    return content[:4] + struct.pack("<I", size + len(chunk)) + content[8:36] + chunk + content[36:]


def with_header(content: bytes, at: int, number: int, kind: str = "<I") -> bytes:
    """A wav file with another number at byte ``at``: 24 is the rate, 40 the length of the data."""
    changed = bytearray(content)
    struct.pack_into(kind, changed, at, number)
    return bytes(changed)


@pytest.mark.parametrize("channels", [1, 2, 33])
@pytest.mark.parametrize("remarks", [None, b"INFOINAM\x04\0\0\0103_", b"INFOINAM\x03\0\0\0ab\0"])
def test_a_16_bit_wav_has_exactly_its_samples(tmp_path: Path, channels: int, remarks: bytes | None):
    noise = np.random.default_rng(0).integers(-(2**15), 2**15, (4001, channels), dtype=np.int16)
    content = write_wav(tmp_path / "x.wav", noise).read_bytes()
    audio = decode(content if remarks is None else with_remarks(content, remarks))
    assert (audio.rate_hz, audio.declared_frames) == (4000, 4001)
    assert np.array_equal(audio.samples, noise / np.float32(2**15))


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [("wav", "PCM_U8", 0.01), ("wav", "PCM_16", 1e-4), ("wav", "PCM_24", 1e-6), ("wav", "PCM_32", 1e-6),
     ("wav", "FLOAT", 1e-7), ("flac", "PCM_16", 1e-4), ("ogg", "VORBIS", 0.05)],
)  # fmt: skip
def test_formats_and_widths(tmp_path: Path, suffix: str, subtype: str, tolerance: float):
    sound = tone(100)
    audio = decode(write_wav(tmp_path / f"süß one.{suffix}", sound, subtype=subtype).read_bytes())
    assert (audio.rate_hz, audio.samples.shape, audio.samples.dtype) == (4000, (12000, 1), np.float32)
    assert np.abs(audio.mono - sound).max() < tolerance


def test_mp3_is_read(tmp_path: Path):
    audio = decode(write_wav(tmp_path / "a.mp3", tone(100, rate_hz=16000), 16000, "MPEG_LAYER_III").read_bytes())
    assert (audio.rate_hz, audio.format) == (16000, "MP3/MPEG_LAYER_III")
    assert audio.mono.size == pytest.approx(48000, rel=0.1)
    assert np.abs(np.fft.rfft(audio.mono[:16000])).argmax() == 100


def test_stereo_is_mixed_down(tmp_path: Path):
    both = np.stack([tone(100), -tone(100)], axis=1)
    audio = decode(write_wav(tmp_path / "stereo.wav", both).read_bytes())
    assert audio.samples.shape == (12000, 2)
    assert np.abs(audio.mono).max() < 1e-4


def test_a_truncated_wav_has_the_frames_that_its_header_declares(wav: bytes):
    for changed, frames in ((wav[:-2], 11_999), (wav[:-4000], 10_000), (wav + b"\0\0", 12_000)):
        audio = decode(changed)
        assert (len(audio.samples), audio.declared_frames) == (frames, 12_000)


@pytest.mark.parametrize("unknown", [0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x7FFFF000])  # the last is what SoX writes
def test_a_streamed_wav_of_unknown_length_is_not_truncated(wav: bytes, unknown: int):
    streamed = decode(with_header(wav, 40, unknown))
    assert streamed.declared_frames == len(streamed.samples) == 12000


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "GSM610"), ("AIFF", "GSM610"), ("WAV", "G721_32"), ("AU", "G723_24"), ("AU", "G723_40"),
     ("WAV", "NMS_ADPCM_16"), ("WAV", "NMS_ADPCM_32"), ("XI", "DPCM_16")],
)  # fmt: skip
def test_encodings_that_cannot_be_sought_in_are_read(form: str, subtype: str):
    file = io.BytesIO()
    soundfile.write(file, tone(100, rate_hz=8000), 8000, format=form, subtype=subtype)
    audio = decode(file.getvalue())
    assert len(audio.samples) == audio.declared_frames == pytest.approx(24_000, abs=400)
    assert np.corrcoef(audio.mono[:24_000], tone(100, rate_hz=8000))[0, 1] > 0.98


@pytest.mark.parametrize(
    "change",
    [lambda wav: with_header(wav, 40, 0),
     lambda wav: with_header(with_header(wav, 40, 0), 4, 0),
     lambda wav: with_header(with_header(wav, 40, 36), 4, 36),
     lambda wav: with_header(with_header(wav, 40, 8000), 4, 8036),
     lambda wav: b"RF64" + b"\xff" * 4 + b"WAVEds64\x1c\0\0\0" + bytes(28) + with_header(wav, 40, 0xFFFFFFFF)[12:],
     lambda wav: with_header(with_remarks(wav, b"INFOISFT\4\0\0\0abcd"), 64, 0),
     lambda wav: with_remarks(wav, b"INFOISFT\7\0\0\0abcdefg", padded=False),
     lambda wav: with_remarks(with_header(wav, 40, 0), b"INFOISFT\7\0\0\0abcdefg", padded=False)],
)  # fmt: skip
def test_a_header_that_was_never_finished_is_read_past_and_named(wav: bytes, change):
    audio = decode(change(wav))
    assert np.array_equal(audio.samples, decode(wav).samples)
    assert audio.declared_frames == 12_000
    assert "header" in str(audio.header_fault)
    assert decode(wav).header_fault is None


@pytest.mark.parametrize(
    ("suffix", "before", "number"),
    [("au", b".snd\0\0\0\x18", bytes(4)), ("caf", b"data", b"\xff" * 8), ("caf", b"data", bytes(8))],
)
def test_an_unfinished_au_or_caf_is_read_to_its_end(tmp_path: Path, suffix: str, before: bytes, number: bytes):
    content = write_wav(tmp_path / f"a.{suffix}", tone(100)).read_bytes()
    at = content.index(before) + len(before)
    audio = decode(content[:at] + number + content[at + len(number) :])
    assert np.array_equal(audio.samples, decode(content).samples)
    assert "header" in str(audio.header_fault)


@pytest.mark.parametrize("form", ["AU", "AIFF", "W64", "RF64"])
def test_truncation_is_noticed_wherever_a_header_gives_the_length(form: str):
    file = io.BytesIO()
    soundfile.write(file, tone(100), 4000, format=form, subtype="PCM_16")
    whole, half = decode(file.getvalue()), decode(file.getvalue()[:12_000])
    assert whole.declared_frames == len(whole.samples) == 12_000
    assert len(half.samples) < 6000
    assert half.declared_frames == pytest.approx(12_000, abs=100)


def test_zeros_after_the_sound_are_no_sound(wav: bytes):
    assert len(decode(wav + bytes(100_000)).samples) == 12_000


@pytest.mark.parametrize(
    "after", [b"LIST" + struct.pack("<I", 90) + bytes(90), b"id3 " + struct.pack("<I", 60) + bytes(60)]
)
def test_chunks_after_no_data_are_no_sound(wav: bytes, after: bytes):
    with pytest.raises(BadAudio, match="no samples"):
        decode(with_header(wav[:44], 40, 0) + after)


def without_channels(wav: bytes) -> bytes:
    """Consistent with itself: no channels, so no bytes a frame and none a second."""
    return with_header(with_header(with_header(wav, 22, 0, "<H"), 32, 0, "<H"), 28, 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [(lambda wav: b"", "0 bytes"),
     (lambda wav: b"no audio at all", "cannot be decoded"),
     (lambda wav: bytes(1000), "all its bytes are 0"),
     (lambda wav: b"/annex/objects/SHA256E-s128044--0a5e.wav\n", "git annex get"),
     (lambda wav: b'{"error": "not found"}', "it is text"),
     (lambda wav: "keine Aufnahme".encode("utf-16"), "it is text"),
     (lambda wav: b"\xef\xbb\xbf<html>", "web page"),
     (lambda wav: b"PK\3\4" + wav, "unpack it"),
     (lambda wav: b"<!DOCTYPE html><html>", "cannot be decoded as audio .it is a web page"),
     (lambda wav: b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
     (lambda wav: wav[:16], "cannot be decoded"),
     (lambda wav: wav[:40], "cannot be decoded|no samples"),
     (lambda wav: wav[:44], "no samples"),
     (lambda wav: wav.replace(b"data", b"dato"), "cannot be decoded|no samples"),
     (without_channels, "cannot be decoded"),
     (lambda wav: with_header(wav, 24, 1), "rate of 1 Hz"),
     (lambda wav: with_header(wav, 24, 99), "rate of 99 Hz"),
     (lambda wav: with_header(wav, 24, 1_000_001), "rate of 1000001 Hz"),
     (lambda wav: with_header(wav, 24, 2**31 - 1), "rate|decoded")],
)  # fmt: skip
def test_what_is_not_a_recording_is_refused(wav: bytes, changed, message: str):
    with pytest.raises(BadAudio, match=message):
        decode(changed(wav))


@pytest.mark.parametrize("raised", [ValueError("negative dimensions"), RuntimeError("x"), OverflowError("too large")])
def test_whatever_a_decoder_raises_is_bad_audio(tmp_path: Path, monkeypatch, raised: Exception):
    def read(*args, **settings):
        raise raised

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    path = write_wav(tmp_path / "x.wav", tone(100))
    with pytest.raises(BadAudio, match=f"cannot be decoded as audio \\({raised}\\)"):
        decode(path.read_bytes())
    row = measure_file(str(path), sha256_file(path), MeasureConfig())
    assert str(row["error"]).startswith("cannot be decoded")


def test_more_than_a_recording_can_be_is_refused(wav: bytes, tmp_path: Path, monkeypatch):
    hours = write_wav(tmp_path / "long.flac", np.zeros(7300 * 100, np.int16), 100)
    with pytest.raises(BadAudio, match="7300 s of sound is more than"):
        decode(hours.read_bytes())
    monkeypatch.setattr(module, "MAX_SAMPLES", 11_999)
    with pytest.raises(BadAudio, match="3 s of sound is more than.*1 channels at 4000 Hz"):
        decode(wav)
    with (tmp_path / "huge.wav").open("wb") as file:
        file.truncate(2 << 30)  # sparse
    with pytest.raises(BadAudio, match="2.1 GB are more than"):
        read_bytes(str(tmp_path / "huge.wav"))


def test_a_file_that_changed_since_it_was_listed_is_noticed(tmp_path: Path):
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


def test_too_little_memory_is_not_called_a_fault_of_the_file(tmp_path: Path, monkeypatch):
    def read(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    with pytest.raises(MemoryError):
        decode(write_wav(tmp_path / "a.wav", tone(100)).read_bytes())
