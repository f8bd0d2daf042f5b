"""Stage 7: where the weights start from, and fine-tuning."""

from pathlib import Path
from tempfile import TemporaryDirectory

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, ConfigDict, Field

from heartdata.config import ModelConfig, RegistryConfig, SpectrogramConfig, TrainingConfig
from heartdata.errors import ConfigError
from heartdata.schemas import HISTORY, MANIFEST
from heartdata.store import Artifact, Store
from tasks.progress import track
from tasks.registry import connect
from tasks.stage import NOT_DIGESTED, stage

VERSION = "2"  # raise when the same inputs train another network


class InitialWeights(BaseModel):
    """Where training starts. ``weights``: a ``.safetensors`` file, or None for random ones; ``note``: a warning."""

    model_config = ConfigDict(frozen=True)

    kind: str
    weights: Artifact | None = None
    note: str = Field(default="", json_schema_extra=NOT_DIGESTED)


class TrainedModel(BaseModel):
    """The files of a trained network: weights, configuration (`ModelConfig`), and what each epoch gave."""

    model_config = ConfigDict(frozen=True)

    weights: Artifact
    config: Artifact
    history: Artifact
    best_epoch: int
    classes: tuple[str, ...]
    init: str
    note: str = Field(default="", json_schema_extra=NOT_DIGESTED)


@task(name="initial weights", cache_policy=NO_CACHE, retries=1)
def initial_weights(init: str, registry: RegistryConfig, store: Store) -> InitialWeights:
    """Resolve ``training.init``: ``auto`` takes ImageNet weights where they can be had, else random ones and says so.

    Not cached: what can be had may change, and the answer is part of the training's cache key.
    """
    with track("initial weights") as advance:
        found = _resolved(init, registry, store)
        advance(1, 1, found.note or found.kind)
        return found


def _resolved(init: str, registry: RegistryConfig, store: Store) -> InitialWeights:
    if init == "random":
        return InitialWeights(kind="random")
    from heartdata.model import imagenet_weights, read_weights

    if init in ("auto", "imagenet"):
        try:
            return InitialWeights(kind="imagenet", weights=_keep(imagenet_weights(), store))
        except ConfigError as error:
            if init == "imagenet":
                raise
            return InitialWeights(kind="random", note=f"Training starts from random weights: {error}")
    if init.startswith("models:/"):
        connect(registry, store)
        return InitialWeights(kind=init, weights=_keep(_from_registry(init), store))
    return InitialWeights(kind=init, weights=_keep(read_weights(Path(init).expanduser()), store))


def _keep(weights: dict, store: Store) -> Artifact:
    from safetensors.torch import save

    return store.write_bytes("initial", ".safetensors", save({k: v.contiguous() for k, v in weights.items()}))


def _from_registry(uri: str) -> dict:
    """The weights of a registered model."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from heartdata.model import read_weights

    with TemporaryDirectory() as folder:
        try:
            mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
        except MlflowException as error:
            raise ConfigError(f"training.init = {uri!r} is not in the registry ({error.message})") from error
        found = sorted(Path(folder).rglob("*.safetensors"))
        if not found:
            raise ConfigError(f"training.init = {uri!r} holds no .safetensors file")
        return read_weights(found[0])


@stage("train", VERSION, timeout_s=24 * 3600)
def train(
    manifest: Artifact, initial: InitialWeights, config: TrainingConfig, spectrogram: SpectrogramConfig, store: Store
) -> TrainedModel:
    """Fine-tune resnet34 on the manifest's training part, the epoch chosen on its validation part."""
    from heartdata import training
    from heartdata.model import read_weights, weights_bytes

    start = read_weights(store.local(initial.weights.name)) if initial.weights else None
    total = config.epochs + (config.frozen_epochs if start is not None else 0)
    with track("train", total, "epochs") as advance:

        def on_epoch(row: dict[str, float]) -> None:
            detail = f"loss {row['train_loss']:.3f}, validation macro-F1 {row['valid_macro_f1']:.3f}"
            advance(int(row["epoch"]) + 1, total, detail)

        trained = training.train(store.read_frame(manifest, MANIFEST), start, config, store, on_epoch)
        model = ModelConfig(
            classes=trained.classes,
            width=config.width,
            spectrogram=spectrogram,
            dataset_version=manifest.digest,
            init=initial.kind,
        )
        advance(total, total, f"best epoch {trained.best_epoch + 1} of {trained.history.num_rows}")
        return TrainedModel(
            weights=store.write_bytes("models", ".safetensors", weights_bytes(trained.net)),
            config=store.write_bytes("models", ".json", model.model_dump_json(indent=2).encode()),
            history=store.write_table("models/history", trained.history, HISTORY),
            best_epoch=trained.best_epoch,
            classes=trained.classes,
            init=initial.kind,
            note=initial.note,
        )
