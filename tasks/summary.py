"""Stage 10: what a person should know of a run, as one page in Prefect and copies of its files in ``latest/``."""

import json
import shlex
import shutil
from collections.abc import Collection
from typing import Any

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from heartdata.config import RunConfig
from heartdata.dataset.split_strategies import PARTS, UNLABELLED
from heartdata.dataset.splits import subject_units
from heartdata.markdown import code, plain, table
from heartdata.storage.schemas import ACCEPTED, CHECKS, MANIFEST, METRICS, QUARANTINE, RECORDINGS
from heartdata.storage.store import Artifact, Store, atomic_write
from tasks.engine import progress
from tasks.engine.stage import is_transient
from tasks.registry.client import connect, tracking_uri
from tasks.registry.previous import note_if_test_set_changed
from tasks.results import Evaluation, Registered, TrainedModel, ValidationResult

FEW_SUBJECTS = 20


class Summary(BaseModel):
    """The tables of one run as plain rows, for the terminal, the Prefect page and tests."""

    recordings: list[dict[str, Any]]
    subjects: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    per_class: list[dict[str, Any]]
    quarantine: list[dict[str, Any]]
    planted: list[dict[str, Any]]
    seconds: dict[str, float]
    notes: list[str]
    dataset_version: str
    model: str
    model_version: int
    model_url: str
    run_id: str
    data_docs: str
    latest: str

    def score_rows(self) -> list[dict[str, str]]:
        """One row a metric: what each model reached, with its interval."""
        rows: dict[str, dict[str, str]] = {}
        for score in self.scores:
            row = rows.setdefault(score["metric"], {"metric": score["metric"].replace("_", " ")})
            row[score["model"]] = f"{score['value']:.3f} ({score['low']:.3f}-{score['high']:.3f})"
        return list(rows.values())


@task(name="summary", cache_policy=NO_CACHE, retries=2, retry_condition_fn=is_transient)
def summarise(
    recordings: Artifact, checked: ValidationResult, manifest: Artifact, model: TrainedModel, evaluation: Evaluation,
    registered: Registered, config: RunConfig, store: Store,
) -> Summary:  # fmt: skip
    """Collect the tables, publish them as a Prefect artifact, and copy the run's files to ``latest/``."""
    listed = store.read_frame(recordings, RECORDINGS)
    accepted = store.read_frame(checked.accepted, ACCEPTED)
    quarantine = store.read_frame(checked.quarantine, QUARANTINE)
    seen = store.read_frame(manifest, MANIFEST)
    metrics = store.read_frame(evaluation.metrics, METRICS)
    notes = _notes(recordings, accepted, seen, metrics, model, config)
    summary = Summary(
        recordings=_recordings_by_class(listed, accepted, quarantine, seen),
        subjects=_subjects_by_part(seen),
        scores=metrics.to_dict("records"),
        per_class=[{"label": name, **_rounded(row)} for name, row in evaluation.per_class.items()],
        quarantine=quarantine[["recording_id", "check", "reason"]].to_dict("records"),
        planted=_planted(listed, quarantine),
        seconds=progress.seconds(),
        notes=[
            *_warned(store.read_frame(checked.checks, CHECKS)),
            *notes,
            *(text for text in progress.notes() if text not in notes),
            *_never_told(evaluation),
            *filter(None, [note_if_test_set_changed(manifest, registered.registry, registered.version, store)]),
        ],
        dataset_version=manifest.digest,
        model=registered.name,
        model_version=registered.version,
        model_url=registered.url,
        run_id=registered.run_id,
        data_docs=str(store.workpath(checked.docs) / "index.html"),
        latest=str(store.workpath("latest")),
    )
    connect(config.registry, store).set_tag(registered.run_id, "data_docs", summary.data_docs)
    _publish(store, recordings, checked, manifest, evaluation)
    page = markdown(summary, config)
    with atomic_write(store.workpath("latest/summary.md")) as file:
        file.write(page.encode())
    create_markdown_artifact(
        page, key="heartbeat-summary", description="What went in, what came out, and how good it is"
    )
    return summary


