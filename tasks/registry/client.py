"""The MLflow registry that a run's configuration names."""

import os
import re
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartdata.config import RegistryConfig
from heartdata.errors import ConfigError, HeartbeatError
from heartdata.settings import without_login, without_logins
from heartdata.sources import DemoSource
from heartdata.storage.migrations import schema_state, sqlite_revision
from heartdata.storage.remote import is_remote
from heartdata.storage.store import Store
from tasks.registry.database import make_database
from tasks.registry.locations import DATABASE, check_locations

if TYPE_CHECKING:
    from heartdata.serving.predictor import Predictor

URI_VARIABLE = "MLFLOW_TRACKING_URI"
REGISTRY_VARIABLE = "MLFLOW_REGISTRY_URI"  # models only, where they are kept apart from runs
FOREIGN = ("MLFLOW_RUN_ID", "MLFLOW_ACTIVE_MODEL_ID")  # of a run that started this process, not of ours
PROBE = {  # MLflow asks seven times for 120 s each, and PostgreSQL's library waits as long as the network does
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "PGCONNECT_TIMEOUT": "10",
}
NO_DRIVER = "PostgreSQL's library is not installed: pip install 'heartbeat[server]'"
DATABASE_SERVERS = ("postgresql", "mysql", "mssql")
CHALLENGER = "challenger"  # of the last run's version
CHAMPION = "champion"
DEMO = DemoSource.preset["registry"]["model_name"]
RECIPE_TAG = "heartbeat.recipe"  # of a version: digest of the settings that would make another model
KEY_TAG = "heartbeat.key"  # of a run and its version: what they were made from, so that they are made once


def tracking_uri(config: RegistryConfig, store: Store) -> str:
    """Where MLflow keeps runs: as configured, else the environment's, else SQLite in the output folder."""
    return config.tracking_uri or os.environ.get(URI_VARIABLE, "").strip() or f"sqlite:///{store.workpath(DATABASE)}"


def connect(config: RegistryConfig, store: Store) -> Any:
    """An MLflow client for the configured registry, which also becomes this process's default. Makes the database of a store.

    MLflow writes its default to MLFLOW_TRACKING_URI as well; the user's value is restored, or the next run over another
    store would use this one's registry.
    """
    import mlflow

    if is_empty(config, store):
        make_database(store.workpath(DATABASE))
    for name in FOREIGN:
        os.environ.pop(name, None)
    users = os.environ.get(URI_VARIABLE)
    mlflow.set_tracking_uri(tracking_uri(config, store))
    if users is None:
        os.environ.pop(URI_VARIABLE, None)
    else:
        os.environ[URI_VARIABLE] = users
    return mlflow.MlflowClient()


