"""A registered model that needs no training: random weights, logged and registered as the pipeline does."""

import mlflow
import torch

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.config import RegistryConfig
from heartdata.scoring.calibration import Calibration
from heartdata.serving.model_config import ModelConfig
from heartdata.storage.store import Store
from heartdata.training.network import build_net, weights_bytes
from heartdata.versions import PREPROCESSING
from tasks.registry.client import CHALLENGER, connect, experiment_of
from tasks.registry.model_version import log_model
from tasks.results import TrainedModel

CLASSES = ("murmur", "normal")


def untrained(store: Store, seed: int = 0, **calibration: object) -> TrainedModel:
    """A model of random weights in ``store``."""
    torch.manual_seed(seed)
    config = ModelConfig(
        classes=CLASSES, width=64, spectrogram=SpectrogramConfig(), preprocessing=PREPROCESSING, dataset_version="0",
        init="random", calibration=Calibration(**calibration),
    )  # fmt: skip
    return TrainedModel(
        weights=store.write_bytes("weights", ".safetensors", weights_bytes(build_net(len(CLASSES)))),
        config=store.write_bytes("weights", ".json", config.model_dump_json().encode()),
        history=store.write_bytes("history", ".json", b""),
        kept_epoch=0, classes=CLASSES, init="random", precision="float32",
    )  # fmt: skip


def registered(store: Store, model: TrainedModel) -> str:
    """Register ``model`` as the next version of heartbeat, the challenger; returns its URI."""
    client = connect(RegistryConfig(), store)
    with mlflow.start_run(experiment_id=experiment_of(client, RegistryConfig(), store)):
        info = log_model(model, store)
    if not client.search_registered_models("name = 'heartbeat'"):
        client.create_registered_model("heartbeat")
    version = client.create_model_version("heartbeat", info.model_uri, info.run_id, model_id=info.model_id).version
    client.set_registered_model_alias("heartbeat", CHALLENGER, version)
    return f"models:/heartbeat/{version}"
