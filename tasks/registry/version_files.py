"""The files of a registered version, and those of the MLflow run that it comes from."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from heartdata.config import RegistryConfig
from heartdata.dataset.provenance import upgrade_schema
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store, read_parquet
from tasks.registry.client import connect, is_empty, load_model

PROVENANCE_FOLDER = "provenance"  # of a run in MLflow
PROVENANCE_FOLDERS = (PROVENANCE_FOLDER, "heard")  # registered versions have one of these
CALIBRATED_FROM = "heartbeat.calibrated_from"  # tag of a version: the version with the same weights
INIT_TAG, MACHINE_TAG = "init_sha256", "machine"  # of a run


@dataclass(frozen=True)
class RegisteredModel:
    """A registered version (``version`` as MLflow has it) by its URI, with its files on this machine."""

    uri: str
    version: Any
    weights: Path
    config: Path


def fetch_model(model: str | None, config: RegistryConfig, store: Store, folder: Path) -> RegisteredModel:
    """Copy the files of a version to ``folder``; ``model``: as in `load_model`. Raises `HeartbeatError`."""
    import mlflow

    if is_empty(config, store):
        raise HeartbeatError(
            f"no model is registered in {store.uri}: run `heartbeat run` first, or name another --store"
        )
    uri, _ = load_model(model, config, store)
    name, number = uri.removeprefix("models:/").split("/")
    (folder / number).mkdir(exist_ok=True)
    path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder / number))) / "artifacts"
    (weights,), (settings,) = path.glob("*.safetensors"), path.glob("*.json")
    return RegisteredModel(uri, connect(config, store).get_model_version(name, number), weights, settings)


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


def provenance_of(run_id: str) -> pa.Table | None:
    """The recordings that a run's weights were trained on (schema TRAINED_ON), if the run says so."""
    import mlflow

    listed = [mlflow.artifacts.list_artifacts(run_id=run_id, artifact_path=name) for name in PROVENANCE_FOLDERS]
    tables = [file for files in listed for file in files]
    if not tables:
        return None
    with TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=tables[0].path, dst_path=folder)
        return upgrade_schema(read_parquet(Path(path)))


def run_settings(run_id: str, folder: Path) -> dict[str, Any] | None:
    """The configuration that a run recorded."""
    path = run_file(run_id, "config.json", folder)
    return json.loads(path.read_text(encoding="utf-8")) if path else None
