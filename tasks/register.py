"""Stage 9: the run and the model in MLflow: configuration, figures, pictures, data set, and a registered version."""

import itertools
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from posixpath import normpath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from urllib.parse import quote

from prefect.artifacts import create_link_artifact
from prefect.context import FlowRunContext

import heartdata
from heartdata.audio.decode import read_bytes
from heartdata.config import ModelConfig, RegistryConfig, RunConfig
from heartdata.errors import ConfigError, HeartbeatError
from heartdata.markdown import plain
from heartdata.settings import flat
from heartdata.storage.schemas import MANIFEST, METRICS, RECORDINGS, predictions_schema
from heartdata.storage.store import Artifact, Store, sha256_json
from tasks.engine.progress import add_note, track
from tasks.engine.stage import fingerprint, stage
from tasks.registry.client import ACCEPTED_TAG, ALIAS, SERIES_TAG, connect, tracking_uri
from tasks.registry.killed_runs import process_tag
from tasks.results import Evaluation, Registered, TrainedModel
from tasks.train import HEARD_FOLDER, training_history
from tasks.validate import memory_of

T = TypeVar("T")

KEY_TAG = "heartbeat.key"
MADE = "Scores on made sounds prove that the pipeline works, nothing more"
NAME_LENGTH = 240  # of what MLflow keeps 250 characters of
AGREE = 1e-3  # the served model's probabilities and those evaluated
SERVED_MODEL = Path(heartdata.__file__).parents[1] / "mlflow" / "served_model.py"
SERVED_NEEDS = ("mlflow", "librosa", "numpy", "pandas", "platformdirs", "pyarrow", "pydantic", "ruamel.yaml",
                "safetensors", "scipy", "soundfile", "soxr", "torch", "torchvision")  # fmt: skip


def _still_there(result: Registered, store: Store) -> bool:
    """Whether the version that a cached result names is the challenger, and each other alias is somebody's."""
    from mlflow.exceptions import MlflowException

    client = connect(result.registry, store)
    try:
        version = client.get_model_version_by_alias(result.name, ALIAS)
        aliases = client.get_registered_model(result.name).aliases
    except MlflowException:
        return False
    same = (int(version.version), version.run_id) == (result.version, result.run_id)
    return same and aliases.keys() >= set(result.registry.aliases)


@stage("register", valid=_still_there)
def register(
    recordings: Artifact, accepted: Artifact, manifest: Artifact, heard: Artifact, model: TrainedModel,
    evaluation: Evaluation, config: RunConfig, store: Store,
) -> Registered:  # fmt: skip
    """Log one MLflow run and register its model under alias ``challenger``; the same inputs make one version only."""
    client = connect(config.registry, store)
    name = config.registry.model_name
    key = sha256_json(fingerprint([manifest, model.weights, model.config, evaluation.figures]))
    with track("register") as advance:
        version = _finished_version(client, name, key)
        if version is None:
            experiment = experiment_of(client, config.registry, store)
            tags = {
                "dataset_version": manifest.digest,
                KEY_TAG: key,
                ACCEPTED_TAG: accepted.model_dump_json(),
                SERIES_TAG: memory_of(config.source, config.validation.series),
            }
            version = _log_run(client, experiment, tags, recordings, manifest, heard, model, evaluation, config, store)
        _remark_step_back(client, name, int(version.version))
        for alias in {ALIAS, *config.registry.aliases}:
            client.set_registered_model_alias(name, alias, version.version)
        url = f"{config.registry.ui_url}/#/models/{quote(name)}/versions/{version.version}"
        advance(1, 1, f"{name} version {version.version}, alias {ALIAS}")
        if FlowRunContext.get():
            create_link_artifact(
                url, link_text=f"{plain(name)} version {version.version} in MLflow", key="mlflow-model"
            )
        return Registered(
            name=name, version=int(version.version), run_id=version.run_id, url=url, registry=config.registry
        )


def _remark_step_back(client: Any, name: str, version: int) -> None:
    """Tell when the alias goes to a version that is older than the one that has it."""
    from mlflow.exceptions import MlflowException

    try:
        before = int(client.get_model_version_by_alias(name, ALIAS).version)
    except MlflowException:  # nobody has it yet
        return
    if before > version:
        add_note(
            f"models:/{name}@{ALIAS} goes back from version {before} to {version}, which this data set and recipe gave "
            "before; where data sets take turns, give each a registry.model_name of its own"
        )


