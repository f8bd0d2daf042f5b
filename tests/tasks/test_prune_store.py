"""A store is pruned as planned, but for what a run has used since; bytes are counted by kind."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.settings import (
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK,
    temporary_settings,
)

from heartdata.config import RunConfig
from heartdata.dataset.prune import DAY_S, Plan
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from heartdata.storage.usage import TABLES
from tasks import prune as tasks
from tasks.databases import NOT_HERE
from tasks.registry.pruning import WEIGHTS, Removal, VersionPlan

RESULTS = "results"
EMPTY = Plan((), (), (), 0)


@pytest.fixture
def config(store: Store, monkeypatch) -> Iterator[RunConfig]:
    """Of a store with results of its own and no databases."""
    monkeypatch.setattr(tasks, "remove_old_runs", lambda days: "")
    monkeypatch.setattr(tasks, "compact", lambda registry, store: [])
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: store.workpath(RESULTS)}):
        yield RunConfig.model_validate({"store": str(store.root)})


def put(store: Store, name: str, days: float, content: str = "x") -> Path:
    path = store.workpath(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (time.time() - days * DAY_S,) * 2)
    return path


def cached(store: Store, name: str, days: float, *files: str) -> Path:
    """A record of a result that names files of the store."""
    named = {str(number): {"name": file, "digest": "d", "rows": 0} for number, file in enumerate(files)}
    record = {"metadata": {}, "result": json.dumps({"__class__": "x", "data": named})}
    return put(store, f"{RESULTS}/{name}", days, json.dumps(record))


def pruned(config: RunConfig, store: Store, plan: tasks.StorePlan | None = None) -> list[str]:
    return tasks.remove(plan or tasks.plan_store(config, store), config, store, lambda *_: None)


def test_old_results_go_with_the_files_that_only_they_name(config: RunConfig, store: Store):
    paths = [put(store, f"splits/{name}.parquet", 90) for name in ("a", "b")]
    records = [
        cached(store, "split-v3-a", 1, "splits/a.parquet"),
        cached(store, "split-v3-b", 40, "splits/b.parquet"),
        put(store, f"{RESULTS}/split-v3-torn", 40, "{"),
        put(store, f"{RESULTS}/of-another-flow", 40),
    ]
    docs = put(store, "data-docs/a/static/b.css", 40)
    pruned(config, store)
    assert [path.exists() for path in (*paths, *records)] == [True, False, True, False, False, True]
    assert not docs.parents[1].exists()  # no empty folders are left


def test_what_a_run_has_used_since_the_plan_stays(config: RunConfig, store: Store):
    named, written, unused = (put(store, f"splits/{name}.parquet", 90) for name in ("named", "written", "unused"))
    record = cached(store, "split-v3-a", 40, "splits/named.parquet")
    cached(store, "split-v3-b", 0)
    plan = tasks.plan_store(config, store)
    assert len(plan.files.files) == 3
    os.utime(record)
    os.utime(written)
    pruned(config, store, plan)
    assert [path.exists() for path in (record, named, written, unused)] == [True, True, True, False]


def test_shards_and_data_docs_that_a_run_has_used_since_the_plan_stay(config: RunConfig, store: Store):
    shards = [put(store, f"spectrograms/c/{name}", 90) for name in ("a.npy", "a.parquet", "b.npy", "b.parquet")]
    page = put(store, "data-docs/a/index.html", 90)
    record = {"data_docs": "data-docs/a"}
    used = put(store, f"{RESULTS}/validate-v1-a", 40, json.dumps({"result": json.dumps(record)}))
    cached(store, "split-v3-b", 0)
    plan = tasks.plan_store(config, store)
    assert len(plan.files.files) == 5
    os.utime(used)
    store.note_use("spectrograms/c/a.parquet")
    pruned(config, store, plan)
    assert [path.exists() for path in (*shards, page)] == [True, True, False, False, True]


def test_what_a_run_writes_again_while_others_are_removed_stays(config: RunConfig, store: Store):
    paths = [put(store, f"splits/{name}.parquet", 90) for name in "abc"]
    cached(store, "split-v3-b", 0)

    def advance(done: int, total: int, detail: str) -> None:
        if done == 1 and not detail:
            os.utime(paths[-1])

    tasks.remove(tasks.plan_store(config, store), config, store, advance)
    assert [path.exists() for path in paths] == [False, False, True]


def test_on_a_full_disk_files_go_before_versions_and_what_a_version_needs_after_it(
    config: RunConfig, store: Store, monkeypatch: pytest.MonkeyPatch
):
    weights = put(store, "models/" + "a" * 20 + ".safetensors", 90)
    manifest, unneeded = put(store, "manifest/" + "m" * 20 + ".parquet", 90), put(store, "splits/a.parquet", 90)
    run: Any = SimpleNamespace(
        data=SimpleNamespace(tags={WEIGHTS: "a" * 64}, params={}), info=SimpleNamespace(run_id="r")
    )
    version = SimpleNamespace(run_id="r", source="", tags={"dataset_version": "m" * 64})
    removal = Removal("heartbeat version 1", run, (), version)
    versions = VersionPlan((removal,), frozenset(["models/" + "a" * 20 + ".safetensors"]))
    monkeypatch.setattr(tasks, "plan_versions", lambda *_: versions)
    monkeypatch.setattr(tasks, "removal_bytes", lambda *_: 0)
    monkeypatch.setattr(tasks, "plan_files", lambda store, entries, *_: replace(EMPTY, files=tuple(entries)))

    def remove_run(*_: Any) -> None:
        raise HeartbeatError("database or disk is full")

    monkeypatch.setattr(tasks, "remove_run", remove_run)
    with pytest.raises(HeartbeatError, match="disk is full"):
        pruned(config, store)
    assert [path.exists() for path in (unneeded, manifest, weights)] == [False, True, True]
    monkeypatch.setattr(tasks, "remove_run", lambda *_: None)
    monkeypatch.setattr(tasks, "remove_deleted_rows", lambda *_: True)
    pruned(config, store)
    assert [path.exists() for path in (manifest, weights)] == [False, False]


def test_tables_stay_where_the_results_that_name_them_are_not_known(config: RunConfig, store: Store):
    table, weights = put(store, "splits/a.parquet", 90), put(store, "models/a.safetensors", 90)
    log = put(store, "logs/20260101-000000-1.log", 90)
    put(store, "splits/b.parquet", 90)
    with temporary_settings({PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK: "remote-file-system/results"}):
        assert pruned(config, store) == [tasks.RESULTS_ELSEWHERE]
    assert [path.exists() for path in (table, weights, log)] == [True, True, False]


def test_bytes_by_kind(config: RunConfig, store: Store):
    put(store, "splits/a.parquet", 90, "xx")
    put(store, "mlflow.db-wal", 90, "xxx")
    cached(store, "split-v3-b", 0)
    plan = tasks.plan_store(config, store)
    assert plan.removed == {TABLES: 2}
    assert plan.held["MLflow's database"] == 3
    row = next(row for row in tasks.rows_before(plan) if row["kind"] == TABLES)
    assert row == {
        "kind": TABLES,
        "held": "0.0 MB",
        "to remove": "0.0 MB",
        "kept": "used within 30 days, or by a kept version",
    }
    assert (
        tasks.freed(plan, {})
        == "0 versions or runs and 1 files of 0.0 MB removed: the store held 0.0 MB and holds 0.0 MB"
    )


def test_a_database_that_is_not_here_is_left_to_its_server(config: RunConfig, store: Store, monkeypatch):
    monkeypatch.undo()
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

    url = f"sqlite+aiosqlite:///{store.workpath('none.db')}"
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: url}):
        assert pruned(config, store) == [NOT_HERE]
    assert not store.workpath("none.db").exists()
