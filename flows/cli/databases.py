"""The databases of Prefect and MLflow that a store uses: copies of them while they are written, and their schemas."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.local.servers import OBSERVER_TIMEOUT_S, running_api
from heartdata.config import RegistryConfig
from heartdata.errors import HeartbeatError
from heartdata.settings import without_login, without_logins
from heartdata.storage.migrations import State, schema_state, sqlite_revision
from heartdata.storage.store import Store
from tasks.databases import sqlite_path
from tasks.registry.client import NO_DRIVER, is_own, tracking_uri
from tasks.registry.locations import DATABASE

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

NAMES = {"mlflow": "MLflow", "prefect": "Prefect"}
PREFECT_PREFIXES = ("PREFECT_SERVER_DATABASE", "PREFECT_API_DATABASE")
SQLITE = b"SQLite format 3\0"  # how such files begin
TIMEOUT_S = 10  # PostgreSQL's library waits as long as the network does
# What only its owner may know: Prefect's blocks, whose key is in the same database, and the addresses of webhooks.
SECRET_TABLES = ("block_document_reference", "block_document", "webhook_events", "webhooks", "secrets")


@dataclass(frozen=True)
class Database:
    """A database of ``library``: an SQLite file of the store, by its name there, or PostgreSQL at a URI."""

    library: str
    file: str = ""
    uri: str = ""


def dump_name(library: str) -> str:
    """In a backup, of a PostgreSQL database."""
    return f"databases/{library}.dump"


def databases(config: RegistryConfig, store: Store) -> tuple[list[Database], list[str]]:
    """The databases that this store's runs use, and a sentence on each that cannot be reached as one."""
    used, notes = [], []
    mlflow_uri = tracking_uri(config, store)
    prefect_uri = _prefect_uri(store)
    prefect_file = sqlite_path(prefect_uri)
    if mlflow_uri.startswith("postgresql"):
        used.append(Database("mlflow", uri=mlflow_uri))
    elif is_own(config, store):
        used.append(Database("mlflow", DATABASE))
    else:
        notes.append("MLflow's runs and models are not in this store but on your own server: back up that one as well")
    if prefect_file is None:
        used.append(Database("prefect", uri=prefect_uri))
    elif prefect_file.is_relative_to(store.root):
        used.append(Database("prefect", str(prefect_file.relative_to(store.root))))
    else:
        notes.append(f"Prefect's database is not in this store but in {prefect_file}: back up that one as well")
    api = os.environ.get("PREFECT_API_URL")
    if prefect_file and api and api != running_api(store, OBSERVER_TIMEOUT_S):
        notes.append("runs on the Prefect server of PREFECT_API_URL are kept there: back up that one as well")
    return [d for d in used if d.uri or store.workpath(d.file).is_file()], notes


def _prefect_uri(store: Store) -> str:
    """By Prefect's variables: importing Prefect before `prepare_environment` would fix its settings too early."""
    uri, driver, user, password, host, port, name = (
        next(filter(None, (os.environ.get(f"{prefix}_{part}") for prefix in PREFECT_PREFIXES)), None)
        for part in ("CONNECTION_URL", "DRIVER", "USER", "PASSWORD", "HOST", "PORT", "NAME")
    )
    if uri:
        return uri
    if driver and driver.startswith("postgresql"):
        from sqlalchemy import URL

        url = URL.create(driver, user, password, host, int(port or 5432), name)
        return url.render_as_string(hide_password=False)
    home = Path(os.environ.get("PREFECT_HOME", store.root / "prefect")).expanduser()
    return f"sqlite+aiosqlite:///{name if name and driver else home / 'prefect.db'}"


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database, by its first bytes. Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def copy_database(database: Database, store: Store, target: Path) -> None:
    """A consistent copy, without secrets, while others write. Raises `HeartbeatError`, OSError."""
    if database.file:
        copy_sqlite(store.workpath(database.file), target)
        return
    without = [f"--exclude-table-data={table}" for table in SECRET_TABLES]
    _postgresql("pg_dump", database, ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}", *without])


def check_new(database: Database) -> None:
    """Raise `HeartbeatError` when a PostgreSQL database is not empty, or cannot be used."""
    from sqlalchemy import inspect

    with _connected(database) as connection:
        tables = inspect(connection).get_table_names()
    if tables:
        raise HeartbeatError(
            f"the PostgreSQL database of {NAMES[database.library]} is not empty: name a new one in the variable that names it"
        )


