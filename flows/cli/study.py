"""`heartbeat study`: one protocol in this process, its tables in the terminal, its page where people look."""

import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.cli.outputs import writable_folder
from flows.cli.run import run_flow, up_command
from heartdata.storage.store import Store
from heartdata.studies.config import study_config
from heartdata.studies.protocols import STUDIES


def list_studies() -> None:
    """Show what studies there are."""
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    for study in STUDIES.values():
        console.print(f"{study.name:<20}{study.title}")


def run_study(
    name: str, data: str | None, file: Path | None, changes: dict[str, Any], seeds: int | None, out: Path | None,
    verbose: bool,
) -> None:  # fmt: skip
    """Run a study and show its metrics; its page and plots go to ``out`` as well. Raises `HeartbeatError`."""
    config = study_config(name, data, file, changes, seeds)
    if out is not None:
        out = writable_folder(out)
    store = Store(config.run.store)
    run = config.run.model_copy(update={"store": store.uri})

    def load() -> Any:
        from flows.study import study

        return study

    ran = run_flow(load, config.model_copy(update={"run": run}), run, verbose)
    from flows.cli.console import table
    from heartdata.storage.schemas import STUDY_METRICS
    from heartdata.studies.page import headline_metrics, metric_rows, reference

    metrics = store.read_frame(ran.result.metrics, STUDY_METRICS)
    for arm in config.study.arms:
        rows = metric_rows(metrics[metrics["arm"] == arm], headline_metrics(config.study), config.study.metric)
        ran.console.print(table(f"{config.study.arm_title(arm)} (95 % interval)", rows))
    if config.study.reference_score is not None:
        ran.console.print(f"Reference   {reference(config.study)}")
    folder = store.workpath(f"latest/study-{config.study.name}")
    if out is not None:
        _copy(folder, out / config.study.name)
    ran.console.print(f"Files       {folder}")
    ran.console.print(f"In MLflow   {up_command(store.uri)}")


def _copy(folder: Path, to: Path) -> None:
    """The page, plots and metrics; the answers of each recording stay in the store."""
    to.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".md", ".png"):
            shutil.copyfile(path, to / path.name)
