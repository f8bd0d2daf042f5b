"""Parquet as a table of text, also with the audio itself in a column, as Hugging Face data sets have it."""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as types
from pandas.api.types import is_float_dtype

from heartdata.errors import SourceError
from heartdata.sources.base import AUDIO_SUFFIXES, audio_files
from heartdata.sources.table.columns import Columns, distinct, no_paths
from heartdata.sources.text import enumerated, quoted, shortened
from heartdata.storage.store import atomic_write, sha256_file

PARQUET = (".parquet", ".pq")
MAX_ROWS = 20_000_000
ROUNDED = 1e16  # whole floats from here on are not exact
BATCH_ROWS = 16  # of audio held in memory
MAGIC = {  # the first bytes of audio, and the suffix of its format
    rb"(RIFF|RF64)....WAVE": ".wav", rb"fLaC": ".flac", rb"OggS": ".ogg", rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]": ".mp3", rb"FORM....AIF": ".aiff",
    rb"\.snd": ".au", rb"caff": ".caf", rb"riff": ".w64", rb"....ftyp": ".m4a", rb"#!AMR": ".amr",
}  # fmt: skip


def read_parquet(path: Path, columns: Columns) -> pd.DataFrame:
    """The table as text. Whole numbers that pandas stored as floats, because some were absent, become whole again; a named
    index becomes a column, lists of one value that value, and Hugging Face's class labels their names.

    A column of audio holds the path that is stored with each file, or its row; beside it, other bytes are left out. Raises
    `SourceError` for bytes that are no audio, and for lists or objects in place of paths.
    """
    schema, count = pq.read_schema(path), pq.read_metadata(path).num_rows
    if count > MAX_ROWS:
        raise SourceError(f"{path} has {count} rows, more than {MAX_ROWS}: a table needs one row per recording")
    audio = audio_column(path, columns)
    for field in schema:
        if (
            types.is_list(field.type)
            and types.is_floating(field.type.value_type)
            and columns.resolve([field.name]).get("path")
        ):
            raise SourceError(
                f"{path} holds decoded samples in the column {quoted(field.name)}, which are not read: write the recordings as WAV "
                "files beside a table"
            )
        if types.is_struct(field.type) and field.type.get_field_index("sampling_rate") >= 0:
            raise SourceError(
                f"{path} holds decoded samples in the column {quoted(field.name)}, which are not read: store the files' bytes (in "
                "datasets, cast the column to Audio), or write the recordings as WAV files beside a table"
            )
        if not audio and _holds_bytes(field.type) and _first_bytes(path, field.name) is not None:
            raise SourceError(
                f"{path} holds bytes in the column {quoted(field.name)}: write it as text, or leave the column out"
            )
    frame = pd.read_parquet(
        path, columns=[name for name in schema.names if name not in byte_columns(path)] if audio else None
    )
    if frame.index.name is None and frame.index.inferred_type == "string":
        frame = frame.rename_axis("index")
    frame = frame.reset_index([name for name in frame.index.names if name is not None and name not in frame.columns])
    frame = frame.reset_index(drop=True)
    frame.columns = [str(name) for name in frame.columns]
    frame = frame.apply(lambda cells: _whole(_without_lists(_without_structs(cells))))
    _refuse_nested(path, schema, frame, columns)
    frame = frame.astype("string").fillna("")
    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    for name in frame.columns.intersection(list(features)):
        feature = features[name] if isinstance(features[name], dict) else {}
        if names := feature.get("names") or (feature.get("feature") or {}).get("names"):
            frame[name] = frame[name].replace({"-1": ""} | {str(i): str(text) for i, text in enumerate(names)})
    if audio:
        paths = [path for batch in _batches(path, audio, "path") for path in batch]
        frame[audio] = [stored or f"row {row}" for row, stored in enumerate(paths, 1)]
    frame.columns = distinct(list(frame.columns))
    return frame[(frame != "").any(axis="columns")]


def _refuse_nested(path: Path, schema: pa.Schema, frame: pd.DataFrame, columns: Columns) -> None:
    """Raise `SourceError` where the column of the paths holds lists or objects."""
    column = columns.resolve(list(frame.columns)).get("path", "")
    is_nested = column in schema.names and types.is_nested(schema.field(column).type)
    if is_nested and frame[column].map(lambda cell: isinstance(cell, np.ndarray | list | dict)).any():
        raise SourceError(no_paths(path, column))


def audio_column(path: Path, columns: Columns) -> str | None:
    """The column whose cells are audio files, as bytes or as {bytes, path}. Raises `SourceError` for several."""
    names = [name for name in byte_columns(path) if _suffix(_first_bytes(path, name) or b"")]
    usual = columns.resolve(names).get("path")
    if usual or len(names) < 2:
        return usual or (names[0] if names and not columns.path else None)
    raise SourceError(
        f"{path} holds audio in the columns {enumerated(list(map(shortened, names)))}: choose one with --set source.columns.path=COLUMN"
    )


