"""Which content a file had when it was last looked at, so that a night with nothing new hashes nothing."""

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

SETTLED_NS = 2_000_000_000  # a file changed so shortly before it was hashed may change again within one clock tick


class HashCache:
    """Hashes by path, believed while size, inode and both times of the file are what they were.

    The change time (ctime) moves with every write and cannot be set back, so a file of equal size with its
    modification time restored is noticed. Of a remote object all that its store tells must be as it was. A lost or
    damaged table costs hashing again, nothing else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hashed = self.believed = 0
        self._new: dict[str, dict[str, object]] = {}
        try:
            rows = conform(read_parquet(path), HASH_CACHE, str(path)).to_pylist()
        except (OSError, pa.ArrowException, StoreError):
            rows = []
        self._known = {row["uri"]: row for row in rows}

    def sha256(self, file: Path | str) -> tuple[str, int]:
        """Hex sha256 and size in bytes of a file, or of the object that a URI names. Raises OSError."""
        now, stat = file_state(file), self._known.get(str(file))
        if stat and all(stat[name] == value for name, value in now.items()) and stat["settled"]:
            self.believed += 1
            self._new[str(file)] = stat
            return str(stat["sha256"]), int(now["size_bytes"])
        hashed_ns = time.time_ns()
        digest = sha256_of(file)
        self.hashed += 1
        settled = hashed_ns - max(now["mtime_ns"], now["ctime_ns"]) > SETTLED_NS
        unchanged = file_state(file) == now
        self._new[str(file)] = {"uri": str(file), **now, "sha256": digest, "settled": settled and unchanged}
        return digest, int(now["size_bytes"])

    def save(self) -> None:
        """Keep what was seen, for the next time; of other sources in the same store too."""
        rows = {**self._known, **self._new}
        with atomic_write(self.path) as file:
            pq.write_table(pa.Table.from_pylist(list(rows.values()), schema=HASH_CACHE), file, write_page_checksum=True)


def sha256_of(file: Path | str) -> str:
    """Hex sha256 of a local file, or of the object that a URI names. Raises OSError."""
    return remote.sha256(file) if isinstance(file, str) else sha256_file(file)


def file_state(file: Path | str) -> dict[str, int]:
    """What changes when a file does, its size among it. Raises OSError."""
    if isinstance(file, str):
        return _remote_state(remote.info(file))
    stat = file.stat()
    return {
        "size_bytes": stat.st_size,
        "inode": stat.st_ino,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
    }


def _remote_state(info: dict[str, Any]) -> dict[str, int]:
    """The store's ETag and all else that it tells stand for the inode; an object without a time is never believed."""
    changed_ns = int(remote.modified_s(info) * 1e9) or time.time_ns()
    inode = int(sha256_json(info)[:15], 16)
    return {"size_bytes": info["size"], "inode": inode, "mtime_ns": changed_ns, "ctime_ns": changed_ns}
