"""Objects behind fsspec URIs such as s3://bucket/prefix: read, write, list.

Whatever the library behind a URI raises becomes an OSError, which is worth a retry, or a `StoreError`, which only a
person can fix. Connections are in fsspec's cache, one a process, so a store can be pickled and survives a fork.
"""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from heartdata.errors import HeartbeatError, StoreError
from heartdata.storage.schema_version import MARKER, check_marker

PROBE = ".heartbeat"  # written when a store is opened, which tells stores from other folders
EXTRAS = {"s3": "'heartbeat[s3]'", "s3a": "'heartbeat[s3]'", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}
MODIFIED = ("LastModified", "last_modified", "mtime", "updated", "created")  # fs.modified() costs a request an object
ERRNO = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES, TimeoutError: errno.ETIMEDOUT}


@dataclass(frozen=True)
class StoredFile:
    """A file in a store. ``modified_s``: Unix time of its last change."""

    name: str
    size_bytes: int
    modified_s: float


def is_remote(place: str | Path) -> bool:
    """Whether ``place`` is a URI of anything but a local folder or file."""
    protocol, separator, _ = str(place).partition("://")
    return bool(separator) and protocol not in ("file", "local")


def file_system(uri: str) -> tuple[Any, str]:
    """The fsspec file system for ``uri``, one a process, and the path of ``uri`` in it.

    Raises `StoreError` when the protocol is unknown or its library is not installed.
    """
    from fsspec.core import url_to_fs

    protocol, bucket = uri.partition("://")[0], "/".join(uri.split("/", 3)[:3])
    try:
        files = url_to_fs(bucket)[0]  # not of the whole URI, as "::" in a name would chain file systems
    except ImportError as error:
        extra = EXTRAS.get(protocol, f"the fsspec library for {protocol}")
        raise StoreError(f"{protocol}:// cannot be reached ({error}): pip install {extra}") from error
    except Exception as error:  # each library has its own
        raise StoreError(
            f"{bucket} cannot be used ({error}): give a folder or a URI such as s3://bucket/name"
        ) from error
    return files, files._strip_protocol(uri)


@contextmanager
def _access(uri: str) -> Iterator[tuple[Any, str]]:
    """`file_system` of ``uri``; whatever is raised in the block becomes an OSError that names ``uri``."""
    try:
        yield file_system(uri)
    except HeartbeatError:
        raise
    except Exception as error:
        number = next((number for kind, number in ERRNO.items() if isinstance(error, kind)), None)
        number = number or getattr(error, "errno", None) or errno.EIO
        raise OSError(number, getattr(error, "strerror", None) or str(error) or type(error).__name__, uri) from error


def info(uri: str) -> dict[str, Any]:
    """An object's metadata, ``size`` in bytes among it. Raises FileNotFoundError, OSError."""
    with _access(uri) as (files, path):
        files.invalidate_cache()  # or an earlier listing is used
        metadata = files.info(path)
        if metadata["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, "no object", uri)
        if metadata["size"] is None:
            raise OSError(errno.EIO, "the server does not say how large it is", uri)
        return metadata


def read(uri: str) -> bytes:
    """An object's content. Raises OSError."""
    with _access(uri) as (files, path):
        return files.cat_file(path)


def sha256(uri: str) -> str:
    """Hex sha256 of an object's content, read in chunks. Raises OSError."""
    with _access(uri) as (files, path), files.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def modified_s(metadata: dict[str, Any]) -> float:
    """Unix time of an object's last change by its metadata (see `info`), or 0 when that has none."""
    time = next((metadata[key] for key in MODIFIED if metadata.get(key) is not None), 0.0)
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return time.timestamp() if isinstance(time, datetime) else float(time)


class Remote:
    """The objects below a URI, by name. Every method raises OSError when the store cannot be reached."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")

    def address(self, name: str) -> str:
        """The URI of an object."""
        return f"{self.uri}/{name}"

    def check_writable(self) -> None:
        """Write the marker, as it is where there is one. Raises `StoreError` saying what to do, also for a newer store."""
        try:
            try:
                marker = self.check_version()
            except FileNotFoundError:
                marker = MARKER
            with _access(self.address(PROBE)) as (files, path):
                files.pipe_file(path, marker)
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.uri} ({error.strerror}): {_remedy(error)}") from error

    def check_version(self) -> bytes:
        """The marker. Raises `StoreError` if a newer heartbeat made the store, FileNotFoundError if there is none."""
        marker = read(self.address(PROBE))
        check_marker(marker, self.address(PROBE))
        return marker

    def put(self, file: Path, name: str) -> dict[str, Any]:
        """Upload a whole file, which an object store shows only once it is complete; returns the object's `info`."""
        with _access(self.address(name)) as (files, path):
            files.put_file(str(file), path)
        return self.info(name)

    def get(self, name: str, size: int, file: Path) -> None:
        """Download an object of ``size`` bytes into ``file``. Raises FileNotFoundError; OSError when cut short."""
        with _access(self.address(name)) as (files, path):
            files.get_file(path, str(file))
        if file.stat().st_size != size:
            raise OSError(errno.EIO, f"{file.stat().st_size} of {size} bytes arrived", self.address(name))

    def info(self, name: str) -> dict[str, Any]:
        """An object's metadata, ``size`` in bytes among it. Raises FileNotFoundError."""
        return info(self.address(name))

    def entries(self, prefix: str) -> list[StoredFile]:
        """Every object whose name begins with ``prefix/``, sorted by name."""
        with _access(self.address(prefix)) as (files, path):
            files.invalidate_cache()
            root = files._strip_protocol(self.uri)
            objects = sorted(files.find(path, detail=True).items())
            return [StoredFile(p[len(root) :].lstrip("/"), o["size"], modified_s(o)) for p, o in objects]

    def remove(self, name: str) -> None:
        """Remove an object if it exists."""
        with suppress(FileNotFoundError), _access(self.address(name)) as (files, path):
            files.rm_file(path)


def _remedy(error: OSError) -> str:
    cause = type(error.__cause__).__name__
    if isinstance(error, FileNotFoundError):
        return "make the bucket, or choose another store with --store"
    if isinstance(error, PermissionError) or "Credentials" in cause or "Profile" in cause:
        return (
            "give credentials that may read and write it, in the environment: for S3 AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    return "check the address (for S3 outside Amazon: AWS_ENDPOINT_URL) and the network"