def _finished_version(client: Any, name: str, key: str) -> Any | None:
    """The version that an earlier run registered for ``key``, if it came to its end."""
    found = client.search_model_versions(f"name = '{name}'")
    return next((v for v in found if v.tags.get(KEY_TAG) == key), None)


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


def _log_run(
    client: Any, experiment: str, tags: dict[str, str], recordings: Artifact, manifest: Artifact, heard: Artifact,
    model: TrainedModel, evaluation: Evaluation, config: RunConfig, store: Store,
) -> Any:  # fmt: skip
    """Everything about one trained model as one MLflow run; returns its model version, which carries ``tags``."""
    import mlflow

    warnings.filterwarnings("ignore", module="mlflow")  # its hints are about choices made on purpose below
    figures = store.read_frame(evaluation.figures, METRICS)
    run_name = f"{config.source.name}-{manifest.digest[:8]}-{model.weights.digest[:8]}"
    description = (
        f"Source {config.source.name}, data set {manifest.digest[:12]}, macro-F1 {figures['value'][0]:.3f} on held-out "
        f"subjects. {usage_note(config)}."
    )
    with mlflow.start_run(
        experiment_id=experiment,
        run_name=run_name,
        description=description,
        tags={KEY_TAG: tags[KEY_TAG], **_tags(manifest, model, config)},
    ) as run:
        mlflow.log_params(allowed_names(flat(config.model_dump(mode="json"))))
        mlflow.log_dict(config.model_dump(mode="json"), "config.json")
        _log_dataset(manifest, config, store)
        best_epoch = model.best_epoch + 1  # people count from one, and so do the steps here
        info = _log_model(model, store)
        history = training_history(model, store).rename(columns={"seconds": "epoch_seconds"}).set_index("step")
        for step, row in history.drop(columns=["epoch", "member", "kept"]).iterrows():
            mlflow.log_metrics(row.to_dict(), step=int(step) + 1)
        final = {f"{m.replace(' ', '_')}.{r}": v for m, r, v in figures[["model", "metric", "value"]].to_numpy()}
        ours = {f"test_{r}": v for m, r, v in figures[["model", "metric", "value"]].to_numpy() if m == "resnet34"}
        ours |= _of_each_class(evaluation) | {f"test_{name}": value for name, value in evaluation.confidence.items()}
        rendered = {f"spectrograms.{name}": float(value) for name, value in manifest.counts.items()}
        mlflow.log_metrics(finite({**final, **ours, **rendered, **_fitted(model, store), "best_epoch": best_epoch}))
        mlflow.log_metrics(finite(ours), step=best_epoch, model_id=info.model_id)
        mlflow.log_table(figures, "figures.json")
        pictures = {f"pictures/{name}.png": picture for name, picture in evaluation.pictures.items()}
        _log_named({**tables_of(recordings, manifest, evaluation), **pictures}, store)
        mlflow.log_artifact(str(store.local(heard.name)), HEARD_FOLDER)
        _check_served(info.model_uri, model, evaluation, recordings, store)
    name = config.registry.model_name
    _ensure_registered_model(client, name)
    return client.create_model_version(
        name, source=info.model_uri, run_id=run.info.run_id, model_id=info.model_id,
        tags=tags, description=description,
    )  # fmt: skip


def _of_each_class(evaluation: Evaluation) -> dict[str, float]:
    """Metrics such as ``test_f1.murmur``."""
    return allowed_names(
        {
            f"test_{metric}.{name}": value
            for name, figures in evaluation.per_class.items()
            for metric, value in figures.items()
        }
    )


def _fitted(model: TrainedModel, store: Store) -> dict[str, float]:
    """What makes answers of the probabilities: metrics ``temperature``, ``unsure_below`` and ``class_weight.murmur``."""
    config = ModelConfig.model_validate_json(store.local(model.config.name).read_text())
    weights = config.calibration.class_weights or (1.0,) * len(config.classes)
    of_classes = {f"class_weight.{name}": weight for name, weight in zip(config.classes, weights, strict=True)}
    fitted = {"temperature": config.calibration.temperature, "unsure_below": config.calibration.unsure_below}
    return allowed_names({**fitted, **of_classes})


def tables_of(recordings: Artifact, manifest: Artifact, evaluation: Evaluation) -> dict[str, Artifact]:
    """The tables of a run by their places in MLflow: a figure leads by ``recording_id`` to the URI of the exact audio."""
    return {
        "tables/recordings.parquet": recordings,
        "tables/manifest.parquet": manifest,
        "tables/predictions.parquet": evaluation.predictions,
        "tables/subjects.parquet": evaluation.subjects,
    }


