"""The folds of a study and their results: rows of predictions, metrics, and plots."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa

from heartdata.dataset.splits import SplitConfig
from heartdata.scoring.calibration import DecisionConfig
from heartdata.scoring.metrics import EvaluationConfig
from heartdata.scoring.model_names import MAJORITY_CLASS, METADATA_ONLY, NETWORK, SIMPLE_FEATURES
from heartdata.storage.schemas import (
    ACCEPTED,
    EXTRAPOLATION,
    LEARNING_CURVE,
    MANIFEST,
    RECORDINGS,
    STUDY_METRICS,
    study_schema,
)
from heartdata.storage.store import Artifact, Store, table_from_frame
from heartdata.studies.protocols import Fold, Study, folds_of, heldout_databases
from tasks.engine.progress import add_note, track
from tasks.engine.stage import LONG_S, stage, uncached_task
from tasks.results import FoldResult, StudyResult, TrainedModel

INTERVAL_NOTE = "95 % interval, bootstrap over subjects; a recording whose subject is not known counts as a subject"


@uncached_task("folds", retries=0)
def plan_folds(study: Study, accepted: Artifact, split: SplitConfig, store: Store) -> list[Fold]:
    """Every fold of the study on these recordings; a note names databases that are never held out."""
    frame = store.read_frame(accepted, ACCEPTED)
    folds = folds_of(study, frame, split)
    if left_out := [arm for arm in study.arms if arm not in {fold.arm for fold in folds}]:
        add_note(f"Too few subjects to train on {', '.join(left_out)}: left out")
    others = heldout_databases(frame, split)[1] if study.protocol == "leave_one_out" else []
    if others:
        add_note(
            f"Trained on but never held out, as two labels would not be left to test or to train on: {', '.join(others)}"
        )
    return folds


@stage("subjects apart")
def accepted_recordings(accepted: Artifact, known: bool, store: Store) -> Artifact:
    """The accepted recordings; unless subjects are to be ``known``, each counts as a subject, and leakage is possible."""
    if known:
        return accepted
    table = store.read_frame(accepted, ACCEPTED).assign(subject=None, near_group=None)
    return _write("accepted", table, ACCEPTED, store)


@stage("score fold", timeout_s=LONG_S)
def score_fold(fold: Fold, manifest: Artifact, model: TrainedModel, recordings: Artifact, store: Store) -> FoldResult:
    """Predict the fold's test part by the network and the baselines, and its validation part by the network."""
    from heartdata.scoring import baselines
    from heartdata.serving.predictor import Predictor, predict_probabilities

    table, classes = store.read_frame(manifest, MANIFEST), list(model.classes)
    valid, test = (table[table["part"] == part].reset_index(drop=True) for part in ("valid", "test"))
    total = len(test) + len(valid)
    with track("score fold", total, "recordings") as advance:
        predictor = Predictor.load(store.verified(model.weights), store.verified(model.config))
        hop_s = predictor.config.spectrogram.hop_s
        probabilities = {
            NETWORK: predict_probabilities(predictor, test, store, advance),
            SIMPLE_FEATURES: baselines.classical_baseline(table, classes, hop_s, store, fold.seed),
            METADATA_ONLY: baselines.metadata_baseline(table, classes, fold.seed),
            MAJORITY_CLASS: baselines.majority_baseline(table, classes),
        }
        validation = {NETWORK: predict_probabilities(predictor, valid, store, lambda done: advance(len(test) + done))}
        extras = _extras(store.read_frame(recordings, RECORDINGS))
        advance(total, total, f"{len(test)} recordings, {', '.join(probabilities)}")
        return FoldResult(
            fold=fold,
            manifest=manifest,
            model=model,
            predictions=_write_predictions(fold, test, probabilities, classes, extras, store),
            validation=_write_predictions(fold, valid, validation, classes, extras, store),
        )


def _write_predictions(
    fold: Fold, rows: pd.DataFrame, probabilities: dict[str, np.ndarray], classes: list[str], extras: pd.DataFrame,
    store: Store,
) -> Artifact:  # fmt: skip
    """Schema `study_schema`, for each model of ``probabilities`` (recordings, classes) and the manifest's ``rows``."""
    from heartdata.scoring.metrics import prediction_rows

    columns = rows[["recording_id", "subject", "collection"]]
    predictions = [
        prediction_rows(rows, of_model, classes).merge(columns, on="recording_id").assign(model=name)
        for name, of_model in probabilities.items()
    ]
    table = pd.concat(predictions, ignore_index=True).assign(arm=fold.arm, seed=fold.seed, fold=fold.name)
    return _write("folds", table.join(extras, on="recording_id"), study_schema(classes), store)


def _write(stage: str, frame: pd.DataFrame, schema: pa.Schema, store: Store) -> Artifact:
    table = table_from_frame(frame, schema)
    return store.write_table(stage, table, schema)


