"""Where this machine keeps the local files of a remote store, and copies of its objects."""

import hashlib
import logging
import os
import re
import shlex
from contextlib import suppress
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from heartdata.errors import StoreError

logger = logging.getLogger("heartbeat")


def working_folders(uri: str) -> tuple[Path, Path]:
    """The working folder of a remote store, and the folder of copies of its objects, which may be deleted.

    Below HEARTBEAT_WORK, else in the user's data folder and cache folder. Version 0.1.0 kept both in the cache: such a
    folder is moved. Raises `StoreError` when it cannot be.
    """
    readable = re.sub(r"\W+", "-", uri).strip("-")[:60]
    name = f"{readable}-{hashlib.sha256(uri.encode()).hexdigest()[:8]}"
    if chosen := os.environ.get("HEARTBEAT_WORK"):
        folder = Path(chosen).expanduser().resolve() / name
        return folder, folder / "objects"
    folder = user_data_path("heartbeat", appauthor=False).resolve() / name
    copies = user_cache_path("heartbeat", appauthor=False).resolve() / "objects" / name
    old = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "heartbeat").expanduser().resolve() / name
    if old.is_dir() and not old.is_symlink() and not folder.exists():
        _move_out_of_cache(old, folder, copies)
    return folder, copies


def _move_out_of_cache(old: Path, folder: Path, copies: Path) -> None:
    """Move a working folder and leave a link in its place, as the MLflow database in it holds absolute paths."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        old.rename(folder)
    except FileNotFoundError:  # another process moved it first
        return
    except OSError as error:
        source, target = shlex.quote(str(old)), shlex.quote(str(folder))
        raise StoreError(
            f"the working folder {old} must leave the cache and cannot be moved ({error.strerror}): "
            f"type mv {source} {target} && ln -s {target} {source}, "
            f"or set HEARTBEAT_WORK={shlex.quote(str(old.parent))}"
        ) from error
    with suppress(OSError):  # copies that stay only take space
        copies.parent.mkdir(parents=True, exist_ok=True)
        (folder / "objects").rename(copies)
    with suppress(FileExistsError):
        old.symlink_to(folder)
    logger.warning("the working folder was moved from %s to %s; a link to it stays there", old, folder)
