"""Facts of a recording, for the checks: length, level, clipping, silence, rhythm, quality, fingerprint."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from heartdata import versions
from heartdata.audio import ffmpeg
from heartdata.audio.channels import DEFAULT, NAMES, Channel, choose
from heartdata.audio.decode import LIBRARIES, Audio, decode, read_bytes, resample
from heartdata.audio.fingerprint import RATE_HZ, fingerprint
from heartdata.audio.quality import frame_rms, periodicity, quality
from heartdata.errors import BadAudio, HeartbeatError, StoreError
from heartdata.settings import Settings, sha256_json
from heartdata.storage.schemas import FACTS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store, content_digest, table_from_rows


class MeasureConfig(Settings):
    """How the facts of a recording are measured."""

    clip_level: float = Field(
        default=0.999, gt=0, le=1, description="samples at or above this share of the peak count as clipped"
    )
    silence_rms: float = Field(
        default=1e-4, ge=0, lt=1, description="a 50 ms frame with a lower RMS (full scale 1) counts as silent"
    )
    channel: Channel = Field(
        default=DEFAULT,
        description="what is used of several channels: first, a number from 1, mix (the mean); or the mean if they are "
        "alike, else the one most like a heart (most_heart_like)",
    )

    @field_validator("channel", mode="before")
    @classmethod
    def _check_channel(cls, value: object) -> object:
        name = str(value).strip().lower()
        if name in NAMES:
            return name
        if name.isascii() and name.isdigit() and int(name) >= 1:
            return int(name)
        raise ValueError(f"a channel's number, from 1, or one of {', '.join(NAMES)} is needed")


def measure_file(uri: str, sha256: str, config: MeasureConfig) -> dict[str, object]:
    """One row of schema FACTS. Bad audio becomes a row with its ``error``; OSError is raised (worth a retry)."""
    try:
        return {"sha256": sha256, **measure_audio(decode(read_bytes(uri, sha256)), config)}
    except BadAudio as error:
        return {"sha256": sha256, "error": str(error)}


def measure_files(
    recordings: pa.Table,
    config: MeasureConfig = MeasureConfig(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pa.Table:
    """Measure each distinct file of ``recordings`` (schema RECORDINGS), in threads: a row of schema FACTS each.

    A file that cannot be decoded has a row with its ``error``. ``progress`` gets how many files are done, and of how
    many. Raises `HeartbeatError` when a file cannot be read.
    """
    files = recordings.to_pandas().dropna(subset=["sha256"]).drop_duplicates("sha256")
    rows: list[dict[str, object]] = []
    with ThreadPoolExecutor() as pool:
        try:
            facts = pool.map(lambda uri, sha256: measure_file(uri, sha256, config), files["uri"], files["sha256"])
            for done, row in enumerate(facts, 1):
                rows.append(row)
                progress(done, len(files))
        except OSError as error:
            raise HeartbeatError(f"{error.filename} cannot be read ({error.strerror}): run again") from error
        finally:
            pool.shutdown(cancel_futures=True)
    return table_from_rows(rows, FACTS)


def sound_reader(recordings: pa.Table, config: MeasureConfig) -> Callable[[str], np.ndarray | None]:
    """`sound_of_file` by sha256 alone, of the files of ``recordings`` (schema RECORDINGS)."""
    uris = dict(zip(*(recordings.column(name).to_pylist() for name in ("sha256", "uri")), strict=True))
    return lambda sha256: sound_of_file(uris[sha256], sha256, config)


def sound_of_file(uri: str, sha256: str, config: MeasureConfig) -> np.ndarray | None:
    """The samples that the fingerprint is of: mono at RATE_HZ, shape (n,); None where the file is gone or has changed.

    Other OSErrors are raised (worth a retry).
    """
    try:
        audio = decode(read_bytes(uri, sha256))
        return resample(choose(audio, config.channel).mono, audio.rate_hz, RATE_HZ)
    except (FileNotFoundError, HeartbeatError):
        return None


def measure_recordings(shard: Shard, config: MeasureConfig, store: Store) -> Artifact:
    """`measure_file` of each recording that no earlier table holds, as a table of schema FACTS with all of them."""
    known = load_known_facts(shard, config, store)
    rows = [known.get(sha256) or measure_file(uri, sha256, config) for sha256, uri in shard.recordings]
    name = shard.file(facts_folder(config), ".parquet")
    return store.write_table("facts", table_from_rows(rows, FACTS), FACTS, name=name)


def facts_folder(config: MeasureConfig) -> str:
    """The folder of one configuration's facts, as these versions of the code and of the decoders measure them."""
    return f"facts/v{versions.MEASURE}-{sha256_json([config.digest(), LIBRARIES])[:12]}"


