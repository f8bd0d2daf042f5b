"""The run and the model in MLflow: configuration, metrics, plots, data set, and a registered version."""

import warnings
from collections.abc import Mapping
from functools import partial
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
from heartdata.machine import commit
from heartdata.markdown import escape
from heartdata.reports.model_card import CardInputs, description, headline, model_card, score
from heartdata.scoring.model_names import NETWORK
from heartdata.serving.model_config import ModelConfig
from heartdata.settings import flatten, sha256_json
from heartdata.storage.schemas import MANIFEST, METRICS, RECORDINGS, SLICES
from heartdata.storage.store import Artifact, Store
from tasks.engine.copies import copy_files
from tasks.engine.progress import track
from tasks.engine.stage import fingerprint, stage
from tasks.registry.aliases import are_settled, give_aliases
from tasks.registry.champion import model_lock, settled_champion
from tasks.registry.client import KEY_TAG, RECIPE_TAG, connect, experiment_of, unless_made_meanwhile
from tasks.registry.killed_runs import process_tag
from tasks.registry.model_version import check_served, log_model
from tasks.registry.naming import allowed_names, without_nan
from tasks.registry.previous import ACCEPTED_TAG, PROVENANCE_FOLDER, SERIES_TAG
from tasks.registry.pruning import MEMBERS_TAG, Removal, remove_run
from tasks.registry.version_files import INIT_TAG, MACHINE_TAG
from tasks.results import Evaluation, RegisteredVersion, TrainedModel
from tasks.retrain import recipe_digest
from tasks.train import training_history
from tasks.validate import record_name

MODEL_CARD = Path(heartdata.__file__).parents[1] / "mlflow" / "model_card.md"
DESCRIPTION_LENGTH = 4900  # of a model version: MLflow's database keeps 5,000
DESCRIPTION = """Classifier of heart-sound recordings. Research use; not a medical device.

- `champion`: the version to use, chosen by the rules of `docs/promotion.md` or by a person, see `heartbeat champion history`
- `challenger`: the version of the last run"""
CONTENTS = """| artifact | what it is |
| --- | --- |
| `report.html` | the run on one page, with recordings to listen to |
| `model_card.md` | purpose, data, protocol, scores and limits of the model |
| `plots/`, `tables/` | the plots; metrics, manifest, recordings and held-out predictions |
| `config.json`, `provenance/` | every setting; what the weights were trained on |

Metrics: `test/` of the model on held-out subjects, `test_baselines/` of simpler ones on the same, `train/` by
epoch, `tuned/` what turns probabilities into labels."""


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
    evaluation: Evaluation, slices: Artifact, config: RunConfig, store: Store,
) -> RegisteredVersion:  # fmt: skip
    """Log one MLflow run and register its model under alias ``challenger``; the same inputs make one version only.

    ``slices``: metrics of parts of the test recordings (schema SLICES), for the model card.
    """
    client = connect(config.registry, store)
    name = config.registry.model_name
    key = sha256_json(fingerprint([manifest, model.weights, model.config, evaluation.metrics]))
    with track("register") as advance:
        version = _version_of(key, client, name)
        is_new = version is None
        if version is None:
            experiment = experiment_of(client, config.registry, store)
            inputs = CardInputs(
                config=config,
                model=ModelConfig.model_validate_json(store.verified(model.config).read_text()),
                recordings=store.read_frame(recordings, RECORDINGS),
                accepted=accepted.rows,
                manifest=store.read_frame(manifest, MANIFEST),
                metrics=store.read_frame(evaluation.metrics, METRICS),
                per_class=evaluation.per_class,
                confidence=evaluation.confidence,
                usage=usage_note(config),
                identity=_identity(manifest, model),
                slices=store.read_frame(slices, SLICES),
                warnings=tuple(model.note.splitlines()),
            )
            tags = {
                "macro_f1": score(inputs.metrics, "macro_f1"),
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
                "tables/slices.parquet": slices,
                f"{PROVENANCE_FOLDER}/{Path(provenance.name).name}": provenance,
                **{f"plots/{plot}.png": image for plot, image in evaluation.plots.items()},
            }
            version = _log_run(client, experiment, tags, files, inputs, manifest, model, evaluation, store)
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
    client: Any, experiment: str, version_tags: dict[str, str], files: Mapping[str, Artifact], inputs: CardInputs,
    manifest: Artifact, model: TrainedModel, evaluation: Evaluation, store: Store,
) -> Any:  # fmt: skip
    """Log one trained model as one MLflow run; returns its model version."""
    import mlflow

    warnings.filterwarnings("ignore", module="mlflow")  # its hints are about choices made on purpose below
    config, metrics = inputs.config, inputs.metrics
    card = model_card(inputs, MODEL_CARD.read_text(encoding="utf-8"))
    with mlflow.start_run(
        experiment_id=experiment,
        run_name=f"{config.source.name}, macro-F1 {metrics['value'][0]:.3f}, data {manifest.digest[:8]}",
        description=f"{escape(headline(inputs))} {inputs.usage}.\n\n{CONTENTS}",
        tags={**_run_tags(manifest, model, config), KEY_TAG: version_tags[KEY_TAG]},
    ) as run:
        mlflow.log_params(allowed_names(flatten(config.model_dump(mode="json"))))
        mlflow.log_text(card, "model_card.md")
        mlflow.log_dict(config.model_dump(mode="json"), "config.json")
        _log_dataset(inputs.manifest, manifest, config, store)
        info = log_model(model, store)
        _log_metrics(info.model_id, inputs, model, evaluation, store)
        mlflow.log_table(metrics, "tables/metrics.json")
        with TemporaryDirectory() as folder:
            copy_files(files, Path(folder), store)
            mlflow.log_artifacts(folder)
        check_served(info.model_uri, model, evaluation, files["tables/recordings.parquet"], store)
        text = description(card, DESCRIPTION_LENGTH)
        # while the run is open: without a version, it is then a failed or killed one, which prune removes
        version = _add_version(client, run.info.run_id, info, version_tags, text, config, store)
    _remove_unless_registered(client, run.info.run_id, info, version, config, store)
    return version


