"""Registration, but for training: names that MLflow takes."""

import mlflow
from mlflow.tracking import MlflowClient

from heartdata.config import RegistryConfig
from heartdata.store import Store
from tasks.register import named
from tasks.registry import connect


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
        mlflow.log_params(named({f"source.labels.{name}": value for name, value in labels.items()}))
    kept = client.get_run(run.info.run_id).data.params
    assert sorted(kept.values()) == list("abcdef")
    assert kept["source.labels.murmur _systolic_"] == "a"
    assert kept["source.labels.murmur _systolic__2"] == "b"
