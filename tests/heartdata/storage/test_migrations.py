"""A database's schema is compared with the installed library's scripts, without loading them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from heartdata.errors import HeartbeatError
from heartdata.storage.migrations import SCRIPTS, schema_state, sqlite_revision


def scripts(library: str, dialect: str) -> ScriptDirectory:
    module = pytest.importorskip(library)
    folder = Path(module.__file__).parent / SCRIPTS[library].format(dialect=dialect)
    return ScriptDirectory(str(folder.parent), version_locations=[str(folder)])


@pytest.mark.parametrize(
    ("library", "dialect"), [("mlflow", "sqlite"), ("prefect", "sqlite"), ("prefect", "postgresql")]
)
def test_only_the_last_revision_is_current(library: str, dialect: str):
    revisions = [script.revision for script in scripts(library, dialect).walk_revisions()]
    states = [schema_state(library, revision, dialect) for revision in (*revisions[:3], revisions[-1])]
    assert states == ["current", "older", "older", "older"]
    assert schema_state(library, "f" * 12, dialect) == "newer"
    assert schema_state(library, None, dialect) == "current"


def test_the_revision_of_a_database(tmp_path: Path):
    path = tmp_path / "some.db"
    assert sqlite_revision(path) is None
    assert not path.exists()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        assert sqlite_revision(path) is None
        connection.execute("INSERT INTO alembic_version VALUES ('abc')")
        connection.commit()
    assert sqlite_revision(path) == "abc"
    path.write_bytes(b"no database" * 100)
    assert sqlite_revision(path) is None


def test_a_locked_database_is_not_taken_for_a_new_one(tmp_path: Path):
    path = tmp_path / "locked.db"
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("CREATE TABLE alembic_version (version_num TEXT)")
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(HeartbeatError, match=r"locked\.db cannot be read now \(database is locked\)"):
            sqlite_revision(path)
