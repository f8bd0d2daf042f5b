"""The folds of a study and what came of them: rows of answers, metrics, and pages for people."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from heartdata.dataset.splits import SplitConfig
from heartdata.scoring.calibration import DecisionConfig
from heartdata.scoring.metrics import EvaluationConfig
from heartdata.storage.schemas import ACCEPTED, MANIFEST, RECORDINGS, STUDY_METRICS, study_schema
from heartdata.storage.store import Artifact, Store
from heartdata.studies.protocols import Fold, Study, folds_of, heldout_databases
from tasks.engine.progress import add_note, track
from tasks.engine.stage import LONG_S, is_transient, stage
from tasks.results import FoldResult, StudyResult, TrainedModel


@task(name="folds", cache_policy=NO_CACHE)
def plan_folds(study: Study, accepted: Artifact, split: SplitConfig, store: Store) -> list[Fold]:
    """Every fold of the study on these recordings; what is never held out is remarked on."""
    frame = store.read_frame(accepted, ACCEPTED)
    folds = folds_of(study, frame, split)
    others = heldout_databases(frame, split)[1] if study.protocol == "leave_one_out" else []
    if others:
        add_note(f"Trained on, but never held out, as the labels do not allow it: {', '.join(others)}")
    return folds


@stage("subjects apart")
def accepted_recordings(accepted: Artifact, known: bool, store: Store) -> Artifact:
    """The accepted recordings; where subjects are not to be ``known``, each stands for itself, and parts can leak."""
    if known:
        return accepted
    table = store.read_frame(accepted, ACCEPTED).assign(subject=None, near_group=None)
    return store.write_table("accepted", pa.Table.from_pandas(table, schema=ACCEPTED, preserve_index=False), ACCEPTED)


@stage("score fold", timeout_s=LONG_S)
def score_fold(fold: Fold, manifest: Artifact, model: TrainedModel, recordings: Artifact, store: Store) -> FoldResult:
    """The answers for the fold's test part: the network's own probabilities, and the baselines beside it."""
    from heartdata.scoring import baselines
    from heartdata.serving.predictor import Predictor, predict_probabilities
    from heartdata.studies.scores import NETWORK

    with track("score fold") as advance:
        table, classes = store.read_frame(manifest, MANIFEST), list(model.classes)
        predictor = Predictor.load(store.local(model.weights.name), store.local(model.config.name))
        hop_s = predictor.config.spectrogram.hop_s
        valid, test = (table[table["part"] == part].reset_index(drop=True) for part in ("valid", "test"))
        found = {
            NETWORK: predict_probabilities(predictor, test, store),
            "simple features": baselines.classical_baseline(table, classes, hop_s, store, fold.seed),
            "metadata only": baselines.metadata_baseline(table, classes, fold.seed),
            "majority class": baselines.majority_baseline(table, classes),
        }
        held_back = {NETWORK: predict_probabilities(predictor, valid, store)}
        known = _told_by_source(store.read_frame(recordings, RECORDINGS))
        advance(1, 1, f"{len(test)} recordings, {', '.join(found)}")
        return FoldResult(
            fold=fold,
            manifest=manifest,
            model=model,
            predictions=_answers(fold, test, found, classes, known, store),
            validation=_answers(fold, valid, held_back, classes, known, store),
        )


def _answers(
    fold: Fold, of: pd.DataFrame, found: dict[str, np.ndarray], classes: list[str], known: pd.DataFrame, store: Store
) -> Artifact:
    """Schema `study_schema`: what each model of ``found`` says of the manifest's rows ``of``."""
    from heartdata.scoring.metrics import prediction_rows

    told = of[["recording_id", "subject", "collection"]]
    rows = [
        prediction_rows(of, probabilities, classes).merge(told, on="recording_id").assign(model=name)
        for name, probabilities in found.items()
    ]
    answered = pd.concat(rows, ignore_index=True).assign(arm=fold.arm, seed=fold.seed, fold=fold.name)
    answered = answered.join(known, on="recording_id")
    schema = study_schema(classes)
    content = pa.Table.from_pandas(answered[schema.names], schema=schema, preserve_index=False)
    return store.write_table("folds", content, schema)


