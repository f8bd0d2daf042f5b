"""File locks of a store: taking one, which process holds one, and whether the drive has them."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from heartdata.errors import HeartbeatError


@contextmanager
def exclusive(path: Path, taken: str = "") -> Iterator[None]:
    """Hold a lock that the system frees even when this process is killed.

    While another process has it: wait, or with the message ``taken`` raise that as a `HeartbeatError`. Raises
    `HeartbeatError` too where the drive has no file locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if taken else 0))
        except BlockingIOError as error:
            raise HeartbeatError(taken) from error
        except OSError as error:  # of some network drives
            raise HeartbeatError(
                f"{path} cannot be locked ({error.strerror}): use a store on a drive that has file locks"
            ) from error
        yield


def holders(path: Path, table: Path = Path("/proc/locks")) -> list[int]:
    """The ids of the processes that hold a lock on the file, as Linux lists them, without taking it; else none.

    By inode, which a file of another drive may share: the device that Linux lists is not that of the file on some file
    systems. So the process must have the file open, where we may see that.
    """
    try:
        inode = str(path.stat().st_ino)
        lines = [line.split() for line in table.read_text().splitlines()]
    except OSError:
        return []
    held = [parts for parts in lines if len(parts) >= 8 and parts[1] == "FLOCK"]
    listed = [int(parts[4]) for parts in held if parts[5].rpartition(":")[2] == inode]
    return [process for process in listed if _has_open(process, path)]


def _has_open(process: int, path: Path) -> bool:
    try:
        return str(path.resolve()) in {file.path for file in psutil.Process(process).open_files()}
    except psutil.AccessDenied:  # of another user
        return True
    except psutil.Error:
        return False


def why_no_locks(folder: Path) -> str:
    """Why files in ``folder`` cannot be locked, as on some network drives; empty where they can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror or os.strerror(error.errno or 0)
    return ""