def load_if_intact(shard: Shard, config: MeasureConfig, store: Store) -> Artifact | None:
    """The shard's facts if the store has them undamaged and final, else None."""
    name = shard.file(facts_folder(config), ".parquet")
    table = _load_facts(name, store)
    if table.column("sha256").to_pylist() != [sha256 for sha256, _ in shard.recordings] or not are_final(table):
        return None
    return Artifact(name=name, digest=content_digest(table), rows=table.num_rows)


def load_known_facts(shard: Shard, config: MeasureConfig, store: Store) -> dict[str, dict[str, object]]:
    """Facts of the shard's recordings in earlier tables (rows of schema FACTS), by sha256."""
    missing = {sha256 for sha256, _ in shard.recordings}
    known: dict[str, dict[str, object]] = {}
    for name in shard.earlier_files(facts_folder(config), ".parquet", store):
        rows = (row for row in _load_facts(name, store).to_pylist() if row["sha256"] in missing)
        known |= {row["sha256"]: row for row in rows if not awaits_ffmpeg(row["error"])}
        missing -= known.keys()
        if not missing:
            break
    return known


def are_final(facts: pa.Table) -> bool:
    """Whether no recording of a table of schema FACTS can be decoded only since ffmpeg was installed."""
    return not any(map(awaits_ffmpeg, facts.column("error").unique().to_pylist()))


def awaits_ffmpeg(error: str | None) -> bool:
    """Whether a recording could not be decoded, and may be since ffmpeg was installed."""
    return error is not None and ffmpeg.NOT_INSTALLED in error and ffmpeg.is_installed()


def _load_facts(name: str, store: Store) -> pa.Table:
    """A table of facts in the store; an empty one when it is damaged, since all of it can be measured again."""
    try:
        return store.read_table(name, FACTS)
    except (OSError, pa.ArrowException, StoreError):
        return FACTS.empty_table()


def measure_audio(audio: Audio, config: MeasureConfig = MeasureConfig()) -> dict[str, Any]:
    """What can be measured of a decoded recording: length, level, clipping, silence, signal quality and more.

    The keys are the columns of `heartdata.storage.schemas.FACTS` but for ``sha256``; levels are relative to full scale 1,
    ``quality`` and ``periodicity`` are in 0-1. Raises `BadAudio`.
    """
    try:
        return _measure(audio, config)
    except (BadAudio, MemoryError):
        raise
    except Exception as error:  # one recording must not stop the run
        raise BadAudio(
            f"cannot be measured ({type(error).__name__}: {error}): export it again, or remove it"
        ) from error


def _measure(audio: Audio, config: MeasureConfig) -> dict[str, object]:
    samples = audio.samples
    frames, channels = samples.shape
    finite = bool(np.isfinite(samples).all())
    identity = f"{audio.rate_hz}/{channels}/".encode() + np.ascontiguousarray(samples).tobytes()
    row: dict[str, object] = {
        "error": None,
        "format": audio.format,
        "rate_hz": audio.rate_hz,
        "channels": channels,
        "frames": frames,
        "duration_s": frames / audio.rate_hz,
        "missing_fraction": 1 - frames / audio.declared_frames,
        "finite": finite,
        "header_fault": audio.header_fault,
        "samples_sha256": hashlib.sha256(identity).hexdigest(),
    }
    if not finite:
        return row
    chosen = choose(audio, config.channel)
    mono = chosen.mono.astype(np.float64)
    level = np.abs(chosen.mono if chosen.channel else samples)
    peak = float(level.max())
    sound = resample(chosen.mono, audio.rate_hz, RATE_HZ)
    return row | {
        "channel": chosen.channel,
        "channel_agreement": chosen.agreement,
        "peak": peak,
        "rms": float(np.sqrt(np.mean(mono**2))),
        "dc_offset": float(mono.mean()),
        "clipped_fraction": float(np.mean(level >= config.clip_level * peak)) if peak > 0 else 0.0,
        "silent_fraction": float(np.mean(frame_rms(mono, audio.rate_hz) < config.silence_rms)),
        "periodicity": periodicity(sound),
        "quality": quality(sound),
        "fingerprint": fingerprint(sound),
    }
