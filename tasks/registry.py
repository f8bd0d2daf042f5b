"""The MLflow registry that a run's configuration names."""

import os
from typing import Any

from heartdata.config import RegistryConfig
from heartdata.store import Store


def tracking_uri(config: RegistryConfig, store: Store) -> str:
    """Where MLflow keeps runs: as configured, else the environment's, else SQLite in the store."""
    return config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.path('mlflow.db')}"


def connect(config: RegistryConfig, store: Store) -> Any:
    """An MLflow client for the configured registry, which also becomes this process's default."""
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(config, store))
    return mlflow.MlflowClient()
