"""`heartbeat study`: run one protocol and show its scores."""

import shlex
import shutil
from pathlib import Path
from typing import Any

from flows.cli.console import note, plain_console, rich_table
from flows.cli.outputs import writable_folder
from flows.cli.run import START, FinishedRun, run_flow, up_command
from heartdata.config import source_options
from heartdata.errors import HeartbeatError
from heartdata.storage.schemas import EXTRAPOLATION, LEARNING_CURVE, STUDY_METRICS
from heartdata.storage.store import Store
from heartdata.studies.config import study_config
from heartdata.studies.protocols import STUDIES, Study

PAGE, METHOD, CHANGES = "README.md", "../studies.md", "changes.md"


def list_studies() -> None:
    """Show the names of the studies and what they are."""
    console = plain_console()
    for study in STUDIES.values():
        console.print(f"{study.name:<20}{study.title}")


def run_study(
    name: str, data: str | None, file: Path | None, changes: dict[str, Any], seeds: int | None, out: Path | None,
    verbose: bool, source: str | None = None,
) -> None:  # fmt: skip
    """Run a study and show its metrics; its page and plots are also copied to ``out``. Raises `HeartbeatError`."""
    config = study_config(name, data, file, changes, seeds, source)
    if out is not None:
        out = writable_folder(out)
    store = Store(config.run.store)
    config = config.model_copy(update={"run": config.run.model_copy(update={"store": store.uri})})
    run = run_flow("flows.study:study", config, config.run, verbose)
    if config.study.is_learning_curve:
        _show_curve(run, store)
    else:
        _show_metrics(run, config.study, store)
    if config.study.reference_score is not None:
        from heartdata.studies.page import reference

        run.console.print(f"Reference   {reference(config.study)}", markup=False)
    folder = store.workpath(f"latest/study-{config.study.name}")
    if out is not None:
        _copy_report(folder, out / config.study.name)
    run.console.print(f"Files       {folder}")
    run.console.print(f"{START} {up_command(store.uri, source_options(config.run.source))}")


def _show_metrics(run: FinishedRun, study: Study, store: Store) -> None:
    from heartdata.studies.page import headline_metrics, metric_rows

    metrics = store.read_frame(run.result.metrics, STUDY_METRICS)
    for arm in study.arms:
        rows = metric_rows(metrics[metrics["arm"] == arm], headline_metrics(study), study.metric)
        run.console.print(rich_table(f"{study.arm_title(arm)} (95 % interval)", rows))


def _show_curve(run: FinishedRun, store: Store) -> None:
    from heartdata.studies.learning_curve import curve_rows, gain_sentences

    study = run.result.study
    curve, extrapolation = (
        store.read_frame(table, schema)
        for table, schema in ((run.result.curve, LEARNING_CURVE), (run.result.extrapolation, EXTRAPOLATION))
    )
    run.console.print(rich_table(f"{study.title} (95 % interval)", curve_rows(curve, study.metric)))
    for sentence in gain_sentences(extrapolation, study.metric):
        run.console.print(sentence)


def write_results(store: Store, out: Path | None) -> None:
    """Show the results of all studies in ``store``, and write them as one page to ``out``, with each study's own.

    One that another version recorded is left out, and named. Raises `HeartbeatError` where there is none.
    """
    from heartdata.studies.facts import StudyRecord, in_order, read_study
    from heartdata.studies.page import study_page
    from heartdata.studies.results import result_rows, results_page

    command = "heartbeat study results"
    if out is not None:
        shown = out.name if out.is_absolute() else str(out)  # the page may be published
        command, out = f"{command} --out {shlex.quote(shown)}", writable_folder(out)
    if not store.workpath("latest").is_dir():
        raise HeartbeatError(
            f"there is no store in {store.uri}: name another --store, or run a study (`heartbeat study list`)"
        )
    folders = {p.name.removeprefix("study-"): p for p in store.workpath("latest").glob("study-*") if p.is_dir()}
    console, records = plain_console(), list[StudyRecord]()
    for name in in_order(list(folders)):
        try:
            records.append(read_study(folders[name]))
        except HeartbeatError as error:
            console.print(note(f"left out: {error}"))
    if not records:
        raise HeartbeatError(f"no study has ended in {store.uri}: type `heartbeat study list`, and run one")
    rows = [row for record in records for row in result_rows(record)]
    without_scored = [{name: cell for name, cell in row.items() if name != "scored"} for row in rows]
    console.print(rich_table("Results", without_scored))
    if out is None:
        return
    for record in records:
        name = record.facts.study.name
        _copy_report(folders[name], out / name)
        (out / name / PAGE).write_text(study_page(record), encoding="utf-8")
    method, changes = (name if (out / name).is_file() else "" for name in (METHOD, CHANGES))
    (out / PAGE).write_text(results_page(records, command, method, changes), encoding="utf-8")
    console.print(f"Page        {out / PAGE}")


def _copy_report(folder: Path, to: Path) -> None:
    """Copy the page and the plots; the predictions for each recording stay in the store."""
    to.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".md", ".png"):
            shutil.copyfile(path, to / path.name)
