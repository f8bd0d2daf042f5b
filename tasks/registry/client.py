"""The MLflow registry that a run's configuration names."""

import os
import re
from typing import Any

from heartdata.config import RegistryConfig
from heartdata.errors import ConfigError, HeartbeatError
from heartdata.storage.store import Artifact, Store

URI_VARIABLE = "MLFLOW_TRACKING_URI"
ALIAS = "challenger"  # of the last run's version
CHAMPION = "champion"
ACCEPTED_TAG, SERIES_TAG = "heartbeat.accepted", "heartbeat.series"  # of a version: its accepted recordings, of what


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


def data_set_versions(config: RegistryConfig, store: Store) -> set[str]:
    """The data set versions (manifest digests) of every registered model version. Raises `HeartbeatError`."""
    if is_empty(config, store):
        return set()
    from mlflow.exceptions import MlflowException

    try:
        versions = connect(config, store).search_model_versions()
    except MlflowException as error:
        raise HeartbeatError(
            f"the MLflow registry cannot be asked which data sets its models need ({error})"
        ) from error
    return {version.tags["dataset_version"] for version in versions if "dataset_version" in version.tags}


def accepted_for_champion(config: RegistryConfig, series: str, store: Store) -> Artifact | None:
    """The accepted recordings from which the model's champion was trained; None where it has none, or of another series.

    None as well where the registry cannot be asked: registering says so.
    """
    if is_empty(config, store):
        return None
    from mlflow.exceptions import MlflowException

    try:
        tags = connect(config, store).get_model_version_by_alias(config.model_name, CHAMPION).tags
    except MlflowException:
        return None
    return Artifact.model_validate_json(tags[ACCEPTED_TAG]) if tags.get(SERIES_TAG) == series else None


def is_empty(config: RegistryConfig, store: Store) -> bool:
    """Whether the registry is the output folder's own and nothing has been registered yet."""
    database = store.workpath("mlflow.db")
    return tracking_uri(config, store) == f"sqlite:///{database}" and not database.is_file()


def load_model(named: str | None, config: RegistryConfig, store: Store) -> tuple[str, Any]:
    """A registered version as ``models:/name/3``, and its MLflow model; ``named`` so or as ``models:/name@alias``.

    None: the challenger of the only registered model. Raises `HeartbeatError` saying what there is.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client = connect(config, store)
        models = client.search_registered_models()
    except MlflowException as error:
        raise HeartbeatError(f"the MLflow registry cannot be asked for a model ({error.message})") from error
    known = sorted(f"models:/{model.name}@{alias}" for model in models for alias in {ALIAS, *model.aliases})
    there = f"there are: {', '.join(known) or 'none'}"
    if named is None and len(models) != 1:
        raise HeartbeatError(f"say which model with --model; {there}")
    uri = named or f"models:/{models[0].name}@{ALIAS}"
    if not uri.startswith("models:/"):
        raise HeartbeatError(f"--model {uri} should begin with models:/; {there}")
    try:
        if alias := re.fullmatch("models:/([^/@]+)@(.+)", uri):
            uri = f"models:/{alias[1]}/{client.get_model_version_by_alias(*alias.groups()).version}"
        return uri, mlflow.pyfunc.load_model(uri)
    except MlflowException as error:
        raise HeartbeatError(f"the model {uri!r} is not in the registry ({error.message}); {there}") from error


KEY_TAG = "heartbeat.key"


def experiment_of(client: Any, config: RegistryConfig, store: Store) -> str:
    """The experiment's id. With SQLite in the store, its artifacts lie in the store as well."""
    found = client.get_experiment_by_name(config.experiment)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            raise ConfigError(
                f"the MLflow experiment {config.experiment!r} was deleted: restore it or set registry.experiment"
            )
        return found.experiment_id
    local = tracking_uri(config, store).startswith("sqlite:")
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on runs, not on language-model traces
    return client.create_experiment(
        config.experiment, store.workpath("mlflow-artifacts").as_uri() if local else None, kind
    )
