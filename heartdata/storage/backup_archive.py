"""A backup as one tar file: what it is of first, then the files, then the sha256 of each, in the form of `sha256sum`.

Not compressed: nearly all of it is weights of networks, which do not shrink. MLflow and the store hold the same weights
twice, so a file with the content of an earlier one is a hard link to that, in the archive and where it is unpacked.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

from heartdata.errors import HeartbeatError
from heartdata.storage.store import atomic_write, sha256_file

FORMAT = 1
ABOUT, SUMS = "heartbeat-backup.json", "SHA256SUMS"  # the first and the last member
LARGE_BYTES = 1_000_000  # smaller files are not compared with others
Advance = Callable[[int], object]  # is called with the bytes done since the last call


class _Hashed:
    """A file whose reads are hashed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self.sha256.update(content)
        return content


class Writer:
    """Adds files to an archive; see `write_archive`."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self.sums: dict[str, str] = {}
        self._large: dict[int, dict[str, str]] = {}  # by size: names by sha256

    def add(self, name: str, path: Path) -> None:
        """Add a file under ``name``, as large as it is now. Raises OSError, and `HeartbeatError` for a name that SUMS cannot hold."""
        if "\n" in name or not _is_text(name):
            raise HeartbeatError(f"the file {str(path)!r} cannot be in a backup, by its name: rename or remove it")
        with path.open("rb") as file:
            info = self._archive.gettarinfo(arcname=name, fileobj=file)
            info.type, info.linkname, info.size = tarfile.REGTYPE, "", os.fstat(file.fileno()).st_size
            info.uid, info.gid, info.uname, info.gname = 0, 0, "", ""
            same = self._large.get(info.size, {}) if info.size >= LARGE_BYTES else {}
            if same and (first := same.get(digest := hashlib.file_digest(file, "sha256").hexdigest())):
                info.type, info.linkname, info.size = tarfile.LNKTYPE, first, 0
                self._archive.addfile(info)
                self.sums[name] = digest
                return
            file.seek(0)
            hashed = _Hashed(file)
            self._archive.addfile(info, hashed)  # type: ignore[arg-type]
        self.sums[name] = hashed.sha256.hexdigest()
        if info.size >= LARGE_BYTES:
            self._large.setdefault(info.size, {}).setdefault(self.sums[name], name)

    def add_bytes(self, name: str, content: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        self._archive.addfile(info, io.BytesIO(content))
        self.sums[name] = hashlib.sha256(content).hexdigest()


@contextmanager
def write_archive(file: Path, about: dict[str, Any]) -> Iterator[Writer]:
    """An archive that appears as ``file`` once it is complete, and that only its owner may read. Raises OSError."""
    with atomic_write(file, mode=0o600) as output, tarfile.open(fileobj=output, mode="w") as archive:
        writer = Writer(archive)
        about = {"format": FORMAT, "heartbeat": version("heartbeat"), **about}
        writer.add_bytes(ABOUT, json.dumps(about, indent=1).encode() + b"\n")
        yield writer
        lines = [f"{digest}  {name}\n" for name, digest in writer.sums.items()]
        writer.add_bytes(SUMS, "".join(lines).encode())


class Archive:
    """An archive that is complete and of a known format; its content is checked as it is unpacked."""

    def __init__(self, archive: tarfile.TarFile, path: Path) -> None:
        self._archive, self.path = archive, path
        first = archive.next()
        content = self._content(first) if first and first.name == ABOUT else b""
        try:
            self.about: dict[str, Any] = json.loads(content)
            number = self.about["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise HeartbeatError(
                f"{path} is not a backup of heartbeat: name a file that `heartbeat backup` wrote"
            ) from error
        if number != FORMAT:
            raise HeartbeatError(
                f"{path} is a backup of format {number}, written by heartbeat {self.about.get('heartbeat')}; this version "
                f"reads format {FORMAT}: restore it with that version"
            )
        members = archive.getmembers()
        self.members = members[1:-1]
        if members[-1].name != SUMS:
            raise _damaged(path, "its end is missing")
        lines = self._content(members[-1]).decode(errors="replace").split("\n")[:-1]
        self._sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        names = [member.name for member in members[:-1]]
        fits = sorted(names) == sorted(self._sums) and self._sums[ABOUT] == hashlib.sha256(content).hexdigest()
        if not fits or not all(member.isreg() or member.islnk() for member in self.members):
            raise _damaged(path, "its list of files does not fit its files")

    @property
    def size_bytes(self) -> int:
        """The bytes of what it holds."""
        return sum(member.size for member in self.members)

    def unpack(self, folder: Path, advance: Advance) -> None:
        """Unpack all files, with their names, below ``folder``. Raises `HeartbeatError` when one is damaged, and OSError."""
        for member in self.members:
            try:
                self._archive.extract(member, folder, filter=_inside)
            except tarfile.FilterError as error:
                raise HeartbeatError(
                    f"{self.path} was not written by `heartbeat backup`, as {member.name!r} would be unpacked elsewhere: "
                    "do not use it"
                ) from error
            if sha256_file(folder / member.name) != self._sums[member.name]:
                raise _damaged(self.path, f"{member.name} has another content than when it was written")
            advance(member.size)

    def _content(self, member: tarfile.TarInfo) -> bytes:
        file = self._archive.extractfile(member)
        return file.read() if file else b""


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # of a file system whose names are bytes
        return False
    return True


def _inside(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """The filter `tarfile.data_filter`, which would unpack an absolute name elsewhere in ``folder``."""
    if member.name.startswith("/"):
        raise tarfile.AbsolutePathError(member)
    return tarfile.data_filter(member, folder)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a backup. Raises `HeartbeatError` when it is damaged, of a newer format, or no backup, and OSError."""
    try:
        with tarfile.open(path, "r:") as archive:
            yield Archive(archive, path)
    except tarfile.TarError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> HeartbeatError:
    return HeartbeatError(f"{path} is damaged, or no backup ({why}): take another copy or an earlier backup")
