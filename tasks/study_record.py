"""A study in MLflow: a parent run with its metrics, tables and plots, and a child run for each fold."""

from datetime import UTC, datetime
from time import time
from typing import Any

import numpy as np
import pandas as pd
from prefect.artifacts import create_markdown_artifact

from heartdata.dataset.splits import SplitConfig
from heartdata.machine import commit, is_changed, machine, versions
from heartdata.scoring.metrics import compute_metrics
from heartdata.settings import flatten, sha256_json
from heartdata.storage.schemas import STUDY_METRICS, study_schema
from heartdata.storage.store import Store, atomic_write
from heartdata.studies.config import FREE_SPLIT_SETTINGS, StudyConfig
from heartdata.studies.facts import CURVE, FACTS, GAINS, METRICS, Measured, StudyFacts, read_study
from heartdata.studies.page import command_of, study_page
from heartdata.studies.protocols import Study
from tasks.engine.copies import copy_files
from tasks.engine.progress import track
from tasks.engine.stage import uncached_task
from tasks.registry.client import KEY_TAG, connect, experiment_of
from tasks.registry.killed_runs import process_tag
from tasks.registry.naming import allowed_names, metric_name, without_nan
from tasks.results import FoldResult, InitialWeights, StudyResult
from tasks.train import training_history

PARENT_TAG = "mlflow.parentRunId"
CODE_FOLDERS = (":/heartdata", ":/tasks", ":/flows", ":/mlflow", ":/pyproject.toml")  # not docs/, which studies write


@uncached_task("record study")
def record(
    result: StudyResult, folds: list[FoldResult], initial: InitialWeights, config: StudyConfig, store: Store
) -> str:
    """Write the study's files to ``latest/``, its runs to MLflow (once for the same metrics); returns the run's id."""
    weights = initial.weights.digest if initial.weights else ""
    with track("record") as advance:
        metrics = store.read_frame(result.metrics, STUDY_METRICS)
        folder = store.workpath(f"latest/study-{result.study.name}")
        tables = {METRICS: result.metrics, CURVE: result.curve, GAINS: result.extrapolation}
        files = {"predictions.parquet": result.predictions} | {name: table for name, table in tables.items() if table}
        copy_files(files | {f"{name}.png": plot for name, plot in result.plots.items()}, folder, store)
        scored = _scored(result.study, folds, store)
        units = scored.drop_duplicates("patient") if result.study.level == "subject" else scored
        facts = StudyFacts(
            study=result.study,
            command=command_of(result.study, config.run),
            recordings=len(scored),
            subjects=scored["group"].nunique(),
            unnamed=scored.loc[scored["subject"].isna(), "group"].nunique(),
            patients=len(units) if result.study.level == "subject" else 0,
            recordings_sha256=sha256_json(sorted(scored["sha256"])),
            labels=units["label"].value_counts().to_dict(),
            collections=scored["collection"].value_counts().to_dict(),
            operating_point=config.run.decision.operating_point,
            subject_rule=config.run.evaluation.subject_rule,
            init=config.run.training.init,
            weights=weights,
            warning=folds[0].model.note,
            plots=tuple(result.plots),
            measured=measured(folds),
        )
        with atomic_write(folder / FACTS) as file:
            file.write(facts.model_dump_json(indent=1).encode())
        recorded_study = read_study(folder)
        with atomic_write(folder / "README.md") as file:
            file.write(study_page(recorded_study).encode())
        page = study_page(recorded_study, plots=False)
        create_markdown_artifact(page, key=f"study-{result.study.name}", description=result.study.title)
        client = connect(config.run.registry, store)
        experiment = experiment_of(client, config.run.registry, store)
        key = f"{config.digest()}-{result.metrics.digest}"
        runs = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}' and attributes.status = 'FINISHED'")
        run_id = runs[0].info.run_id if runs else _log(client, experiment, key, metrics, folds, weights, config, store)
        advance(1, 1, f"study {result.study.name}, MLflow run {run_id}")
        return run_id


