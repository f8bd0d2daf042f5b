"""Spectrogram shards: a ``.npy`` file of many recordings and its index, reusing the spectrograms of earlier shards."""

import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from heartdata import versions
from heartdata.audio.channels import DEFAULT, Channel, choose
from heartdata.audio.decode import LIBRARIES, decode, read_bytes
from heartdata.audio.spectrograms import DTYPE, SpectrogramConfig, log_mel
from heartdata.errors import BadAudio, SourceError, StoreError
from heartdata.settings import sha256_json
from heartdata.storage.schemas import SPECTROGRAMS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Store, sha256_file, table_from_rows

FOLDER = "spectrograms"
# numpy parses a header as Python, which two threads at once may not do before Python 3.11.8 (SystemError, gh-106905)
READING_HEADER = threading.Lock()
HEADER_BYTES = 128  # of a .npy file: numpy pads it


@dataclass(frozen=True)
class RenderedShard:
    """A shard's index (schema SPECTROGRAMS), how many recordings were not reused but rendered, and their duration."""

    name: str
    index: pa.Table
    rendered: int
    audio_s: float


def shards_folder(config: SpectrogramConfig, channel: Channel = DEFAULT) -> str:
    """The folder of the shards of one configuration, for the installed versions of the code and of the decoders."""
    settings = [config.digest(), LIBRARIES, channel]
    return f"{FOLDER}/v{versions.SPECTROGRAMS}-{sha256_json(settings)[:12]}"


def render_shard(shard: Shard, config: SpectrogramConfig, store: Store, channel: Channel = DEFAULT) -> RenderedShard:
    """Render ``shard`` unless it is intact in the store already; spectrograms in earlier shards are copied.

    The array is all spectrograms concatenated, shape (columns, mel_bands), sorted by sha256, so that the same recordings
    always make the same bytes. It is streamed behind a header written last (numpy's open_memmap needs the length first);
    its index appears after it. ``channel``: as `MeasureConfig.channel`. Raises OSError when reading fails (worth a
    retry), `SourceError` when a recording was removed or replaced, or cannot be rendered.
    """
    folder = shards_folder(config, channel)
    name = shard.file(folder, ".npy")
    intact = load_if_intact(shard, config, store, channel)
    if intact is not None:
        return intact
    earlier = _earlier(shard, config, store, folder)
    rows, rendered, audio_s, start = [], 0, 0.0, 0
    with store.writing(name) as file:
        file.seek(HEADER_BYTES)
        for sha256, uri in sorted(shard.recordings):
            spectrogram = earlier.get(sha256)
            if spectrogram is None:
                spectrogram, duration_s = _render(sha256, uri, config, channel)
                rendered, audio_s = rendered + 1, audio_s + duration_s
            file.write(np.ascontiguousarray(spectrogram).data)
            rows.append({"sha256": sha256, "shard": name, "start": start, "frames": len(spectrogram)})
            start += len(spectrogram)
        digest = _write_header(file, (start, config.mel_bands))
    index = table_from_rows([row | {"shard_sha256": digest} for row in rows], SPECTROGRAMS)
    with store.writing(index_name(name)) as file:
        pq.write_table(index, file, write_page_checksum=True)
    return RenderedShard(name, index, rendered, audio_s)


def load_if_intact(
    shard: Shard, config: SpectrogramConfig, store: Store, channel: Channel = DEFAULT
) -> RenderedShard | None:
    """The shard if it is complete and undamaged in the store, else None. Raises OSError when the store cannot be read.

    The time of its index becomes that of this use, so that a run in progress keeps it. In a bucket that cannot be set.
    """
    name = shard.file(shards_folder(config, channel), ".npy")
    index = _intact_index(name, config, store)
    if index is None:
        return None
    store.note_use(index_name(name))
    return RenderedShard(name, index, 0, 0.0)


def count_missing(shard: Shard, config: SpectrogramConfig, store: Store, channel: Channel = DEFAULT) -> int:
    """About how many of the shard's recordings must be rendered: those in no index of an earlier shard."""
    missing = {sha256 for sha256, _ in shard.recordings}
    for name in shard.earlier_files(shards_folder(config, channel), ".npy", store):
        index = _index(name, store)
        missing -= set(index.column("sha256").to_pylist()) if index is not None else set()
        if not missing:
            break
    return len(missing)


