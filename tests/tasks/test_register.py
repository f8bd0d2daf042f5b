"""Registration without training: names that MLflow accepts, lost aliases."""

import mlflow
from mlflow.tracking import MlflowClient

from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.register import _is_challenger
from tasks.registry.client import connect
from tasks.registry.naming import allowed_names
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


def test_a_lost_alias_makes_the_cached_version_invalid_but_a_moved_one_does_not(registry_store: Store):
    config = RegistryConfig(aliases=("champion",))
    client = connect(config, registry_store)
    with mlflow.start_run() as run:
        pass
    client.create_registered_model("heartbeat")
    for _ in range(2):
        client.create_model_version("heartbeat", source=run.info.artifact_uri, run_id=run.info.run_id)
    client.set_registered_model_alias("heartbeat", "challenger", "1")
    result = RegisteredVersion(name="heartbeat", version=1, run_id=run.info.run_id, url="", registry=config)
    assert not _is_challenger(result, registry_store)
    client.set_registered_model_alias("heartbeat", "champion", "2")
    assert _is_challenger(result, registry_store)
    client.delete_registered_model_alias("heartbeat", "champion")
    assert not _is_challenger(result, registry_store)
