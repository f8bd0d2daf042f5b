"""Formats that libsndfile does not read (what phones and browsers write), decoded by ffmpeg where it is installed."""

import re
import shutil
import tempfile
from threading import Timer

import numpy as np
from audioread.exceptions import DecodeError
from audioread.ffdec import COMMANDS, FFmpegAudioFile, NotInstalledError

from heartdata.audio.mp3 import tag_bytes
from heartdata.errors import BadAudio

MAX_SECONDS = 300  # for one file
HEAD = 512  # bytes that tell the format
NOT_INSTALLED = "is not read without ffmpeg"
FORMATS = {  # by how a file begins
    "3GP": rb"....ftyp3g",
    "M4A, MP4 or MOV": rb"....(ftyp|moov|mdat|wide|free|skip)",
    "WebM or Matroska": rb"\x1a\x45\xdf\xa3",
    "AMR": rb"#!AMR",
    "AAC": rb"\xff[\xf0\xf1\xf8\xf9]|ADIF",
    "WMA": rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    "AVI": rb"RIFF....AVI ",
    "Speex": rb"OggS.{24,}?Speex",
    "CAF with AAC": rb"caff.{4}desc.{16}aac",
    "CAF with IMA ADPCM": rb"caff.{4}desc.{16}ima4",
    "Ogg FLAC of no stated length": rb"OggS.{24,}?\x7fFLAC.{25}[\x00\x10\x20\x30\x40\x50\x60\x70\x80\x90\xa0\xb0\xc0\xd0\xe0\xf0]\0{4}",
    "True Audio": rb"TTA1",
    "WavPack": rb"wvpk",
    "Monkey's Audio": rb"MAC ",
    "Flash video": rb"FLV\x01",
    "MPEG video": rb"\0\0\x01[\xb3\xba]",
    "AC-3": rb"\x0b\x77",
    "FLAC of no stated length": rb"fLaC.{17}[\x00\x10\x20\x30\x40\x50\x60\x70\x80\x90\xa0\xb0\xc0\xd0\xe0\xf0]\0{4}",
}
WAV_FORMATS = {1, 2, 3, 6, 7, 0x11, 0x31, 0x38, 0x40, 0x55, 0xFFFE}  # that libsndfile reads
_WAV_FORMAT = re.compile(rb"RIFF....WAVE.*?fmt ....(..)", re.DOTALL)


def format_of(content: bytes) -> str | None:
    """The name of a format that is left to ffmpeg; None for others."""
    start = tag_bytes(content)  # before AAC, too
    head = content[start : start + HEAD]
    if (match := _WAV_FORMAT.match(head)) and (number := int.from_bytes(match[1], "little")) not in WAV_FORMATS:
        return f"WAV of encoding 0x{number:04x}"
    return next((name for name, begin in FORMATS.items() if re.match(begin, head, re.DOTALL)), None)


def is_installed() -> bool:
    """Whether the program is on the path."""
    return any(map(shutil.which, COMMANDS))


def decode(content: bytes, max_samples: int) -> tuple[np.ndarray, int]:
    """Float32 samples (frames, channels), full scale 1, in steps of 16 bits; and their rate in Hz.

    Raises `BadAudio`, also when there are more than ``max_samples``, or decoding takes longer than MAX_SECONDS.
    """
    pcm, count = [], 0
    with tempfile.NamedTemporaryFile(prefix="heartbeat-") as copy:
        copy.write(content)
        copy.flush()
        try:
            with _LimitedFile(copy.name) as file:
                for block in file:
                    pcm.append(block)
                    count += len(block) // 2
                    if count > max_samples:
                        raise BadAudio(f"holds more than the {max_samples:,} samples that are read: cut it into pieces")
                if file.proc.wait():
                    raise DecodeError(f"it ended with code {file.proc.returncode}")
        except NotInstalledError as error:
            raise BadAudio(missing(content)) from error
        except DecodeError as error:
            raise BadAudio(
                f"cannot be decoded as audio (ffmpeg: {str(error) or 'invalid data'}): export or download the recording again"
            ) from error
    channels = max(1, file.channels)
    samples = np.frombuffer(b"".join(pcm), "<i2")
    whole = len(samples) // channels * channels
    return (samples[:whole] / np.float32(2**15)).reshape(-1, channels), file.samplerate


def missing(content: bytes) -> str:
    """Why ``content`` cannot be decoded on a machine without ffmpeg."""
    return f"{format_of(content)} {NOT_INSTALLED}: install ffmpeg and run again, or convert it to WAV (ffmpeg -i NAME NAME.wav)"


class _LimitedFile(FFmpegAudioFile):
    """A file whose ffmpeg is killed after MAX_SECONDS: audioread itself waits for its first line without a limit."""

    def __init__(self, path: str) -> None:
        try:
            super().__init__(path)
        except DecodeError:
            self.close()  # else its threads live as long as the exception
            raise

    def _get_info(self) -> None:
        self.timer = Timer(MAX_SECONDS, self.proc.kill)
        self.timer.daemon = True
        self.timer.start()
        super()._get_info()

    def close(self) -> None:
        if hasattr(self, "timer"):
            self.timer.cancel()
        super().close()
