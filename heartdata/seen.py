"""Which content a file had when it was last looked at, so that a night with nothing new hashes nothing."""

import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from heartdata.errors import StoreError
from heartdata.schemas import SEEN
from heartdata.store import atomic_write, conform, read_parquet, sha256_file

SETTLED_NS = 2_000_000_000  # a file changed so shortly before it was hashed may change again within one clock tick


class Seen:
    """Hashes by path, believed while size, inode and both times of the file are what they were.

    The change time (ctime) moves with every write and cannot be set back, so a file of equal size with its
    modification time restored is noticed. A lost or damaged table costs hashing again, nothing else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hashed = 0
        self._new: dict[str, dict[str, object]] = {}
        try:
            rows = conform(read_parquet(path), SEEN, str(path)).to_pylist()
        except (OSError, pa.ArrowException, StoreError):
            rows = []
        self._known = {row["uri"]: row for row in rows}

    def sha256(self, file: Path) -> tuple[str, int]:
        """Hex sha256 and size in bytes of a file. Raises OSError."""
        now, stat = _marks(file.stat()), self._known.get(str(file))
        if stat and all(stat[name] == value for name, value in now.items()) and stat["settled"]:
            self._new[str(file)] = stat
            return str(stat["sha256"]), int(now["size_bytes"])
        hashed_ns = time.time_ns()
        digest = sha256_file(file)
        self.hashed += 1
        settled = hashed_ns - max(now["mtime_ns"], now["ctime_ns"]) > SETTLED_NS
        unchanged = _marks(file.stat()) == now
        self._new[str(file)] = {"uri": str(file), **now, "sha256": digest, "settled": settled and unchanged}
        return digest, int(now["size_bytes"])

    def save(self) -> None:
        """Keep what was seen, for the next time; of other sources in the same store too."""
        rows = {**self._known, **self._new}
        with atomic_write(self.path) as file:
            pq.write_table(pa.Table.from_pylist(list(rows.values()), schema=SEEN), file, write_page_checksum=True)


def _marks(stat: os.stat_result) -> dict[str, int]:
    return {
        "size_bytes": stat.st_size,
        "inode": stat.st_ino,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
    }
