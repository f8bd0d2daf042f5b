"""Paths that a command will write to, checked before the work is done."""

import os
from pathlib import Path
from tempfile import TemporaryFile

from heartdata.errors import HeartbeatError


def writable_file(out: Path) -> Path:
    """``out`` without ``~``; makes its folder. Raises `HeartbeatError`."""
    out = expanded(out)
    if out.is_dir():
        raise HeartbeatError(f"--out {out} is a folder: name a file, such as {out / 'predictions.csv'}")
    writable_folder(out.parent)
    if out.exists() and not os.access(out, os.W_OK):
        raise HeartbeatError(f"--out {out} cannot be written (permission denied): name another file")
    return out


def writable_folder(out: Path) -> Path:
    """``out`` without ``~``; makes the folder. Raises `HeartbeatError`."""
    out = expanded(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise HeartbeatError(f"--out: cannot write to {out} ({error.strerror}): name another folder") from error


def expanded(path: Path) -> Path:
    """``path`` with its ``~`` replaced. Raises `HeartbeatError` for an unknown user."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise HeartbeatError(f"{path} names an unknown user: write the path in full") from error
