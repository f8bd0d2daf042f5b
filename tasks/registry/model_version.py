"""The model as MLflow serves it: logged as code and safetensors, loaded again and compared with its evaluation."""

import json
import os
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import heartdata
from heartdata.audio.decode import read_bytes
from heartdata.errors import HeartbeatError
from heartdata.storage.schemas import RECORDINGS, predictions_schema
from heartdata.storage.store import Artifact, Store
from tasks.results import Evaluation, TrainedModel

TOLERANCE = 1e-5  # between the served model's probabilities and those evaluated
SERVED_MODEL = Path(heartdata.__file__).parents[1] / "mlflow" / "served_model.py"
SERVED_NEEDS = ("mlflow", "audioread", "joblib", "lazy_loader", "librosa", "numpy", "pandas", "platformdirs", "pyarrow",
                "pydantic", "safetensors", "scikit-learn", "scipy", "soundfile", "soxr", "torch", "torchvision")  # fmt: skip


def log_model(model: TrainedModel, store: Store) -> Any:
    """Log the model in the active MLflow run; returns its `ModelInfo`."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    from heartdata.serving.predictor import model_digest  # loads torch

    if not SERVED_MODEL.is_file():
        raise HeartbeatError(f"{SERVED_MODEL} does not exist: run heartbeat from a checkout of the project")
    columns = {
        "label": DataType.string,
        "unsure": DataType.boolean,
        "error": DataType.string,
        "warnings": DataType.string,
    }
    columns |= {"heart_rate_bpm": DataType.double, "model_digest": DataType.string}
    columns |= {f"p_{c}": DataType.double for c in model.classes}
    outputs: list[Any] = [
        ColSpec(kind, name, required=name in ("warnings", "model_digest")) for name, kind in columns.items()
    ]  # the others are null in a row with an error, or without one
    weights, config = store.verified(model.weights), store.verified(model.config)
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=str(SERVED_MODEL),
        artifacts={"weights": str(weights), "config": str(config)},
        code_paths=[str(Path(heartdata.__file__).parent)],
        signature=ModelSignature(Schema([ColSpec(DataType.binary, "audio")]), Schema(outputs)),
        pip_requirements=[f"{package}=={installed(package)}" for package in SERVED_NEEDS],
        metadata={"dataset_version": json.loads(config.read_text())["dataset_version"]},
        tags={"model_digest": model_digest(weights, config)},
        step=model.kept_epoch + 1,
    )


def check_served(uri: str, model: TrainedModel, evaluation: Evaluation, recordings: Artifact, store: Store) -> None:
    """Load the logged model, without unpickling, and raise unless it predicts a test recording as evaluation did."""
    import mlflow
    import pandas as pd

    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    first = store.read_frame(evaluation.predictions, predictions_schema(list(model.classes))).iloc[0]
    frame = store.read_frame(recordings, RECORDINGS).set_index("recording_id")
    audio = read_bytes(frame.loc[first["recording_id"], "uri"], first["sha256"])
    served = mlflow.pyfunc.load_model(uri).predict(pd.DataFrame({"audio": [audio]})).iloc[0]
    if pd.notna(served["error"]):
        raise HeartbeatError(f"the logged model refuses {first['recording_id']} ({served['error']}): not registered")
    for name in (f"p_{c}" for c in model.classes):
        if not abs(served[name] - first[name]) <= TOLERANCE:
            raise HeartbeatError(
                f"the logged model predicts {name} = {served[name]:.4f} for {first['recording_id']}, "
                f"evaluation {first[name]:.4f}: not registered"
            )
