"""The protocol of a source of recordings, which lists them without opening the audio, and what several need."""

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
UNREAD = (".m4a", ".aac", ".wma", ".amr", ".3gp")  # listed too: quarantine says what to do about each
AUDIO_SUFFIXES = READ + UNREAD
UNDECODED = re.compile("[\ud800-\udfff]")  # how Python represents bytes of a name that are not UTF-8
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
    """All recordings of a source, and notes for people (files in no row of the table, and so on)."""

    recordings: Sequence[SourceRecording]
    notes: Sequence[str] = ()


class Source(Protocol):
    """A source is its own frozen configuration. ``preset`` holds its defaults for later stages."""

    preset: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    def digest(self) -> str: ...

    def check(self) -> None:
        """Raise `SourceError` for faults that are known at once: an absent folder, a table without labels."""
        ...

    def listing(self, workdir: Path) -> SourceListing:
        """List the recordings; raises `SourceError`. ``workdir``: where a source may keep files of its own."""
        ...


class FolderSource(Settings):
    """The base of sources that read a folder or file."""

    data: Path

    def check(self) -> None:
        """Raise `SourceError` when ``data`` does not exist."""
        self.existing("recordings")

    def existing(self, what: str) -> Path:
        """The absolute path of ``data``; raises `SourceError` when it does not exist."""
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
        f"{error.filename} cannot be read ({error.strerror}), so its content would be left out: change its permissions, "
        "or move it elsewhere, and run again"
    )


def audio_files(folder: Path) -> list[Path]:
    """Every audio file below ``folder``, sorted, without hidden files (such as macOS's ``._`` ones).

    Linked folders are entered, too, but each folder only once: under its own name, if it is below ``folder`` itself.
    Raises `SourceError` for a folder that may not be read, and for a name that is not text.
    """

    def refuse(error: OSError) -> None:
        raise _unreadable(error) from error

    files: list[Path] = []
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
                files += [Path(here, name) for name in names if _is_audio(name)]
        starts = sorted(links)
    if undecoded := sorted(path for path in files if UNDECODED.search(str(path))):
        raise SourceError(
            f"the names of {len(undecoded)} of {len(files)} audio files are not UTF-8, the first being "
            f"{os.fsencode(undecoded[0])!r}: rename them, or all with convmv -r -f latin1 -t utf8 --notest {folder}"
        )
    return sorted(files)


def _is_audio(name: str) -> bool:
    return name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith(".")


def with_unique_ids(rows: Sequence[SourceRecording]) -> list[SourceRecording]:
    """``rows`` with ``#2``, ``#3`` added to an id that occurs again, by the rows' content and not by their order."""
    same: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(rows)), key=lambda i: _content(rows[i])):
        same[rows[i].recording_id].append(i)
    unique = list(rows)
    for recording_id, places in same.items():
        for number, i in enumerate(places[1:], 2):
            unique[i] = replace(rows[i], recording_id=f"{recording_id}#{number}")
    return unique


def _content(row: SourceRecording) -> str:
    return repr((row.label, row.subject, row.site, row.collection, sorted(row.extra.items()), str(row.path)))
