"""Whether a database's schema is that of the installed library, by the library's alembic scripts."""

import re
import sqlite3
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from heartdata.errors import HeartbeatError

State = Literal["current", "older", "newer"]
SCRIPTS = {"mlflow": "store/db_migrations/versions", "prefect": "server/database/_migrations/versions/{dialect}"}


def sqlite_revision(database: Path) -> str | None:
    """The alembic revision of an SQLite database; None where there is none yet.

    Raises `HeartbeatError` where it cannot be read now, as it is locked.
    """
    if not database.is_file():
        return None
    with closing(sqlite3.connect(database)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if str(error).startswith("no such table"):
                return None
            raise HeartbeatError(
                f"the database {database} cannot be read now ({error}): try again when no other process works on it"
            ) from error
        except sqlite3.Error:  # a damaged one, which the library itself reports
            return None
    return row[0] if row else None


@cache
def schema_state(library: str, revision: str | None, dialect: str = "sqlite") -> State:
    """Whether ``revision`` is the newest that the installed library has; read as text, since to load the scripts takes seconds."""
    spec = find_spec(library)
    if revision is None or spec is None or spec.origin is None:
        return "current"
    folder = Path(spec.origin).parent / SCRIPTS[library].format(dialect=dialect)
    scripts = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
    quoted = rf"[\"']{re.escape(revision)}[\"']"
    if not any(re.search(rf"^revision\b.*{quoted}", script, re.MULTILINE) for script in scripts):
        return "newer"
    followed = rf"^down_revision\b[^=]*=[^=]*{quoted}"  # a merge names several, on lines of their own
    return "older" if any(re.search(followed, script, re.MULTILINE) for script in scripts) else "current"
