"""Decode recordings: bytes to samples, with one sentence for each fault of a file."""

import hashlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from heartdata.errors import BadAudio, SourceError
from heartdata.storage import remote

LIBRARIES = {
    "libsndfile": soundfile.__libsndfile_version__,
    "libsoxr": soxr.__libsoxr_version__,
}  # they determine the samples
MAX_BYTES = 1 << 30  # of a file
MAX_SAMPLES = 60_000_000  # frames x channels: 240 MB of float32
MAX_DURATION_S = 2 * 3600
RATES_HZ = (100, 1_000_000)
MAX_LEVEL = 1e10  # full scale is 1: 32-bit integers written as floats pass, damage does not
UNKNOWN_BYTES = 0x7FFFFF00  # declared, or more, by programs that write to a pipe and cannot know
_SHORT_DATA_CHUNK = re.compile(r"^data\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Audio:
    """A decoded recording. ``samples``: float32, shape (frames, channels), full scale 1."""

    samples: np.ndarray
    rate_hz: int
    format: str
    declared_frames: int

    @property
    def mono(self) -> np.ndarray:
        """Mean over channels, shape (frames,), float32."""
        return self.samples[:, 0] if self.samples.shape[1] == 1 else self.samples.mean(axis=1)


class _LenientBytesIO(io.BytesIO):
    """Ignores seeks to before the start, which damaged headers cause: raising in a callback only prints a traceback."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def read_bytes(uri: str, sha256: str | None = None) -> bytes:
    """The bytes of a file, by its path or any fsspec URI.

    Raises OSError (worth a retry), `SourceError` when its hash is not ``sha256``, `BadAudio` when it is larger than
    MAX_BYTES, which are not read.
    """
    is_remote = remote.is_remote(uri)
    size = remote.info(uri)["size"] if is_remote else Path(uri).stat().st_size
    if size > MAX_BYTES:
        raise BadAudio(f"{size / 1e9:.1f} GB are more than a recording can be")
    content = remote.read(uri) if is_remote else Path(uri).read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise SourceError(f"{uri} changed during the run: run again")
    return content


def decode(content: bytes) -> Audio:
    """Decode any format that libsndfile reads (wav of any width, flac, ogg, mp3).

    Raises `BadAudio` saying what is wrong with the content.
    """
    if not content:
        raise BadAudio("the file is empty (0 bytes)")
    try:
        with soundfile.SoundFile(_LenientBytesIO(content)) as file:
            if not RATES_HZ[0] <= file.samplerate <= RATES_HZ[1]:
                raise BadAudio(f"its header gives a rate of {file.samplerate} Hz, which no recording has")
            if file.frames * file.channels > MAX_SAMPLES or file.frames > MAX_DURATION_S * file.samplerate:
                raise BadAudio(f"{file.frames / file.samplerate:.0f} s of sound is more than a recording can be")
            declared = _declared_frames(file)
            samples = file.read(dtype="float32", always_2d=True)
            if not len(samples):
                raise BadAudio("the file holds no samples")
            _check_level(samples)
            form = f"{file.format}/{file.subtype}"
            return Audio(samples, file.samplerate, form, max(declared, len(samples)))
    except (BadAudio, MemoryError):  # too little memory says nothing about the file
        raise
    except Exception as error:  # whatever a decoder raises on damaged bytes, it must not stop the run
        detail = str(error).split(": ", 1)[-1].strip().rstrip(".") or type(error).__name__
        raise BadAudio(f"cannot be decoded as audio ({_failed_download(content) or detail})") from error


def _failed_download(content: bytes) -> str:
    """What was downloaded instead of a recording; empty where that is not known."""
    begin = content[:200].lstrip().lower()
    if begin.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs: `git lfs pull` fetches the recording"
    return "it is a web page" if begin.startswith((b"<!doctype", b"<html", b"<?xml")) else ""


def _check_level(samples: np.ndarray) -> None:
    """Raises `BadAudio` when finite samples are far beyond full scale."""
    if samples.min() >= -MAX_LEVEL and samples.max() <= MAX_LEVEL:  # false for NaN
        return
    finite = np.abs(samples[np.isfinite(samples)])
    if finite.size and finite.max() > MAX_LEVEL:
        raise BadAudio(f"holds samples up to {finite.max():.0e}, where full scale is 1")


def _declared_frames(file: soundfile.SoundFile) -> int:
    """Frames that the header declares: more than the file has when a wav file is truncated.

    libsndfile says so in its log, for wav only; a truncated flac or ogg fails to decode, an mp3 is merely short.
    """
    if match := _SHORT_DATA_CHUNK.search(file.extra_info):
        declared, actual = int(match[1]), int(match[2])
        if actual and declared < UNKNOWN_BYTES:
            return round(file.frames * declared / actual)
    return int(file.frames)


def resample(samples: np.ndarray, rate_hz: int, target_hz: int) -> np.ndarray:
    """Mono float32 samples at ``target_hz`` (soxr, high quality)."""
    if rate_hz == target_hz:
        return samples
    return soxr.resample(samples, rate_hz, target_hz, quality="HQ")
