"""What every source of recordings does: list them, without opening the audio."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from heartdata.errors import SourceError
from heartdata.settings import Settings

READ = (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff", ".au", ".opus", ".caf", ".w64")
UNREAD = (".m4a", ".aac", ".wma", ".amr", ".3gp")  # listed all the same: quarantine says of each what to do
AUDIO_SUFFIXES = READ + UNREAD
UNDECODED = re.compile("[\ud800-\udfff]")  # how Python writes the bytes of a name that are not UTF-8
SYSTEM_FOLDERS = ("lost+found", "$RECYCLE.BIN", "System Volume Information", "__MACOSX")  # of disks, not of data sets


@dataclass(frozen=True)
class SourceRecording:
    """One recording as the source names it.

    ``path``: a local file, or the fsspec URI of one elsewhere. ``missing`` says why there is no file to read.
    """

    recording_id: str
    path: Path | str | None
    label: str | None = None
    subject: str | None = None
    site: str | None = None
    collection: str = ""
    missing: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    source: str | None = None  # the part of a mix that it comes from; None: the source that lists it


@dataclass(frozen=True)
class SourceListing:
    """All recordings of a source, and remarks that a person should read (files beside the table, and so on)."""

    recordings: Sequence[SourceRecording]
    notes: Sequence[str] = ()


class Source(Protocol):
    """A source is its own frozen configuration. ``preset`` holds settings of later stages that suit it."""

    name: str
    preset: ClassVar[dict[str, Any]]

    def check(self) -> None:
        """Raise `SourceError` for what can be told at once: a folder that is not there, a table without labels."""
        ...

    def listing(self, workdir: Path) -> SourceListing:
        """List the recordings; raises `SourceError`. ``workdir``: where a source may keep files of its own."""
        ...


class FolderSource(Settings):
    """The base of sources that read a folder or a file of the user's."""

    data: Path

    def check(self) -> None:
        """Raise `SourceError` when ``data`` is not there."""
        self.existing("recordings")

    def existing(self, what: str) -> Path:
        """The absolute path of ``data``; raises `SourceError` when it is not there."""
        path = self.data.expanduser().resolve()
        if not path.exists():
            raise SourceError(f"{path} does not exist: give the {what} with --data")
        return path


def check_source(source: Source) -> None:
    """`Source.check`, with a sentence for a file or folder that may not be read, too. Raises `SourceError`."""
    try:
        source.check()
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> SourceError:
    return SourceError(
        f"{error.filename} cannot be read ({error.strerror}), so what it holds would be lost: change its permissions, or "
        "move it elsewhere, and run again"
    )


def audio_files(folder: Path) -> list[Path]:
    """Every audio file below ``folder``, sorted; hidden files and macOS's ``._`` twins are no recordings.

    Linked folders are entered, too, but each folder only once: under its own name, if it lies below ``folder`` itself.
    Raises `SourceError` for a folder that may not be read, and for a name that is no text.
    """

    def refuse(error: OSError) -> None:
        raise _unreadable(error) from error

    found: list[Path] = []
    seen: set[Path] = set()
    starts = [folder]
    while starts:
        links: list[Path] = []
        for start in starts:
            for here, folders, names in os.walk(start, onerror=refuse):
                folders[:] = [name for name in folders if name not in SYSTEM_FOLDERS]
                if (real := Path(here).resolve()) in seen:
                    folders.clear()
                    continue
                seen.add(real)
                links += [path for name in folders if (path := Path(here, name)).is_symlink()]
                found += [Path(here, name) for name in names if _is_audio(name)]
        starts = sorted(links)
    _refuse_undecoded(folder, found)
    return sorted(found)


def _refuse_undecoded(folder: Path, found: list[Path]) -> None:
    """Raise `SourceError` when a path in ``found`` is no text: its bytes are not UTF-8, so no table can hold it."""
    broken = sorted(path for path in found if UNDECODED.search(str(path)))
    if broken:
        raise SourceError(
            f"the names of {len(broken)} of {len(found)} audio files are not UTF-8, the first being "
            f"{os.fsencode(broken[0])!r}: rename them, one by one or all with convmv -r -f latin1 -t utf8 --notest {folder}"
        )


def _is_audio(name: str) -> bool:
    return name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")


def with_unique_ids(rows: Sequence[SourceRecording]) -> list[SourceRecording]:
    """An id of several rows gets ``#2``, ``#3`` by what the rows say, in whatever order they stand."""
    same: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        same[row.recording_id].append(i)
    unique = list(rows)
    for recording_id, places in same.items():
        if len(places) == 1:
            continue
        places.sort(key=lambda i: _content(rows[i]))
        for number, i in enumerate(places[1:], 2):
            unique[i] = replace(rows[i], recording_id=f"{recording_id}#{number}")
    return unique


def _content(row: SourceRecording) -> str:
    return repr((row.label, row.subject, row.site, row.collection, sorted(row.extra.items()), str(row.path)))