def _scored(study: Study, folds: list[FoldResult], store: Store) -> pd.DataFrame:
    """The recordings that are scored, one row each: those of all folds of one seed."""
    of_one = [fold for fold in folds if fold.fold.seed == study.seeds[0] and fold.fold.arm == folds[-1].fold.arm]
    tables = [store.read_frame(fold.predictions, study_schema(list(fold.model.classes))) for fold in of_one]
    return pd.concat(tables, ignore_index=True).drop_duplicates("recording_id")


def measured(folds: list[FoldResult]) -> Measured:
    """Where, when and by which code the study of ``folds`` is recorded now."""
    machines = {network.machine for fold in folds for network in fold.model.networks if network.machine}
    return Measured(
        recorded_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        commit=commit(),
        changed=is_changed(CODE_FOLDERS),
        machine=machine(),
        trained_on=tuple(sorted(machines)),
        versions=versions(),
    )


def _log(
    client: Any, experiment: str, key: str, metrics: pd.DataFrame, folds: list[FoldResult], weights: str,
    config: StudyConfig, store: Store,
) -> str:  # fmt: skip
    """Log a parent run with the study's metrics and a child run for each fold; returns the parent's id."""
    import mlflow

    study, tags = config.study, {KEY_TAG: key, "initial_weights_sha256": weights, **process_tag()}
    if warning := folds[0].model.note:
        tags["warning"] = warning
    with mlflow.start_run(
        experiment_id=experiment, run_name=f"study {study.name}", description=study.title, tags=tags
    ) as parent:
        mlflow.log_params(allowed_names(flatten(recorded(config))))
        mlflow.log_dict(recorded(config), "config.json")
        values = {metric_name(f"{row.arm}.{row.model}.{row.metric}"): row.value for row in metrics.itertuples()}
        mlflow.log_metrics(without_nan(values))
        mlflow.log_artifacts(str(store.workpath(f"latest/study-{study.name}")), "results")
        for fold in folds:
            _log_fold(client, experiment, parent.info.run_id, fold, config, store)
    return parent.info.run_id


def recorded(config: StudyConfig) -> dict[str, Any]:
    """The settings that a study ran with: not its defaults, and of ``split`` what its protocol leaves open (each fold records
    its own).
    """
    of_protocol = set(SplitConfig.model_fields) - set(FREE_SPLIT_SETTINGS)
    return config.model_dump(mode="json", exclude={"study": {"settings"}, "run": {"split": of_protocol}})


def _log_fold(client: Any, experiment: str, parent: str, result: FoldResult, config: StudyConfig, store: Store) -> None:
    from mlflow.entities import Metric, Param

    fold, now_ms = result.fold, int(time() * 1000)
    tags = {PARENT_TAG: parent, "dataset_version": result.manifest.digest, **process_tag()}
    tags["weights_sha256"] = result.model.weights.digest
    run = client.create_run(experiment, tags=tags, run_name=config.study.fold_title(fold))
    settings = {"arm": fold.arm, "seed": fold.seed, "fold": fold.name, "training": config.run.training.digest()[:12]}
    settings |= {"init": result.model.init} | allowed_names(flatten(fold.split.model_dump(mode="json"), "split."))
    params = [Param(name, str(value)) for name, value in settings.items()]
    metrics = [Metric(name, value, now_ms, 0) for name, value in _scores(result, store).items()]
    for row in training_history(result.model, store).to_dict("records"):
        of_epoch = ("train_loss", "valid_balanced_loss", "valid_macro_f1")
        metrics += [Metric(name, row[name], now_ms, int(row["step"]) + 1) for name in of_epoch]
    client.log_batch(run.info.run_id, metrics=metrics, params=params)
    client.set_terminated(run.info.run_id)


def _scores(result: FoldResult, store: Store) -> dict[str, float]:
    """Each model's metrics in one fold, the same as those of `heartbeat run`."""
    classes = list(result.model.classes)
    rows = store.read_frame(result.predictions, study_schema(classes))
    scores: dict[str, float] = {}
    for model, of_model in rows.groupby("model"):
        columns = (of_model["label"].to_numpy(object), of_model["prediction"].to_numpy(object))
        probabilities = of_model[[f"p_{c}" for c in classes]].to_numpy(float)
        values = compute_metrics(*columns, probabilities, classes, np.ones((1, len(of_model)))).iloc[0]
        scores |= {metric_name(f"{model}.{metric}"): value for metric, value in values.items()}
    return without_nan(scores)
