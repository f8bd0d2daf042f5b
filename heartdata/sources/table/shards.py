"""One table in one file or in several, as Hugging Face data sets are kept, with the audio in it as files."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from heartdata.errors import SourceError
from heartdata.sources.table.columns import Columns
from heartdata.sources.table.parquet import PARQUET, audio_column, byte_columns, unpack_audio
from heartdata.sources.table.readers import SUFFIXES
from heartdata.sources.text import clean_cell, enumerated, quoted, shortened
from heartdata.storage.schemas import PART_NAMES

SHARD = re.compile(r"(?P<part>.*?)[-_.]?\d+-of-(?P<count>\d+)")


def read_shards(
    path: Path,
    shards: Sequence[Path],
    columns: Columns,
    read: Callable[[Path], tuple[pd.DataFrame, list[str]]],
    workdir: Path | None,
) -> tuple[pd.DataFrame, str | None, list[str]]:
    """The rows of all ``shards`` of ``path``, each ``read``, the column of the audio if they hold it, and notes.

    Its cells are names in the folder `unpacked_audio`, where the audio is written if there is a ``workdir``; the part of the
    split that a shard's name says is in the column ``part``.
    """
    frames: list[pd.DataFrame] = []
    notes: list[str] = []
    column = None
    for shard in shards:
        known = shard if shard.suffix.lower() in SUFFIXES else shard.resolve()  # a link may have no suffix
        frame, more = read(known)
        notes += more
        if known.suffix.lower() in PARQUET and (audio := audio_column(known, columns)):
            if column not in (None, clean_cell(audio)):
                raise SourceError(
                    f"{path} holds audio in columns of different names, {quoted(column or '')} and {quoted(audio)} "
                    f"({shard.name}): give one data set with --data, or rename the column"
                )
            column = clean_cell(audio)
            if workdir:
                names = unpack_audio(known, audio, unpacked_audio(workdir))
                frame[column] = [names[row] for row in frame.index]
            if "part" not in frame and (part := _part_of(shard)):
                frame["part"] = part
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True).fillna("")
    return table, column, [*notes, *(_notes(path, shards, table, column) if column else [])]


def unpacked_audio(workdir: Path) -> Path:
    """The folder of the audio that tables held."""
    return workdir / "parquet"


def _notes(path: Path, shards: Sequence[Path], table: pd.DataFrame, column: str) -> list[str]:
    others = _other_shards(path)
    notes = [f"{path} is one of {len(others) + 1} shards: to read all, give their folder with --data"] if others else []
    if len(shards) > 1:
        notes.append(f"{len(shards)} Parquet files below {path} were read as one table")
    if "part" in table and table["part"].nunique() > 1:
        notes.append("The parts of the split are kept with --set split.strategy=column --set split.column=part")
    unread = sorted({clean_cell(name) for shard in shards for name in byte_columns(shard)} - {column})
    if unread:
        notes.append(
            f"The bytes in the columns {enumerated(list(map(shortened, unread)))} are not read; the audio is that of the column {column}"
        )
    return notes


def _part_of(shard: Path) -> str | None:
    """The part of a split that a shard's name or folder says, as in ``train-00000-of-00002.parquet``."""
    match = SHARD.fullmatch(shard.stem)
    names = (match["part"] if match else shard.stem, shard.parent.name)
    return next((PART_NAMES[name.lower()] for name in names if name.lower() in PART_NAMES), None)


def _other_shards(path: Path) -> list[Path]:
    """The other shards of the data set that ``path`` is a shard of by its name."""
    match = SHARD.fullmatch(path.stem)
    count = match["count"] if match else ""
    return [other for other in sorted(path.parent.glob(f"*-of-{count}{path.suffix}")) if match and other != path]
