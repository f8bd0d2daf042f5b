"""Nights back to back with simulated dates: does the store grow with new data only, and is each mistake caught?

    python -m benchmarks.nights [--nights 72] [--seed 0] [--write]

The clock of every process is libfaketime's, a day later each night; the files that a night writes get its date. Each
night the data change (benchmarks/night_data.py), `heartbeat run` runs, and `heartbeat prune` removes what is old.
`--write` draws docs/images/nights.png and puts the tables into docs/faults.md.
"""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.fault_kinds import FAKETIME, other_clock
from benchmarks.fault_trials import shared_prefect_server
from benchmarks.night_data import LOST_BOUND, DataSet, Plan, schedule
from benchmarks.nights_plot import draw
from benchmarks.pages import DOCS, markdown_table, put_block
from benchmarks.processes import FINISHED, Command, Launcher
from benchmarks.small_pipeline import query, write_config
from heartdata.storage.store import read_parquet

DAY_S = 86_400
LAST_NIGHTS = 30
TOLERANCE = 1.2
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
    "split": {"strategy": "hash", "test_fraction": 0.4},
    "training": {"init": "random", "epochs": 6, "width": 64, "batch": 8, "learning_rate": 0.003},
    "evaluation": {"bootstrap": 20},
    "validation": {
        "max_drift": 100, "max_drift_since_reference": 100,
        "max_quarantined_fraction": 0.25, "max_lost_since_reference": LOST_BOUND,
    },
    "registry": {"aliases": [], "first_champion": "always"},
    # of some ten subjects: a network becomes the champion as soon as it seems better
    "promotion": {"min_over_baselines": -1, "max_ece": 1, "max_slice_drop": 1, "min_subjects": 5, "level": 0.51},
    "retention": {"versions": 5, "data_sets": 5, "days": 14},
}  # fmt: skip


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
        status, new_version, promoted = command.wait(), made > versions, after != champion
        as_planned, noticed = self._as_planned(plan, command, promoted, new_version)
        row = {
            "night": number,
            "event": event,
            "recordings": len(self.data.rows),
            "audio": self._accepted_bytes(),
            "seconds": round(seconds, 1),
            "cpu_seconds": round(command.cpu_s, 1),
            "prune_seconds": round(time.time() - began_s - seconds, 1),
            "status": status,
            "versions": made,
            "new_version": new_version,
            "versions_kept": self._versions(),
            "champion": after,
            "promoted": promoted,
            "refused": status not in FINISHED,
            "as_it_should": as_planned and prune.wait() == 0,
            "noticed": noticed,
            **{kind: sum(size_of(self.store / name) for name in names) for kind, names in KINDS.items()},
        }
        self.rows.append(row)
        return row

    def _as_planned(self, plan: Plan, command: Command, promoted: bool, new_version: bool) -> tuple[bool, str]:
        """Whether the night's mistake was caught, or a night without one ended well; and how it was noticed."""
        status = command.wait()
        if "Traceback" in command.output:
            return False, "a stack trace on the terminal"
        if status != plan.refused and plan.refused:
            return False, f"not noticed: status {status}"
        if status not in FINISHED:
            return status == plan.refused and not new_version, command.last_sentence()
        if plan.known and new_version:
            return False, "trained though nothing was new"
        if plan.event == "new" and not new_version:
            return False, "the new recordings were not noticed"
        if plan.quarantined:
            refused = pd.read_csv(self.store / "latest/quarantine.csv", dtype=str).set_index("recording_id")
            found = refused.reindex([*plan.quarantined])["reason"].dropna()
            return len(found) == len(plan.quarantined), "; ".join(["quarantined", *sorted({*found})])
        if plan.event == "wrong labels":
            return not promoted, self._decision()
        return True, ""

    def _decision(self) -> str:
        """What the rule decided on the newest version, and why."""
        newest = "select value from model_version_tags where key = 'promotion.{}' order by version desc limit 1"
        found = [query(self.store / "mlflow.db", newest.format(name)) for name in ("outcome", "reason")]
        return ": ".join(rows[0][0] for rows in found if rows)

    def _accepted_bytes(self) -> int:
        """Bytes of the recordings of the last data set."""
        manifest = self.store / "latest/manifest.parquet"
        names = read_parquet(manifest).column("recording_id").to_pylist() if manifest.is_file() else []
        return sum(size_of(self.data.folder / name) for name in names)

    def _registry(self) -> tuple[int, int]:
        """Number of the champion (0: none) and of the newest version."""
        database = self.store / "mlflow.db"
        champion = query(database, "select version from registered_model_aliases where alias = 'champion'")
        newest = query(database, "select max(version) from model_versions")
        return (champion[0][0] if champion else 0), (newest[0][0] or 0 if newest else 0)

    def _versions(self) -> int:
        """Number of the versions that pruning has kept."""
        kept = "select version from model_versions where current_stage != 'Deleted_Internal'"
        return len(query(self.store / "mlflow.db", kept))

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
    """What was planted in which nights, in how many of them all went as it should, and how it was noticed."""
    return markdown_table(
        ("event", "nights", "as it should be", "refused", "new versions", "champions", "median seconds", "how it was noticed"),
        [
            (
                event, len(group), *(int(group[name].sum()) for name in ("as_it_should", "refused", "new_version", "promoted")),
                f"{group['seconds'].median():.0f}", shorten(next((text for text in group["noticed"] if text), ""), 300),
            )
            for event, group in rows.groupby("event", sort=False)
        ],
    )  # fmt: skip


