"""Folders, tables and zips of recordings, as the tests of the sources need them."""

import zipfile
from pathlib import Path

import pandas as pd

from heartdata.sources import SourceListing, SourceRecording, TableSource


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def touch(folder: Path, *names: str) -> Path:
    """Empty files in ``folder``, which is returned."""
    for name in names:
        write(folder / name)
    return folder


def packed(folder: Path, target: Path, inside: str = "") -> Path:
    """A zip of all files in ``folder``, below ``inside``."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, inside + path.relative_to(folder).as_posix())
    return target


def by_id(listing: SourceListing) -> dict[str, SourceRecording]:
    return {row.recording_id: row for row in listing.recordings}


def listed(folder: Path, text: str, written: str = "utf-8", **settings) -> SourceListing:
    """What the source lists of a table of this text in ``folder``, ``written`` in that encoding."""
    (folder / "table.csv").write_text(text, encoding=written)
    return TableSource(data=folder / "table.csv", **settings).listing(folder)


def listed_parquet(folder: Path, columns: dict | pd.DataFrame) -> list[SourceRecording]:
    pd.DataFrame(columns).to_parquet(folder / "t.parquet")
    return list(TableSource(data=folder / "t.parquet").listing(folder).recordings)