def _extras(recordings: pd.DataFrame) -> pd.DataFrame:
    """By recording: ``noisy`` (the source says so, or its ``sqi`` is 0), and ``patient`` (else the subject)."""
    extras = [json.loads(extra) if isinstance(extra, str) else {} for extra in recordings["extra"]]
    noisy = [str(extra.get("sqi")) == "0" or extra.get("noisy") == "true" for extra in extras]
    patients = [extra.get("patient") or None for extra in extras]
    frame = pd.DataFrame({"noisy": noisy, "patient": patients}, index=recordings["recording_id"])
    return frame.assign(patient=frame["patient"].fillna(recordings.set_index("recording_id")["subject"]))


@uncached_task("study results")
def study_results(
    study: Study, folds: list[FoldResult], decision: DecisionConfig, evaluation: EvaluationConfig, store: Store
) -> StudyResult:
    """All folds together: calibrated predictions, metrics with intervals, plots."""
    from heartdata.studies.scores import scored_rows, study_metrics, with_known_subjects, with_operating_point

    with track("results") as advance:
        classes = sorted({name for fold in folds for name in fold.model.classes})
        test = with_known_subjects(_concat(folds, "predictions", classes, store))
        valid = _concat(folds, "validation", classes, store)
        test, valid = (scored_rows(rows, study, evaluation.subject_rule) for rows in (test, valid))
        rows = with_operating_point(test, valid, classes, decision, study)
        metrics = study_metrics(rows, study, classes, evaluation.bootstrap, evaluation.seed)
        result = StudyResult(
            study=study,
            classes=tuple(classes),
            predictions=_write("studies", rows, study_schema(classes), store),
            metrics=_write("studies", metrics, STUDY_METRICS, store),
            plots={} if study.is_learning_curve else _plots(study, rows, metrics, classes, store),
        )
        if study.is_learning_curve:
            result = _with_learning_curve(result, rows, metrics, _training_subjects(folds, store), evaluation, store)
        advance(1, 1, f"{len(folds)} folds")
        return result


def _training_subjects(folds: list[FoldResult], store: Store) -> dict[str, float]:
    """By arm, how many groups its networks were trained on: the mean over folds."""
    counts = [(fold.fold.arm, store.read_frame(fold.manifest, MANIFEST)) for fold in folds]
    rows = [(arm, table.loc[table["part"] == "train", "group"].nunique()) for arm, table in counts]
    return pd.DataFrame(rows, columns=["arm", "subjects"]).groupby("arm")["subjects"].mean().to_dict()


def _with_learning_curve(
    result: StudyResult, rows: pd.DataFrame, metrics: pd.DataFrame, subjects: dict[str, float],
    evaluation: EvaluationConfig, store: Store,
) -> StudyResult:  # fmt: skip
    from heartdata.reports.curve_plot import plot_learning_curve
    from heartdata.studies.learning_curve import learning_curve

    study, classes = result.study, list(result.classes)
    curve, extrapolation = learning_curve(
        rows, metrics, subjects, study, classes, evaluation.bootstrap, evaluation.seed
    )
    image = plot_learning_curve(curve, study.metric, study.title, INTERVAL_NOTE)
    return result.model_copy(
        update={
            "curve": _write("studies", curve, LEARNING_CURVE, store),
            "extrapolation": _write("studies", extrapolation, EXTRAPOLATION, store),
            "plots": {"learning_curve": store.write_bytes("plots", ".png", image)},
        }
    )


def _concat(folds: list[FoldResult], field: str, classes: list[str], store: Store) -> pd.DataFrame:
    """A table of all folds; a class that a fold's network was not trained on gets the probability 0."""
    tables = [store.read_frame(getattr(f, field), study_schema(list(f.model.classes))) for f in folds]
    rows, names = pd.concat(tables, ignore_index=True), [f"p_{c}" for c in classes]
    return rows.assign(**rows.reindex(columns=names).fillna(0.0))


def _plots(
    study: Study, rows: pd.DataFrame, metrics: pd.DataFrame, classes: list[str], store: Store
) -> dict[str, Artifact]:
    from heartdata.reports import plots, study_plots
    from heartdata.scoring.calibration import coverage_risk, expected_calibration_error, reliability_bins
    from heartdata.studies.scores import AT_POINT

    last = rows[rows["arm"] == study.arms[-1]]
    network, at_point = (last[last["model"] == name] for name in (NETWORK, AT_POINT))
    confidence = network[[f"p_{c}" for c in classes]].to_numpy(float).max(axis=1).clip(0, 1)
    correct = (network["label"] == network["prediction"]).to_numpy()
    images = {
        "reliability": study_plots.plot_reliability(
            reliability_bins(confidence, correct), expected_calibration_error(confidence, correct), study.title
        ),
        "coverage_risk": study_plots.plot_coverage_risk(coverage_risk(confidence, correct), study.title),
        "confusion": plots.plot_confusion(
            at_point, classes, f"{study.title}, all seeds", plots.AT_POINT, f"{study.level}s"
        ),
    }
    for number, arm in enumerate(study.arms):
        name = "comparison" if len(study.arms) == 1 else f"comparison_{number + 1}"
        shown = metrics[metrics["arm"] == arm]
        images[name] = study_plots.plot_comparison(
            shown, study.metric, study.reference_score, INTERVAL_NOTE, study.arm_title(arm)
        )
    return {name: store.write_bytes("plots", ".png", content) for name, content in images.items()}
