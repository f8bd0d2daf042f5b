"""A cache of files' content hashes, so that a night with nothing new hashes nothing."""

import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from heartdata.errors import StoreError
from heartdata.settings import sha256_json
from heartdata.storage import remote
from heartdata.storage.schemas import HASH_CACHE
from heartdata.storage.store import atomic_write, conform, read_parquet, sha256_file

SETTLED_NS = 2_000_000_000  # a file modified less than this before hashing may change again within one clock tick


class HashCache:
    """Hashes by path, valid while a file's size, inode and both of its times are unchanged.

    The change time (ctime) moves with every write and cannot be set back, so a changed file of equal size with its
    modification time restored is noticed. Of a remote object, all of its metadata must be unchanged. A lost or damaged
    table only costs hashing again. ``hits`` and ``hashed`` count the files taken from the cache and those hashed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hashed = self.hits = 0
        try:
            rows = conform(read_parquet(path), HASH_CACHE, str(path)).to_pylist()
        except (OSError, pa.ArrowException, StoreError):
            rows = []
        self._rows: dict[str, dict[str, Any]] = {row["uri"]: row for row in rows}

    def sha256(self, file: Path | str) -> tuple[str, int]:
        """Hex sha256 and size in bytes of a local file, or of the object that a URI names. Raises OSError."""
        state, cached = file_state(file), self._rows.get(str(file))
        if cached and cached["settled"] and all(cached[name] == value for name, value in state.items()):
            self.hits += 1
            return str(cached["sha256"]), state["size_bytes"]
        hashed_ns = time.time_ns()
        digest = sha256_of(file)
        self.hashed += 1
        settled = hashed_ns - max(state["mtime_ns"], state["ctime_ns"]) > SETTLED_NS and file_state(file) == state
        self._rows[str(file)] = {"uri": str(file), **state, "sha256": digest, "settled": settled}
        return digest, state["size_bytes"]

    def save(self) -> None:
        """Write the cache, with what it already held of other sources in the same store."""
        with atomic_write(self.path) as file:
            pq.write_table(
                pa.Table.from_pylist(list(self._rows.values()), schema=HASH_CACHE), file, write_page_checksum=True
            )


def sha256_of(file: Path | str) -> str:
    """Hex sha256 of a local file, or of the object that a URI names. Raises OSError."""
    return remote.sha256(file) if isinstance(file, str) else sha256_file(file)


def file_state(file: Path | str) -> dict[str, int]:
    """What changes when a file does: ``size_bytes``, ``inode``, ``mtime_ns``, ``ctime_ns``. Raises OSError."""
    if isinstance(file, str):
        return _remote_state(remote.info(file))
    stat = file.stat()
    return {
        "size_bytes": stat.st_size, "inode": stat.st_ino, "mtime_ns": stat.st_mtime_ns, "ctime_ns": stat.st_ctime_ns,
    }  # fmt: skip


def _remote_state(info: dict[str, Any]) -> dict[str, int]:
    """A remote object's state: a hash of its metadata as inode; without a time, the object is always hashed again."""
    changed_ns = int(remote.modified_s(info) * 1e9) or time.time_ns()
    inode = int(sha256_json(info)[:15], 16)
    return {"size_bytes": info["size"], "inode": inode, "mtime_ns": changed_ns, "ctime_ns": changed_ns}
