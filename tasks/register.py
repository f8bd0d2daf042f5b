"""The run and the model in MLflow: configuration, metrics, plots, data set, and a registered version."""

import warnings
from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pandas as pd
from prefect.artifacts import create_link_artifact
from prefect.context import FlowRunContext

import heartdata
from heartdata.config import RunConfig
from heartdata.markdown import escape
from heartdata.scoring.model_names import NETWORK
from heartdata.serving.model_config import ModelConfig
from heartdata.settings import flatten, sha256_json
from heartdata.storage.schemas import MANIFEST, METRICS
from heartdata.storage.store import Artifact, Store
from tasks.engine.copies import copy_files
from tasks.engine.progress import track
from tasks.engine.stage import fingerprint, stage
from tasks.registry.aliases import are_settled, give_aliases
from tasks.registry.client import KEY_TAG, RECIPE_TAG, connect, experiment_of
from tasks.registry.killed_runs import process_tag
from tasks.registry.model_version import check_served, log_model
from tasks.registry.naming import allowed_names, without_nan
from tasks.registry.previous import ACCEPTED_TAG, PROVENANCE_FOLDER, SERIES_TAG
from tasks.results import Evaluation, RegisteredVersion, TrainedModel
from tasks.retrain import recipe_digest
from tasks.train import training_history
from tasks.validate import record_name


def usage_note(config: RunConfig) -> str:
    """The caveat that goes with every score of a run."""
    if config.source.name == "demo":
        return "Scores on synthetic recordings prove that the pipeline works, nothing more"
    return "Research use only"


def _is_registered(result: RegisteredVersion, store: Store) -> bool:
    """Whether a cached result's version still exists, and each alias is on it or where somebody has put it."""
    from mlflow.exceptions import MlflowException

    client = connect(result.registry, store)
    try:
        version = client.get_model_version(result.name, str(result.version))
        return version.run_id == result.run_id and are_settled(client, result.name, result.version, result.registry)
    except MlflowException:
        return False


@stage("register", valid=_is_registered)
def register(
    recordings: Artifact, accepted: Artifact, manifest: Artifact, provenance: Artifact, model: TrainedModel,
    evaluation: Evaluation, config: RunConfig, store: Store,
) -> RegisteredVersion:  # fmt: skip
    """Log one MLflow run and register its model under alias ``challenger``; the same inputs make one version only."""
    client = connect(config.registry, store)
    name = config.registry.model_name
    key = sha256_json(fingerprint([manifest, model.weights, model.config, evaluation.metrics]))
    with track("register") as advance:
        versions = client.search_model_versions(f"name = '{name}'")
        version = next((v for v in versions if v.tags.get(KEY_TAG) == key), None)
        is_new = version is None
        if version is None:
            experiment = experiment_of(client, config.registry, store)
            tags = {
                "dataset_version": manifest.digest,
                KEY_TAG: key,
                ACCEPTED_TAG: accepted.model_dump_json(),
                SERIES_TAG: record_name(config.source, config.validation.series),
                RECIPE_TAG: recipe_digest(config),
            }
            files = {  # predictions lead by recording_id to the URI of the exact audio
                "tables/recordings.parquet": recordings,
                "tables/manifest.parquet": manifest,
                "tables/predictions.parquet": evaluation.predictions,
                "tables/subjects.parquet": evaluation.subjects,
                f"{PROVENANCE_FOLDER}/{Path(provenance.name).name}": provenance,
                **{f"plots/{plot}.png": image for plot, image in evaluation.plots.items()},
            }
            version = _log_run(client, experiment, tags, files, manifest, model, evaluation, config, store)
        give_aliases(client, name, version, is_new, config.registry)
        url = f"{config.registry.ui_url}/#/models/{quote(name)}/versions/{version.version}"
        advance(1, 1, f"{name} version {version.version}" + ("" if is_new else ", registered before"))
        if FlowRunContext.get():
            text = f"{escape(name)} version {version.version} in MLflow"
            create_link_artifact(url, link_text=text, key="mlflow-model")
        return RegisteredVersion(
            name=name, version=int(version.version), run_id=version.run_id, url=url, registry=config.registry
        )


