"""A registry whose database exists already: MLflow's migrations take seconds."""

import shutil
from pathlib import Path

import pytest

from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.registry.client import connect


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    store = Store(tmp_path_factory.mktemp("registry")).open()
    connect(RegistryConfig(), store).search_registered_models()
    return store.workpath("mlflow.db")


@pytest.fixture
def registry_store(store: Store, empty_database: Path) -> Store:
    """A store with an empty MLflow registry."""
    shutil.copyfile(empty_database, store.workpath("mlflow.db"))
    return store
