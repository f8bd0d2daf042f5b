"""SQLite databases, read without changing them, while a server writes to them or not."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

WAIT_S = 5.0  # for another process that locks the database


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection whose rows have names. Raises sqlite3.Error.

    Where no process has left a write-ahead log, nothing can be in one, and the file is opened as immutable: otherwise
    SQLite would make such a log beside it.
    """
    has_log = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.resolve().as_uri()}?mode=ro{'' if has_log else '&immutable=1'}"
    with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_S)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def damage(path: Path) -> str:
    """What SQLite finds damaged in a database, in short; empty where it is intact."""
    try:
        with read_only(path) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    return "" if found == "ok" else str(found).partition("\n")[0]
