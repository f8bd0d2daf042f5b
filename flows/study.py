"""The flow `study`: every fold of a protocol trained and scored, and what came of it recorded and written down."""

from prefect import flow

from flows.pipeline import Ingested, ingest, train_model
from heartdata.config import RunConfig
from heartdata.storage.store import Artifact, Store
from heartdata.studies.config import StudyConfig
from heartdata.studies.protocols import Fold
from tasks.engine.failure_notice import run_store
from tasks.engine.progress import label_each
from tasks.manifest import manifest
from tasks.results import FoldResult, InitialWeights, StudyResult
from tasks.spectrograms import spectrograms
from tasks.split import split
from tasks.study import accepted_recordings, plan_folds, score_fold, study_results
from tasks.study_record import record
from tasks.train import initial_weights, provenance


@flow(name="study", log_prints=False)
def study(config: StudyConfig) -> StudyResult:
    """Train and score each fold of ``config.study``; finished folds are not done again."""
    run = config.run
    with run_store(run) as store:
        # first, as a long look at recordings would be vain without them
        initial = initial_weights(run.training.init, run.registry, store)
        found = ingest(store, run)
        folds = plan_folds(config.study, found.accepted, run.split, store)
        arms = {fold.arm: fold.subjects_apart for fold in folds}
        accepted = {arm: accepted_recordings(found.accepted, known, store) for arm, known in arms.items()}
        names = [config.study.fold_title(fold) for fold in folds]
        parts = [split(accepted[f.arm], f.split, store, found.recordings) for f in label_each(folds, names)]
        rendered = spectrograms(found.recordings, parts, run.spectrogram, run.engine, store)
        sets = [
            manifest(accepted[f.arm], p, rendered, store) for f, p in label_each(zip(folds, parts, strict=True), names)
        ]
        done = [
            _scored(f, data, found, initial, run, store) for f, data in label_each(zip(folds, sets, strict=True), names)
        ]
        came = study_results(config.study, done, run.decision, run.evaluation, store)
        record(came, done, initial, config, store)
        return came


def _scored(
    fold: Fold, dataset: Artifact, found: Ingested, initial: InitialWeights, run: RunConfig, store: Store
) -> FoldResult:
    """One fold inside the flow."""
    provenance(dataset, found.facts, initial, run.validation.near_duplicate_similarity, store)
    training = run.training.model_copy(update={"seed": run.training.seed + fold.seed})
    model = train_model(dataset, initial, training, run.spectrogram, store)
    return score_fold(fold, dataset, model, found.recordings, store)
