"""Files behind fsspec URIs such as s3://bucket/prefix, whatever library reaches them.

What such a library raises becomes an OSError, which is worth a retry; what only a person can mend, a `StoreError`.
No connection is kept in an object: each process makes its own, so what names a URI can be pickled and survives a fork.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from heartdata.errors import HeartbeatError, StoreError

PROBE = ".heartbeat"  # an object that proves that the store can be written
EXTRAS = {"s3": "'heartbeat[s3]'", "s3a": "'heartbeat[s3]'", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs"}
MODIFIED = ("LastModified", "last_modified", "mtime", "updated", "created")  # what libraries call the time


def is_remote(place: str | Path) -> bool:
    """Whether ``place`` is a URI of anything but a local folder or file."""
    protocol, found, _ = str(place).partition("://")
    return bool(found) and protocol not in ("file", "local")


def file_system(uri: str) -> tuple[Any, str]:
    """This process's fsspec file system for ``uri``, and the path that the URI names in it.

    Raises `StoreError` when there is no such protocol, or when the library for it is not installed.
    """
    made = _file_system("/".join(uri.split("/", 3)[:3]), os.getpid())
    return made, made._strip_protocol(uri)


@lru_cache(maxsize=32)
def _file_system(place: str, process: int) -> Any:  # by process: connections do not survive a fork
    from fsspec.core import url_to_fs

    protocol = place.partition("://")[0]
    try:
        return url_to_fs(place, skip_instance_cache=True)[0]
    except ImportError as error:
        extra = EXTRAS.get(protocol, f"the fsspec library for {protocol}")
        raise StoreError(f"{protocol}:// cannot be reached ({error}): pip install {extra}") from error
    except Exception as error:  # each library has its own
        raise StoreError(
            f"{place} cannot be used ({error}): give a folder or a URI such as s3://bucket/name"
        ) from error


@contextmanager
def raising_os_errors(uri: str) -> Iterator[None]:
    """Whatever a library raises about ``uri`` becomes an OSError (FileNotFoundError, ...) that names it."""
    try:
        yield
    except HeartbeatError:
        raise
    except Exception as error:
        kinds = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES, TimeoutError: errno.ETIMEDOUT}
        number = next((n for kind, n in kinds.items() if isinstance(error, kind)), None)
        number = number or getattr(error, "errno", None) or errno.EIO
        raise OSError(number, getattr(error, "strerror", None) or str(error) or type(error).__name__, uri) from error


def info(uri: str) -> dict[str, Any]:
    """What the store tells of an object: ``size`` and more. Raises FileNotFoundError, OSError."""
    with raising_os_errors(uri):
        files, path = file_system(uri)
        files.invalidate_cache()  # else an earlier listing may be believed
        found = files.info(path)
        if found["type"] != "file":
            raise FileNotFoundError(errno.ENOENT, "no object", uri)
        if found["size"] is None:
            raise OSError(errno.EIO, "the server does not say how large it is", uri)
        return found


def read(uri: str) -> bytes:
    """An object's content. Raises OSError."""
    with raising_os_errors(uri):
        files, path = file_system(uri)
        return files.cat_file(path)


def sha256(uri: str) -> str:
    """Hex sha256 of an object's content, read in chunks. Raises OSError."""
    with raising_os_errors(uri):
        files, path = file_system(uri)
        with files.open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def modified_s(info: dict[str, Any]) -> float:
    """Unix time of the last change that `info` tells, or 0 when it tells none."""
    found = next((info[name] for name in MODIFIED if info.get(name) is not None), 0.0)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    return found.timestamp() if isinstance(found, datetime) else float(found)


class Remote:
    """The objects below a URI, by name. Every method raises OSError when the store cannot be reached."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")

    def address(self, name: str) -> str:
        """The URI of an object."""
        return f"{self.uri}/{name}"

    def prove_writable(self) -> None:
        """Write a small object. Raises `StoreError` saying what to do."""
        try:
            with self._talking(PROBE) as (files, path):
                files.pipe_file(path, b"heartbeat keeps its files here\n")
        except OSError as error:
            raise StoreError(f"cannot write to the store {self.uri} ({error.strerror}): {_remedy(error)}") from error

    def put(self, file: Path, name: str) -> dict[str, Any]:
        """Upload a whole file, which an object store shows only when all of it is there; returns what `info` does."""
        with self._talking(name) as (files, path):
            files.put_file(str(file), path)
        return self.info(name)

    def get(self, name: str, size: int, file: Path) -> None:
        """Download an object of ``size`` bytes over ``file``. Raises FileNotFoundError; OSError when less came."""
        with self._talking(name) as (files, path):
            files.get_file(path, str(file))
        if file.stat().st_size != size:
            raise OSError(errno.EIO, f"{file.stat().st_size} of {size} bytes came", self.address(name))

    def info(self, name: str) -> dict[str, Any]:
        """What the store tells of an object: ``size`` and more. Raises FileNotFoundError."""
        return info(self.address(name))

    def below(self, prefix: str) -> dict[str, tuple[int, float]]:
        """Size in bytes and time of the last change (Unix, s) of every object whose name begins with ``prefix/``."""
        with self._talking(prefix) as (files, path):
            files.invalidate_cache()
            root = files._strip_protocol(self.uri)
            found = files.find(path, detail=True).items()
            return {at[len(root) :].lstrip("/"): (told["size"], modified_s(told)) for at, told in found}

    def remove(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        try:
            with self._talking(name) as (files, path):
                files.rm_file(path)
        except FileNotFoundError:
            pass

    @contextmanager
    def _talking(self, name: str) -> Iterator[tuple[Any, str]]:
        with raising_os_errors(self.address(name)):
            yield file_system(self.address(name))


def _remedy(error: OSError) -> str:
    cause = type(error.__cause__).__name__
    if isinstance(error, FileNotFoundError):
        return "make the bucket, or choose another store with --store"
    if isinstance(error, PermissionError) or "Credentials" in cause or "Profile" in cause:
        return (
            "give credentials that may read and write it, in the environment: for S3 AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    return "is the address right (for S3 not of Amazon: AWS_ENDPOINT_URL), and is the network there?"
