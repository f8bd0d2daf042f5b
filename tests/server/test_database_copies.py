"""Databases in PostgreSQL: an older one is refused rather than migrated unasked, copies, and what cannot be reached is said."""

import subprocess
from pathlib import Path

import pytest
from server.profile_servers import SECRETS
from server.profile_servers import Database as Server

from flows.cli.backup import restore_backup
from flows.cli.databases import (
    Database,
    check_databases,
    check_new,
    copy_database,
    database_state,
    databases,
    restore_postgresql,
)
from heartdata.config import RegistryConfig, RunConfig
from heartdata.errors import HeartbeatError
from heartdata.storage.backup_archive import write_archive
from heartdata.storage.store import Store

CONFIG = RegistryConfig()
VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


@pytest.fixture
def uri(database: Server) -> str:
    """The URI of an empty database of Prefect's."""
    return f"postgresql+asyncpg://prefect:{SECRETS['PREFECT_PASSWORD']}@{database.address}/prefect?ssl=prefer&prepared_statement_cache_size=0"


def older_sqlite(store: Store) -> None:
    """A Prefect database of an older version in the store."""
    import sqlite3
    from contextlib import closing

    store.workpath("prefect").mkdir()
    with closing(sqlite3.connect(store.workpath("prefect/prefect.db"))) as file:
        file.execute("CREATE TABLE alembic_version (version_num TEXT)")
        file.execute("INSERT INTO alembic_version VALUES ('9725c1cbee35')")
        file.commit()


def test_the_database_that_the_server_uses_is_checked(uri: str, database: Server, store: Store, monkeypatch):
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    older_sqlite(store)
    with pytest.raises(HeartbeatError, match=r"the Prefect database .* older version: type `heartbeat upgrade"):
        check_databases(CONFIG, store)
    monkeypatch.setenv(VARIABLE, uri)
    check_databases(CONFIG, store)  # a file that nothing uses does not count
    database.change("prefect", "CREATE TABLE alembic_version (version_num varchar(32))")
    try:
        database.change("prefect", "INSERT INTO alembic_version VALUES ('25f4b90a7a42')")
        with pytest.raises(HeartbeatError, match="older version"):
            check_databases(CONFIG, store)
    finally:
        database.change("prefect", "DROP TABLE alembic_version")


def test_a_database_is_copied_with_what_its_uri_says_of_tls(uri: str, database: Server, store: Store, tmp_path: Path):
    database.change("prefect", "CREATE TABLE copied AS SELECT 1 AS number")
    found = Database("prefect", uri=uri)
    try:
        copy_database(found, store, tmp_path / "dump")
        with pytest.raises(HeartbeatError, match="is not empty"):
            check_new(found)
        database.change("prefect", "DROP TABLE copied")
        restore_postgresql(found, tmp_path / "dump")
        assert database.rows("prefect", "SELECT * FROM copied") == [(1,)]
    finally:
        database.change("prefect", "DROP TABLE IF EXISTS copied")
    strict = Database("prefect", uri=uri.replace("prefer", "require"))  # this server has no TLS
    with pytest.raises(HeartbeatError, match="SSL"):
        copy_database(strict, store, tmp_path / "none")


def test_no_database_is_restored_before_all_are_known_to_be_empty(
    uri: str, database: Server, store: Store, tmp_path: Path, monkeypatch
):
    mlflow = f"postgresql://mlflow:{SECRETS['MLFLOW_PASSWORD']}@{database.address}/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow)
    monkeypatch.setenv(VARIABLE, uri)
    database.change("mlflow", "CREATE TABLE copied AS SELECT 1 AS number")
    try:
        copy_database(Database("mlflow", uri=mlflow), store, tmp_path / "dump")
    finally:
        database.change("mlflow", "DROP TABLE copied")
    with write_archive(tmp_path / "b.tar", {"store": str(tmp_path / "new")}) as archive:
        archive.add_bytes("work/.heartbeat", b"")
        for library in ("mlflow", "prefect"):
            archive.add(f"databases/{library}.dump", tmp_path / "dump")
    database.change("prefect", "CREATE TABLE taken (number int)")
    try:
        with pytest.raises(HeartbeatError, match="database of Prefect is not empty"):
            restore_backup(tmp_path / "b.tar", RunConfig(store=str(tmp_path / "new")))
        assert database.rows("mlflow", "SELECT to_regclass('copied')") == [(None,)]
        with pytest.raises(HeartbeatError, match=f"names files in {tmp_path / 'new'}: move aside"):
            restore_backup(tmp_path / "b.tar", RunConfig(store=str(tmp_path / "elsewhere")))
        assert not (tmp_path / "elsewhere").exists()
    finally:
        database.change("prefect", "DROP TABLE taken")
        database.change("mlflow", "DROP TABLE IF EXISTS copied")


def test_no_password_is_an_option(uri: str, store: Store, tmp_path: Path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: calls.append(command) or subprocess.CompletedProcess(command, 0)
    )
    copy_database(Database("prefect", uri=uri), store, tmp_path / "dump")
    assert calls
    assert not any(secret in str(calls) for secret in ("prefect@secret", "prefect%40secret"))


@pytest.mark.parametrize("password", ["T0PSECRET", "T0P@SECRET"])
def test_a_database_that_does_not_answer_is_named_without_its_password(
    password: str, store: Store, tmp_path: Path, monkeypatch
):
    monkeypatch.setenv(VARIABLE, f"postgresql+asyncpg://me:{password}@127.0.0.1:1/prefect")
    (found,) = databases(CONFIG, store)[0]
    for ask in (lambda: database_state(found, store), lambda: check_new(found)):
        with pytest.raises(
            HeartbeatError, match=r"PostgreSQL database of Prefect cannot be used at postgresql.*127.0.0.1:1/prefect \("
        ) as raised:
            ask()
        assert "SECRET" not in str(raised.value)