def _recordings_by_class(
    listed: pd.DataFrame, accepted: pd.DataFrame, quarantine: pd.DataFrame, seen: pd.DataFrame
) -> list[dict[str, Any]]:
    counts = {
        name: frame["label"].fillna("(unlabelled)").value_counts()
        for name, frame in (("found", listed), ("accepted", accepted), ("quarantined", quarantine), ("in use", seen))
    }
    table = pd.DataFrame(counts).fillna(0).astype(int).sort_index()
    rows = [{"label": _beside(name, ("all",)), **row} for name, row in table.to_dict("index").items()]
    return [*rows, {"label": "all", **table.sum().to_dict()}]


def _subjects_by_part(seen: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for part in (*PARTS, UNLABELLED):
        here = seen[seen["part"] == part]
        if part == UNLABELLED and here.empty:
            continue
        row = {"part": part, "subjects": here["group"].nunique(), "recordings": len(here)}
        of = here["label"].value_counts()
        rows.append({**row, **{_beside(c, row): int(of.get(c, 0)) for c in sorted(seen["label"].dropna().unique())}})
    return rows


def _beside(label: str, taken: Collection[str]) -> str:
    """A label as it is called beside columns or rows of those names."""
    return f"{label} (label)" if label in taken else label


def _rounded(metrics: dict[str, float]) -> dict[str, Any]:
    return {name: int(v) if name == "recordings" else f"{v:.3f}" for name, v in metrics.items()}


def _planted(listed: pd.DataFrame, quarantine: pd.DataFrame) -> list[dict[str, Any]]:
    """The demo's planted faults, and whether each was caught for its own reason."""
    listed = listed[listed["source"] == "demo"]
    faults = listed.assign(fault=[json.loads(extra).get("planted") for extra in listed["extra"]]).dropna(
        subset=["fault"]
    )
    checks = quarantine.set_index("recording_id")["check"].to_dict()
    return [
        {"fault": row.fault, "recording": row.recording_id, "caught": checks.get(row.recording_id) == row.fault}
        for row in faults.itertuples()
    ]


def _warned(checks: pd.DataFrame) -> list[str]:
    """What checks of severity warning found, in one sentence; the Data Docs list whom."""
    found = checks[(checks["severity"] == "warning") & ~checks["passed"].astype(bool)]
    if found.empty:
        return []
    units = (
        found["level"].str.split().str[0].map({"recording": "recordings", "subject": "subjects"}).fillna("quantities")
    )
    told = found["check"].str.replace("_", " ") + " (" + found["failing"].astype(int).astype(str) + " " + units + ")"
    return [f"The checks warn of {', '.join(told)}: the Data Docs say which"]


def _notes(
    recordings: Artifact,
    accepted: pd.DataFrame,
    seen: pd.DataFrame,
    metrics: pd.DataFrame,
    model: TrainedModel,
    config: RunConfig,
) -> list[str]:
    notes = [str(text) for name, text in recordings.counts.items() if name.startswith("note_")]
    unused = accepted[accepted["label"].notna() & ~accepted["recording_id"].isin(seen["recording_id"])]
    in_use = config.split.collections
    others = unused[~unused["collection"].isin(in_use)] if in_use is not None else unused.iloc[:0]
    if len(others):
        names = ", ".join(sorted(others["collection"].unique()))
        notes.append(f"{len(others)} labelled recordings of {names} were checked but not used: see split.collections")
    if len(unused) > len(others):
        left_out = len(unused) - len(others)
        notes.append(f"{left_out} labelled recordings were left out by split.strategy={config.split.strategy}")
    test = seen[seen["part"] == "test"]
    tested = test["group"].nunique()
    if tested < FEW_SUBJECTS:
        notes.append(
            f"Only {tested} subjects were held out to test on: the intervals are wide and may still be too narrow"
        )
    labels_of = test.groupby(subject_units(test))["label"].nunique()
    if several := int((labels_of > 1).sum()):
        notes.append(
            f"Recordings of {several} held-out subjects have several labels: scores by subject are without them"
        )
    notes += _no_better_than(metrics)
    nowhere = seen["subject"].isna()
    if nowhere.any():
        notes.append(f"{int(nowhere.sum())} recordings name no subject: each counts as its own")
    return [*notes, *model.note.splitlines()]


def _never_told(evaluation: Evaluation) -> list[str]:
    """A note where no held-out recording of a class was told to be one."""
    missed = {
        name: int(row["recordings"])
        for name, row in evaluation.per_class.items()
        if row["recordings"] and not row["recall"]
    }
    return [f"Not one of the {count} held-out recordings of {name} was recognised" for name, count in missed.items()]


def _no_better_than(metrics: pd.DataFrame) -> list[str]:
    """A note unless the model's macro-F1 is higher than that of the best baseline on nearly all draws of subjects.

    Else nothing is known to have been learnt from the sounds. The draws are the same for both: two intervals that
    overlap would not say so, as subjects that are hard for one are hard for the other.
    """
    macro_f1 = metrics[metrics["metric"] == "macro_f1"].set_index("model")
    ours, best = macro_f1.loc["resnet34"], macro_f1.loc[macro_f1["value"].drop("resnet34").idxmax()]
    if best["difference_low"] > 0:
        return []
    told = "worse than" if best["difference_high"] < 0 else "not clearly better than"
    return [
        f"The model is {told} {best.name}: macro-F1 {ours['value']:.3f} against {best['value']:.3f}, "
        f"a difference of {best['difference']:+.3f} ({best['difference_low']:+.3f} to {best['difference_high']:+.3f})"
    ]


def _publish(
    store: Store, recordings: Artifact, checked: ValidationResult, manifest: Artifact, evaluation: Evaluation
) -> None:
    """Copies under plain names, for people; the pipeline itself never reads them."""
    files = {
        "recordings.parquet": recordings,
        "accepted.parquet": checked.accepted,
        "quarantine.parquet": checked.quarantine,
        "checks.parquet": checked.checks,
        "manifest.parquet": manifest,
        "predictions.parquet": evaluation.predictions,
        "subjects.parquet": evaluation.subjects,
        "metrics.parquet": evaluation.metrics,
        **{f"{name}.png": plot for name, plot in evaluation.plots.items()},
    }
    for name, artifact in files.items():
        with store.local(artifact.name).open("rb") as source, atomic_write(store.workpath(f"latest/{name}")) as file:
            shutil.copyfileobj(source, file)


def _served(config: RunConfig) -> str:
    """What must run for links to MLflow to open: the port may be another store's by the time that they are read."""
    store = Store(config.store)
    in_store = tracking_uri(config.registry, store).startswith("sqlite:")
    return f" (while `heartbeat up --store {shlex.quote(store.uri)}` runs)" if in_store else ""


def markdown(summary: Summary, config: RunConfig) -> str:
    """The summary as one page."""
    sections = [
        f"# {config.source.name}: {plain(summary.model)} version {summary.model_version}",
        f"[Open the model in MLflow]({summary.model_url}){_served(config)} · run `{summary.run_id}` · "
        f"data set version `{summary.dataset_version[:12]}`",
        *[f"> {plain(note)}" for note in summary.notes],
        "## Recordings",
        table(summary.recordings),
        "## Subjects and recordings of each part",
        table(summary.subjects),
        "## Scores on held-out subjects (95 % interval, bootstrap over subjects)",
        table(summary.score_rows()),
        "## Each class (resnet34, held-out subjects)",
        table(summary.per_class),
    ]
    if summary.quarantine:
        sections += [f"## Quarantined ({len(summary.quarantine)})", table(summary.quarantine[:50])]
    sections += [
        "## Seconds",
        table([{"stage": k, "seconds": f"{v:.1f}"} for k, v in summary.seconds.items()]),
        f"Data Docs: {code(summary.data_docs)}. Files: {code(summary.latest)}.",
        "Research use only; not a medical device.",
    ]
    return "\n\n".join(sections) + "\n"
