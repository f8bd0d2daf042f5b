"""Registries of several stores, those that cannot be used, and registered versions that need other preprocessing than the installed code's."""

import contextlib
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from helpers import beats, http_server, write_wav

import heartdata
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.config import RegistryConfig
from heartdata.errors import ConfigError, HeartbeatError
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor
from heartdata.storage.store import Store
from heartdata.training.network import build_net, read_weights, weights_bytes
from heartdata.versions import PREPROCESSING
from tasks.registry import client as client_module
from tasks.registry.client import PROBE, check_registry, connect, experiment_of, find_version, is_own, load_model
from tasks.registry.model_version import SERVED_MODEL
from tasks.train import initial_weights


def test_two_registries_in_one_process_are_separate(registry_store: Store, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    other = Store(tmp_path / "other").open()
    connect(RegistryConfig(), registry_store).create_registered_model("here")
    assert connect(RegistryConfig(), other).search_registered_models() == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registry_store.workpath('mlflow.db')}")  # set by the user
    assert [m.name for m in connect(RegistryConfig(), other).search_registered_models()] == ["here"]
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("store/mlflow.db")


def test_of_two_models_the_one_that_is_not_the_demos_predicts(registry_store: Store, monkeypatch):
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda uri, dst_path: registry_store.root)
    monkeypatch.setattr(client_module, "model_files", lambda folder, uri: (folder, folder))
    monkeypatch.setattr(Predictor, "load", lambda *files: None)
    client = connect(RegistryConfig(), registry_store)

    def register(name: str) -> None:
        client.create_registered_model(name)
        client.create_model_version(name, source=str(registry_store.root), model_id=None)
        client.set_registered_model_alias(name, "challenger", "1")

    with pytest.raises(HeartbeatError, match=r"no model is registered in .*store: run `heartbeat run` first"):
        load_model(None, RegistryConfig(), registry_store)
    for name, taken in (("heartbeat-demo", "heartbeat-demo"), ("heartbeat", "heartbeat")):
        register(name)
        assert load_model(None, RegistryConfig(), registry_store)[0] == f"models:/{taken}/1"
    assert (
        load_model("models:/heartbeat-demo@challenger", RegistryConfig(), registry_store)[0]
        == "models:/heartbeat-demo/1"
    )
    register("other")
    with pytest.raises(
        HeartbeatError, match="name a model with --model; there are: models:/heartbeat-demo@challenger, "
    ):
        load_model(None, RegistryConfig(), registry_store)


def test_a_version_without_its_files_is_told_from_one_that_is_not_registered(registry_store: Store, tmp_path: Path):
    client = connect(RegistryConfig(), registry_store)
    client.create_registered_model("heartbeat")
    client.create_model_version("heartbeat", source=(tmp_path / "gone").as_uri())
    with pytest.raises(HeartbeatError, match=r"the files of the model 'models:/heartbeat/1' cannot be read \(.*gone"):
        load_model("models:/heartbeat/1", RegistryConfig(), registry_store)
    for unknown in ("models:/heartbeat/2", "models:/other/1", "models:/heartbeat"):
        with pytest.raises(HeartbeatError, match=f"{unknown}' is not in the registry"):
            load_model(unknown, RegistryConfig(), registry_store)


def test_the_champion_predicts_and_while_there_is_none_the_challenger_with_a_note(registry_store: Store):
    client = connect(RegistryConfig(), registry_store)
    client.create_registered_model("heartbeat")
    for _ in range(2):
        client.create_model_version("heartbeat", source=str(registry_store.root))
    client.set_registered_model_alias("heartbeat", "challenger", "2")
    uri, note = find_version(None, RegistryConfig(), registry_store)
    assert (uri, "heartbeat has no champion" in note) == ("models:/heartbeat/2", True)
    client.set_registered_model_alias("heartbeat", "champion", "1")
    assert find_version(None, RegistryConfig(), registry_store) == ("models:/heartbeat/1", "")
    assert find_version("models:/heartbeat/2", RegistryConfig(), registry_store) == ("models:/heartbeat/2", "")
    with pytest.raises(HeartbeatError, match="'models:/heartbeat@best' is not in the registry"):
        find_version("models:/heartbeat@best", RegistryConfig(), registry_store)


