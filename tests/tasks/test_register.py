"""Registration without training: names that MLflow accepts, lost aliases."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from heartdata.config import RegistryConfig, RunConfig
from heartdata.dataset.prune import RECENT_S
from heartdata.storage.store import Artifact, Store
from tasks import register as tasks
from tasks.register import _add_version, _is_registered, _open_model, _remove_unless_registered, _version_of
from tasks.registry.aliases import give_aliases
from tasks.registry.champion import move_champion, settled_champion
from tasks.registry.client import KEY_TAG, connect, experiment_of
from tasks.registry.naming import allowed_names
from tasks.registry.pruning import plan_versions
from tasks.results import RegisteredVersion


def test_settings_with_any_label_are_logged_as_parameters(registry_store: Store):
    names = ["murmur (systolic)", "murmur [systolic]", "S3+S4", "n/a//", "Süd, 2 %", "x" * 300]
    labels = dict(zip(names, "abcdef", strict=True))
    client: MlflowClient = connect(RegistryConfig(), registry_store)
    with mlflow.start_run() as run:
        mlflow.log_params(allowed_names({f"source.labels.{name}": value for name, value in labels.items()}))
    kept = client.get_run(run.info.run_id).data.params
    assert sorted(kept.values()) == list("abcdef")
    assert kept["source.labels.murmur _systolic_"] == "a"
    assert kept["source.labels.murmur _systolic__2"] == "b"


def test_a_cached_version_is_used_while_it_exists_and_its_aliases_are_settled(registry_store: Store):
    config = RegistryConfig()
    client = connect(config, registry_store)
    with mlflow.start_run() as run:
        pass
    client.create_registered_model("heartbeat")
    for _ in range(2):
        client.create_model_version("heartbeat", source=run.info.artifact_uri, run_id=run.info.run_id)
    result = RegisteredVersion(name="heartbeat", version=2, run_id=run.info.run_id, url="", registry=config)
    assert not _is_registered(result, registry_store)
    give_aliases(client, "heartbeat", client.get_model_version("heartbeat", "2"), True, config)
    assert _is_registered(result, registry_store)
    client.set_registered_model_alias("heartbeat", "challenger", "1")  # by a person
    assert _is_registered(result, registry_store)
    assert not _is_registered(result.model_copy(update={"run_id": "another"}), registry_store)
    client.delete_model_version("heartbeat", "2")
    assert not _is_registered(result, registry_store)


def test_a_move_made_in_mlflow_does_not_count_as_a_choice_over_the_version_that_follows(registry_store: Store):
    client = connect(RegistryConfig(), registry_store)
    _open_model(client, "heartbeat", registry_store)
    for _ in range(2):
        client.create_model_version("heartbeat", source=str(registry_store.root))
    move_champion(client, "heartbeat", 2, "rule", "better", registry_store)
    client.set_registered_model_alias("heartbeat", "champion", "1")
    _open_model(client, "heartbeat", registry_store)
    client.create_model_version("heartbeat", source=str(registry_store.root))
    champion = settled_champion(client, "heartbeat", registry_store)
    assert champion.choice_over(2) == champion.moves[-1]
    assert champion.choice_over(3) is None


def test_a_run_that_ends_before_its_version_is_made_is_left_over(
    registry_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = RunConfig()
    client = connect(config.registry, registry_store)
    code = tmp_path / "model.py"
    code.write_text("import mlflow\nmlflow.models.set_model(mlflow.pyfunc.PythonModel())")

    def log_model(*_: Any) -> Any:
        return mlflow.pyfunc.log_model(name="model", python_model=str(code), pip_requirements=["mlflow"])

    def locked(*_: Any, **__: Any) -> None:
        raise MlflowException("database is locked")

    monkeypatch.setattr(tasks, "log_model", log_model)
    for name in ("model_card", "headline", "description"):
        monkeypatch.setattr(tasks, name, lambda *_: "")
    for name in ("_run_tags", "_log_dataset", "_log_metrics", "copy_files", "check_served"):
        monkeypatch.setattr(tasks, name, lambda *_: {})
    monkeypatch.setattr(type(client), "create_model_version", locked)
    table: Any = Artifact(name="x", digest="d" * 64, rows=0)
    metrics = pd.DataFrame({"value": [1.0]})
    inputs: Any = SimpleNamespace(config=config, metrics=metrics, usage="", manifest=metrics)
    experiment = experiment_of(client, config.registry, registry_store)
    files = {"tables/recordings.parquet": table}
    with pytest.raises(MlflowException, match="locked"):
        tasks._log_run(client, experiment, {KEY_TAG: "k"}, files, inputs, table, table, table, registry_store)
    (removal,) = plan_versions(config.registry, registry_store, 1, time.time() + 2 * RECENT_S).removals
    assert len(removal.model_ids) == 1


def test_two_runs_record_the_same_data_set_at_once(registry_store: Store, monkeypatch):
    config = RunConfig()
    client = connect(config.registry, registry_store)
    experiment = experiment_of(client, config.registry, registry_store)
    runs = [client.create_run(experiment).info.run_id for _ in range(2)]
    both_looked = Barrier(2)

    def new_id() -> UUID:  # first for a data set that is not in the database yet
        with suppress(BrokenBarrierError):
            both_looked.wait(30)
            both_looked.abort()  # only the ids of the data set are made at once
        return uuid4()

    monkeypatch.setattr("mlflow.store.tracking.sqlalchemy_store.uuid", SimpleNamespace(uuid4=new_id))
    rows = pd.DataFrame({"part": ["train"], "label": ["normal"]})
    manifest = Artifact(name="manifest/a.parquet", digest="d" * 64, rows=1)

    def log(run: str) -> Any:
        with mlflow.start_run(run_id=run):
            tasks._log_dataset(rows, manifest, config, registry_store)
        return mlflow.get_run(run).inputs.dataset_inputs

    log_input, calls = mlflow.log_input, []
    monkeypatch.setattr(mlflow, "log_input", lambda *a, **k: calls.append(a) or log_input(*a, **k))
    with ThreadPoolExecutor(2) as threads:
        logged = list(threads.map(log, runs))
    assert len(calls) == 3
    assert [[each.dataset.name for each in inputs] for inputs in logged] == [["demo-train"]] * 2


def test_of_two_runs_of_the_same_inputs_that_end_at_once_one_makes_the_version(
    registry_store: Store, tmp_path: Path, monkeypatch
):
    config = RunConfig()
    client = connect(config.registry, registry_store)
    code = tmp_path / "model.py"
    code.write_text("import mlflow\nmlflow.models.set_model(mlflow.pyfunc.PythonModel())")
    logged = []
    for _ in range(2):
        with mlflow.start_run(experiment_id=experiment_of(client, config.registry, registry_store)) as run:
            model = mlflow.pyfunc.log_model(name="model", python_model=str(code), pip_requirements=["mlflow"])
        logged.append((run.info, model))
    _open_model(client, config.registry.model_name, registry_store)
    both_looked = Barrier(2)

    def look(*arguments: Any) -> Any:
        found = _version_of(*arguments)
        with suppress(BrokenBarrierError):  # the other one cannot look meanwhile
            both_looked.wait(1)
        return found

    monkeypatch.setattr("tasks.register._version_of", look)

    def add(pair: Any) -> Any:
        run, model = pair
        version = _add_version(client, run.run_id, model, {KEY_TAG: "same"}, "", config, registry_store)
        _remove_unless_registered(client, run.run_id, model, version, config, registry_store)
        return version

    with ThreadPoolExecutor(2) as threads:
        versions = list(threads.map(add, logged))
    assert [version.version for version in versions] == [1, 1]
    (made,) = {version.run_id for version in versions}
    stages = {run.run_id == made: client.get_run(run.run_id).info.lifecycle_stage for run, _ in logged}
    assert stages == {True: "active", False: "deleted"}
    (other,) = (run for run, _ in logged if run.run_id != made)
    assert not any(path.is_file() for path in Path(local_file_uri_to_path(other.artifact_uri)).rglob("*"))
    assert len(list((registry_store.root / "mlflow-artifacts" / "models").glob("*/artifacts/MLmodel"))) == 1
