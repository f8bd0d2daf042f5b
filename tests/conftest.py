"""Shared fixtures: quiet libraries, a store, an empty registry, one Prefect server."""

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

os.environ.update(  # before numpy and torch are imported, which read the first two once
    {
        "OMP_NUM_THREADS": "1",  # `make test` runs a process on each of two cores
        "OMP_WAIT_POLICY": "PASSIVE",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "DO_NOT_TRACK": "1",
        "TQDM_DISABLE": "1",
        **os.environ,
    }
)
os.environ.pop("MLFLOW_TRACKING_URI", None)  # each test's registry is in its own store

from heartdata.storage.store import Store


@pytest.fixture(scope="session")
def work_folder(tmp_path_factory) -> Path:
    """For the working files of stores with a URI, which otherwise are in the user's home."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(autouse=True)
def process(work_folder: Path) -> Iterator[None]:
    """What commands set for their whole process ends with each test: variables, logging, the database that Prefect opened."""
    root = logging.getLogger()
    level, handlers, raises = root.level, root.handlers[:], logging.raiseExceptions
    with mock.patch.dict(os.environ):
        os.environ.setdefault("HEARTBEAT_WORK", str(work_folder))
        yield
    root.setLevel(level)
    logging.raiseExceptions = raises
    logging.captureWarnings(False)
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    if dependencies := sys.modules.get("prefect.server.database.dependencies"):
        dependencies.MODELS_DEPENDENCIES["database_config"] = None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "store").open()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """A registry's database: MLflow's migrations take seconds."""
    from heartdata.config import RegistryConfig
    from tasks.registry.client import connect

    store = Store(tmp_path_factory.mktemp("registry")).open()
    connect(RegistryConfig(), store).search_registered_models()
    return store.workpath("mlflow.db")


@pytest.fixture
def registry_store(store: Store, empty_database: Path) -> Store:
    """A store with an empty MLflow registry."""
    from tasks.registry.locations import relocate

    shutil.copyfile(empty_database, store.workpath("mlflow.db"))
    relocate(store)
    return store


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[None]:
    """One Prefect server for all flow tests of a session, without results of earlier sessions."""
    from helpers import free_port
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    settings = {
        PREFECT_LOCAL_STORAGE_PATH: tmp_path_factory.mktemp("results"),
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # or each flow run waits a second at its end
    }
    port = free_port()
    with (
        mock.patch.object(SubprocessASGIServer, "_port_range", range(port, port + 1)),
        temporary_settings(settings),
        prefect_test_harness(server_startup_timeout=300),
    ):
        yield
