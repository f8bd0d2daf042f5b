"""Stage 9: the run and the model in MLflow: configuration, metrics, plots, data set, and a registered version."""

import shutil
import warnings
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from prefect.artifacts import create_link_artifact
from prefect.context import FlowRunContext

import heartdata
from heartdata.config import RunConfig
from heartdata.markdown import plain
from heartdata.serving.model_config import ModelConfig
from heartdata.settings import flat, sha256_json
from heartdata.storage.schemas import MANIFEST, METRICS
from heartdata.storage.store import Artifact, Store
from tasks.engine.progress import add_note, track
from tasks.engine.stage import fingerprint, stage
from tasks.registry.client import ACCEPTED_TAG, ALIAS, KEY_TAG, SERIES_TAG, connect, experiment_of
from tasks.registry.killed_runs import process_tag
from tasks.registry.model_version import check_served, log_model
from tasks.registry.naming import allowed_names, finite
from tasks.results import Evaluation, Registered, TrainedModel
from tasks.train import HEARD_FOLDER, training_history
from tasks.validate import memory_of

MADE = "Scores on made sounds prove that the pipeline works, nothing more"


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
    key = sha256_json(fingerprint([manifest, model.weights, model.config, evaluation.metrics]))
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


def _log_run(
    client: Any, experiment: str, tags: dict[str, str], recordings: Artifact, manifest: Artifact, heard: Artifact,
    model: TrainedModel, evaluation: Evaluation, config: RunConfig, store: Store,
) -> Any:  # fmt: skip
    """Everything about one trained model as one MLflow run; returns its model version, which carries ``tags``."""
    import mlflow

    warnings.filterwarnings("ignore", module="mlflow")  # its hints are about choices made on purpose below
    metrics = store.read_frame(evaluation.metrics, METRICS)
    run_name = f"{config.source.name}-{manifest.digest[:8]}-{model.weights.digest[:8]}"
    description = (
        f"Source {config.source.name}, data set {manifest.digest[:12]}, macro-F1 {metrics['value'][0]:.3f} on held-out "
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
        kept_epoch = model.kept_epoch + 1  # people count from one, and so do the steps here
        info = log_model(model, store)
        history = training_history(model, store).rename(columns={"seconds": "epoch_seconds"}).set_index("step")
        for step, row in history.drop(columns=["epoch", "member", "kept"]).iterrows():
            mlflow.log_metrics(row.to_dict(), step=int(step) + 1)
        final = {f"{m.replace(' ', '_')}.{r}": v for m, r, v in metrics[["model", "metric", "value"]].to_numpy()}
        ours = {f"test_{r}": v for m, r, v in metrics[["model", "metric", "value"]].to_numpy() if m == "resnet34"}
        ours |= _of_each_class(evaluation) | {f"test_{name}": value for name, value in evaluation.confidence.items()}
        rendered = {f"spectrograms.{name}": float(value) for name, value in manifest.counts.items()}
        mlflow.log_metrics(finite({**final, **ours, **rendered, **_fitted(model, store), "kept_epoch": kept_epoch}))
        mlflow.log_metrics(finite(ours), step=kept_epoch, model_id=info.model_id)
        mlflow.log_table(metrics, "metrics.json")
        plots = {f"plots/{name}.png": plot for name, plot in evaluation.plots.items()}
        _log_named({**tables_of(recordings, manifest, evaluation), **plots}, store)
        mlflow.log_artifact(str(store.local(heard.name)), HEARD_FOLDER)
        check_served(info.model_uri, model, evaluation, recordings, store)
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
            for name, metrics in evaluation.per_class.items()
            for metric, value in metrics.items()
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
    from mlflow.data.pandas_dataset import from_pandas

    frame = store.read_frame(manifest, MANIFEST)
    source = store.address(manifest.name)
    for part, rows in frame.groupby("part"):
        context = {"valid": "validation", "test": "testing"}.get(str(part), "training")
        data = from_pandas(rows, source=source, targets="label", name=f"{config.source.name}-{part}")
        mlflow.log_input(data, context=context, tags={"dataset_version": manifest.digest})
