"""Reading recordings: bytes to samples, with every fault of a file told in a sentence."""

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

LIBRARIES = {"libsndfile": soundfile.__libsndfile_version__, "libsoxr": soxr.__libsoxr_version__}  # decide on samples
MAX_BYTES = 1 << 30  # of a file
MAX_SAMPLES = 60_000_000  # frames x channels that will be decoded: 240 MB of float32
MAX_DURATION_S = 2 * 3600
RATES_HZ = (100, 1_000_000)
LARGEST = 1e10  # of full scale 1: integers of 32 bits written as floats pass, damage does not
UNKNOWN_BYTES = 0x7FFFFF00  # writers to a pipe declare so much or more, as they cannot know
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


class _Content(io.BytesIO):
    """Bytes that stay where they are when libsndfile, misled by a damaged header, seeks to before their beginning."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def read_bytes(uri: str, sha256: str | None = None) -> bytes:
    """The bytes of a file, given by its path or any fsspec URI.

    Raises OSError (worth a retry), or `SourceError` when it is not the file that was listed. A file that is larger than
    a recording can be raises `BadAudio` and is not read.
    """
    elsewhere = remote.is_remote(uri)
    size = remote.info(uri)["size"] if elsewhere else Path(uri).stat().st_size
    if size > MAX_BYTES:
        raise BadAudio(f"{size / 1e9:.1f} GB are more than a recording can be")
    content = remote.read(uri) if elsewhere else Path(uri).read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise SourceError(f"{uri} changed while the run was going on: run again")
    return content


def decode(content: bytes) -> Audio:
    """Decode any format that libsndfile reads (wav of any width, flac, ogg, mp3).

    Raises `BadAudio` saying what is wrong with the content.
    """
    if not content:
        raise BadAudio("the file is empty (0 bytes)")
    try:
        with soundfile.SoundFile(_Content(content)) as file:
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
    except BadAudio:
        raise
    except Exception as error:  # whatever a decoder makes of damaged bytes is this file's fault and ends no run
        detail = str(error).split(": ", 1)[-1].strip().rstrip(".") or type(error).__name__
        raise BadAudio(f"cannot be decoded as audio ({_what_it_is(content) or detail})") from error


def _what_it_is(content: bytes) -> str:
    """What stands in the place of a recording that was not downloaded itself; empty where that is not known."""
    begin = content[:200].lstrip().lower()
    if begin.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs: `git lfs pull` fetches the recording"
    return "it is a web page" if begin.startswith((b"<!doctype", b"<html", b"<?xml")) else ""


def _check_level(samples: np.ndarray) -> None:
    """Raises `BadAudio` when finite samples lie far beyond full scale."""
    if samples.min() >= -LARGEST and samples.max() <= LARGEST:  # neither holds of NaN
        return
    finite = np.abs(samples[np.isfinite(samples)])
    if finite.size and finite.max() > LARGEST:
        raise BadAudio(f"holds samples up to {finite.max():.0e}, where full scale is 1")


def _declared_frames(file: soundfile.SoundFile) -> int:
    """Frames that the header promises: more than there are when a wav file's data chunk ends early.

    libsndfile says so in its log, for wav only; a truncated flac or ogg fails to decode, an mp3 is merely short.
    """
    found = _SHORT_DATA_CHUNK.search(file.extra_info)
    if not found:
        return int(file.frames)
    declared, held = int(found[1]), int(found[2])
    return round(file.frames * declared / held) if held and declared < UNKNOWN_BYTES else int(file.frames)


def resample(samples: np.ndarray, rate_hz: int, target_hz: int) -> np.ndarray:
    """Mono float32 samples at ``target_hz`` (soxr, high quality)."""
    if rate_hz == target_hz:
        return samples
    return soxr.resample(samples, rate_hz, target_hz, quality="HQ")
