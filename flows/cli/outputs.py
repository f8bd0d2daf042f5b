"""Whether what a command is to write can be written, asked before the work is done."""

import os
from pathlib import Path
from tempfile import TemporaryFile

from heartdata.errors import HeartbeatError


def writable_file(out: Path) -> Path:
    """``out`` without ``~``, in a folder that is there now. Raises `HeartbeatError`."""
    out = expanded(out)
    if out.is_dir():
        raise HeartbeatError(f"--out {out} is a folder: name a file, such as {out / 'answers.csv'}")
    writable_folder(out.parent)
    if out.exists() and not os.access(out, os.W_OK):
        raise HeartbeatError(f"--out {out} cannot be written (Permission denied): name another file")
    return out


def writable_folder(out: Path) -> Path:
    """``out`` without ``~``, a folder that is there now. Raises `HeartbeatError`."""
    out = expanded(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise HeartbeatError(
            f"--out: nothing can be written to {out} ({error.strerror}): name another folder"
        ) from error


def expanded(path: Path) -> Path:
    """``path`` with its ``~`` replaced. Raises `HeartbeatError` where there is no such user."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise HeartbeatError(f"{path} names a user whom this machine does not know: write the path in full") from error
