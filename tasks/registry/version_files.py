"""The files of a registered version, and those of the MLflow run that it comes from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartdata.config import RegistryConfig
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from tasks.registry.client import connect, find_version, model_files, refuse_empty_registry
from tasks.registry.pruning import CALIBRATED_FROM

INIT_TAG, MACHINE_TAG = "init_sha256", "machine"  # of a run
MODEL_CARD = "model_card.md"  # of a run


@dataclass(frozen=True)
class RegisteredModel:
    """A registered version (``version`` as MLflow has it) by its URI, with its files on this machine."""

    uri: str
    version: Any
    weights: Path
    config: Path


def fetch_model(model: str | None, config: RegistryConfig, store: Store, folder: Path) -> RegisteredModel:
    """Copy the files of a version to ``folder``; ``model``: as in `find_version`. Raises `HeartbeatError`."""
    import mlflow
    from mlflow.exceptions import MlflowException

    refuse_empty_registry(config, store)
    uri, _ = find_version(model, config, store)
    name, number = uri.removeprefix("models:/").split("/")
    (folder / number).mkdir(exist_ok=True)
    try:
        version = connect(config, store).get_model_version(name, number)
        copied = mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder / number))
    except MlflowException as error:
        raise HeartbeatError(f"the model {uri!r} is not in the registry ({error.message})") from error
    return RegisteredModel(uri, version, *model_files(Path(copied), uri))


def before_calibration(registered: RegisteredModel) -> str | None:
    """The URI of the version that this one keeps the weights of; None where it was trained itself."""
    number = registered.version.tags.get(CALIBRATED_FROM)
    return f"models:/{registered.version.name}/{number}" if number else None


def run_file(run_id: str, name: str, folder: Path) -> Path | None:
    """A file of a run, copied to ``folder``; None where the run has none of that name."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=name, dst_path=str(folder)))
    except (MlflowException, OSError):
        return None


def run_settings(run_id: str, folder: Path) -> dict[str, Any] | None:
    """The configuration that a run recorded."""
    path = run_file(run_id, "config.json", folder)
    return json.loads(path.read_text(encoding="utf-8")) if path else None
