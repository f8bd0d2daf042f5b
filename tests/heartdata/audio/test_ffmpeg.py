"""Formats that are left to ffmpeg: recognised by content, decoded where it is installed, refused with a remedy elsewhere."""

import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import fake_ffmpeg, tone, write_wav

from heartdata.audio import ffmpeg
from heartdata.audio.decode import decode
from heartdata.errors import BadAudio

M4A = b"\0\0\0\x20ftypM4A " + bytes(2000)
BEGINNINGS = {
    "M4A, MP4 or MOV": M4A,
    "3GP": b"\0\0\0\x18ftyp3gp4",
    "WebM or Matroska": b"\x1a\x45\xdf\xa3",
    "AMR": b"#!AMR-WB\n",
    "AAC": b"\xff\xf1\x50\x80",
    "AC-3": b"ID3\4\0\0\0\0\0\3abc\x0b\x77",  # behind a tag
    "CAF with IMA ADPCM": b"caff\0\1\0\0desc" + bytes(16) + b"ima4",
    "Ogg FLAC of no stated length": b"OggS"
    + bytes(24)
    + b"\x7fFLAC\1\0\0\1fLaC\0\0\0\x22"
    + bytes(10)
    + b"\x0a\xc4\x40\xf0"
    + bytes(4),
    "WMA": bytes.fromhex("3026b2758e66cf11"),
    "WAV of encoding 0x0161": b"RIFF\0\0\0\0WAVEfmt \x12\0\0\0\x61\1",
    "FLAC of no stated length": b"fLaC\0\0\0\x22" + b"\x10\0" * 2 + bytes(6) + b"\x0a\xc4\x40\xf0" + bytes(4),
}


@pytest.mark.parametrize("form", BEGINNINGS)
def test_without_ffmpeg_the_message_says_what_to_do(tmp_path: Path, monkeypatch, form: str):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadAudio) as refused:
        decode(BEGINNINGS[form] + bytes(600))
    assert str(refused.value) == (
        f"{form} is not read without ffmpeg: install ffmpeg and run again, or convert it to WAV (ffmpeg -i NAME NAME.wav)"
    )


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64"])
def test_what_libsndfile_reads_is_not_left_to_ffmpeg(tmp_path: Path, suffix: str):
    subtype = {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(suffix, "PCM_16")
    content = write_wav(tmp_path / f"a.{suffix}", tone(100, rate_hz=16000), 16000, subtype).read_bytes()
    assert ffmpeg.format_of(content) is None


def test_pcm_of_ffmpeg_becomes_samples(tmp_path: Path, monkeypatch):
    pcm = (1000 * tone(100, 1.0, 8000)).astype("<i2")
    pcm.tofile(tmp_path / "pcm")
    fake_ffmpeg(tmp_path / "bin", f"cat {tmp_path / 'pcm'}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    audio = decode(M4A)
    assert (audio.rate_hz, audio.declared_frames, audio.format) == (8000, 8000, "FFMPEG/M4A, MP4 or MOV")
    assert np.array_equal(audio.samples[:, 0], pcm / np.float32(2**15))


@pytest.mark.parametrize(
    ("output", "code", "message"),
    [("true", 0, "holds no samples"), ("true", 1, "cannot be decoded .*code 1"), ("sleep 60", 0, "cannot be decoded"),
     ("head -c 400000000 /dev/zero", 0, "more than the 60,000,000 samples")],
)  # fmt: skip
def test_what_ffmpeg_cannot_read_is_refused(tmp_path: Path, monkeypatch, output: str, code: int, message: str):
    fake_ffmpeg(tmp_path / "bin", f"exec {output}" if "sleep" in output else output, code)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(ffmpeg, "MAX_SECONDS", 1 if "sleep" in output else 60)
    before = threading.active_count()
    with pytest.raises(BadAudio, match=message) as refused:
        decode(M4A)
    assert refused.value
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()  # it was cancelled
    assert threading.active_count() == before


def test_a_file_that_ffmpeg_does_not_know_leaves_no_thread_behind(tmp_path: Path, monkeypatch):
    fake_ffmpeg(tmp_path / "bin")
    (tmp_path / "bin" / "ffmpeg").write_text("#!/bin/sh\necho 'Invalid data found when processing input' >&2\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    before = threading.active_count()
    with pytest.raises(BadAudio, match="ffmpeg: invalid data") as refused:
        decode(M4A)
    assert refused.value
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    assert threading.active_count() == before


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", ["m4a", "mp4", "webm", "aac", "wma", "mka", "mov"])
def test_a_tone_of_a_real_ffmpeg_is_read(tmp_path: Path, suffix: str):
    source = write_wav(tmp_path / "a.wav", tone(100, rate_hz=44100), 44100)
    subprocess.run(["ffmpeg", "-i", source, tmp_path / f"a.{suffix}"], check=True, capture_output=True)
    audio = decode((tmp_path / f"a.{suffix}").read_bytes())
    second = audio.mono[audio.rate_hz : 2 * audio.rate_hz]
    assert np.abs(np.fft.rfft(second)).argmax() == 100
