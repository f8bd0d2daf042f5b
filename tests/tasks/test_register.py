"""Registration, but for training: names that MLflow takes, aliases that were lost."""

import mlflow
from mlflow.tracking import MlflowClient

from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.register import _still_there
from tasks.registry.client import connect
from tasks.registry.naming import allowed_names
from tasks.results import Registered


def test_settings_with_any_label_or_collection_are_kept_as_parameters(store: Store):
    labels = {
        "murmur (systolic)": "a",
        "murmur [systolic]": "b",
        "S3+S4": "c",
        "n/a//": "d",
        "Süd, 2 %": "e",
        "x" * 300: "f",
    }
    client: MlflowClient = connect(RegistryConfig(), store)
    with mlflow.start_run() as run:
        mlflow.log_params(allowed_names({f"source.labels.{name}": value for name, value in labels.items()}))
    kept = client.get_run(run.info.run_id).data.params
    assert sorted(kept.values()) == list("abcdef")
    assert kept["source.labels.murmur _systolic_"] == "a"
    assert kept["source.labels.murmur _systolic__2"] == "b"


def test_a_lost_alias_is_missed_and_one_that_was_moved_is_not(store: Store):
    config = RegistryConfig(aliases=("champion",))
    client = connect(config, store)
    with mlflow.start_run() as run:
        pass
    client.create_registered_model("heartbeat")
    for _ in range(2):
        client.create_model_version("heartbeat", source=run.info.artifact_uri, run_id=run.info.run_id)
    client.set_registered_model_alias("heartbeat", "challenger", "1")
    result = Registered(name="heartbeat", version=1, run_id=run.info.run_id, url="", registry=config)
    assert not _still_there(result, store)
    client.set_registered_model_alias("heartbeat", "champion", "2")
    assert _still_there(result, store)
    client.delete_registered_model_alias("heartbeat", "champion")
    assert not _still_there(result, store)
