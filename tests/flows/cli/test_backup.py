"""A store is backed up while it is written, restored elsewhere, and upgraded only when nothing uses it."""

import asyncio
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.store.db import utils
from mlflow.store.tracking.dbmodels.initial_models import Base as InitialBase
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.server.database import provide_database_interface
from prefect.server.models import concurrency_limits_v2, flow_run_states, flow_runs
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings
from prefect.states import Completed, Running

from flows.cli.databases import Database, copy_database, databases
from flows.cli.up import lock_store
from heartdata.config import RegistryConfig
from heartdata.errors import HeartbeatError
from heartdata.storage.backup_archive import write_archive
from heartdata.storage.store import Store
from tasks.prune import only_prune
from tasks.registry.client import connect, experiment_of

CONFIG = RegistryConfig()
SECRET = "https://hooks.example.org/T0PSECRET"


@flow
def some_flow() -> None: ...


@pytest.fixture(autouse=True)
def own_environment(monkeypatch) -> None:
    """The commands set PREFECT_HOME and more for their store."""
    for name in ("PREFECT_HOME", "PREFECT_LOCAL_STORAGE_PATH", "HEARTBEAT_STORE", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Path:
    """A store with a registered version, a table, spectrograms, and a Prefect database as far as it matters here."""
    store = Store(tmp_path_factory.mktemp("made")).open()
    client = connect(CONFIG, store)
    client.create_registered_model("heartbeat")
    register(store, 1)
    store.workpath("prefect").mkdir()
    with closing(sqlite3.connect(store.workpath("prefect/prefect.db"))) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE block_document (data TEXT)")
        database.execute("CREATE TABLE flow_run (name TEXT)")
        database.execute("INSERT INTO block_document VALUES (?)", (SECRET,))
        database.execute("INSERT INTO flow_run VALUES ('night')")
        database.commit()
    with closing(sqlite3.connect(store.workpath("mlflow.db"))) as database:
        columns = "webhook_id, name, url, status, creation_timestamp, last_updated_timestamp"
        database.execute(f"INSERT INTO webhooks ({columns}) VALUES ('1', 'w', ?, 'ACTIVE', 0, 0)", (SECRET,))
        database.commit()
    for name in (
        "splits/m.parquet",
        "prefect/profiles.toml",
        "spectrograms/s.npy",
        "results/r",
        "logs/l.log",
        "models/.m.tmp",
        "up.lock",
        "made/a.wav",
    ):
        path = store.workpath(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    return store.root


def register(store: Store, number: int) -> None:
    """Log and register a version whose file holds its number."""
    client = connect(CONFIG, store)
    run = client.create_run(experiment_of(client, CONFIG, store))
    client.log_text(run.info.run_id, str(number), "weights/w.txt")
    client.create_model_version("heartbeat", f"{run.info.artifact_uri}/weights", run.info.run_id)


@pytest.fixture
def place(made_once: Path, tmp_path: Path, heartbeat) -> Path:
    """A store of the test's own, made from a backup of that one."""
    assert heartbeat("backup", tmp_path / "first.tar", "--store", made_once)[0] == 0
    assert heartbeat("restore", tmp_path / "first.tar", "--store", tmp_path / "store")[0] == 0
    return tmp_path / "store"


def versions(place: Path) -> dict[int, str]:
    """What the file of each registered version holds."""
    client = connect(CONFIG, Store(place))
    runs = {int(v.version): v.run_id for v in client.search_model_versions("name = 'heartbeat'")}
    return {
        n: mlflow.artifacts.load_text(f"{mlflow.get_run(run).info.artifact_uri}/weights/w.txt")
        for n, run in runs.items()
    }


def test_a_restored_store_has_its_versions_and_runs_but_no_secrets(place: Path, tmp_path: Path):
    assert SECRET.encode() not in (tmp_path / "first.tar").read_bytes()
    assert versions(place) == {1: "1"}
    with closing(sqlite3.connect(place / "prefect/prefect.db")) as database:
        assert database.execute("SELECT * FROM flow_run").fetchall() == [("night",)]
        assert database.execute("SELECT * FROM block_document").fetchall() == []
    assert (place / "splits/m.parquet").is_file()
    assert (place / "results/r").is_file()
    for name in ("spectrograms", "logs", "models", "up.lock", "made", "prefect/profiles.toml"):
        assert not (place / name).exists()
    assert not list(place.glob(".unfinished-*"))


def test_versions_registered_during_a_backup_have_their_files(place: Path, heartbeat, tmp_path: Path):
    stop, registered, numbers = threading.Event(), threading.Event(), iter(range(2, 10_000))

    def keep_registering() -> None:
        while not stop.is_set():
            register(Store(place), next(numbers))
            registered.set()

    with ThreadPoolExecutor(1) as writer:
        registering = writer.submit(keep_registering)
        try:
            for n in range(3):
                registered.clear()
                assert registered.wait(60)
                assert heartbeat("backup", tmp_path / f"{n}.tar", "--store", place)[0] == 0
        finally:
            stop.set()
    registering.result()
    seen = 1
    for n in range(3):
        assert heartbeat("restore", tmp_path / f"{n}.tar", "--store", tmp_path / f"restored {n}")[0] == 0
        (tmp_path / f"{n}.tar").unlink()
        found = versions(tmp_path / f"restored {n}")
        assert found == {number: str(number) for number in found}
        assert len(found) > seen
        seen = len(found)


def test_a_database_in_use_by_a_writer_is_copied_whole(place: Path, heartbeat, tmp_path: Path):
    with closing(sqlite3.connect(place / "prefect/prefect.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO flow_run VALUES ('in the log of the database')")
        writer.commit()
        writer.execute("INSERT INTO flow_run VALUES ('not committed')")
        assert heartbeat("backup", tmp_path / "b.tar", "--store", place)[0] == 0
    with tarfile.open(tmp_path / "b.tar") as archive:
        archive.extract("work/prefect/prefect.db", tmp_path, filter="data")
    with closing(sqlite3.connect(tmp_path / "work/prefect/prefect.db")) as copy:
        assert copy.execute("SELECT count(*) FROM flow_run").fetchone() == (2,)


def test_what_cannot_be_backed_up_is_said(place: Path, heartbeat, tmp_path: Path):
    def refused(*arguments: object) -> str:
        code, err, _ = heartbeat(*arguments)
        assert code == 2
        return err

    assert "is there already" in refused("backup", tmp_path / "first.tar", "--store", place)
    assert "is in the store" in refused("backup", place / "b.tar", "--store", place)
    assert "there is no folder" in refused("backup", tmp_path / "none/b.tar", "--store", place)
    assert "there is no store" in refused("backup", tmp_path / "b.tar", "--store", tmp_path / "none")
    assert "there is no file" in refused("restore", tmp_path / "b.tar", "--store", tmp_path / "new")
    assert "is not empty" in refused("restore", tmp_path / "first.tar", "--store", place)
    assert "there is no store" in refused("upgrade", "--store", tmp_path / "none")
    (place / "prefect/prefect.db").write_bytes(b"SQLite format 3\0" + b"damaged" * 1000)
    assert "prefect.db is damaged" in refused("backup", tmp_path / "b.tar", "--store", place)
    assert not (tmp_path / "none").exists()
    assert [path for path in tmp_path.iterdir() if path.name != "store"] == [tmp_path / "first.tar"]


def test_a_damaged_backup_leaves_nothing(place: Path, heartbeat, tmp_path: Path):
    content = bytearray((tmp_path / "first.tar").read_bytes())
    content[content.index(b"splits/m.parquet", 3000 + content.index(b"splits/m.parquet"))] ^= 1
    (tmp_path / "damaged.tar").write_bytes(content)
    code, err, _ = heartbeat("restore", tmp_path / "damaged.tar", "--store", tmp_path / "new")
    assert (code, "damaged.tar is damaged" in err) == (2, True)
    assert not (tmp_path / "new").exists() or list((tmp_path / "new").iterdir()) == []


def test_a_copied_store_is_upgraded_after_a_backup(place: Path, heartbeat, tmp_path: Path):
    copy = place.rename(tmp_path / "moved")
    assert "`heartbeat upgrade --store" in heartbeat("champion", "show", "--store", copy)[1]
    assert "was moved or copied" in heartbeat("backup", tmp_path / "b.tar", "--store", copy)[1]
    code, _, out = heartbeat("upgrade", "--store", copy)
    assert code == 0
    (backup,) = tmp_path.glob("moved-before-upgrade-*.tar")
    assert str(backup) in out
    assert "Upgraded    the places of files in the registry: 4 now in" in out
    assert versions(copy) == {1: "1"}
    code, _, out = heartbeat("upgrade", "--store", copy)
    assert (code, "there is nothing to upgrade" in out) == (0, True)


def test_a_store_in_use_is_not_upgraded(place: Path, heartbeat):
    with lock_store(Store(place)):
        assert "another `heartbeat up` serves" in heartbeat("upgrade", "--store", place)[1]
    code = "import sys; file = open(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, place / "prefect/prefect.db"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout.readline() == b"open\n"
        code, err, _ = heartbeat("upgrade", "--store", place)
        assert (code, "is in use by python" in err, f"(process {user.pid})" in err) == (2, True, True)
        user.stdin.close()
    assert heartbeat("upgrade", "--store", place)[0] == 0


@pytest.fixture
def older_mlflow(place: Path) -> Path:
    """The store with the database of an MLflow one revision before the installed one, in place of its own."""
    from alembic import command
    from alembic.script import ScriptDirectory

    path = place / "mlflow.db"
    path.unlink()
    engine = utils.create_sqlalchemy_engine(f"sqlite:///{path}")
    InitialBase.metadata.create_all(engine)
    config = utils._get_alembic_config(str(engine.url))
    head = ScriptDirectory.from_config(config).get_revision("head")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, head.down_revision)
    engine.dispose()
    return place


def test_an_older_mlflow_database_is_upgraded(older_mlflow: Path, heartbeat):
    message = heartbeat("prune", "--store", older_mlflow)[1]
    assert f"MLflow database of {older_mlflow} was made by an older version: type `heartbeat upgrade --store" in message
    code, _, out = heartbeat("upgrade", "--store", older_mlflow)
    assert (code, "Upgraded    the MLflow database" in out) == (0, True)
    assert heartbeat("prune", "--store", older_mlflow)[0] == 0


def test_a_failed_migration_names_the_backup_and_the_way_back(
    older_mlflow: Path, heartbeat, monkeypatch, tmp_path: Path
):
    def fail(*_: object, **__: object) -> None:
        with closing(sqlite3.connect(older_mlflow / "mlflow.db")) as database:
            database.execute("DROP TABLE runs")
        raise OSError("the disk is full")

    monkeypatch.setattr("mlflow.db.upgrade.main", fail)
    code, err, _ = heartbeat("upgrade", "--store", older_mlflow)
    assert code == 2
    (backup,) = tmp_path.glob("store-before-upgrade-*.tar")
    assert (
        f"could not be upgraded (the disk is full): go on with the store as it was .*`heartbeat restore {backup} --store NEW`".partition(
            " .*"
        )[0]
        in err
    )
    assert f"`heartbeat restore {backup} --store NEW`" in err
    monkeypatch.undo()
    assert heartbeat("restore", backup, "--store", tmp_path / "again")[0] == 0
    assert heartbeat("upgrade", "--store", tmp_path / "again")[0] == 0


def test_a_newer_database_is_left_alone(place: Path, heartbeat):
    with closing(sqlite3.connect(place / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        database.commit()
    code, err, _ = heartbeat("upgrade", "--store", place)
    assert (code, "made by a newer version of MLflow: install that version" in err) == (2, True)
    assert not list(place.parent.glob("*before-upgrade*"))


@pytest.mark.parametrize("prefix", ["PREFECT_SERVER_DATABASE", "PREFECT_API_DATABASE"])
def test_the_database_of_prefect_is_that_of_its_settings(prefix: str, store: Store, tmp_path: Path, monkeypatch):
    parts = {"DRIVER": "postgresql+asyncpg", "HOST": "db.example.org", "USER": "prefect", "NAME": "runs"}
    for name, value in parts.items():
        monkeypatch.setenv(f"{prefix}_{name}", value)
    assert [d.uri for d in databases(CONFIG, store)[0]] == ["postgresql+asyncpg://prefect@db.example.org:5432/runs"]
    for name in parts:
        monkeypatch.delenv(f"{prefix}_{name}")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "elsewhere"))
    used, notes = databases(CONFIG, store)
    assert (used, [str(tmp_path / "elsewhere" / "prefect.db") in note for note in notes]) == ([], [True])
    monkeypatch.delenv("PREFECT_HOME")
    store.workpath("prefect").mkdir()
    store.workpath("prefect/prefect.db").touch()
    monkeypatch.setenv(f"{prefix}_NAME", str(tmp_path / "other.db"))  # which Prefect heeds only with a driver
    assert [d.file for d in databases(CONFIG, store)[0]] == ["prefect/prefect.db"]
    monkeypatch.setenv(f"{prefix}_DRIVER", "sqlite+aiosqlite")
    assert databases(CONFIG, store)[0] == []


def test_a_database_in_postgresql_needs_its_library(store: Store, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: program)
    monkeypatch.setitem(sys.modules, "psycopg2.extensions", None)
    with pytest.raises(HeartbeatError, match=re.escape("pip install 'heartbeat[server]'")):
        copy_database(Database("prefect", uri="postgresql+asyncpg://db.example.org/runs"), store, tmp_path / "copy")


def test_other_sqlite_files_are_copied_whole_and_without_secrets(place: Path, heartbeat, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{tmp_path / 'another.db'}")
    with closing(sqlite3.connect(place / "prefect/prefect.db")) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("INSERT INTO block_document VALUES (?)", (SECRET,))
        writer.execute("INSERT INTO flow_run VALUES ('in the log of the database')")
        writer.commit()
        assert heartbeat("backup", tmp_path / "b.tar", "--store", place)[0] == 0
    assert SECRET.encode() not in (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "b.tar") as archive:
        archive.extract("work/prefect/prefect.db", tmp_path, filter="data")
    with closing(sqlite3.connect(tmp_path / "work/prefect/prefect.db")) as copy:
        assert copy.execute("SELECT count(*) FROM flow_run").fetchone() == (2,)


def test_leases_of_running_processes_are_left_out(place: Path, heartbeat, tmp_path: Path):
    lease = place / "prefect/concurrency_leases/3fa85f64.json"
    lease.parent.mkdir()
    lease.write_text("{}")
    assert heartbeat("backup", tmp_path / "b.tar", "--store", place)[0] == 0
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert not [name for name in archive.getnames() if "lease" in name]


def test_nothing_is_pruned_during_a_backup(place: Path, heartbeat, tmp_path: Path):
    with only_prune(Store(place)):
        code, err, _ = heartbeat("backup", tmp_path / "b.tar", "--store", place)
    assert (code, "is being pruned or backed up" in err) == (2, True)
    assert not (tmp_path / "b.tar").exists()


@pytest.mark.usefixtures("prefect_server")
def test_runs_in_progress_are_crashed_in_the_restored_store(place: Path, heartbeat, tmp_path: Path):
    source = str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).partition("///")[2]
    with get_client(sync_client=True) as client:
        started = client.create_flow_run(some_flow)
        client.set_flow_run_state(started.id, Running(), force=True)
        done = client.create_flow_run(some_flow)
        client.set_flow_run_state(done.id, Completed(), force=True)
        limit = client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=f"slot-{started.id}", limit=1, active_slots=1)
        )
    (place / "prefect/prefect.db").unlink()
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(place / "prefect/prefect.db")) as copy:
        original.backup(copy)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(started.id, Completed(), force=True)
    assert heartbeat("backup", tmp_path / "b.tar", "--store", place)[0] == 0
    assert heartbeat("restore", tmp_path / "b.tar", "--store", tmp_path / "again")[0] == 0

    async def read() -> None:
        database = provide_database_interface()
        async with database.session_context() as session:
            run = await flow_runs.read_flow_run(session, started.id)
            assert (run.state.type, run.state_type, run.state_name) == ("CRASHED", "CRASHED", "Crashed")
            assert "when the backup was made" in run.state.as_state().message
            assert run.end_time == run.state.timestamp == run.state_timestamp >= run.start_time
            history = await flow_run_states.read_flow_run_states(session, started.id)
            assert [state.name for state in history][-2:] == ["Running", "Crashed"]
            assert (await flow_runs.read_flow_run(session, done.id)).state.name == "Completed"
            assert (await concurrency_limits_v2.read_concurrency_limit(session, limit)).active_slots == 0
        await (await database.engine()).dispose()

    url = f"sqlite+aiosqlite:///{tmp_path / 'again/prefect/prefect.db'}"
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: url}):
        asyncio.run(read())


