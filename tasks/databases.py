"""The databases of a store: old runs are removed from Prefect's, and what is free in SQLite files is given back."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from heartdata.config import RegistryConfig
from heartdata.dataset.prune import DAY_S
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from tasks.registry.client import tracking_uri

FLOWS = {"heartbeat", "prepare", "score", "study", "prune"}
VACUUM = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs"
NOT_HERE = f"Prefect's database is not on this machine: let its server remove old runs, by {VACUUM}"
SHARED = f"Prefect's database stays as it is, as it has runs of another flow ({{}}): let its server remove old runs, by {VACUUM}"
WAIT_S = 20.0  # for other processes' transactions
WORTH_BYTES, WORTH_SHARE = 1_000_000, 0.1  # free in a file: less is not worth copying it


def remove_old_runs(days: int) -> str:
    """Remove flow runs that ended ``days`` ago from Prefect's database, with their task runs, logs and artifacts, and events.

    Done by the server's own functions, since a server that lives for minutes does not come to it. Returns a sentence where
    the database is not heartbeat's own and stays as it is, else nothing. Raises `HeartbeatError`.
    """
    from prefect.settings import (
        PREFECT_SERVER_EVENTS_RETENTION_PERIOD,
        PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD,
        temporary_settings,
    )
    from sqlalchemy.exc import SQLAlchemyError

    file = sqlite_path(_prefect_url())
    if file and not file.is_file():
        return NOT_HERE
    age = timedelta(seconds=days * DAY_S)
    ages = {
        PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD: age,
        PREFECT_SERVER_EVENTS_RETENTION_PERIOD: min(age, PREFECT_SERVER_EVENTS_RETENTION_PERIOD.value()),
    }
    try:
        with temporary_settings(ages):
            return asyncio.run(_vacuum())
    except (SQLAlchemyError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise HeartbeatError(
            f"Prefect's database cannot be pruned ({reason}): run again while no run is in progress; if it is of an older version "
            "of Prefect, run `heartbeat upgrade`"
        ) from error


async def _vacuum() -> str:
    import sqlalchemy
    from prefect.server.database import provide_database_interface
    from prefect.server.services import db_vacuum

    database = provide_database_interface()
    try:
        async with database.session_context() as session:
            flows = set((await session.execute(sqlalchemy.select(database.Flow.name))).scalars())
        if others := flows - FLOWS:
            return SHARED.format(sorted(others)[0])
        await db_vacuum.vacuum_old_flow_runs(db=database)
        await db_vacuum.vacuum_orphaned_logs(db=database)
        await db_vacuum.vacuum_orphaned_artifacts(db=database)
        await db_vacuum.vacuum_stale_artifact_collections(db=database)
        await db_vacuum.vacuum_events_with_retention_overrides(db=database)
        await db_vacuum.vacuum_old_events(db=database)
        return ""
    finally:
        await (await database.engine()).dispose()


def compact(registry: RegistryConfig, store: Store) -> list[str]:
    """Give back what is free in SQLite files of Prefect and MLflow; a sentence for each that is in use and stays as it is."""
    return [sentence for path in _sqlite_files(registry, store) if (sentence := _compact(path))]


def _sqlite_files(registry: RegistryConfig, store: Store) -> Iterator[Path]:
    for url in (_prefect_url(), tracking_uri(registry, store)):
        path = sqlite_path(url)
        if path and path.is_file():
            yield path


def _prefect_url() -> str:
    """By default the file in PREFECT_HOME, which is in the store."""
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

    return str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value())


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite database, None for another one."""
    from sqlalchemy import make_url

    parsed = make_url(url) if url.startswith("sqlite") else None
    return Path(parsed.database) if parsed and parsed.database else None


def _compact(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as database:
            size, free, pages = (
                database.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_size", "freelist_count", "page_count")
            )
            if size * free >= WORTH_BYTES and free >= WORTH_SHARE * pages:
                database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        return f"{path} was not made smaller ({error}): it will be the next time, while no run is in progress"
    return None