def _log_named(files: Mapping[str, Artifact], store: Store) -> None:
    """Log files of the store under names for people."""
    import mlflow

    with TemporaryDirectory() as folder:
        for name, artifact in files.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(store.local(artifact.name), path)
        mlflow.log_artifacts(folder)


def metric_name(text: str) -> str:
    """``text`` with underscores for what MLflow allows in no name."""
    name = re.sub(r"[^\w.: /-]", "_", text)[:NAME_LENGTH]
    return name if normpath(name) == name else name.replace("/", "_")


def allowed_names(values: dict[str, T]) -> dict[str, T]:
    """``values`` under names that MLflow allows; a name that another has already is numbered."""
    found: dict[str, T] = {}
    for text, value in values.items():
        name = metric_name(text)
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        found[next(n for n in names if n not in found)] = value
    return found


def usage_note(config: RunConfig) -> str:
    """What every figure of a run is to be read with."""
    return MADE if config.source.name == "demo" else "Research use only"


def _ensure_registered_model(client: Any, name: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Heart-sound classifier. Research use; not a medical device.")


def _tags(manifest: Artifact, model: TrainedModel, config: RunConfig) -> dict[str, str]:
    from mlflow.utils.git_utils import get_git_commit

    tags = {
        "dataset_version": manifest.digest,
        "weights_sha256": model.weights.digest,
        "config_sha256": config.digest(),
        "init": model.init,
        "precision": model.precision,
        "source": config.source.name,
        **process_tag(),
        "heartbeat_version": installed("heartbeat"),
    }
    if commit := get_git_commit(heartdata.__file__):
        tags["mlflow.source.git.commit"] = commit
    context = FlowRunContext.get()
    if model.note:
        tags["warning"] = model.note
    if context and context.flow_run:
        from prefect.settings import PREFECT_UI_URL

        tags["prefect.flow_run_id"] = str(context.flow_run.id)
        tags["prefect.flow_run_name"] = context.flow_run.name
        tags["prefect.flow_run_url"] = (
            f"{PREFECT_UI_URL.value() or 'http://127.0.0.1:4200'}/runs/flow-run/{context.flow_run.id}"
        )
    return tags


def _log_dataset(manifest: Artifact, config: RunConfig, store: Store) -> None:
    import mlflow

    frame = store.read_frame(manifest, MANIFEST)
    source = store.address(manifest.name)
    for part, rows in frame.groupby("part"):
        context = {"valid": "validation", "test": "testing"}.get(str(part), "training")
        data = mlflow.data.from_pandas(rows, source=source, targets="label", name=f"{config.source.name}-{part}")
        mlflow.log_input(data, context=context, tags={"dataset_version": manifest.digest})


def _log_model(model: TrainedModel, store: Store) -> Any:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    if not SERVED_MODEL.is_file():
        raise HeartbeatError(f"{SERVED_MODEL} is not there: run heartbeat from a checkout of the project")
    answers = [ColSpec(DataType.string, "label"), ColSpec(DataType.boolean, "unsure")]
    answers += [ColSpec(DataType.string, "error", required=False)]
    answers += [ColSpec(DataType.double, f"p_{c}") for c in model.classes]
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=str(SERVED_MODEL),
        artifacts={"weights": str(store.local(model.weights.name)), "config": str(store.local(model.config.name))},
        code_paths=[str(Path(heartdata.__file__).parent)],
        signature=ModelSignature(Schema([ColSpec(DataType.binary, "audio")]), Schema(answers)),
        pip_requirements=[f"{package}=={installed(package)}" for package in SERVED_NEEDS],
        metadata={"dataset_version": json.loads(store.local(model.config.name).read_text())["dataset_version"]},
        step=model.best_epoch + 1,
    )


def _check_served(uri: str, model: TrainedModel, evaluation: Evaluation, recordings: Artifact, store: Store) -> None:
    """Load the logged model, pickles refused, and ask it for one test recording: it must answer as was evaluated."""
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
        if not abs(served[name] - first[name]) <= AGREE:
            raise HeartbeatError(
                f"the logged model answers {served[name]:.4f} for {name} of {first['recording_id']}, "
                f"evaluation had {first[name]:.4f}: it was not registered"
            )


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """Those that are numbers: MLflow keeps no others."""
    return {name: float(value) for name, value in metrics.items() if value == value}
