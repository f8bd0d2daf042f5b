"""The summary of a run as one page in Prefect, and copies of its files in ``latest/``."""

import shlex
from pathlib import Path
from urllib.parse import urlsplit

from prefect.artifacts import create_markdown_artifact

from heartdata.config import RegistryConfig, RunConfig
from heartdata.config_file import options_of
from heartdata.errors import SourceError
from heartdata.markdown import code
from heartdata.reports import summary as reports
from heartdata.reports.summary import Summary
from heartdata.sources.corrections import read_corrections
from heartdata.storage.schemas import ACCEPTED, CHECKS, MANIFEST, METRICS, QUARANTINE, RECORDINGS
from heartdata.storage.store import Artifact, Store, atomic_write
from tasks.engine import progress
from tasks.engine.copies import copy_files
from tasks.engine.stage import uncached_task
from tasks.promote import Promotion
from tasks.registry.client import connect, tracking_uri
from tasks.registry.previous import note_if_test_set_changed
from tasks.report import CORRECTIONS, PAGE
from tasks.results import Evaluation, RegisteredVersion, RunReport, TrainedModel, ValidationResult


@uncached_task("summary")
def summarise(
    recordings: Artifact, validation: ValidationResult, manifest: Artifact, model: TrainedModel,
    evaluation: Evaluation, registered: RegisteredVersion, promotion: Promotion, report: RunReport, config: RunConfig,
    store: Store,
) -> Summary:  # fmt: skip
    """Collect the tables, publish them as a Prefect artifact, and copy the run's files to ``latest/``."""
    listed = store.read_frame(recordings, RECORDINGS)
    accepted = store.read_frame(validation.accepted, ACCEPTED)
    quarantine = store.read_frame(validation.quarantine, QUARANTINE)
    dataset = store.read_frame(manifest, MANIFEST)
    metrics = store.read_frame(evaluation.metrics, METRICS)
    notes = [
        *reports.data_notes(
            recordings.counts, store.read_frame(validation.checks, CHECKS), accepted, dataset, config.split, metrics,
            evaluation.per_class, model.note, promotion.decision,
        ),
        *progress.notes(),
        note_if_test_set_changed(manifest, registered.registry, registered.version, store),
    ]  # fmt: skip
    summary = Summary(
        decision=promotion.decision,
        nothing_new=promotion.nothing_new,
        recordings=reports.recordings_by_class(listed, accepted, quarantine, dataset),
        subjects=reports.subjects_by_part(dataset),
        scores=metrics.to_dict("records"),
        per_class=[
            {"label": label} | {name: int(v) if name == "recordings" else f"{v:.3f}" for name, v in row.items()}
            for label, row in evaluation.per_class.items()
        ],
        quarantine=quarantine[["recording_id", "check", "reason"]].to_dict("records"),
        planted=reports.planted_faults(listed, quarantine),
        seconds=progress.seconds(),
        notes=list(dict.fromkeys(filter(None, notes))),
        dataset_version=manifest.digest,
        model=registered.name,
        model_version=registered.version,
        model_url=registered.url,
        run_id=registered.run_id,
        data_docs=str(store.workpath(validation.data_docs) / "index.html"),
        latest=str(store.workpath("latest")),
        report=str(store.workpath("latest") / PAGE),
    )
    connect(config.registry, store).set_tag(registered.run_id, "data_docs", summary.data_docs)
    files = {
        "recordings.parquet": recordings,
        "accepted.parquet": validation.accepted,
        "quarantine.parquet": validation.quarantine,
        "checks.parquet": validation.checks,
        "manifest.parquet": manifest,
        "predictions.parquet": evaluation.predictions,
        "subjects.parquet": evaluation.subjects,
        "metrics.parquet": evaluation.metrics,
        PAGE: report.page,
        **{f"{name}.png": plot for name, plot in evaluation.plots.items()},
    }
    copy_files(files, store.workpath("latest"), store)
    _offer_corrections(report.corrections, store)
    page = reports.summary_page(summary, config.source.name, _served_by(config, store))
    with atomic_write(store.workpath("latest/summary.md")) as file:
        file.write(page.encode())
    create_markdown_artifact(page, key="heartbeat-summary", description="Recordings, scores and notes of the run")
    return summary


def _offer_corrections(corrections: Artifact, store: Store) -> None:
    """Copy the labels to review to ``latest/``, unless the file there has been filled in."""
    path = store.workpath("latest") / CORRECTIONS
    if path.is_file() and _is_filled_in(path):
        return
    copy_files({CORRECTIONS: corrections}, path.parent, store)


def _is_filled_in(corrections: Path) -> bool:
    """Whether there is a new label; also where the file cannot be read, as it is then somebody's work."""
    try:
        return any(row.label for row in read_corrections(corrections))
    except SourceError:
        return True


def _served_by(config: RunConfig, store: Store) -> str:
    """What must run for links to MLflow to open: later, another store may be served at the port."""
    if not tracking_uri(config.registry, store).startswith("sqlite:"):
        return ""
    usual = RegistryConfig().ui_url
    address, usual_address = urlsplit(config.registry.ui_url), urlsplit(usual)
    is_own = address.hostname == usual_address.hostname  # that of `heartbeat up`, which has an option for its port
    registry = config.registry.model_copy(update={"ui_url": usual} if is_own else {})
    options = options_of(config.model_copy(update={"registry": registry}))
    if is_own and address.port != usual_address.port:
        options += ["--mlflow-port", str(address.port)]
    return f" (while {code(shlex.join(['heartbeat', 'up', *options, '--store', store.uri]))} runs)"
