"""Which process holds a file lock of a store, and whether the drive has file locks."""

import fcntl
import os
import tempfile
from pathlib import Path


def holders(path: Path, table: Path = Path("/proc/locks")) -> list[int]:
    """The ids of the processes that hold a lock on the file, as Linux lists them, without taking it; else none.

    By inode alone: the device that Linux lists is not that of the file on some file systems.
    """
    try:
        inode = str(path.stat().st_ino)
        lines = [line.split() for line in table.read_text().splitlines()]
    except OSError:
        return []
    held = [parts for parts in lines if len(parts) >= 8 and parts[1] == "FLOCK"]
    return [int(parts[4]) for parts in held if parts[5].rpartition(":")[2] == inode]


def why_no_locks(folder: Path) -> str:
    """Why files in ``folder`` cannot be locked, as on some network drives; empty where they can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.strerror or os.strerror(error.errno or 0)
    return ""
