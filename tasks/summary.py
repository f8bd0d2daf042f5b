"""Stage 10: what a person should know of a run, as one page in Prefect and copies of its files in ``latest/``."""

import json
import shutil
from typing import Any

import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from heartdata.config import RunConfig
from heartdata.schemas import ACCEPTED, FIGURES, MANIFEST, QUARANTINE, RECORDINGS
from heartdata.store import Artifact, Store, atomic_write
from tasks import progress
from tasks.evaluate import Evaluation
from tasks.register import Registered
from tasks.train import TrainedModel
from tasks.validate import Checked

MADE = "Scores on made sounds prove that the pipeline works, nothing more."


class Summary(BaseModel):
    """The tables of one run as plain rows, for the terminal, the Prefect page and tests."""

    recordings: list[dict[str, Any]]
    subjects: list[dict[str, Any]]
    scores: list[dict[str, Any]]
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


@task(name="summary", cache_policy=NO_CACHE)
def summarise(
    recordings: Artifact, checked: Checked, manifest: Artifact, model: TrainedModel, evaluation: Evaluation,
    registered: Registered, config: RunConfig, store: Store,
) -> Summary:  # fmt: skip
    """Collect the tables, publish them as a Prefect artifact, and copy the run's files to ``latest/``."""
    listed = store.read_frame(recordings, RECORDINGS)
    accepted = store.read_frame(checked.accepted, ACCEPTED)
    quarantine = store.read_frame(checked.quarantine, QUARANTINE)
    seen = store.read_frame(manifest, MANIFEST)
    summary = Summary(
        recordings=_recordings_by_class(listed, accepted, quarantine, seen),
        subjects=_subjects_by_part(seen),
        scores=store.read_frame(evaluation.figures, FIGURES).to_dict("records"),
        quarantine=quarantine[["recording_id", "check", "reason"]].to_dict("records"),
        planted=_planted(listed, quarantine),
        seconds=progress.seconds(),
        notes=_notes(recordings, accepted, seen, model, config),
        dataset_version=manifest.digest,
        model=registered.name,
        model_version=registered.version,
        model_url=registered.url,
        run_id=registered.run_id,
        data_docs=str(store.path(checked.docs) / "index.html"),
        latest=str(store.path("latest")),
    )
    _publish(store, recordings, checked, manifest, evaluation)
    page = markdown(summary, config)
    with atomic_write(store.path("latest/summary.md")) as file:
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
    table = pd.DataFrame(counts).fillna(0).astype(int).rename_axis("label").sort_index()
    table.loc["all"] = table.sum()
    return table.reset_index().to_dict("records")


def _subjects_by_part(seen: pd.DataFrame) -> list[dict[str, Any]]:
    parts = seen.groupby("part")
    table = pd.DataFrame({"subjects": parts["group"].nunique(), "recordings": parts.size()})
    by_class = pd.crosstab(seen["part"], seen["label"])
    return table.join(by_class).reindex(["train", "valid", "test"]).rename_axis("part").reset_index().to_dict("records")


def _planted(listed: pd.DataFrame, quarantine: pd.DataFrame) -> list[dict[str, Any]]:
    """The demo's planted faults, and whether each was caught for its own reason."""
    faults = listed.assign(fault=[json.loads(extra).get("planted") for extra in listed["extra"]]).dropna(
        subset=["fault"]
    )
    checks = quarantine.set_index("recording_id")["check"].to_dict()
    return [
        {"fault": row.fault, "recording": row.recording_id, "caught": checks.get(row.recording_id) == row.fault}
        for row in faults.itertuples()
    ]


def _notes(
    recordings: Artifact, accepted: pd.DataFrame, seen: pd.DataFrame, model: TrainedModel, config: RunConfig
) -> list[str]:
    notes = [str(text) for name, text in recordings.counts.items() if name.startswith("note_")]
    unused = accepted[accepted["label"].notna() & ~accepted["recording_id"].isin(seen["recording_id"])]
    if len(unused):
        names = ", ".join(sorted(unused["collection"].unique()))
        notes.append(f"{len(unused)} labelled recordings of {names} were checked but not used: see split.collections")
    nowhere = seen["subject"].isna()
    if nowhere.any():
        notes.append(f"{int(nowhere.sum())} recordings name no subject: each counts as its own")
    return [*notes, model.note] if model.note else notes


def _publish(store: Store, recordings: Artifact, checked: Checked, manifest: Artifact, evaluation: Evaluation) -> None:
    """Copies under plain names, for people; the pipeline itself never reads them."""
    files = {
        "recordings.parquet": recordings,
        "accepted.parquet": checked.accepted,
        "quarantine.parquet": checked.quarantine,
        "checks.parquet": checked.checks,
        "manifest.parquet": manifest,
        "predictions.parquet": evaluation.predictions,
        "figures.parquet": evaluation.figures,
        **{f"{name}.png": picture for name, picture in evaluation.pictures.items()},
    }
    for name, artifact in files.items():
        with store.path(artifact.name).open("rb") as source, atomic_write(store.path(f"latest/{name}")) as file:
            shutil.copyfileobj(source, file)
    with atomic_write(store.path("latest/quarantine.csv")) as file:
        store.read_frame(checked.quarantine, QUARANTINE).to_csv(file, index=False)


def markdown(summary: Summary, config: RunConfig) -> str:
    """The summary as one page."""
    scores = [
        {"model": s["model"], s["metric"]: f"{s['value']:.3f} ({s['low']:.3f}-{s['high']:.3f})"} for s in summary.scores
    ]
    by_model = pd.DataFrame(scores).groupby("model", sort=False).first().reset_index().to_dict("records")
    quarantined = [{k: _cell(v) for k, v in row.items()} for row in summary.quarantine[:50]]
    sections = [
        f"# {config.source.name}: {summary.model} version {summary.model_version}",
        f"[Open the model in MLflow]({summary.model_url}) · run `{summary.run_id}` · "
        f"data set version `{summary.dataset_version[:12]}`",
        *[f"> {_cell(note)}" for note in summary.notes],
        "## Recordings",
        _table(summary.recordings),
        "## Subjects and recordings of each part",
        _table(summary.subjects),
        "## Scores on held-out subjects (95 % interval, bootstrap over subjects)",
        _table(by_model),
    ]
    if quarantined:
        sections += [f"## Quarantined ({len(summary.quarantine)})", _table(quarantined)]
    sections += [
        "## Seconds",
        _table([{"stage": k, "seconds": f"{v:.1f}"} for k, v in summary.seconds.items()]),
        f"Data Docs: `{summary.data_docs}`. Files: `{summary.latest}`.",
        "Research use only; not a medical device.",
    ]
    return "\n\n".join(sections) + "\n"


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "(none)"
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(str(row[n]) for n in names) + " |" for row in rows])


def _cell(text: Any) -> str:
    """Text that cannot break a table or become markup."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
