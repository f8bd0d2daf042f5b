"""The checks of `make faults` see what a fault may leave behind, and nothing where there is nothing."""

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.small_pipeline import Outcome, defects, outcome

WEIGHTS = b"weights"
TABLES = """
create table tags (key text, value text, run_uuid text);
create table model_versions (name text, version integer, run_id text);
create table registered_model_aliases (alias text, version integer);
create table runs (run_uuid text, name text, status text, lifecycle_stage text default 'active');
"""


def sql(database: Path, script: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(script)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A store with one version, the champion."""
    for name in ("latest", "manifest", "models", "mlflow-artifacts", "prefect", "progress"):
        (tmp_path / name).mkdir()
    for name in ("latest/manifest.parquet", "manifest/m.parquet"):
        pq.write_table(pa.table({"recording_id": ["a", "b"]}), tmp_path / name)
    for name in ("models/w.safetensors", "mlflow-artifacts/w.safetensors"):
        (tmp_path / name).write_bytes(WEIGHTS)
    values = f"('dataset_version', 'd', 'r'), ('weights_sha256', '{hashlib.sha256(WEIGHTS).hexdigest()}', 'r')"
    rows = f"insert into tags values {values}; insert into model_versions values ('heartbeat', 1, 'r');"
    more = "insert into registered_model_aliases values ('champion', 1); insert into runs (run_uuid, name, status) values ('r', 'n', 'FINISHED');"
    sql(tmp_path / "mlflow.db", TABLES + rows + more)
    flow_runs = "create table flow_run (name text, state_type text); insert into flow_run values ('f', 'COMPLETED');"
    sql(tmp_path / "prefect/prefect.db", flow_runs)
    return tmp_path


def second_version(store: Path) -> None:
    sql(store / "mlflow.db", "insert into model_versions values ('heartbeat', 2, 'r')")


FAULTS: dict[str, Callable[[Path], object]] = {
    "a run is still open in Prefect": lambda store: sql(
        store / "prefect/prefect.db", "insert into flow_run values ('g', 'RUNNING')"
    ),
    "a run is still open in MLflow": lambda store: sql(
        store / "mlflow.db", "insert into runs values ('s', 'o', 'RUNNING', 'active')"
    ),
    "a run in MLflow has no version": lambda store: sql(
        store / "mlflow.db",
        "insert into runs values ('s', 'o', 'FINISHED', 'active'); insert into tags values ('heartbeat.key', 'k', 's')",
    ),
    "2 versions where 1 were expected": second_version,
    "0 champions": lambda store: sql(store / "mlflow.db", "delete from registered_model_aliases"),
    "lost: models/w.safetensors": lambda store: (store / "models/w.safetensors").unlink(),
    "damaged: models/w.safetensors": lambda store: (store / "models/w.safetensors").write_bytes(b""),
    "files that an undisturbed run does not write: models/x.json": lambda store: (store / "models/x.json").touch(),
    "version 1 holds other weights": lambda store: (store / "mlflow-artifacts/w.safetensors").write_bytes(b""),
    "unfinished files: models/.w.tmp": lambda store: (store / "models/.w.tmp").touch(),
}


def test_a_store_without_faults_has_no_defects(good: Path):
    once = outcome(good)
    assert (once.versions, once.champion, len(once.files)) == (("d",), ("d",), 2)
    assert defects(good, once) == []


@pytest.mark.parametrize("defect", FAULTS)
def test_each_defect_is_seen(good: Path, defect: str):
    once: Outcome = outcome(good)
    FAULTS[defect](good)
    assert defects(good, once) == [defect]


def test_a_version_of_another_input_counts_only_where_the_input_was_the_same(good: Path):
    once = outcome(good)
    extra = "insert into tags values ('dataset_version', 'e', 's'); insert into model_versions values ('heartbeat', 2, 's');"
    sql(good / "mlflow.db", extra)
    assert defects(good, once) == ["2 versions where 1 were expected"]
    assert defects(good, once, other_data_sets=True) == []
