"""The MLflow registry that a run's configuration names."""

import os
from typing import Any

from heartdata.config import RegistryConfig
from heartdata.store import Store

URI_VARIABLE = "MLFLOW_TRACKING_URI"


def tracking_uri(config: RegistryConfig, store: Store) -> str:
    """Where MLflow keeps runs: as configured, else the environment's, else SQLite in the output folder."""
    return config.tracking_uri or os.environ.get(URI_VARIABLE) or f"sqlite:///{store.workpath('mlflow.db')}"


def connect(config: RegistryConfig, store: Store) -> Any:
    """An MLflow client for the configured registry, which also becomes this process's default.

    MLflow notes its default in MLFLOW_TRACKING_URI as well; that stays the user's, or the next run over another store
    would take this one's for it.
    """
    import mlflow

    users = os.environ.get(URI_VARIABLE)
    mlflow.set_tracking_uri(tracking_uri(config, store))
    if users is None:
        os.environ.pop(URI_VARIABLE, None)
    else:
        os.environ[URI_VARIABLE] = users
    return mlflow.MlflowClient()
