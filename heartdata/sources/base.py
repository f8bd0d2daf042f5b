"""The protocol of a source, which lists recordings without opening the audio, and what several sources share."""

import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import Field

from heartdata.errors import SourceError
from heartdata.settings import Settings
from heartdata.sources.text import clean_cell

DECODABLE_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".au", ".opus", ".caf", ".w64")
UNDECODABLE_SUFFIXES = (".m4a", ".aac", ".wma", ".amr", ".3gp")  # listed too: quarantine says what to do about each
AUDIO_SUFFIXES = DECODABLE_SUFFIXES + UNDECODABLE_SUFFIXES
NON_UTF8 = re.compile("[\ud800-\udfff]")  # how Python represents bytes of a name that are not UTF-8
SYSTEM_FOLDERS = ("lost+found", "$RECYCLE.BIN", "System Volume Information", "__MACOSX")  # of disks, not of data sets


@dataclass(frozen=True)
class SourceRecording:
    """One recording as the source names it.

    ``path``: a local file, or the fsspec URI of a remote one. ``missing`` says why there is no file to read.
    """

    recording_id: str
    path: Path | str | None
    label: str | None = None
    subject: str | None = None
    site: str | None = None
    collection: str = ""
    missing: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    source: str | None = None  # in a mix, the part that it comes from; None: the source that lists it


@dataclass(frozen=True)
class SourceListing:
    """All recordings of a source, and notes for people, such as how many files are in no row of the table."""

    recordings: Sequence[SourceRecording]
    notes: Sequence[str] = ()


class Source(Protocol):
    """A source is a frozen settings object. ``preset`` holds its defaults for later stages."""

    preset: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    def digest(self) -> str: ...

    def check(self) -> None:
        """Raise `SourceError` for faults that are known at once: an absent folder, a table without labels."""
        ...

    def listing(self, workdir: Path) -> SourceListing:
        """List the recordings; raises `SourceError`. ``workdir``: where the source may keep files of its own."""
        ...


class FolderSource(Settings):
    """The base of sources that read a folder or file."""

    data: Path = Field(description="the folder or file to read the recordings from")

    def existing(self, what: str) -> Path:
        """The absolute path of ``data``; raises `SourceError` when it does not exist."""
        path = self.data.expanduser().resolve()
        if not path.exists():
            raise SourceError(f"{path} does not exist: give the {what} with --data")
        return path


def check_source(source: Source) -> None:
    """`Source.check`, which raises `SourceError` also for a file or folder that may not be read."""
    try:
        source.check()
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> SourceError:
    return SourceError(
        f"{error.filename} cannot be read ({error.strerror}), so its content would be left out: change its permissions "
        "or move it away, and run again"
    )


def audio_files(folder: Path) -> list[Path]:
    """Every audio file below ``folder``, sorted, without hidden files (such as macOS's ``._`` ones).

    Symbolic links are followed, but each folder is entered once, by its own name where it is below ``folder`` itself.
    Raises `SourceError` for a folder that may not be read and for a name that is not UTF-8.
    """

    def refuse(error: OSError) -> None:
        raise _unreadable(error) from error

    files: list[str] = []
    visited: set[Path] = set()
    starts = [folder]
    while starts:
        links: list[Path] = []
        for start in starts:
            for here, folders, names in os.walk(start, onerror=refuse):
                folders[:] = [name for name in folders if name not in SYSTEM_FOLDERS]
                if (real := Path(here).resolve()) in visited:
                    folders.clear()
                    continue
                visited.add(real)
                links += [path for name in folders if (path := Path(here, name)).is_symlink()]
                audio = [name for name in names if name.lower().endswith(AUDIO_SUFFIXES) and name[0] != "."]
                files += [os.path.join(here, name) for name in audio]  # noqa: PTH118 (paths are slow)
        starts = sorted(links)
    files.sort(key=lambda file: file.replace(os.sep, "\0"))  # folder by folder
    if not_utf8 := [file for file in files if NON_UTF8.search(file)]:
        raise SourceError(
            f"the names of {len(not_utf8)} of {len(files)} audio files are not UTF-8, the first being "
            f"{os.fsencode(not_utf8[0])!r}: rename them, or all with convmv -r -f latin1 -t utf8 --notest {folder}"
        )
    return list(map(Path, files))


def names_below(folder: Path, files: Sequence[Path]) -> list[str]:
    """The names of ``files`` of `audio_files`, with slashes, relative to ``folder``."""
    start = len(str(folder / "_")) - 1
    return [str(file)[start:].replace(os.sep, "/") for file in files]


def wav_files(folder: Path) -> dict[str, Path]:
    """Name without suffix to ``.wav`` file, of all below ``folder``; raises `SourceError` where two have the same name."""
    files: dict[str, Path] = {}
    for path in audio_files(folder):
        if path.suffix.lower() == ".wav" and files.setdefault(path.stem, path) is not path:
            raise SourceError(
                f"{files[path.stem]} and {path} have the same name, so the tables may mean either: remove one of them"
            )
    return files


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted, without hidden ones and those of the system."""
    inside = [f for f in folder.iterdir() if f.is_dir() and f.name not in SYSTEM_FOLDERS and f.name[:1] != "."]
    return sorted(inside, key=lambda f: f.name)


def read_cells(table: Path, separators: str, errors: str = "strict") -> list[list[str]]:
    """The cleaned cells of every line of a CSV, separated by the one of ``separators`` that its first line has most of.

    Raises `SourceError` when it is not CSV, or not UTF-8 unless ``errors`` says otherwise (as in `str.encode`).
    """
    try:
        text = table.read_text(encoding="utf-8-sig", errors=errors)
        separator = max(separators, key=text.lstrip().partition("\n")[0].count)  # a spreadsheet may have changed it
        return [[clean_cell(cell) for cell in row] for row in csv.reader(io.StringIO(text), delimiter=separator)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table} cannot be read as a table ({error}): download it again") from error
