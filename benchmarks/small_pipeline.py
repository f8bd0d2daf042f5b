"""A pipeline of seconds for the checks of long running: its recordings, its settings, and what its store must hold."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from heartdata.sources.demo import DemoSource
from heartdata.storage.store import content_digest, read_parquet, sha256_file

# Every new data set gives a new champion; small changes of the data are not refused.
SETTINGS: dict[str, Any] = {
    "training": {"init": "random", "epochs": 2, "width": 64, "batch": 4},
    "evaluation": {"bootstrap": 20},
    "validation": {"max_drift": 100, "max_drift_since_reference": 100, "max_quarantined_fraction": 0.5},
    "registry": {"aliases": ["champion"]},
}
WRITTEN_BY_STAGES = (
    "accepted", "facts", "manifest", "models", "predictions", "quarantine", "spectrograms", "splits",
)  # fmt: skip
UNFINISHED_FLOW_RUNS = ("PENDING", "RUNNING", "CANCELLING", "PAUSED")


def make_recordings(folder: Path, subjects_per_class: int, seed: int = 0) -> pd.DataFrame:
    """Write synthetic recordings, one a subject, into ``folder``; returns their table (path, label, subject, site)."""
    source = DemoSource(
        subjects_per_class=subjects_per_class, sites=1, duration_s=(2.0, 3.0), plant_faults=False, seed=seed
    )
    made = source.make(folder.parent)
    table = pd.read_csv(made / "recordings.csv").drop(columns="planted")
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("*.csv", "*.json"), dirs_exist_ok=True)
    shutil.rmtree(made)
    return table


def write_config(path: Path, data: Path, store: Path, **sections: dict[str, Any]) -> Path:
    """A configuration file of the small pipeline; ``sections`` replace settings in sections."""
    merged = {name: SETTINGS.get(name, {}) | sections.get(name, {}) for name in SETTINGS | sections}
    source = {"name": "table", "data": str(data)}
    path.write_text(yaml.safe_dump({"source": source, "store": str(store), **merged}))
    return path


def query(database: Path, sql: str) -> list[tuple]:
    """Rows of an SQLite database; none where the file does not exist."""
    if not database.is_file():
        return []
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


@dataclass(frozen=True)
class Outcome:
    """What a store holds: digests of files by name, data sets of the registered versions, and the champion's."""

    files: dict[str, str]
    manifest: str
    versions: tuple[str, ...]
    champion: tuple[str, ...]


def outcome(store: Path) -> Outcome:
    database = store / "mlflow.db"
    data_sets = dict(query(database, "select run_uuid, value from tags where key = 'dataset_version'"))
    versions = dict(query(database, "select version, run_id from model_versions"))
    champions = query(database, "select version from registered_model_aliases where alias = 'champion'")
    return Outcome(
        files=contents(store),
        manifest=content_digest(read_parquet(store / "latest" / "manifest.parquet")),
        versions=tuple(sorted(data_sets.get(run, "") for run in versions.values())),
        champion=tuple(data_sets.get(versions[version], "") for (version,) in champions),
    )


def contents(store: Path) -> dict[str, str]:
    """The digest of the content (of a table: of its values) of every file that a stage has written."""
    files = [p for name in WRITTEN_BY_STAGES for p in (store / name).rglob("*.*") if p.name[0] != "."]
    return {
        str(p.relative_to(store)): content_digest(read_parquet(p)) if p.suffix == ".parquet" else sha256_file(p)
        for p in files
    }


def defects(store: Path, expected: Outcome, other_data_sets: bool = False) -> list[str]:
    """How a store differs from one whose runs were not disturbed.

    ``other_data_sets``: its input was another for a while, of which it may hold versions and files.
    """
    found = []
    try:
        actual = outcome(store)
    except (OSError, ValueError) as error:
        return [f"a file of the store cannot be read: {error}"]
    if actual.manifest != expected.manifest:
        found.append("another manifest")
    versions = [v for v in actual.versions if v in expected.versions] if other_data_sets else [*actual.versions]
    if versions != [*expected.versions]:
        found.append(f"{len(versions)} versions where {len(expected.versions)} were expected")
    if actual.champion != expected.champion:
        found.append(f"{len(actual.champion)} champions" if len(actual.champion) != 1 else "another champion")
    if lost := [name for name in expected.files if name not in actual.files]:
        found.append(f"lost: {', '.join(lost[:3])}")
    if other := [name for name, digest in expected.files.items() if actual.files.get(name, digest) != digest]:
        found.append(f"damaged: {', '.join(other[:3])}")
    if (surplus := [*actual.files.keys() - expected.files.keys()]) and not other_data_sets:
        found.append(f"files that an undisturbed run does not write: {', '.join(surplus[:3])}")
    return found + _unfinished(store) + _damaged_models(store)


def open_flow_runs(database: Path) -> set[str]:
    """Names of the flow runs in a database of Prefect that have not ended."""
    states = ", ".join(f"'{state}'" for state in UNFINISHED_FLOW_RUNS)
    return {name for (name,) in query(database, f"select name from flow_run where state_type in ({states})")}


def _unfinished(store: Path) -> list[str]:
    flow_runs = open_flow_runs(store / "prefect/prefect.db")
    runs = query(store / "mlflow.db", "select name from runs where status = 'RUNNING'")
    found = [
        f"a run is still {where}" for where, rows in (("open in Prefect", flow_runs), ("open in MLflow", runs)) if rows
    ]
    unregistered = (
        "select r.name from runs r join tags t on t.run_uuid = r.run_uuid left join model_versions v on v.run_id = r.run_uuid "
        "where t.key = 'heartbeat.key' and r.status = 'FINISHED' and r.lifecycle_stage = 'active' and v.run_id is null"
    )
    if query(store / "mlflow.db", unregistered):
        found.append("a run in MLflow has no version")
    if files := unfinished_files(store):
        found.append(f"unfinished files: {', '.join(files[:3])}")
    return found


def unfinished_files(store: Path) -> list[str]:
    """Temporary files that killed runs left, by name."""
    patterns = ("**/*.tmp", "**/.unfinished-*", "**/.demo-*", "progress/*")
    return [str(path.relative_to(store)) for pattern in patterns for path in store.glob(pattern)]


def _damaged_models(store: Path) -> list[str]:
    """Versions whose weights in the registry are not those that their run names."""
    named = query(
        store / "mlflow.db",
        "select v.version, t.value from model_versions v join tags t on t.run_uuid = v.run_id where t.key = 'weights_sha256'",
    )
    stored = {sha256_file(path) for path in (store / "mlflow-artifacts").rglob("*.safetensors")}
    return [f"version {version} holds other weights" for version, digest in named if digest not in stored]