def restore_postgresql(database: Database, dump: Path) -> None:
    """Load a dump into an empty database. Raises `HeartbeatError`."""
    _postgresql("pg_restore", database, ["--no-owner", "--exit-on-error", "--single-transaction", str(dump)])


def database_state(database: Database, store: Store) -> State:
    """Whether its schema is that of the installed library. Raises `HeartbeatError`."""
    if database.file:
        return schema_state(database.library, sqlite_revision(store.workpath(database.file)))
    from alembic.migration import MigrationContext

    with _connected(database) as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    return schema_state(database.library, revision, "postgresql")


def check_databases(config: RegistryConfig, store: Store, libraries: Collection[str] = tuple(NAMES)) -> None:
    """Raise `HeartbeatError` when one of the ``libraries`` would migrate its database, which is not undone, without a backup."""
    for database in databases(config, store)[0]:
        if database.library in libraries and database_state(database, store) == "older":
            raise HeartbeatError(
                f"the {NAMES[database.library]} database of {without_login(database.uri) or store.uri} was made by an older "
                f"version: type `heartbeat upgrade --store {store.uri}`, which makes a backup first"
            )


def copy_sqlite(source: Path, target: Path) -> None:
    """A consistent copy, without secrets, while others write. Raises `HeartbeatError`, sqlite3.Error."""
    with closing(sqlite3.connect(source, timeout=60)) as original, closing(sqlite3.connect(target)) as copy:
        try:
            original.backup(copy)
            faults = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            faults = str(error)
        if faults != "ok":
            raise HeartbeatError(f"the database {source} is damaged ({faults}): restore it from an earlier backup")
        copy.execute("PRAGMA journal_mode = DELETE")
        present = {name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in SECRET_TABLES:
            if table in present:
                copy.execute(f"DELETE FROM {table}")
        copy.commit()
        copy.execute("VACUUM")  # or what was deleted would still be in the file


def _sync_url(uri: str) -> "URL":
    """As PostgreSQL's own library reads it, without options that only asyncpg knows."""
    from sqlalchemy import make_url

    url = make_url(uri)
    query = url.query
    if url.drivername.endswith("+asyncpg"):
        names = {"ssl": "sslmode", "host": "host", "port": "port"}
        query = {names[name]: value for name, value in query.items() if name in names}  # type: ignore[assignment]
    return url.set(drivername="postgresql", query=query)


@contextmanager
def _connected(database: Database) -> "Iterator[Connection]":
    """A connection to a PostgreSQL database. Raises `HeartbeatError` when it cannot be used."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(_sync_url(database.uri), connect_args={"connect_timeout": TIMEOUT_S})
        with closing(engine.connect()) as connection:
            yield connection
        engine.dispose()
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        reason = without_logins(str(getattr(error, "orig", None) or error).strip()).partition("\n")[0]
        if isinstance(error, ModuleNotFoundError):
            reason = NO_DRIVER
        raise HeartbeatError(
            f"the PostgreSQL database of {NAMES[database.library]} cannot be used at {without_login(database.uri)} ({reason}): "
            "mend that, or correct the variable that names it"
        ) from error


def _postgresql(program: str, database: Database, options: Sequence[str]) -> None:
    """Run a program of PostgreSQL; the password goes by the environment, as `ps` shows options."""
    if shutil.which(program) is None:
        raise HeartbeatError(
            f"{program} is needed for the PostgreSQL database of {NAMES[database.library]}: install PostgreSQL's client programs"
        )
    try:
        from psycopg2.extensions import make_dsn
    except ModuleNotFoundError as error:
        raise HeartbeatError(f"the database of {NAMES[database.library]} cannot be used: {NO_DRIVER}") from error
    from sqlalchemy.dialects.postgresql.psycopg2 import dialect

    _, parts = dialect().create_connect_args(_sync_url(database.uri))
    password = {"PGPASSWORD": str(parts.pop("password"))} if "password" in parts else {}
    command = [program, f"--dbname={make_dsn(**parts)}", *options]
    completed = subprocess.run(command, env={**os.environ, **password}, capture_output=True, text=True)
    if completed.returncode:
        reason = without_logins((completed.stderr.strip().splitlines() or ["it ended without a word"])[-1])
        raise HeartbeatError(
            f"{program} failed on the database of {NAMES[database.library]} ({reason}): mend that, and try again"
        )
