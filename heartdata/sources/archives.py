"""Zip archives as ``data``: checked without unpacking, and unpacked once into a folder named by their content."""

import errno
import lzma
import shutil
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import cast

from pydantic import Field

from heartdata.errors import SourceError, StoreError
from heartdata.sources.base import FolderSource, subfolders
from heartdata.storage.store import sha256_file

MAX_RATIO = 200  # unpacked to packed, of archives that unpack to more than RATIO_FROM_BYTES
RATIO_FROM_BYTES = 10_000_000
MAX_MEMBERS = 1_000_000
DAMAGE = (  # what zipfile and the decompressors raise for broken archives and for unknown compression methods
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OverflowError, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip
# bz2 and seeks to wrong offsets raise OSError, as do names that are too long or used for a file and a folder.
DAMAGE_ERRNOS = (None, errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


class ArchiveSource(FolderSource):
    """The base of sources whose ``data`` is a folder or a zip archive of it."""

    max_unpacked_gb: float = Field(
        default=50.0, gt=0, description="refuse a zip whose files are larger than this in all, in 10^9 bytes"
    )

    @contextmanager
    def browsed(self, what: str) -> Iterator[Path]:
        """``data``, or the contents of the zip, without unpacking it. Raises `SourceError`.

        A zip's contents are a `zipfile.Path`, which has only ``/``, name, exists, is_dir, is_file, iterdir and read_text.
        """
        path = self.existing(what)
        if path.is_dir():
            yield path
        else:
            with _opened(path, round(self.max_unpacked_gb * 1e9)) as archive:
                yield cast(Path, zipfile.Path(archive))

    def unpacked(self, what: str, workdir: Path) -> Path:
        """``data``, or the folder below ``workdir`` that the zip is unpacked to. Raises `SourceError`."""
        path = self.existing(what)
        return path if path.is_dir() else unpack(path, workdir, round(self.max_unpacked_gb * 1e9))


def locate(folder: Path, is_wanted: Callable[[Path], bool], depth: int = 2) -> Path:
    """``folder`` if ``is_wanted``, else the only such folder up to ``depth`` levels below it, else ``folder`` again.

    A zip often holds one folder with everything in it.
    """
    level = [folder]
    for _ in range(depth + 1):
        matches = [f for f in level if is_wanted(f)]
        if matches:
            return matches[0] if len(matches) == 1 else folder
        level = [sub for f in level for sub in subfolders(f)]
    return folder


def unpack(path: Path, workdir: Path, limit_bytes: int) -> Path:
    """Unpack the zip ``path`` into ``workdir / zip-<sha256>`` unless that exists; returns that folder.

    It is unpacked under a temporary name, so an interrupted run leaves no partial folder. Raises `SourceError` for an
    archive that is damaged or unsafe, `StoreError` when the disk is too small.
    """
    target = workdir / f"zip-{sha256_file(path)}"
    if target.is_dir():
        return target
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        _opened(path, limit_bytes) as archive,
        tempfile.TemporaryDirectory(dir=workdir, prefix=".unpacking-") as unfinished,
    ):
        needed, free = _unpacked_bytes(archive), shutil.disk_usage(workdir).free
        if needed > free:
            raise StoreError(
                f"{path} needs {needed / 1e9:.1f} GB unpacked, but {workdir} has {free / 1e9:.1f} GB free: make room, or "
                "choose another output folder with --store"
            )
        files = Path(unfinished) / "files"
        files.mkdir()  # also for an archive without members
        archive.extractall(files)  # no member can exceed the size it declares, which `_refuse_unsafe` has summed
        try:
            files.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another run has unpacked the same archive
                raise
    return target


@contextmanager
def _opened(path: Path, limit_bytes: int) -> Iterator[zipfile.ZipFile]:
    """The archive, if its table of contents is safe. Raises `SourceError`, also for damage that shows when it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_unsafe(path, archive, limit_bytes)
            yield archive
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in DAMAGE_ERRNOS:
            raise  # the disk's fault
        raise SourceError(
            f"{path} is not a folder, and reading it as a zip archive failed ({error}): download it again, or unpack it "
            "and give the folder with --data"
        ) from error


def _refuse_unsafe(path: Path, archive: zipfile.ZipFile, limit_bytes: int) -> None:
    """Raise `SourceError` for links, names that lead outside or occur twice, and contents that are too large or many."""
    if (members := len(archive.infolist())) > MAX_MEMBERS:
        raise SourceError(
            f"{path} holds {members} members, more than {MAX_MEMBERS}: unpack it yourself if you trust it and give the "
            "folder with --data"
        )
    counts = Counter(_key(member) for member in archive.infolist() if not member.is_dir())
    for member in archive.infolist():
        fault = _fault(member) or (
            "has the name of another, letter case and Unicode form aside" if counts[_key(member)] > 1 else None
        )
        if fault:
            raise SourceError(
                f"{path}: the member {member.filename!r} {fault}; nothing was unpacked. Download the archive again from its "
                "publisher, or unpack it yourself if you trust it and give the folder with --data"
            )
    size_bytes = _unpacked_bytes(archive)
    if size_bytes > limit_bytes:
        raise SourceError(
            f"{path} holds {size_bytes / 1e9:.1f} GB, more than the {limit_bytes / 1e9:g} GB that source.max_unpacked_gb "
            "allows: raise it if you trust the archive"
        )
    if size_bytes > max(RATIO_FROM_BYTES, MAX_RATIO * path.stat().st_size):
        raise SourceError(
            f"{path} unpacks to more than {MAX_RATIO} times its size, as a zip bomb does, so it was not unpacked: download "
            "it again from its publisher, or unpack it yourself if you trust it and give the folder with --data"
        )


def _fault(member: zipfile.ZipInfo) -> str | None:
    """Why a member may not be unpacked, or None. (zipfile would write links as text, and change names to safe ones.)"""
    name = PureWindowsPath(member.filename)
    if name.anchor or ".." in name.parts or "\\" in member.filename:
        return "leads out of the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a symbolic link"
    return "is encrypted" if member.flag_bits & 0x1 else None


def _key(member: zipfile.ZipInfo) -> str:
    """The name that all file systems tell from the others: letter case and composed accents may not count."""
    name = unicodedata.normalize("NFC", str(PurePosixPath(member.filename)))
    return unicodedata.normalize("NFC", name.casefold())


def _unpacked_bytes(archive: zipfile.ZipFile) -> int:
    return sum(member.file_size for member in archive.infolist())