def _told_by_source(recordings: pd.DataFrame) -> pd.DataFrame:
    """By recording: whether it is of poor quality (``sqi`` of 0, or ``noisy``), and the patient (else the subject)."""
    extras = [json.loads(extra) if isinstance(extra, str) else {} for extra in recordings["extra"]]
    poor = [str(extra.get("sqi")) == "0" or extra.get("noisy") == "true" for extra in extras]
    patients = [extra.get("patient") or None for extra in extras]
    told = pd.DataFrame({"noisy": poor, "patient": patients}, index=recordings["recording_id"])
    return told.assign(patient=told["patient"].fillna(recordings.set_index("recording_id")["subject"]))


@task(name="study results", cache_policy=NO_CACHE, retries=2, retry_condition_fn=is_transient)
def study_results(
    study: Study, folds: list[FoldResult], answers: DecisionConfig, evaluation: EvaluationConfig, store: Store
) -> StudyResult:
    """All folds together: calibrated answers, metrics with intervals, images."""
    from heartdata.studies.scores import scored_rows, study_metrics, with_operating_point

    with track("results") as advance:
        classes = sorted({name for fold in folds for name in fold.model.classes})
        test, valid = (
            scored_rows(_together(folds, part, classes, store), study, evaluation.subject_rule)
            for part in ("predictions", "validation")
        )
        rows = with_operating_point(test, valid, classes, answers, study)
        metrics = study_metrics(rows, study, classes, evaluation.bootstrap, evaluation.seed)
        schema = study_schema(classes)
        advance(1, 1, f"{len(folds)} folds")
        return StudyResult(
            study=study,
            classes=tuple(classes),
            predictions=store.write_table(
                "studies", pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False), schema
            ),
            metrics=store.write_table(
                "studies",
                pa.Table.from_pandas(metrics, schema=STUDY_METRICS, preserve_index=False),
                STUDY_METRICS,
            ),
            plots=_plots(study, rows, metrics, classes, store),
        )


def _together(folds: list[FoldResult], part: str, classes: list[str], store: Store) -> pd.DataFrame:
    """One of the tables of all folds; a class that a fold's network has never met gets the probability 0."""
    tables = [store.read_table(getattr(f, part), study_schema(list(f.model.classes))).to_pandas() for f in folds]
    rows, names = pd.concat(tables, ignore_index=True), [f"p_{c}" for c in classes]
    return rows.assign(**rows.reindex(columns=names).fillna(0.0))


def _plots(
    study: Study, rows: pd.DataFrame, metrics: pd.DataFrame, classes: list[str], store: Store
) -> dict[str, Artifact]:
    from heartdata.reports import plots, study_plots
    from heartdata.scoring.calibration import coverage_risk, expected_calibration_error, reliability_bins
    from heartdata.studies.scores import AT_POINT, NETWORK

    last = rows[rows["arm"] == study.arms[-1]]
    network, at_point = (last[last["model"] == name] for name in (NETWORK, AT_POINT))
    sure = network[[f"p_{c}" for c in classes]].to_numpy(float).max(axis=1).clip(0, 1)
    right = (network["label"] == network["prediction"]).to_numpy()
    images = {
        "reliability": study_plots.plot_reliability(
            reliability_bins(sure, right), expected_calibration_error(sure, right), study.title
        ),
        "coverage_risk": study_plots.plot_coverage_risk(coverage_risk(sure, right), study.title),
        "confusion": plots.plot_confusion(
            at_point, classes, f"{study.title}, all seeds", plots.AT_POINT, f"{study.level}s"
        ),
    }
    drawn = "95 % interval, bootstrap over subjects; a recording whose subject is not known counts as a subject"
    for number, arm in enumerate(study.arms):
        name = "comparison" if len(study.arms) == 1 else f"comparison_{number + 1}"
        shown = metrics[metrics["arm"] == arm]
        images[name] = study_plots.plot_comparison(
            shown, study.metric, study.reference_score, drawn, study.arm_title(arm)
        )
    return {name: store.write_bytes("plots", ".png", content) for name, content in images.items()}
