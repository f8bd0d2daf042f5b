"""What every source of recordings does: list them, without opening the audio."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from heartdata.errors import SourceError
from heartdata.settings import Settings

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au", ".opus")


@dataclass(frozen=True)
class Listed:
    """One recording as the source names it. ``missing`` says why there is no file to read."""

    recording_id: str
    path: Path | None
    label: str | None = None
    subject: str | None = None
    site: str | None = None
    collection: str = ""
    missing: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """All recordings of a source, and remarks that a person should read (files beside the table, and so on)."""

    recordings: Sequence[Listed]
    notes: Sequence[str] = ()


class Source(Protocol):
    """A source is its own frozen configuration. ``preset`` holds settings of later stages that suit it."""

    name: str
    preset: ClassVar[dict[str, Any]]

    def check(self) -> None:
        """Raise `SourceError` for what can be told at once: a folder that is not there, a table without labels."""
        ...

    def listing(self, workdir: Path) -> Listing:
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


def audio_files(folder: Path) -> list[Path]:
    """Every audio file below ``folder``, sorted; hidden files and macOS's ``._`` twins are no recordings."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and not p.name.startswith("."))
