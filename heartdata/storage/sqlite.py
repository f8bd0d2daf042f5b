"""SQLite databases, read without changing them, while a server writes to them or not."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

WAIT_S = 5.0  # for another process that locks the database
WITH_LOG = b"\x02\x02"  # in the header of a database that is written to by a write-ahead log


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection whose rows have names. Raises sqlite3.Error.

    A database in WAL mode without a -wal file is opened as immutable, or SQLite would make one beside it.
    """
    unused = _has_log_mode(path) and not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if unused else ''}"
    with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_S)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def damage(path: Path) -> str:
    """What SQLite finds damaged in a database, in short; empty where it is intact.

    Raises sqlite3.OperationalError where it cannot be read now: it is locked, or a killed process has left a change
    unfinished, which the next one that may write takes back.
    """
    try:
        with read_only(path) as connection:
            (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        raise
    except sqlite3.Error as error:
        return str(error)
    return "" if result == "ok" else str(result).partition("\n")[0]


def _has_log_mode(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == WITH_LOG
    except OSError:  # SQLite says why
        return False