def growth(rows: pd.DataFrame) -> str:
    """Bytes by kind in the first and last night, and their growth over the last nights; how long empty nights take."""
    last = rows[-LAST_NIGHTS:]
    grown = last["audio"].max() - last["audio"].min()
    lines = []
    for kind in ["all", *KINDS]:
        held = (rows[list(KINDS)].sum(axis=1) if kind == "all" else rows[kind]) / 1e6
        a_night = np.polyfit(last["night"], held[last.index], 1)[0]
        lines.append(
            (kind, *(f"{held.iloc[at]:.1f}" for at in (0, len(held) // 2, -1)), f"{held.max():.1f}", f"{a_night:+.2f}")
        )
    empty = rows[rows["event"] == "empty"]
    first, final = (
        f"{part['seconds'].median():.0f} s ({part['cpu_seconds'].median():.1f} s of computing)"
        for part in (empty[:5], empty[-5:])
    )
    return (
        f"{markdown_table(('MB', 'first night', 'middle', 'last night', 'highest', f'a night, of the last {len(last)}'), lines)}\n\n"
        f"Audio of accepted recordings: {rows['audio'].iloc[0] / 1e6:.1f} MB in the first night, {rows['audio'].iloc[-1] / 1e6:.1f} in "
        f"the last (over the last {len(last)} nights it varied by {grown / 1e6:.1f}). Nights without anything new, median of five: "
        f"{first} at the beginning, {final} at the end."
    )  # fmt: skip


def out_of_bounds(rows: pd.DataFrame) -> list[str]:
    """A sentence for each kind of which the store holds more than what is needed of it explains.

    Of the last third of the nights, in comparison with the middle one: bytes for each kept version, of what a night leaves
    for each kept version and night of ``retention.days``, of Prefect's database in all. Spectrograms: those of the first night, for
    each byte of audio and kept version.
    """
    third = len(rows) // 3
    middle, last = rows.index[third : 2 * third], rows.index[2 * third :]
    kept, audio = rows["versions_kept"], rows["audio"].cummax()
    needed = {
        **dict.fromkeys(("models in MLflow", "weights", "MLflow's database"), kept),
        **dict.fromkeys(("reports and logs", "results"), kept + SETTINGS["retention"]["days"]),
        "Prefect's database": kept * 0 + 1,
    }
    found = []
    for kind, amount in needed.items():
        held = rows[kind] / amount
        if (growth := held[last].max() / held[middle].max()) > TOLERANCE:
            found.append(f"{kind}: {growth:.2f} times as many bytes for what is kept")
    spectrograms = rows["spectrograms"] / (audio * kept)
    if (growth := spectrograms[last].max() / spectrograms.iloc[0]) > TOLERANCE:
        found.append(f"spectrograms: {growth:.2f} times as many bytes for what is kept")
    empty = rows[rows["event"] == "empty"]["cpu_seconds"]
    if (longer := empty[-5:].median() / empty[:5].median()) > TOLERANCE:
        found.append(f"empty nights compute {longer:.2f} times as long at the end")
    if not 1 < (champions := rows["champion"].nunique()) < len(rows) / 2:
        found.append(f"{champions} champions")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=72)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the plot and the tables into docs/")
    args = parser.parse_args()
    if FAKETIME is None:
        sys.exit("install faketime first: it sets the clock of each night")
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    work = Path(tempfile.mkdtemp(prefix="nights-"))
    nights = Nights(work, args.nights, args.seed)
    nights.clock.write_text("+0\n")
    clock = other_clock() | {"FAKETIME_TIMESTAMP_FILE": str(nights.clock)}
    nights.store.mkdir()
    with (
        shared_prefect_server(nights.store, clock) as server,
        Launcher(clock | server | {"HEARTBEAT_STORE": str(nights.store)}) as launcher,
        contextlib.suppress(KeyboardInterrupt),  # the nights so far count
    ):
        for number, event in enumerate(schedule(args.nights)):
            row = nights.run(number, event, launcher, server)
            pd.DataFrame(nights.rows).to_csv(work / "nights.csv", index=False)
            megabytes = sum(row[kind] for kind in KINDS) / 1e6
            result = "as it should be" if row["as_it_should"] else "NOT as it should be"
            sys.stdout.write(
                f"{number:3} {event}: {row['seconds']:.0f} s, {row['recordings']} recordings, version {row['versions']}, "
                f"champion {row['champion']}, {megabytes:.0f} MB; {result} {row['noticed']}\n"
            )
    rows = pd.DataFrame(nights.rows)
    beyond = out_of_bounds(rows)
    bounds = "; ".join(beyond) or (
        f"what is kept explains what the store holds (at most {TOLERANCE} times as much for it in the last third of the nights "
        "as in the middle one), Prefect's database does not grow, and empty nights take no longer"
    )
    tables = f"{planted(rows)}\n\n{growth(rows)}\n\nBounds: {bounds}."
    sys.stdout.write(f"{tables}\n")
    if args.write:
        draw(rows, list(KINDS), DOCS / "images" / "nights.png")
        command = f"`make nights N={args.nights} SEED={args.seed}`, {os.cpu_count()} cores, {len(rows)} nights"
        put_block("faults.md", "nights", f"{command}:\n\n{tables}".replace(f"{work}/", ""))
    if beyond or not rows["as_it_should"].all():
        sys.stdout.write(f"logs: {work / 'logs'}\n")
        return 1
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