@pytest.mark.parametrize("target", [Path, lambda place: place.with_name("again")], ids=["same place", "another"])
def test_versions_without_files_are_named(target: Callable[[Path], Path], place: Path, heartbeat, tmp_path: Path):
    register(Store(place), 2)
    (folder,) = (path.parent for path in place.rglob("w.txt") if path.read_text() == "2")
    shutil.rmtree(folder)
    assert heartbeat("backup", tmp_path / "b.tar", "--store", place)[0] == 0
    place.rename(tmp_path / "gone")
    code, _, out = heartbeat("restore", tmp_path / "b.tar", "--store", target(place))
    assert code == 0
    assert "versions without files in the backup, which cannot be used: heartbeat 2;" in " ".join(out.split())


def test_a_bucket_that_is_half_restored_is_no_store(heartbeat, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HEARTBEAT_WORK", str(tmp_path / "work"))
    file = tmp_path / "b.tar"
    with write_archive(file, {"schema": 1}) as archive:
        for name in ("work/latest.html", "bucket/.heartbeat", "bucket/splits/m.parquet"):
            archive.add_bytes(name, b"1")
    store = Store(f"memory://{tmp_path.name}/restored")
    writing = Store.writing

    def failing(self: Store, name: str) -> object:
        if name != ".heartbeat":
            raise OSError("the network is down")
        return writing(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "writing", failing)
        assert "the network is down" in heartbeat("restore", file, "--store", store.uri)[1]
    assert store.entries("") == []
    assert heartbeat("restore", file, "--store", store.uri)[0] == 0
    assert [entry.name for entry in store.entries("")] == [".heartbeat", "splits/m.parquet"]