def test_models_without_an_alias_are_offered_by_their_version(registry_store: Store):
    client = connect(RegistryConfig(), registry_store)
    client.create_registered_model("heartbeat")
    for _ in range(11):
        client.create_model_version("heartbeat", source=str(registry_store.root))
    with pytest.raises(HeartbeatError, match=r"alias challenger not found.*; there are: models:/heartbeat/11$") as said:
        find_version(None, RegistryConfig(), registry_store)
    offered = str(said.value).split()[-1]
    assert find_version(offered, RegistryConfig(), registry_store)[0] == offered


@pytest.fixture
def old(registry_store: Store, tmp_path: Path) -> str:
    """A registered version that needs another version of spectrograms, logged with a heartdata that computes them."""
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(build_net(2)))
    config = ModelConfig(
        classes=("a", "b"), width=64, spectrogram=SpectrogramConfig(), dataset_version="0", init="random",
        preprocessing={**PREPROCESSING, "spectrograms": "0"},
    )  # fmt: skip
    (tmp_path / "c.json").write_text(config.model_dump_json())
    code = tmp_path / "code" / "heartdata"
    shutil.copytree(Path(heartdata.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__"))
    versions = (code / "versions.py").read_text()
    now = f'SPECTROGRAMS = "{PREPROCESSING["spectrograms"]}"'
    assert now in versions
    (code / "versions.py").write_text(versions.replace(now, 'SPECTROGRAMS = "0"'))
    client = connect(RegistryConfig(), registry_store)
    experiment = client.create_experiment("old", registry_store.workpath("mlflow-artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        mlflow.pyfunc.log_model(
            name="model", python_model=str(SERVED_MODEL), registered_model_name="old", code_paths=[str(code)],
            artifacts={"weights": str(tmp_path / "w.safetensors"), "config": str(tmp_path / "c.json")},
            pip_requirements=["mlflow"],
        )  # fmt: skip
    return "models:/old/1"


def test_a_version_for_other_input_is_refused_but_training_may_start_from_it(old: str, store: Store, tmp_path: Path):
    with pytest.raises(ConfigError, match="other preprocessing .*spectrograms: installed version .* model's 0"):
        load_model(old, RegistryConfig(), store)
    initial = initial_weights.fn(old, RegistryConfig(), store)
    assert read_weights(store.local(initial.weights.name)).keys() == build_net(2).state_dict().keys()
    write_wav(tmp_path / "a.wav", beats())
    code = (
        "import mlflow, pandas, sys; mlflow.set_tracking_uri(sys.argv[1]); model = mlflow.pyfunc.load_model(sys.argv[2]);"
        "audio = pandas.DataFrame({'audio': [open(sys.argv[3], 'rb').read()]});"
        "model.predict(audio).to_csv(sys.argv[4], index=False)"
    )
    arguments = [mlflow.get_tracking_uri(), old, str(tmp_path / "a.wav"), str(tmp_path / "predictions.csv")]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]  # as `mlflow models serve` does, by the code that was logged
    assert set(pd.read_csv(tmp_path / "predictions.csv")["label"]) <= {"a", "b"}


@pytest.mark.parametrize("named_by", ["MLFLOW_TRACKING_URI", "registry.tracking_uri"])
@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:9", r"no answer: .*Connection refused"),
        ("file:{folder}/runs", "MLflow keeps runs on a server"),
        ("{folder}/runs", "MLflow keeps runs on a server.* or in a database"),
        ("127.0.0.1:5000", "MLflow keeps runs on a server, such as http://127.0.0.1:5000"),
        ("nothing://host", "unsupported URI"),
        ("postgresql+absent://host/name", "sqlalchemy.dialects:postgresql.absent"),
        ("sqlite:////proc/absent/mlflow.db", "."),
    ],
)
def test_a_registry_that_cannot_be_used_is_reported_with_its_setting(
    uri: str, reason: str, named_by: str, registry_store: Store, tmp_path: Path, monkeypatch
):
    uri = uri.format(folder=tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = RegistryConfig(tracking_uri=uri) if named_by == "registry.tracking_uri" else RegistryConfig()
    if named_by == "MLFLOW_TRACKING_URI":
        monkeypatch.setenv(named_by, uri)
    with pytest.raises(
        ConfigError, match=f"MLflow cannot be used at {re.escape(uri)} .*{reason}.*: correct {named_by} or"
    ) as raised:
        check_registry(config, registry_store)
    assert "\n" not in str(raised.value)
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ


def test_a_missing_library_for_postgresql_is_named(registry_store: Store, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:9/mlflow")
    with pytest.raises(ConfigError, match=r"pip install 'heartbeat\[server\]'") as raised:
        check_registry(RegistryConfig(), registry_store)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("login", ["me:secret@", "me:sec@ret@", "me:se/cret@"])
def test_the_password_of_a_database_is_not_shown_even_where_it_is_not_encoded(
    login: str, registry_store: Store, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://{login}127.0.0.1:9/mlflow?password=secret")
    with pytest.raises(ConfigError) as raised:
        check_registry(RegistryConfig(), registry_store)
    assert "127.0.0.1:9" in str(raised.value)
    assert not re.search("sec|cret|ret@", str(raised.value))


def test_a_database_that_does_not_answer_is_not_waited_for(registry_store: Store, monkeypatch):
    monkeypatch.setitem(PROBE, "PGCONNECT_TIMEOUT", "2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/mlflow")
        with pytest.raises(ConfigError, match="timeout expired"):
            check_registry(RegistryConfig(), registry_store)


def test_a_registry_of_models_only_is_asked_even_for_an_empty_store(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="at http://127.0.0.1:9 .*: correct MLFLOW_REGISTRY_URI or leave it unset"):
        check_registry(RegistryConfig(), Store(tmp_path / "new").open())


def test_a_blank_address_of_mlflow_is_none(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " ")
    assert is_own(RegistryConfig(), Store(tmp_path))


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, b"", "requires another login: set MLFLOW_TRACKING_USERNAME"),
        (403, b"", "requires another login"),
        (404, b"", "error code 404"),
        (503, b"", "no answer: .*503"),
        (200, b"<html>", "not in a valid JSON format"),
    ],
)
def test_a_server_that_refuses_is_reported_without_its_password(
    status: int, body: bytes, reason: str, registry_store: Store, monkeypatch
):
    with http_server(lambda path: (status, body)) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url.replace("//", "//me:secret@"))
        with pytest.raises(ConfigError, match=f"at {url} .*{reason}") as raised:
            check_registry(RegistryConfig(), registry_store)
    assert "secret" not in str(raised.value)


