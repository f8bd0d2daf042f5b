"""The report of a run: one page for people and the labels to review, in the store and in the version's MLflow run."""

import platform
import shlex
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from heartdata.config import RunConfig
from heartdata.machine import commit
from heartdata.reports.summary import data_notes
from heartdata.scoring.promotion import Decision
from heartdata.storage.schemas import (
    ACCEPTED,
    CHECKS,
    MANIFEST,
    METRICS,
    QUARANTINE,
    RECORDINGS,
    SLICES,
    predictions_schema,
)  # fmt: skip
from heartdata.storage.store import Artifact, Store
from tasks.engine.copies import copy_files
from tasks.engine.progress import track
from tasks.engine.stage import stage
from tasks.register import usage_note
from tasks.registry.client import connect
from tasks.results import Evaluation, RegisteredVersion, RunReport, TrainedModel

PAGE, CORRECTIONS = "report.html", "corrections.csv"
VERSIONS = ("heartbeat", "torch", "fastai", "librosa", "mlflow", "prefect")  # shown


@stage("report")
def report(
    recordings: Artifact, accepted: Artifact, quarantine: Artifact, checks: Artifact, manifest: Artifact,
    model: TrainedModel, evaluation: Evaluation, slices: Artifact, registered: RegisteredVersion,
    decision: Decision | None, config: RunConfig, store: Store,
) -> RunReport:  # fmt: skip
    """Write the page and the corrections to fill in, and log both to the version's MLflow run."""
    from heartdata.reports.listening import chapters, clips_to_make, with_clips
    from heartdata.reports.report import Run, report_page
    from heartdata.scoring.label_errors import corrections_csv, suspected_labels
    from heartdata.serving.predictor import Predictor

    classes, schema = list(model.classes), predictions_schema(list(model.classes))
    predictions = store.read_frame(evaluation.predictions, schema)
    held_out = [predictions, *([store.read_frame(model.validation, schema)] if model.validation else [])]
    suspects = suspected_labels(pd.concat(held_out, ignore_index=True), classes)
    predictor = Predictor.load(store.verified(model.weights), store.verified(model.config))
    listed, refused = store.read_frame(recordings, RECORDINGS), store.read_frame(quarantine, QUARANTINE)
    used, dataset = store.read_frame(accepted, ACCEPTED), store.read_frame(manifest, MANIFEST)
    metrics = store.read_frame(evaluation.metrics, METRICS)
    run = Run(
        model=registered.name,
        version=registered.version,
        source=config.source.name,
        usage=usage_note(config),
        decision=decision,
        recordings=listed,
        accepted=used,
        quarantine=refused,
        manifest=dataset,
        metrics=metrics,
        predictions=predictions,
        per_class=evaluation.per_class,
        classes=classes,
        calibration=predictor.config.calibration,
        slices=store.read_frame(slices, SLICES),
        slices_left_out={name: int(count) for name, count in slices.counts.items()},
        compared_by=config.promotion.metric,
        notes=data_notes(
            recordings.counts, store.read_frame(checks, CHECKS), used, dataset, config.split, metrics,
            evaluation.per_class, model.note, decision,
        ),
        provenance=_provenance(manifest, model, registered, config),
        commands=_commands(registered, store),
        settings=config.model_dump_json(indent=2),
    )  # fmt: skip
    shown = chapters(predictions, refused, listed, suspects, classes, run.calibration.unsure_below)
    clips = clips_to_make(shown)
    with track("report", clips, "clips") as advance, TemporaryDirectory() as folder:
        page = report_page(run, with_clips(shown, predictor, advance)).encode(errors="backslashreplace")
        result = RunReport(
            page=store.write_bytes("report", ".html", page),
            corrections=store.write_bytes(
                "report", ".csv", corrections_csv(suspects).encode("utf-8-sig", "surrogateescape")
            ),
        )
        copy_files({PAGE: result.page, CORRECTIONS: result.corrections}, Path(folder), store)
        connect(registered.registry, store).log_artifacts(registered.run_id, folder)
        advance(clips, clips, f"{len(page) / 1e6:.1f} MB, {len(suspects.rows)} labels suspected")
    return result


def _provenance(
    manifest: Artifact, model: TrainedModel, registered: RegisteredVersion, config: RunConfig
) -> dict[str, str]:
    facts = {
        "data set version": manifest.digest,
        "initial weights": model.init,
        "weights (sha256)": model.weights.digest,
        "settings (digest)": config.digest(),
        "MLflow run": registered.run_id,
        "MLflow page": registered.url,
        "commit": commit(),
        "versions": ", ".join(f"{name} {installed(name)}" for name in VERSIONS),
        "machine": f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {model.precision}",
    }
    return {name: value for name, value in facts.items() if value}


def _commands(registered: RegisteredVersion, store: Store) -> dict[str, str]:
    """Command lines by what they do."""
    uri = f"models:/{registered.name}/{registered.version}"
    place, corrections = ["--store", store.uri], str(store.workpath("latest") / CORRECTIONS)
    return {
        "Train it again from the same recordings and settings, and compare": shlex.join(
            ["heartbeat", "reproduce", uri, *place]
        ),
        "Use it": shlex.join(["heartbeat", "predict", "FOLDER", "--model", uri, *place]),
        f"Mend labels: fill in {corrections}, and add this option to the run": shlex.join(
            ["--set", f"source.corrections={corrections}"]
        ),
    }