def _add_version(
    client: Any, run_id: str, model: Any, tags: dict[str, str], text: str, config: RunConfig, store: Store
) -> Any:
    """The version of a logged ``model``, or that of another run which has registered the same meanwhile."""
    name = config.registry.model_name
    _open_model(client, name, store)
    with model_lock(name, store):
        earlier = _version_of(tags[KEY_TAG], client, name)
        if earlier is None:
            return client.create_model_version(
                name, source=model.model_uri, run_id=run_id, model_id=model.model_id, tags=tags, description=text
            )
    return earlier


def _remove_unless_registered(
    client: Any, run_id: str, model: Any, version: Any, config: RunConfig, store: Store
) -> None:
    """Remove a run whose ``model`` another run has registered."""
    if version.run_id != run_id:
        remove_run(Removal("the same run", client.get_run(run_id), (model.model_id,)), config.registry, store)


def _version_of(key: str, client: Any, name: str) -> Any:
    """The version that was made from the inputs of ``key``, or None."""
    versions = client.search_model_versions(f"name = '{name}'")
    return next((version for version in versions if version.tags.get(KEY_TAG) == key), None)


def _open_model(client: Any, name: str, store: Store) -> None:
    """Make the registered model, or record how its champion was moved in MLflow by people who knew no newer version."""
    if client.search_registered_models(f"name = '{name}'"):
        settled_champion(client, name, store)
        return
    with unless_made_meanwhile():
        client.create_registered_model(name, description=DESCRIPTION)