def _log_run(
    client: Any, experiment: str, version_tags: dict[str, str], files: Mapping[str, Artifact], manifest: Artifact,
    model: TrainedModel, evaluation: Evaluation, config: RunConfig, store: Store,
) -> Any:  # fmt: skip
    """Log one trained model as one MLflow run; returns its model version."""
    import mlflow

    warnings.filterwarnings("ignore", module="mlflow")  # its hints are about choices made on purpose below
    metrics = store.read_frame(evaluation.metrics, METRICS)
    description = (
        f"Source {config.source.name}, data set {manifest.digest[:12]}, macro-F1 {metrics['value'][0]:.3f} on held-out "
        f"subjects. {usage_note(config)}."
    )
    with mlflow.start_run(
        experiment_id=experiment,
        run_name=f"{config.source.name}-{manifest.digest[:8]}-{model.weights.digest[:8]}",
        description=description,
        tags={KEY_TAG: version_tags[KEY_TAG], **_run_tags(manifest, model, config)},
    ) as run:
        mlflow.log_params(allowed_names(flatten(config.model_dump(mode="json"))))
        mlflow.log_dict(config.model_dump(mode="json"), "config.json")
        _log_dataset(manifest, config, store)
        info = log_model(model, store)
        _log_metrics(info.model_id, metrics, manifest, model, evaluation, store)
        mlflow.log_table(metrics, "metrics.json")
        with TemporaryDirectory() as folder:
            copy_files(files, Path(folder), store)
            mlflow.log_artifacts(folder)
        check_served(info.model_uri, model, evaluation, files["tables/recordings.parquet"], store)
    name = config.registry.model_name
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description="Heart-sound classifier. Research use; not a medical device.")
    return client.create_model_version(
        name, source=info.model_uri, run_id=run.info.run_id, model_id=info.model_id,
        tags=version_tags, description=description,
    )  # fmt: skip


def _log_metrics(
    model_id: str, metrics: pd.DataFrame, manifest: Artifact, model: TrainedModel, evaluation: Evaluation, store: Store
) -> None:
    """Each epoch's metrics by step, and the final ones: such as ``resnet34.auroc``, ``test_auroc``, ``test_f1.murmur``."""
    import mlflow

    history = training_history(model, store).rename(columns={"seconds": "epoch_seconds"}).set_index("step")
    for step, row in history.drop(columns=["epoch", "member", "kept"]).iterrows():
        mlflow.log_metrics(row.to_dict(), step=int(step) + 1)
    values = metrics[["model", "metric", "value"]].to_numpy()
    of_models = {f"{name.replace(' ', '_')}.{metric}": value for name, metric, value in values}
    test = {f"test_{metric}": value for name, metric, value in values if name == NETWORK}
    per_class = {f"test_{m}.{name}": value for name, row in evaluation.per_class.items() for m, value in row.items()}
    test |= allowed_names(per_class) | {f"test_{name}": value for name, value in evaluation.confidence.items()}
    rendering = {f"spectrograms.{name}": float(value) for name, value in manifest.counts.items()}
    kept_epoch = model.kept_epoch + 1  # people count from one, and so do the steps here
    final = {**of_models, **test, **rendering, **_calibration(model, store), "kept_epoch": kept_epoch}
    mlflow.log_metrics(without_nan(final))
    mlflow.log_metrics(without_nan(test), step=kept_epoch, model_id=model_id)


def _calibration(model: TrainedModel, store: Store) -> dict[str, float]:
    """What turns probabilities into decisions: ``temperature``, ``unsure_below`` and such as ``class_weight.murmur``."""
    config = ModelConfig.model_validate_json(store.local(model.config.name).read_text())
    weights = config.calibration.class_weights or (1.0,) * len(config.classes)
    of_classes = {f"class_weight.{name}": weight for name, weight in zip(config.classes, weights, strict=True)}
    fitted = {"temperature": config.calibration.temperature, "unsure_below": config.calibration.unsure_below}
    return allowed_names({**fitted, **of_classes})


def _run_tags(manifest: Artifact, model: TrainedModel, config: RunConfig) -> dict[str, str]:
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
    if model.note:
        tags["warning"] = model.note
    context = FlowRunContext.get()
    if context and context.flow_run:
        from prefect.settings import PREFECT_UI_URL

        run = context.flow_run
        tags["prefect.flow_run_id"], tags["prefect.flow_run_name"] = str(run.id), run.name
        tags["prefect.flow_run_url"] = f"{PREFECT_UI_URL.value() or 'http://127.0.0.1:4200'}/runs/flow-run/{run.id}"
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
