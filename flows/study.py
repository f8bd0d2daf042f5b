"""The flow `study`: train and score every fold of a protocol, and record the results."""

from typing import Any, Literal

from prefect import flow

from flows.pipeline import Ingested, ingest, train_model
from heartdata.config import RunConfig
from heartdata.storage.store import Artifact, Store
from heartdata.studies.config import StudyConfig, study_config
from heartdata.studies.protocols import STUDIES, Fold
from tasks.engine.failure_notice import log_errors_once, run_store
from tasks.engine.progress import label_each
from tasks.manifest import manifest
from tasks.results import FoldResult, InitialWeights, StudyResult
from tasks.spectrograms import spectrograms
from tasks.split import split
from tasks.study import accepted_recordings, plan_folds, score_fold, study_results
from tasks.study_record import record
from tasks.train import initial_weights, provenance


@flow(name="study")
def study(config: StudyConfig) -> StudyResult:
    """Train and score each fold of ``config.study``; a repeated run resumes after the last finished fold."""
    run = config.run
    with run_store(run) as store:
        initial = initial_weights(run.training.init, run.registry, store)  # fails fast, before hours of measuring
        ingested = ingest(run, store)
        folds = plan_folds(config.study, ingested.accepted, run.split, store)
        arms = {fold.arm: fold.subjects_apart for fold in folds}
        accepted = {arm: accepted_recordings(ingested.accepted, apart, store) for arm, apart in arms.items()}
        names = [config.study.fold_title(fold) for fold in folds]
        splits = [
            split(accepted[fold.arm], fold.split, store, ingested.recordings) for fold in label_each(folds, names)
        ]
        rendered = spectrograms(ingested.recordings, splits, run.spectrogram, run.engine, store, run.measure.channel)
        by_fold = zip(folds, splits, strict=True)
        datasets = [manifest(accepted[fold.arm], rows, rendered, store) for fold, rows in label_each(by_fold, names)]
        by_fold = zip(folds, datasets, strict=True)
        scored = [_run_fold(fold, data, ingested, initial, run, store) for fold, data in label_each(by_fold, names)]
        measured = config.study.model_copy(update={"arms": tuple(arms)})
        results = study_results(measured, scored, run.decision, run.evaluation, store)
        record(results, scored, initial, config, store)
        return results


@flow(name="study")
def named_study(
    name: Literal[tuple(STUDIES)],  # a list to choose from in Prefect's UI
    data: str,
    seeds: int | None = None,
    settings: dict[str, Any] = {},  # noqa: B006
) -> StudyResult:
    """The study ``name`` on the recordings in ``data``: what can be asked for by hand in Prefect.

    ``seeds``: the number of repetitions, else the study's own. ``settings`` by dotted name, such as {"training.epochs": 3}.
    """
    log_errors_once()
    return study.fn(study_config(name, data, changes=settings, seeds=seeds))


def _run_fold(
    fold: Fold, dataset: Artifact, ingested: Ingested, initial: InitialWeights, run: RunConfig, store: Store
) -> FoldResult:
    """Train on one fold and score its test subjects, inside the flow."""
    provenance(dataset, ingested.facts, initial, run.validation.near_duplicate_similarity, store)
    training = run.training.model_copy(update={"seed": run.training.seed + fold.seed})
    model = train_model(dataset, initial, training, run.spectrogram, store)
    return score_fold(fold, dataset, model, ingested.recordings, store)