def _log_metrics(model_id: str, inputs: CardInputs, model: TrainedModel, evaluation: Evaluation, store: Store) -> None:
    """Each epoch's metrics by step and the final ones, in groups by what is before the slash.

    Such as ``train/valid_macro_f1``, ``test/auroc``, ``test/by_class/f1.murmur``, ``test_baselines/metadata_only.auroc`` and
    ``tuned/temperature``.
    """
    import mlflow

    values = inputs.metrics[["model", "metric", "value"]].to_numpy()
    test = {f"test/{metric}": value for name, metric, value in values if name == NETWORK}
    test |= {f"test/{name}": value for name, value in evaluation.confidence.items()}
    others = {
        f"test_baselines/{name.replace(' ', '_')}.{metric}": value
        for name, metric, value in values
        if name != NETWORK and not metric.endswith("_by_subject")
    }
    by_class = {
        f"test/by_class/{metric}.{name.replace('/', '_')}": value
        for name, row in evaluation.per_class.items()
        for metric, value in row.items()
    }
    kept_epoch = model.kept_epoch + 1  # people count from one, and so do the steps here
    mlflow.log_metrics(without_nan(test), step=kept_epoch, model_id=model_id)  # listed as they are logged
    others = {**allowed_names(by_class), **others, **_calibration(inputs.model), "train/kept_epoch": kept_epoch}
    mlflow.log_metrics(without_nan(others))
    history = training_history(model, store).rename(columns={"seconds": "epoch_seconds"}).set_index("step")
    for step, row in history.drop(columns=["epoch", "member", "kept"]).add_prefix("train/").iterrows():
        mlflow.log_metrics(row.to_dict(), step=int(step) + 1)


def _calibration(config: ModelConfig) -> dict[str, float]:
    """What turns probabilities into decisions, such as ``tuned/temperature`` and ``tuned/class_weight.murmur``."""
    weights = config.calibration.class_weights or (1.0,) * len(config.classes)
    of_classes = {
        f"tuned/class_weight.{n.replace('/', '_')}": weight for n, weight in zip(config.classes, weights, strict=True)
    }
    fitted = {n: getattr(config.calibration, n) for n in ("temperature", "unsure_below")}
    return allowed_names({f"tuned/{name}": value for name, value in fitted.items()} | of_classes)


def _run_tags(manifest: Artifact, model: TrainedModel, config: RunConfig) -> dict[str, str]:
    tags = {
        "source": config.source.name,
        "init": model.init,
        "precision": model.precision,
        "heartbeat_version": installed("heartbeat"),
        "dataset_version": manifest.digest,
        "weights_sha256": model.weights.digest,
        "heartbeat.config_sha256": config.digest(),
        **({INIT_TAG: model.initial_sha256} if model.initial_sha256 else {}),
        **({MACHINE_TAG: model.machine} if model.machine else {}),
        **({MEMBERS_TAG: ",".join(m.weights.digest for m in model.members)} if model.members else {}),
        **process_tag(),
    }
    if code := commit():
        tags["mlflow.source.git.commit"] = code
    if model.note:
        tags["warning"] = model.note
    context = FlowRunContext.get()
    if context and context.flow_run:
        from prefect.settings import PREFECT_UI_URL

        run = context.flow_run
        tags["prefect.flow_run_id"], tags["prefect.flow_run_name"] = str(run.id), run.name
        tags["prefect.flow_run_url"] = f"{PREFECT_UI_URL.value() or 'http://127.0.0.1:4200'}/runs/flow-run/{run.id}"
    return tags


def _identity(manifest: Artifact, model: TrainedModel) -> dict[str, str]:
    """The versions and digests of a model card."""
    identity = {"data set version": manifest.digest, "sha256 of the weights": model.weights.digest}
    identity |= {name: installed(name) for name in ("heartbeat", "torch", "mlflow")}
    code = commit()
    return identity | ({"commit": code} if code else {})


def _log_dataset(rows: pd.DataFrame, manifest: Artifact, config: RunConfig, store: Store) -> None:
    import mlflow
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.exceptions import MlflowException

    source = store.address(manifest.name)
    for part, of_part in rows.groupby("part"):
        context = {"valid": "validation", "test": "testing"}.get(str(part), "training")
        data = from_pandas(of_part, source=source, targets="label", name=f"{config.source.name}-{part}")
        log = partial(mlflow.log_input, data, context=context, tags={"dataset_version": manifest.digest})
        try:
            log()
        except MlflowException as error:
            if error.error_code != "BAD_REQUEST":
                raise
            log()  # MLflow fails where another run has recorded the same data set meanwhile
