"""Zip archives as ``data``: looked into without unpacking, and unpacked once into a folder named by their content."""

import errno
import lzma
import re
import shutil
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import cast

from pydantic import Field

from heartdata.errors import SourceError, StoreError
from heartdata.sources.base import FolderSource
from heartdata.sources.folders import subfolders
from heartdata.store import sha256_file

MAX_MEMBERS = 1_000_000
MAX_RATIO = 200  # unpacked to packed, of members, and of all together, larger than RATIO_FROM_BYTES
RATIO_FROM_BYTES = 10_000_000
CHUNK_BYTES = 1 << 20
GROWS = f"grows to more than {MAX_RATIO} times its packed size, as in a zip bomb"
REMEDY = (
    "nothing was unpacked. Download the archive again from its publisher, or unpack it yourself if you trust it and "
    "give the folder with --data"
)
DAMAGE = (  # what zipfile and the decompressors raise for broken archives, and for ways of packing they do not know
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


class ArchiveSource(FolderSource):
    """The base of sources whose ``data`` is a folder or a zip archive of it."""

    max_unpacked_gb: float = Field(default=50.0, gt=0, description="of a zip: all its files together, in 10^9 bytes")

    @contextmanager
    def looked_into(self, what: str) -> Iterator[Path]:
        """``data``, or the contents of the zip that it is; nothing is unpacked. Raises `SourceError`.

        What stands for a zip is no whole `Path`: it has ``/``, name, exists, is_dir, is_file, iterdir and read_text.
        """
        path = self.existing(what)
        if path.is_dir():
            yield path
        else:
            with _opened(path, self._limit_bytes) as archive:
                yield cast(Path, zipfile.Path(archive))

    def unpacked(self, what: str, workdir: Path) -> Path:
        """``data``, or the folder below ``workdir`` that holds what the zip held. Raises `SourceError`."""
        path = self.existing(what)
        return path if path.is_dir() else unpack(path, workdir, self._limit_bytes)

    @property
    def _limit_bytes(self) -> int:
        return round(self.max_unpacked_gb * 1e9)


def holding(folder: Path, wanted: Callable[[Path], bool], depth: int = 2) -> Path:
    """``folder`` when it is ``wanted``, else the one wanted folder up to ``depth`` below it, else ``folder`` again.

    A zip often holds one folder that holds everything.
    """
    level = [folder]
    for _ in range(depth + 1):
        found = [f for f in level if wanted(f)]
        if found:
            return found[0] if len(found) == 1 else folder
        level = [sub for f in level for sub in subfolders(f)]
    return folder


def unpack(path: Path, workdir: Path, limit_bytes: int) -> Path:
    """Unpack the zip ``path`` into ``workdir / zip-<sha256>`` unless it is there; returns that folder.

    A temporary folder is renamed when all is written, so a torn one is never taken for whole. Raises `SourceError` for
    an archive that is damaged or unsafe, `StoreError` when the disk is too small.
    """
    target = workdir / f"zip-{sha256_file(path)}"
    if target.is_dir():
        return target
    workdir.mkdir(parents=True, exist_ok=True)
    with (
        _opened(path, limit_bytes) as archive,
        tempfile.TemporaryDirectory(dir=workdir, prefix=".unpacking-") as unfinished,
    ):
        _refuse_small_disk(path, archive, workdir)
        files = Path(unfinished) / "files"
        files.mkdir()
        _write_all(path, archive, files, limit_bytes)
        try:
            files.rename(target)
        except OSError:
            if not target.is_dir():  # else another run unpacked the same archive meanwhile
                raise
    return target


@contextmanager
def _opened(path: Path, limit_bytes: int) -> Iterator[zipfile.ZipFile]:
    """The archive, its table of contents having been found safe; raises `SourceError`."""
    with _sound(path), zipfile.ZipFile(path) as archive:
        _refuse_unsafe(path, archive.infolist(), limit_bytes)
        yield archive


@contextmanager
def _sound(path: Path, member: zipfile.ZipInfo | None = None) -> Iterator[None]:
    """Raise `SourceError` for what is raised inside when that comes of a broken archive."""
    try:
        yield
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # those are bz2's and a wrong seek's
            raise  # a fault of the disk
        if member is not None:
            raise _refusal(path, member, f"is damaged ({error})") from error
        raise SourceError(
            f"{path} is neither a folder nor a zip archive that can be read ({error}): download it again, or unpack it "
            "and give the folder with --data"
        ) from error


def _refuse_unsafe(path: Path, members: list[zipfile.ZipInfo], limit_bytes: int) -> None:
    """Raise `SourceError` for what the table of contents tells: names that lead outside, links, bombs, twins."""
    if len(members) > MAX_MEMBERS:
        raise SourceError(f"{path} has {len(members)} members, more than {MAX_MEMBERS}: unpack it and give the folder")
    seen: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        fault = _unsafe_name(member.filename) or _unsafe_kind(member)
        if fault:
            raise _refusal(path, member, fault)
        twin = seen.setdefault(_key(member.filename), member)
        if twin is not member and not (twin.is_dir() and member.is_dir()):
            raise _refusal(path, member, f"has the same name as {twin.filename!r}, but for upper and lower case")
    files = {key for key, member in seen.items() if not member.is_dir()}
    for key in files:
        above = next((str(p) for p in PurePosixPath(key).parents if str(p) in files), None)
        if above is not None:
            raise _refusal(path, seen[key], f"lies below {seen[above].filename!r}, which is no folder")
    total = sum(member.file_size for member in members)
    if total > limit_bytes:
        raise _too_large(path, f"holds {total / 1e9:.1f} GB", limit_bytes)
    if total > _ratio_limit(_packed_bytes(path, members)):
        raise _whole_bomb(path)


def _key(name: str) -> str:
    """One form for names that some file systems take for the same."""
    return unicodedata.normalize("NFC", name.rstrip("/")).casefold()


def _unsafe_name(name: str) -> str | None:
    """Why a member of that name may not be written, or None."""
    parts = name.removesuffix("/").split("/")
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    if ".." in re.split(r"[/\\]", name):
        return "leads out of the archive with '..'"
    if "\\" in name:
        return "has a backslash in its name"
    if any(part in ("", ".") or len(part.encode(errors="replace")) > 255 for part in parts) or len(name) > 1000:
        return "has an empty or too long part in its name"
    return None


def _unsafe_kind(member: zipfile.ZipInfo) -> str | None:
    """Why what the member is may not be written, or None. Sizes are those that the archive tells."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if member.flag_bits & 0x1:
        return "is encrypted"
    return _bomb(member.file_size, member)


def _bomb(size_bytes: int, member: zipfile.ZipInfo) -> str | None:
    return GROWS if size_bytes > _ratio_limit(member.compress_size) else None


def _ratio_limit(packed_bytes: int) -> int:
    return max(RATIO_FROM_BYTES, MAX_RATIO * packed_bytes)


def _packed_bytes(path: Path, members: list[zipfile.ZipInfo]) -> int:
    """What all members take together; no more than the archive, in which they may overlap."""
    return min(sum(member.compress_size for member in members), path.stat().st_size)


def _whole_bomb(path: Path) -> SourceError:
    return SourceError(f"{path} {GROWS}: {REMEDY}")


def _refusal(path: Path, member: zipfile.ZipInfo, fault: str) -> SourceError:
    return SourceError(f"{path}: the member {member.filename!r} {fault}; {REMEDY}")


def _too_large(path: Path, what: str, limit_bytes: int) -> SourceError:
    return SourceError(
        f"{path} {what}, more than the {limit_bytes / 1e9:g} GB that source.max_unpacked_gb allows: raise it if you "
        "trust the archive"
    )


def _refuse_small_disk(path: Path, archive: zipfile.ZipFile, workdir: Path) -> None:
    needed, free = sum(member.file_size for member in archive.infolist()), shutil.disk_usage(workdir).free
    if needed > free:
        raise StoreError(
            f"{path} needs {needed / 1e9:.1f} GB unpacked, but {workdir} has {free / 1e9:.1f} GB free: make room, or "
            "choose another output folder with --store"
        )


def _write_all(path: Path, archive: zipfile.ZipFile, files: Path, limit_bytes: int) -> None:
    """Write every member below ``files``; what is written is counted, not what the archive says of itself."""
    left_bytes, unlike_bomb_bytes = limit_bytes, _ratio_limit(_packed_bytes(path, archive.infolist()))
    for member in archive.infolist():
        target = files / member.filename
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with _sound(path, member):
            written_bytes = _write(archive, member, target, min(left_bytes, unlike_bomb_bytes))
        if _bomb(written_bytes, member):
            raise _refusal(path, member, GROWS)
        left_bytes -= written_bytes
        unlike_bomb_bytes -= written_bytes
        if left_bytes < 0:
            raise _too_large(path, f"grew beyond its own account at {member.filename!r}", limit_bytes)
        if unlike_bomb_bytes < 0:
            raise _whole_bomb(path)


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, room_bytes: int) -> int:
    """Write one member; returns its bytes. Stops, with what it has, as soon as those are too many."""
    written_bytes = 0
    with archive.open(member) as packed, target.open("xb") as file:
        while chunk := packed.read(CHUNK_BYTES):
            written_bytes += file.write(chunk)
            if written_bytes > room_bytes or _bomb(written_bytes, member):
                break
    return written_bytes
