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

MARKER = "moved_from"  # the file in a moved working folder that holds its old path

logger = logging.getLogger("heartbeat")


def working_folders(uri: str) -> tuple[Path, Path]:
    """The working folder of a remote store, and the folder of copies of its objects, which may be deleted.

    Below HEARTBEAT_WORK, else in the user's data folder and cache folder. Version 0.1.0 kept both in the cache: such a
    folder is moved, and a link to it kept in its place. Raises `StoreError` when that cannot be done.
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
    if (marker := folder / MARKER).is_file():
        _keep_link(Path(marker.read_text(encoding="utf-8")), folder)
    return folder, copies


def _move_out_of_cache(old: Path, folder: Path, copies: Path) -> None:
    """Move a working folder, with a marker in it that names the old place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        (old / MARKER).write_text(str(old), encoding="utf-8")
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
    logger.warning("the working folder was moved from %s to %s; a link to it stays there", old, folder)


def _keep_link(old: Path, folder: Path) -> None:
    """Make the link from the old place unless it is there: the MLflow database in ``folder`` holds paths through it."""
    if old.is_symlink():
        return
    try:
        old.parent.mkdir(parents=True, exist_ok=True)
        old.symlink_to(folder)
    except OSError as error:
        if old.is_symlink():  # another process made it first
            return
        if old.exists():
            raise StoreError(
                f"{old} must be a link to {folder}, where its files were moved, but is a folder again: move the contents "
                f"of {old} into {folder}, then delete {old}"
            ) from error
        raise StoreError(
            f"{old} must be a link to {folder}, as MLflow's records hold that path, and it cannot be made "
            f"({error.strerror}): make {old.parent} writable"
        ) from error