def pages(search: Any, *arguments: Any) -> Iterator[Any]:
    """All that a search of an MLflow client finds."""
    token = None
    while True:
        page = search(*arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def is_own(config: RegistryConfig, store: Store) -> bool:
    """Whether the registry is the output folder's own."""
    own = f"sqlite:///{store.workpath(DATABASE)}"
    return tracking_uri(config, store) == own and not os.environ.get(REGISTRY_VARIABLE)


def is_empty(config: RegistryConfig, store: Store) -> bool:
    """Whether the registry is the output folder's own and nothing has been registered yet."""
    return is_own(config, store) and not store.workpath(DATABASE).is_file()


def refuse_empty_registry(config: RegistryConfig, store: Store) -> None:
    """Raise `HeartbeatError` when the store's own registry has no model, without making one."""
    if is_empty(config, store):
        raise HeartbeatError(
            f"no model is registered in {store.uri}: run `heartbeat run` first, or name another --store"
        )


def check_registry(config: RegistryConfig, store: Store) -> None:
    """Ask the registry once, without waiting long.

    Raises `ConfigError`, which names the setting, if it cannot be used, and `StoreError` for a store that was moved or is of a
    newer version.
    """
    with suppress(OSError):  # a bucket is not needed for its registry
        store.check_version()
    if is_empty(config, store):
        return
    uri = tracking_uri(config, store)
    own, setting = is_own(config, store), "registry.tracking_uri" if config.tracking_uri else URI_VARIABLE
    if own:
        # MLflow may migrate it unasked
        if schema_state("mlflow", sqlite_revision(store.workpath(DATABASE))) == "older":
            raise ConfigError(
                f"the MLflow database of {store.uri} was made by an older version: type `heartbeat upgrade --store {store.uri}`, "
                "which makes a backup first"
            )
        check_locations(store)
    try:
        with _environment(PROBE):
            if uri.startswith(DATABASE_SERVERS):  # MLflow would try for two minutes
                import sqlalchemy

                sqlalchemy.create_engine(uri).connect().close()
            client = connect(config, store)
            runs = (uri, setting)
            if models_at := os.environ.get(REGISTRY_VARIABLE):
                uri, setting = models_at, REGISTRY_VARIABLE
            client.search_registered_models(max_results=1)
            uri, setting = runs
            client.search_experiments(max_results=1)
    except Exception as error:  # database drivers and MLflow's plug-ins have their own
        remedy = "correct that, or choose another store" if own else f"correct {setting} or leave it unset"
        raise ConfigError(f"MLflow cannot be used at {without_login(uri)} ({_reason(error)}): {remedy}") from error


def _reason(error: Exception) -> str:
    """Why the registry could not be asked, in short."""
    text = without_logins(str(error).strip())
    if isinstance(error, ModuleNotFoundError) and error.name == "psycopg2":
        return NO_DRIVER
    if getattr(error, "error_code", "") in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return (
            "it requires another login: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN"
        )
    if "filesystem tracking backend" in text:
        return (
            "MLflow keeps runs on a server, such as http://127.0.0.1:5000, or in a database, such as "
            "sqlite:////data/mlflow.db, and not in a folder"
        )
    if caused := re.search(r"Caused by \w+\(\W*(.*?)[\"')]*$", text):
        text = "no answer: " + re.sub(r"^\w+\(.*?\): ", "", caused[1])
    if "Can't locate revision" in text or "out-of-date database schema" in text:
        text = f"its database is of another version of MLflow: {text}"
    return textwrap.shorten(text.partition("\n")[0], 300, placeholder=" ...")


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the block's time."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def load_model(model: str | None, config: RegistryConfig, store: Store) -> "tuple[str, Predictor]":
    """A registered version as ``models:/name/3``, and its predictor; ``model``: as in `find_version`.

    Only its weights and its configuration are read. Its code, and whatever is pickled, is not loaded: whoever can write
    to the registry could run code here.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    from heartdata.serving.predictor import Predictor  # loads torch

    uri, _ = find_version(model, config, store)
    with tempfile.TemporaryDirectory(prefix="heartbeat-") as folder:
        try:
            copied = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
            if not any(copied.iterdir()):
                raise FileNotFoundError("there are none")
            weights, settings = model_files(copied, uri)
        except MlflowException as error:
            raise HeartbeatError(_why_not_loaded(connect(config, store), uri, error.message)) from error
        except OSError as error:
            raise HeartbeatError(_why_not_loaded(connect(config, store), uri, str(error))) from error
        return uri, Predictor.load(weights, settings)


def model_files(copied: Path, uri: str) -> tuple[Path, Path]:
    """The weights and the configuration of a version that was copied to a folder. Raises `HeartbeatError`."""
    weights, settings = list(copied.glob("artifacts/*.safetensors")), list(copied.glob("artifacts/*.json"))
    if len(weights) != 1 or len(settings) != 1:
        raise HeartbeatError(
            f"the model {uri!r} was not made by heartbeat (it has no weights as .safetensors with their .json): name another "
            "with --model"
        )
    return weights[0], settings[0]


def _why_not_loaded(client: Any, uri: str, why: str) -> str:
    """Whether the version is not registered, or its files are not where MLflow keeps them."""
    from mlflow.exceptions import MlflowException

    try:
        version = client.get_model_version(*uri.removeprefix("models:/").split("/"))
    except (MlflowException, TypeError):
        return f"the model {uri!r} is not in the registry ({why}); {_known_models(client)}"
    return f"the files of the model {uri!r} cannot be read ({why}): restore {version.source} in MLflow, or use another version"


def find_version(model: str | None, config: RegistryConfig, store: Store) -> tuple[str, str]:
    """A registered version as ``models:/name/3``, and a note for people or nothing.

    ``model``: the same, or ``models:/name@alias``; None: the champion of `only_model`, or its challenger while there is no
    champion. Raises `HeartbeatError` that lists the models.
    """
    from mlflow.exceptions import MlflowException

    check_registry(config, store)
    client, note = connect(config, store), ""
    if model is None:
        name = only_model(client, store)
        aliases = client.get_registered_model(name).aliases
        model = f"models:/{name}@{CHAMPION if CHAMPION in aliases else CHALLENGER}"
        if CHAMPION not in aliases:
            note = f"{name} has no champion: this is its challenger, the last version that was trained"
    if not model.startswith("models:/"):
        raise HeartbeatError(f"--model {model} should begin with models:/; {_known_models(client)}")
    if not (alias := re.fullmatch("models:/([^/@]+)@(.+)", model)):
        return model, note
    try:
        return f"models:/{alias[1]}/{client.get_model_version_by_alias(*alias.groups()).version}", note
    except MlflowException as error:
        raise HeartbeatError(
            f"the model {model!r} is not in the registry ({error.message}); {_known_models(client)}"
        ) from error


def only_model(client: Any, store: Store) -> str:
    """The name of the only registered model, the demo's aside where there is one other. Raises `HeartbeatError`."""
    from mlflow.exceptions import MlflowException

    try:
        names = [model.name for model in pages(client.search_registered_models)]
    except MlflowException as error:
        raise HeartbeatError(
            f"the MLflow registry cannot be asked for a model ({error.message}): run `heartbeat doctor`, which says more"
        ) from error
    if not names:
        raise HeartbeatError(f"no model is registered in {store.uri}: run `heartbeat run` first")
    if len(names) == 2:
        names = [name for name in names if name != DEMO]
    if len(names) != 1:
        raise HeartbeatError(f"name a model with --model; {_known_models(client)}")
    return names[0]


def _known_models(client: Any) -> str:
    known = []
    for each in pages(client.search_registered_models):
        known += [f"models:/{each.name}@{alias}" for alias in sorted(each.aliases)]
        if not each.aliases and (numbers := [int(version.version) for version in each.latest_versions]):
            known.append(f"models:/{each.name}/{max(numbers)}")
    return f"there are: {', '.join(sorted(known)) or 'none'}"


def experiment_of(client: Any, config: RegistryConfig, store: Store) -> str:
    """The experiment's id. Where runs are recorded in a database itself, not by a server, its artifacts are in the store.

    MLflow's own default is then the current folder.
    """
    experiment = client.get_experiment_by_name(config.experiment)
    if experiment is not None:
        if experiment.lifecycle_stage == "deleted":
            raise ConfigError(
                f"the MLflow experiment {config.experiment!r} was deleted: restore it or set registry.experiment"
            )
        return experiment.experiment_id
    uri, artifacts = tracking_uri(config, store), None
    if uri.startswith(("sqlite:", *DATABASE_SERVERS)):
        artifacts = store.workpath("mlflow-artifacts").as_uri()
    if uri.startswith(DATABASE_SERVERS) and is_remote(store.uri):  # SQLite is on this machine, as the working folder is
        artifacts = store.address("mlflow-artifacts")
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on runs, not on language-model traces
    with unless_made_meanwhile():
        return client.create_experiment(config.experiment, artifacts, kind)
    return client.get_experiment_by_name(config.experiment).experiment_id


@contextmanager
def unless_made_meanwhile() -> Iterator[None]:
    """Ignore that another run has made the same experiment or model since this one looked."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
