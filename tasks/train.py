"""Where the weights start from, and fine-tuning."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa

from heartdata.config import RegistryConfig, SpectrogramConfig
from heartdata.dataset.provenance import refuse_if_trained_on, sounds_trained_on
from heartdata.errors import ConfigError
from heartdata.serving.model_config import ModelConfig
from heartdata.settings import sha256_json
from heartdata.storage.schemas import FACTS, HISTORY, MANIFEST, TRAINED_ON
from heartdata.storage.store import Artifact, Store
from heartdata.training.pretraining import BACKBONE
from heartdata.training.recipe import NetworkConfig
from heartdata.versions import PREPROCESSING
from tasks.engine.progress import add_note, track
from tasks.engine.stage import LONG_S, fingerprint, stage, uncached_task
from tasks.engine.versions import STAGES
from tasks.registry.client import connect
from tasks.registry.previous import recordings_trained_on
from tasks.results import InitialWeights, TrainedModel

UNKNOWN_PROVENANCE = "{} does not say what it was trained on: recordings of the test part may be among them"


@uncached_task("initial weights", retries=1)
def initial_weights(init: str, registry: RegistryConfig, store: Store) -> InitialWeights:
    """Resolve ``training.init``: ``auto`` takes ImageNet weights where they are available, else random ones and a note.

    Not cached: what is available may change, and the result is part of the training's cache key.
    """
    with track("initial weights") as advance:
        initial = resolve_initial_weights(init, registry, store)
        advance(1, 1, initial.note or initial.kind)
        return initial


def resolve_initial_weights(init: str, registry: RegistryConfig, store: Store) -> InitialWeights:
    """The weights that ``init`` (see `NetworkConfig`) means. Raises `ConfigError`."""
    if init == "random":
        return InitialWeights(kind="random")
    from heartdata.training.network import first_member, imagenet_weights, read_weights

    if init in ("auto", "imagenet"):
        try:
            return InitialWeights(kind="imagenet", weights=_write_weights(imagenet_weights(), store))
        except ConfigError as error:
            reason = f"{error}, or run `heartbeat pretrain` and set training.init=models:/{BACKBONE}@champion"
            if init == "imagenet":
                raise ConfigError(reason) from error
            return InitialWeights(kind="random", note=f"Training starts from random weights: {reason}")
    if init.startswith("models:/"):
        connect(registry, store)
        init, weights, sounds = _from_registry(init)
        if sounds is not None:
            trained_on = store.write_table("provenance", sounds, TRAINED_ON)
            return InitialWeights(kind=init, weights=_write_weights(weights, store), trained_on=trained_on)
    else:
        weights = first_member(read_weights(Path(init).expanduser()))
    return InitialWeights(kind=init, weights=_write_weights(weights, store), note=UNKNOWN_PROVENANCE.format(init))


def _write_weights(weights: dict, store: Store) -> Artifact:
    from safetensors.torch import save

    return store.write_bytes("initial", ".safetensors", save({k: v.contiguous() for k, v in weights.items()}))


def _from_registry(uri: str) -> tuple[str, dict, pa.Table | None]:
    """The URI of a registered model by its number, its weights, and what they were trained on (TRAINED_ON), if its run says so."""
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.utils.models import get_model_name_and_version

    from heartdata.training.network import first_member, read_weights

    with TemporaryDirectory() as folder:
        try:
            # by its number or id, as an alias and `latest` move
            uri = "models:/" + "/".join(map(str, get_model_name_and_version(mlflow.MlflowClient(), uri)))
            mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder)
        except MlflowException as error:
            hint = ": run `heartbeat pretrain` first" if BACKBONE in uri else ""
            raise ConfigError(f"training.init = {uri!r} is not in the registry ({error.message}){hint}") from error
        paths = sorted(Path(folder).rglob("*.safetensors"))
        if not paths:
            raise ConfigError(
                f"training.init = {uri!r} holds no .safetensors file: name a version that heartbeat registered"
            )
        weights = first_member(read_weights(paths[0]))
        return uri, weights, recordings_trained_on(mlflow.models.get_model_info(uri).run_id)


@stage("provenance")
def provenance(
    manifest: Artifact, facts: Artifact, initial: InitialWeights, threshold: float, store: Store
) -> Artifact:
    """What a model that starts from ``initial`` will have been trained on (schema TRAINED_ON).

    Raises `DataRefused` when ``initial`` was trained on recordings of the test part.
    """
    with track("provenance") as advance:
        rows, measured = store.read_frame(manifest, MANIFEST), store.read_frame(facts, FACTS)
        before = store.read_table(initial.trained_on, TRAINED_ON) if initial.trained_on else None
        if before is not None:
            refuse_if_trained_on(rows, measured, before, initial.kind, threshold)
        sounds = sounds_trained_on(rows, measured, before)
        advance(1, 1, f"{sounds.num_rows} recordings noted as trained on")
        return store.write_table("provenance", sounds, TRAINED_ON)


@stage("train", timeout_s=LONG_S)
def train(
    manifest: Artifact, initial: InitialWeights, config: NetworkConfig, spectrogram: SpectrogramConfig, store: Store
) -> TrainedModel:
    """Fine-tune resnet34 on the training part; the epoch to keep is chosen on the validation part.

    An interrupted training resumes from its last complete epoch.
    """
    from heartdata.training import train as training
    from heartdata.training.network import processor_and_torch, read_weights, weights_bytes

    start = read_weights(store.verified(initial.weights)) if initial.weights else None
    total = config.epochs + (config.frozen_epochs if start is not None else 0)
    key = sha256_json(fingerprint([STAGES["train"].version, manifest, initial, config]))
    checkpoint = store.workpath(f"progress/{key[:20]}.safetensors")
    with track("train", total, "epochs") as advance:

        def on_epoch(row: dict[str, float]) -> None:
            detail = f"loss {row['train_loss']:.3f}, validation macro-F1 {row['valid_macro_f1']:.3f}"
            advance(int(row["epoch"]) + 1, total, detail)

        def on_resume(epochs: int) -> None:
            add_note(
                f"Training was interrupted earlier: it resumes after epoch {epochs} of {total}, with the same result"
            )

        rows = store.read_frame(manifest, MANIFEST)
        trained = training.train(rows, start, config, store, on_epoch, checkpoint, on_resume)
        model = ModelConfig(
            classes=trained.classes,
            width=config.width,
            view=config.view,
            spectrogram=spectrogram,
            preprocessing=PREPROCESSING,
            dataset_version=manifest.digest,
            init=initial.kind,
        )
        advance(total, total, f"kept epoch {trained.kept_epoch + 1} of {trained.history.num_rows}")
        result = TrainedModel(
            weights=store.write_bytes("models", ".safetensors", weights_bytes(trained.net)),
            config=write_model_config(model, store),
            history=store.write_table("models/history", trained.history, HISTORY),
            kept_epoch=trained.kept_epoch,
            classes=trained.classes,
            init=initial.kind,
            precision=trained.precision,
            initial_sha256=initial.weights.digest if initial.weights else "",
            machine=processor_and_torch(),
            note=initial.note,
        )
        checkpoint.unlink(missing_ok=True)
        return result


def write_model_config(model: ModelConfig, store: Store) -> Artifact:
    return store.write_bytes("models", ".json", model.model_dump_json(indent=2).encode())


def training_history(model: TrainedModel, store: Store) -> pd.DataFrame:
    """Every epoch of every member: schema HISTORY with ``member``, ``kept``, and ``step``, which counts them all."""
    tables = []
    for number, member in enumerate(model.networks):
        table = store.read_frame(member.history, HISTORY)
        tables.append(table.assign(member=number, kept=table["epoch"] == member.kept_epoch))
    return pd.concat(tables, ignore_index=True).rename_axis("step").reset_index()
