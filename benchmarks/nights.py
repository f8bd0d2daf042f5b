"""Nights back to back with simulated dates: does the store grow with new data only, and is each mistake caught?

    python -m benchmarks.nights [--nights 72] [--seed 0] [--write]

The clock of every process is libfaketime's, a day later each night; the files that a night writes get its date. Each
night the data change (benchmarks/night_data.py), `heartbeat run` runs, and `heartbeat prune` removes what is old.
`--write` draws docs/images/nights.png and puts the tables into docs/faults.md.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.fault_kinds import other_clock
from benchmarks.fault_trials import shared_prefect_server
from benchmarks.night_data import DataSet, Plan, schedule
from benchmarks.nights_plot import draw
from benchmarks.pages import DOCS, markdown_table, put_block
from benchmarks.processes import FINISHED, Command, Launcher
from benchmarks.small_pipeline import query, write_config

DAY_S = 86_400
KINDS = {  # of the store's folders and files
    "models in MLflow": ("mlflow-artifacts",),
    "weights": ("models", "initial", "progress"),
    "spectrograms": ("spectrograms",),
    "reports and logs": ("report", "plots", "latest", "logs", "data-docs"),
    "results": ("results",),
    "Prefect's database": ("prefect",),
    "MLflow's database": ("mlflow.db",),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "split": {"strategy": "hash"},
    "training": {"init": "random", "epochs": 3, "width": 64, "batch": 8},
    "evaluation": {"bootstrap": 100},
    "validation": {"max_drift": 100, "max_drift_since_reference": 100},
    "registry": {"first_champion": "always"},
    "promotion": {"min_over_baselines": -1, "max_ece": 1, "min_subjects": 5},
    "retention": {"versions": 5, "data_sets": 5, "days": 14},
}


class Nights:
    """A store, its data set, and one row for each night."""

    def __init__(self, work: Path, nights: int, seed: int) -> None:
        self.work, self.store, self.clock = work, work / "store", work / "clock"
        self.data = DataSet(work / "recordings", nights, seed)
        self.options = ["--config", str(write_config(work / "config.yaml", self.data.path, self.store, **SETTINGS))]
        self.rows: list[dict[str, Any]] = []

    def run(self, number: int, event: Any, launcher: Launcher, server: dict[str, str]) -> dict[str, Any]:
        champion, versions = self._registry()
        plan, began_s = self.data.night(number, event), time.time()
        self.clock.write_text(f"+{number * DAY_S}\n")
        time.sleep(1.1)  # libfaketime reads the file once a second
        command = launcher.run(["run", *self.options], self.work / f"logs/{number:03}.log", server)
        seconds = time.time() - began_s
        self._date_files(began_s, number)
        after, made = self._registry()
        if after != champion:
            self.data.champion_changed()
        prune = launcher.run(["prune", "--yes", *self.options], self.work / f"logs/{number:03}-prune.log", server)
        row = {
            "night": number,
            "event": event,
            "recordings": len(self.data.rows),
            "seconds": round(seconds, 1),
            "prune_seconds": round(time.time() - began_s - seconds, 1),
            "status": command.wait(),
            "versions": made,
            "new_version": made > versions,
            "champion": after,
            "as_it_should": self._as_planned(plan, command, after != champion, made > versions) and prune.wait() == 0,
            "said": command.last_sentence() if command.wait() not in FINISHED else "",
            **{kind: sum(size_of(self.store / name) for name in names) for kind, names in KINDS.items()},
        }
        self.rows.append(row)
        return row

    def _as_planned(self, plan: Plan, command: Command, promoted: bool, new_version: bool) -> bool:
        """Whether the night's mistake was caught, or a night without one ended well."""
        status = command.wait()
        if "Traceback" in command.output:
            return False
        if plan.refused:
            return status in (2, 4) and not new_version
        if plan.event == "empty":
            before = next((r["new_version"] for r in reversed(self.rows)), False)
            return status in FINISHED and (not new_version or not before)
        if status not in FINISHED:
            return False
        refused = pd.read_csv(self.store / "latest/quarantine.csv")["recording_id"].astype(str)
        return {*plan.quarantined} <= {*refused} and not (plan.event == "wrong labels" and promoted)

    def _registry(self) -> tuple[int, int]:
        """Number of the champion (0: none) and of the newest version."""
        database = self.store / "mlflow.db"
        champion = query(database, "select version from registered_model_aliases where alias = 'champion'")
        newest = query(database, "select max(version) from model_versions")
        return (champion[0][0] if champion else 0), (newest[0][0] or 0 if newest else 0)

    def _date_files(self, since_s: float, number: int) -> None:
        """Give what the night wrote its simulated date."""
        for path in self.store.rglob("*"):
            if path.is_file() and (modified_s := path.stat().st_mtime) >= since_s - 1 and modified_s < time.time() + 1:
                os.utime(path, (modified_s + number * DAY_S,) * 2)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def planted(rows: pd.DataFrame) -> str:
    """What was planted in which nights, and in how many of them all went as it should."""
    return markdown_table(
        ("event", "nights", "as it should be", "new versions", "median seconds", "what the run said"),
        [
            (
                event, len(group), int(group["as_it_should"].sum()), int(group["new_version"].sum()),
                f"{group['seconds'].median():.0f}", next((said for said in group["said"] if said), ""),
            )
            for event, group in rows.groupby("event", sort=False)
        ],
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=72)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the plot and the tables into docs/")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    work = Path(tempfile.mkdtemp(prefix="nights-"))
    nights = Nights(work, args.nights, args.seed)
    nights.clock.write_text("+0\n")
    clock = other_clock() | {"FAKETIME_TIMESTAMP_FILE": str(nights.clock)}
    nights.store.mkdir()
    with shared_prefect_server(nights.store, clock) as server, Launcher(clock) as launcher:
        for number, event in enumerate(schedule(args.nights)):
            row = nights.run(number, event, launcher, server)
            megabytes = sum(row[kind] for kind in KINDS) / 1e6
            result = "as it should be" if row["as_it_should"] else "NOT as it should be"
            sys.stdout.write(
                f"{number:3} {event}: {row['seconds']:.0f} s, {row['recordings']} recordings, version {row['versions']}, "
                f"champion {row['champion']}, {megabytes:.0f} MB; {result} {row['said']}\n"
            )
    rows = pd.DataFrame(nights.rows)
    rows.to_csv(work / "nights.csv", index=False)
    sys.stdout.write(f"{planted(rows)}\n")
    if args.write:
        draw(rows, list(KINDS), DOCS / "images" / "nights.png")
        command = f"`make nights N={args.nights} SEED={args.seed}`, {os.cpu_count()} cores"
        put_block("faults.md", "nights", f"{command}:\n\n{planted(rows)}")
    if not rows["as_it_should"].all():
        sys.stdout.write(f"logs: {work / 'logs'}\n")
        return 1
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