def byte_columns(path: Path) -> list[str]:
    """The columns of bytes, or of {bytes, path}."""
    return [field.name for field in pq.read_schema(path) if _holds_bytes(field.type)]


def unpack_audio(path: Path, column: str, folder: Path) -> list[str]:
    """The name in ``folder`` of each row's audio, which is written there once; empty where a row has none.

    A name holds that of the stored path and of the content, so it is the same in whatever row or shard it is.
    """
    index = folder / f"{sha256_file(path)}.json"
    if index.exists():
        names: list[str] = json.loads(index.read_text())
        if all((folder / name).is_file() for name in names if name):
            return names
    names = []
    for audio, stored in zip(
        (cell for batch in _batches(path, column, "bytes") for cell in batch),
        (cell for batch in _batches(path, column, "path") for cell in batch),
        strict=True,
    ):
        names.append(_written(audio, stored or "", folder) if audio is not None else "")
    with atomic_write(index) as file:
        file.write(json.dumps(names).encode())
    return names


def audio_tables(folder: Path) -> list[Path]:
    """The Parquet files with audio below ``folder``, if it holds no audio files of its own."""
    tables = sorted(folder.rglob("*.parquet"))
    tables = [path for path in tables if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not tables or audio_files(folder):
        return []
    return [path for path in tables if _is_table_of_audio(path)]


def _is_table_of_audio(path: Path) -> bool:
    try:
        return any(
            _suffix(_first_bytes(path, field.name) or b"") for field in pq.read_schema(path) if _holds_bytes(field.type)
        )
    except pa.ArrowException as error:
        raise SourceError(f"{path} cannot be read as a table: download it again, or move it away") from error


def _holds_bytes(kind: pa.DataType) -> bool:
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return types.is_binary(kind) or types.is_large_binary(kind)


def _first_bytes(path: Path, column: str) -> bytes | None:
    """The first bytes of the first cell that has any."""
    return _read_first_bytes(path, column, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)  # a row group may be large, and is read as a whole
def _read_first_bytes(path: Path, column: str, modified_ns: int) -> bytes | None:
    return next((cell[:16] for batch in _batches(path, column, "bytes") for cell in batch if cell is not None), None)


def _batches(path: Path, column: str, field: str) -> Iterator[list[Any]]:
    """The cells of ``column`` (of its ``field``, if it has any), a few rows at a time; None for what is not there."""
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            kind = file.schema_arrow.field(column).type
            is_struct = types.is_struct(kind)
            is_there = kind.get_field_index(field) >= 0 if is_struct else field == "bytes"
            wanted = [f"{column}.{field}" if is_struct else column] if is_there else []
            for batch in file.iter_batches(BATCH_ROWS, columns=wanted):
                cells = batch.column(0) if is_there else pa.nulls(batch.num_rows)
                yield (cells.field(field) if is_struct and is_there else cells).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{path} cannot be read as a table ({reason}): download it again") from error


def _written(audio: bytes, stored: str, folder: Path) -> str:
    digest = hashlib.sha256(audio).hexdigest()
    path = PurePosixPath(stored.replace("\\", "/"))
    given = path.suffix.lower() if path.suffix.lower() in AUDIO_SUFFIXES else ".wav"
    stem = re.sub(r"[^\w.+-]", "_", path.stem)[:100]
    name = f"{stem}-{digest[:16]}" if stem else digest
    target = folder / f"{name}{_suffix(audio) or given}"
    if not (target.is_file() and target.stat().st_size == len(audio)):
        with atomic_write(target) as file:
            file.write(audio)
    return target.name


def _suffix(audio: bytes) -> str | None:
    """The suffix of the format that the first bytes are of; None for what is no audio."""
    return next((suffix for magic, suffix in MAGIC.items() if re.match(magic, audio, re.DOTALL)), None)


def _without_structs(cells: pd.Series) -> pd.Series:
    """The path of each {bytes, path} without bytes."""
    structs = cells.dropna()
    is_reference = len(structs) and all(isinstance(cell, dict) and "path" in cell for cell in structs)
    return cells.map(lambda cell: cell["path"], na_action="ignore") if is_reference else cells


def _without_lists(cells: pd.Series) -> pd.Series:
    """The value of each list, where every cell is absent or a list of one."""
    lists = cells.dropna().map(lambda cell: isinstance(cell, np.ndarray) and len(cell) == 1)
    return cells.map(lambda values: values[0], na_action="ignore") if len(lists) and lists.all() else cells


def _whole(cells: pd.Series) -> pd.Series:
    """Floats as whole numbers where all are, except those too large to be exact, which keep their exponent."""
    is_rounded = is_float_dtype(cells.dtype) and cells.abs().max() >= ROUNDED
    return cells if is_rounded else cells.convert_dtypes()
