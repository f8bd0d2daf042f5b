"""Decode recordings: bytes to samples, with one sentence for each fault of a file."""

import hashlib
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from heartdata.audio import ffmpeg
from heartdata.audio.mp3 import frames_after_junk, quiet_libmpg123, with_length
from heartdata.audio.wav_header import mp3_inside, repaired
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
AGAIN = "export or download the recording again"
UNKNOWN_BYTES = 0x7FFF0000  # declared, or more, by programs that write to a pipe and cannot know
_SHORT_DATA = re.compile(  # in the log of a WAV, AU, AIFF, W64 or RF64 file
    r"^\s*(?:data|Data Size|SSND|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE
)
TEXT_BYTES = 200  # that tell text from sound


@dataclass(frozen=True)
class Audio:
    """A decoded recording. ``samples``: float32, shape (frames, channels), full scale 1.

    ``declared_frames``: how many its header promises, more than there are in a truncated file.
    """

    samples: np.ndarray
    rate_hz: int
    format: str
    declared_frames: int
    header_fault: str | None = None  # what is wrong with the header of a file that was read all the same

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
        raise BadAudio(f"{size / 1e9:.1f} GB are more than a recording can be: cut it into pieces")
    content = remote.read(uri) if is_remote else Path(uri).read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise SourceError(f"{uri} changed during the run: run again")
    return content


def decode(content: bytes) -> Audio:
    """Decode any format that libsndfile reads (wav of any width, flac, ogg, mp3), or ffmpeg where it is installed.

    Raises `BadAudio` saying what is wrong with the content, and what to do.
    """
    if not content:
        raise BadAudio("the file is empty (0 bytes): copy or download it again")
    try:
        if ffmpeg.format_of(content):
            samples, rate_hz = ffmpeg.decode(content, MAX_SAMPLES)
            _check_rate(rate_hz)
            return _audio(samples, rate_hz, f"FFMPEG/{ffmpeg.format_of(content)}", len(samples))
        if (whole := repaired(content)) is not None:
            return replace(
                _decode(whole), header_fault="its header was never finished, or has a chunk of a wrong length"
            )
        try:
            return _decode(with_length(mp3_inside(content) or content))
        except soundfile.LibsndfileError:
            if (frames := frames_after_junk(content)) is None:
                raise
            return _decode(frames)
    except (BadAudio, MemoryError):  # too little memory says nothing about the file
        raise
    except Exception as error:  # whatever a decoder raises on damaged bytes, it must not stop the run
        if instead := _no_recording(content):
            raise BadAudio(f"cannot be decoded as audio ({instead})") from error
        detail = str(error).split(": ", 1)[-1].strip().rstrip(".") or type(error).__name__
        raise BadAudio(f"cannot be decoded as audio ({detail}): {AGAIN}") from error


def _decode(content: bytes) -> Audio:
    """Decode by libsndfile. Raises `BadAudio`, and whatever libsndfile raises."""
    with quiet_libmpg123(), soundfile.SoundFile(_LenientBytesIO(content)) as file:
        _check_rate(file.samplerate)
        if file.frames * file.channels > MAX_SAMPLES or file.frames > MAX_DURATION_S * file.samplerate:
            raise BadAudio(
                f"{file.frames / file.samplerate:.0f} s of sound is more than is read ({MAX_DURATION_S / 3600:.0f} hours and "
                f"{MAX_SAMPLES / 1e6:.0f} million samples, while it has {file.channels} channels at {file.samplerate} Hz): "
                "resample it to 4000 Hz, or cut it into pieces"
            )
        declared = _declared_frames(file)
        samples = file.read(file.frames, dtype="float32", always_2d=True)  # some formats need the number
        return _audio(samples, file.samplerate, f"{file.format}/{file.subtype}", max(declared, len(samples)))


def _audio(samples: np.ndarray, rate_hz: int, form: str, declared_frames: int) -> Audio:
    """Decoded samples with at least one and of a credible level, or `BadAudio`."""
    if not len(samples):
        raise BadAudio(f"the file holds no samples: {AGAIN}")
    _check_level(samples)
    return Audio(samples, rate_hz, form, declared_frames)


def _check_rate(rate_hz: int) -> None:
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise BadAudio(f"its header gives a rate of {rate_hz} Hz, which no recording has: {AGAIN}")


def _no_recording(content: bytes) -> str:
    """What is in a file instead of a recording, and what to do; empty where that is not known."""
    head = content[:TEXT_BYTES]
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if begin.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs: `git lfs pull` fetches the recording"
    if b"/annex/objects/" in head:
        return "it is a pointer of git-annex: `git annex get` or `datalad get` fetches the recording"
    if begin.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page: download the recording itself"
    if not content.strip(b"\0"):
        return "all its bytes are 0: copy or download it again"
    if head.startswith((b"PK\3\4", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf")):
        return "it is an archive: unpack it"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or not re.search(rb"[^\t\r\n -~\x80-\xff]", head):
        return "it is text, not sound: copy or download the recording itself"
    return ""


def _check_level(samples: np.ndarray) -> None:
    """Raises `BadAudio` when finite samples are far beyond full scale."""
    if samples.min() >= -MAX_LEVEL and samples.max() <= MAX_LEVEL:  # false for NaN
        return
    finite = np.abs(samples[np.isfinite(samples)])
    if finite.size and finite.max() > MAX_LEVEL:
        raise BadAudio(f"holds samples up to {finite.max():.0e}, where full scale is 1: {AGAIN}")


def _declared_frames(file: soundfile.SoundFile) -> int:
    """Frames that the header declares: more than the file has when a wav file is truncated.

    libsndfile says so in its log; a truncated flac fails to decode, and an ogg file declares no length. ``frames`` of an mp3 is the
    number that its own header declares, or that `with_length` counted.
    """
    if file.subtype.startswith("MPEG") and (file.format, file.subtype) != ("MP3", "MPEG_LAYER_III"):
        return 0  # an estimate
    if match := _SHORT_DATA.search(file.extra_info):
        declared, actual = int(match[1]), int(match[2])
        if actual and declared < UNKNOWN_BYTES:
            return round(file.frames * declared / actual)
    return int(file.frames)


def resample(samples: np.ndarray, rate_hz: int, target_hz: int) -> np.ndarray:
    """Mono float32 samples, shape (n,), at ``target_hz`` instead of ``rate_hz`` (soxr, high quality)."""
    if rate_hz == target_hz:
        return samples
    return soxr.resample(samples, rate_hz, target_hz, quality="HQ")