def open_shard(name: str, sha256: str, mel_bands: int | None, store: Store) -> np.ndarray:
    """A shard as a read-only memory map, shape (columns, mel_bands). Raises `StoreError` when it is missing or damaged."""
    try:
        path = store.local(name)
        if sha256_file(path) != sha256:
            raise StoreError(f"{store.address(name)} is damaged: run again to render it again")
        array = _mapped(path)
    except FileNotFoundError as error:
        raise StoreError(f"{store.address(name)} is missing: run again to render it again") from error
    if array.dtype != DTYPE or array.ndim != 2 or (mel_bands is not None and array.shape[1] != mel_bands):
        raise StoreError(f"{store.address(name)} holds {array.dtype} {array.shape}, not spectrograms: run again")
    return array


def _mapped(path: Path) -> np.ndarray:
    """A ``.npy`` file as a read-only memory map."""
    with READING_HEADER:
        return np.lib.format.open_memmap(path, mode="r")  # refuses pickles, and archives of arrays


def _render(sha256: str, uri: str, config: SpectrogramConfig, channel: Channel) -> tuple[np.ndarray, float]:
    """One recording's spectrogram and its duration in seconds."""
    try:
        audio = decode(read_bytes(uri, sha256))
        return log_mel(choose(audio, channel).mono, audio.rate_hz, config), len(audio.samples) / audio.rate_hz
    except FileNotFoundError as error:
        raise SourceError(f"{uri} was removed during the run: run again") from error
    except BadAudio as error:
        raise SourceError(f"{uri}: {error}") from error


def _write_header(file: BinaryIO, shape: tuple[int, int]) -> str:
    """Write the ``.npy`` header before the columns; returns the hex sha256 of the whole file."""
    file.seek(0)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(DTYPE)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    if file.tell() != HEADER_BYTES:
        raise StoreError(f"numpy wrote a header of {file.tell()} bytes instead of {HEADER_BYTES}: report this")
    file.flush()
    return sha256_file(Path(file.name))


def index_name(name: str) -> str:
    """The name of the index of the array ``name``."""
    return str(PurePosixPath(name).with_suffix(".parquet"))


def _index(name: str, store: Store) -> pa.Table | None:
    """The index beside a shard, or None when it is missing or damaged."""
    try:
        return store.read_table(index_name(name), SPECTROGRAMS)
    except (FileNotFoundError, pa.ArrowException, StoreError):
        return None
    except OSError:
        if store.exists(index_name(name)):  # its pages are damaged
            return None
        raise


def _intact_index(name: str, config: SpectrogramConfig, store: Store) -> pa.Table | None:
    """The index of a shard if both files exist and are undamaged, or None."""
    index = _index(name, store)
    if index is None or index.column("shard").unique().to_pylist() != [name]:
        return None
    try:
        array = open_shard(name, index.column("shard_sha256")[0].as_py(), config.mel_bands, store)
    except (StoreError, ValueError):
        return None
    ends = np.add(index.column("start").to_numpy(), index.column("frames").to_numpy())
    return index if len(array) == ends.max() else None


def _earlier(shard: Shard, config: SpectrogramConfig, store: Store, folder: str) -> dict[str, np.ndarray]:
    """The shard's spectrograms that earlier, undamaged shards contain, by sha256: views of memory maps."""
    missing = {sha256 for sha256, _ in shard.recordings}
    spectrograms: dict[str, np.ndarray] = {}
    for name in shard.earlier_files(folder, ".npy", store):
        index = _index(name, store)
        rows = [row for row in index.to_pylist() if row["sha256"] in missing] if index is not None else []
        if rows and _intact_index(name, config, store) is not None:
            array = _mapped(store.local(name))
            spectrograms |= {row["sha256"]: array[row["start"] : row["start"] + row["frames"]] for row in rows}
            missing -= spectrograms.keys()
        if not missing:
            break
    return spectrograms
