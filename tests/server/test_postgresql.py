"""MLflow's records in PostgreSQL without a server of MLflow's: where files go, and what is said of a login that fails."""

from pathlib import Path

import pytest
from server.profile_servers import SECRETS, Database

from heartdata.config import RegistryConfig
from heartdata.errors import ConfigError
from heartdata.storage.store import Store
from tasks.registry.champion import move_champion, settled_champion
from tasks.registry.client import check_registry, connect, experiment_of

CONFIG = RegistryConfig(experiment="direct", model_name="direct")


@pytest.fixture
def uri(database: Database, monkeypatch) -> str:
    """The database's URI, with its password, as MLFLOW_TRACKING_URI."""
    uri = f"postgresql://mlflow:{SECRETS['MLFLOW_PASSWORD']}@{database.address}/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def test_files_are_in_the_store_and_the_champion_is_moved(uri: str, store: Store, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_registry(CONFIG, store)
    client = connect(CONFIG, store)
    experiment = client.get_experiment(experiment_of(client, CONFIG, store))
    assert experiment.artifact_location == store.workpath("mlflow-artifacts").as_uri()
    remote = Store("memory://bucket/store")
    other = client.get_experiment(experiment_of(client, CONFIG.model_copy(update={"experiment": "remote"}), remote))
    assert other.artifact_location == "memory://bucket/store/mlflow-artifacts"
    client.create_registered_model("direct")
    client.create_model_version("direct", source=str(store.root))
    assert move_champion(client, "direct", 1, "person", "heard", store)
    assert settled_champion(client, "direct", store).version == 1
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("wrong", ["password", "database"])
def test_a_login_that_fails_is_reported_without_the_password(wrong: str, uri: str, store: Store, monkeypatch):
    wrong_uri = uri.replace("mlflow%40", "other%40") if wrong == "password" else f"{uri}-absent"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", wrong_uri)
    with pytest.raises(
        ConfigError, match=f"at postgresql://127.0.0.1:.*{wrong}.*correct MLFLOW_TRACKING_URI"
    ) as raised:
        check_registry(CONFIG, store)
    assert "secret" not in str(raised.value)
