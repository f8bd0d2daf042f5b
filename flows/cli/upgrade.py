"""`heartbeat upgrade`: a store and its databases brought to the installed versions, after a backup."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from flows.cli.backup import archive_store, existing_store, new_file
from flows.cli.console import note, plain_console
from flows.cli.databases import NAMES, Database, database_state, databases
from flows.cli.up import lock_store
from flows.local.child import logged_reason
from flows.local.environment import prepare_environment
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.sources.text import enumerated
from heartdata.storage.store import Store
from tasks.registry.client import is_own
from tasks.registry.locations import DATABASE, FOLDER, check_locations, relocate, versions_without_files

Step = tuple[str, Callable[[], str]]  # what it does, and the function that does it and says what it did


def upgrade_store(config: RunConfig) -> None:
    """Upgrade the store of ``config`` if it needs that. Raises `HeartbeatError`."""
    store, console = existing_store(config), plain_console()
    with lock_store(store):
        if users := _users(store):
            raise HeartbeatError(f"{store.uri} is in use by {', '.join(users)}: stop that, then upgrade")
        with console.status("comparing versions"):
            steps = _steps(config, store)
        if not steps:
            console.print(f"{store.uri} fits the installed versions: there is nothing to upgrade", markup=False)
            return
        made = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        backup = new_file(store.root.with_name(f"{store.root.name}-before-upgrade-{made}.tar"), store)
        for text in archive_store(backup, config.registry, store, console):
            console.print(note(text))
        _run(steps, backup, console)


def _steps(config: RunConfig, store: Store) -> list[Step]:
    """What is to be done. Raises `HeartbeatError` where a database is newer than the installed library."""
    steps: list[Step] = []
    for database in databases(config.registry, store)[0]:
        state, name = database_state(database, store), NAMES[database.library]
        if state == "newer":
            raise HeartbeatError(
                f"the {name} database of {store.uri} was made by a newer version of {name}: install that version"
            )
        if state == "older":
            steps.append((f"the {name} database", lambda database=database: _migrate(database, store)))  # type: ignore[misc]
    if is_own(config.registry, store) and store.workpath(DATABASE).is_file():
        try:
            check_locations(store)
        except HeartbeatError:
            steps.append(("the places of files in the registry", lambda: _relocate(store)))
    return steps


def _run(steps: list[Step], backup: Path, console: Console) -> None:
    for title, step in steps:
        with console.status(title):
            try:
                done = step()
            except Exception as error:  # alembic's, the databases', MLflow's
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise HeartbeatError(
                    f"{title} could not be upgraded ({reason}): go on with the store as it was by the versions that you had, "
                    f"and `heartbeat restore {backup} --store NEW`"
                ) from error
        console.print(f"Upgraded    {title}{done}", markup=False)
    console.print("The backup can be deleted once a run has finished")


def _migrate(database: Database, store: Store) -> str:
    if database.library == "mlflow":
        from mlflow.db import upgrade

        upgrade.main([database.uri or f"sqlite:///{store.workpath(database.file)}"], standalone_mode=False)
        return ""
    prepare_environment(store)
    uri = database.uri or f"sqlite+aiosqlite:///{store.workpath(database.file)}"
    log = store.workpath("logs/prefect-upgrade.log")
    with log.open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
            env={**os.environ, "PREFECT_SERVER_DATABASE_CONNECTION_URL": uri},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=log.parent,
        )  # fmt: skip
    if done.returncode:
        raise HeartbeatError(f"{logged_reason(log.read_text(errors='replace'))}, see {log}")
    return ""


def _relocate(store: Store) -> str:
    result = relocate(store)
    text = f": {result.rewritten} now in {store.workpath(FOLDER)}"
    if result.fetched:
        text += f", {result.fetched} of them copied from the old place"
    if missing := versions_without_files(store):
        text += f"; {enumerated(missing, 3)} have no files, here or there"
    return text


def _users(store: Store) -> list[str]:
    """The other processes of this machine that have a file of the store open for writing: servers, and runs, by their log."""
    import psutil

    users = []
    for process in psutil.process_iter(["name"]):
        try:
            files = process.open_files() if process.pid != os.getpid() else ()
        except psutil.Error:  # of another user, or ended
            continue
        if any(Path(f.path).is_relative_to(store.root) and f.mode != "r" for f in files):
            users.append(f"{process.info['name']} (process {process.pid})")
    return users
