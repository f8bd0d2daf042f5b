"""`heartbeat prune` after three nights with the smallest settings: nothing that is kept has lost what it needs."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers import DisplayLog, registry, tiny, use_small_network
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

import heartdata.training.train
from flows.cli import reproduce
from flows.pipeline import heartbeat
from heartdata.config import RunConfig
from heartdata.dataset.prune import DAY_S
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from tasks import prune as tasks
from tasks.engine import progress
from tasks.registry.champion import move_champion, settled_champion

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]
NAME = "heartbeat-demo"
NIGHT_DAYS = 4


def night(root: Path, number: int) -> RunConfig:
    """The configuration of a night, which has a subject more of each class than the night before."""
    least = {"retention.versions": 1, "retention.data_sets": 1, "retention.days": 2}
    named = {key.replace(".", "__"): value for key, value in least.items()}
    return tiny(root, source__subjects_per_class=2 + number, registry__first_champion="always", **named)


def grow_old(root: Path, days: float = NIGHT_DAYS) -> None:
    """Let all that the store and its registry hold be so much older."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (path.stat().st_mtime - days * DAY_S,) * 2)
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        for table, column in (("model_versions", "creation_time"), ("runs", "start_time")):
            database.execute(f"UPDATE {table} SET {column} = {column} - {days * DAY_S * 1000:.0f}")
        database.commit()


@pytest.fixture(scope="module")
def root(tmp_path_factory, prefect_server) -> Iterator[Path]:
    """A store after three nights, the first of which made the champion, and then a day on which nothing ran."""
    root = tmp_path_factory.mktemp("nights")
    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_LOCAL_STORAGE_PATH: root / "results"}):
        use_small_network(patch)
        progress.begin()
        for number in (1, 2, 3):
            grow_old(root) if number > 1 else None
            heartbeat(night(root, number))
        grow_old(root, 1.5)
        yield root
    shutil.rmtree(root)


def prune(root: Path) -> tuple[tasks.StorePlan, list[str]]:
    store, config = Store(root), night(root, 3)
    with tasks.only_prune(store):
        plan = tasks.plan_store(config, store)
        return plan, tasks.remove(plan, config, store, lambda *_: None)


def rows(root: Path, table: str, where: str = "1") -> int:
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        return database.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0]


@pytest.fixture(scope="module")
def second_run_id(root: Path) -> str:
    return registry(root).get_model_version(NAME, "2").run_id


@pytest.fixture(scope="module")
def pruned(root: Path, second_run_id: str) -> tasks.StorePlan:
    """What was removed, of a prune that was interrupted several times and then ran."""
    with pytest.MonkeyPatch.context() as patch:
        for step in ("_remove_result", "_remove_file", "remove_deleted_rows"):
            original, calls = getattr(tasks, step), []

            def stops(*args, original=original, calls=calls):
                calls.append(args)
                if len(calls) == 2 or original.__name__ == "remove_deleted_rows":
                    raise KeyboardInterrupt
                return original(*args)

            with patch.context() as one:
                one.setattr(tasks, step, stops)
                with pytest.raises(KeyboardInterrupt):
                    prune(root)
    return prune(root)[0]


def test_the_version_that_nothing_keeps_is_gone_for_good(pruned, root: Path, second_run_id: str):
    assert {int(v.version) for v in registry(root).search_model_versions(f"name = '{NAME}'")} == {1, 3}
    assert rows(root, "runs") == 2
    for table in ("params", "tags", "metrics", "latest_metrics", "logged_model_metrics"):
        column = "run_id" if table.startswith("logged") else "run_uuid"
        assert rows(root, table, f"{column} = '{second_run_id}'") == 0
        assert rows(root, table) > 0
    assert rows(root, "logged_models") == 2
    assert rows(root, "datasets") == 6
    assert rows(root, "model_version_tags", "version = 2") == 0
    assert rows(root, "model_versions") == 3  # or the number would be given again


def test_a_second_prune_finds_nothing(pruned, root: Path):
    plan, notes = prune(root)
    assert (plan.versions.removals, plan.files.files, plan.files.results) == ((), (), ())
    assert len(notes) <= 1  # on the tests' Prefect server, which has other flows


def test_two_prunes_at_once_are_one(root: Path):
    with tasks.only_prune(Store(root)), pytest.raises(HeartbeatError, match="is being pruned or backed up"):
        prune(root)


def test_every_kept_version_predicts(pruned, root: Path):
    registry(root)
    recordings = pd.read_parquet(root / "latest" / "recordings.parquet")
    audio = pd.DataFrame({"audio": [Path(recordings["uri"].iloc[0]).read_bytes()]})
    for version in (1, 3):
        assert mlflow.pyfunc.load_model(f"models:/{NAME}/{version}").predict(audio)["label"].notna().all()


@pytest.mark.parametrize("version", [1, 3])
def test_every_kept_version_is_reproduced(pruned, root: Path, version: int, capsys, monkeypatch):
    monkeypatch.setattr(reproduce, "prepare_environment", lambda store: None)
    reproduce.reproduce_model(f"models:/{NAME}/{version}", None, night(root, 3))
    assert "is reproduced" in capsys.readouterr().out


def test_pages_of_kept_versions_are_there(pruned, root: Path):
    client = registry(root)
    for version in client.search_model_versions(f"name = '{NAME}'"):
        run = client.get_run(version.run_id)
        assert Path(run.data.tags["data_docs"]).is_file()
        names = {file.path for file in client.list_artifacts(version.run_id)}
        assert {"report.html", "model_card.md"} <= names
    assert len(list((root / "data-docs").iterdir())) == 2


def test_the_next_night_computes_nothing_and_compares_as_before(pruned, root: Path, monkeypatch):
    def trained(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(heartdata.training.train, "train", trained)
    before = {path: path.stat().st_mtime_ns for path in root.glob("predictions/*")}
    progress.begin(display := DisplayLog())
    summary = heartbeat(night(root, 3))
    progress.begin()
    assert summary.nothing_new
    computed = {stage for stage, unchanged, _ in display.said if not unchanged}
    every_night = {"inventory", "initial weights", "measure", "spectrograms", "promote"}
    assert computed <= every_night, computed - every_night
    assert {path: path.stat().st_mtime_ns for path in root.glob("predictions/*")} == before


def test_the_champion_is_rolled_back(pruned, root: Path):
    client, store = registry(root), Store(root)
    move_champion(client, NAME, 3, "person", "a try", store)
    champion = settled_champion(client, NAME, store)
    assert champion.previous({1, 3}) == 1
    move_champion(client, NAME, 1, "rollback", "worse", store)
    assert settled_champion(client, NAME, store).version == 1