def test_a_database_of_another_mlflow_is_reported(registry_store: Store, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = registry_store.workpath("newer/mlflow.db")
    config = RegistryConfig(tracking_uri=f"sqlite:///{database}")
    connect(config, registry_store).search_experiments()
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = 'f00'")
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    _tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    with pytest.raises(ConfigError, match="of another version of MLflow"):
        check_registry(config, registry_store)


def test_an_experiment_that_another_run_makes_meanwhile_is_used(registry_store: Store, monkeypatch):
    config = RegistryConfig()
    client = connect(config, registry_store)
    made = experiment_of(client, config, registry_store)
    read, answers = client.get_experiment_by_name, iter([None])
    monkeypatch.setattr(client, "get_experiment_by_name", lambda name: next(answers, read(name)))
    assert experiment_of(client, config, registry_store) == made


def test_the_run_that_started_this_process_is_not_written_to(registry_store: Store, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_ACTIVE_MODEL_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.setenv(name, "0123456789abcdef0123456789abcdef")
    config = RegistryConfig()
    experiment = experiment_of(connect(config, registry_store), config, registry_store)
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.log_metric("x", 1.0)
        mlflow.log_dict({}, "x.json")
    assert run.info.run_id != "0123456789abcdef0123456789abcdef"
    assert run.info.experiment_id == experiment
