"""Runs of the small pipeline with a fault at a random point each, and whether a plain re-run mends everything.

    python -m benchmarks.faults [--trials 60] [--seed 0] [--only TEXT] [--write]

A store has had its first night. In the second, with more recordings, the run is disturbed; then the night is run again.
It must end as an undisturbed second night did: the same manifest and files, as many versions, that champion, no run
left open, no process left, and no unfinished file that `heartbeat prune` leaves two days later. `--write` puts the table
into docs/faults.md. Logs of failed trials stay in the folder that is named at the end.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import textwrap
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.fault_kinds import KINDS, Kind
from benchmarks.fault_trials import Trial, Trials, shared_prefect_server
from benchmarks.pages import markdown_table, put_block
from benchmarks.processes import Launcher


def drawn(trials: int, rng: random.Random, only: str) -> list[Kind]:
    """Kinds in random order, each as often as the others."""
    chosen = [kind for kind in KINDS if only in kind.name]
    if skipped := [f"{kind.name}: {kind.unavailable}" for kind in chosen if kind.unavailable]:
        sys.stdout.write(f"skipped: {'; '.join(skipped)}\n")
    usable = [kind for kind in chosen if not kind.unavailable]
    order: list[Kind] = []
    while len(order) < trials:
        order += rng.sample(usable, len(usable))
    return order[:trials]


def line(number: int, total: int, trial: Trial) -> str:
    result = "; ".join(trial.defects) or "recovered"
    ended = textwrap.shorten(trial.ended, 160, placeholder=" ...")
    return f"{number:3}/{total} {trial.kind.name}, {trial.point}: {ended}\n        {trial.recovery_s:.0f} s: {result}\n"


def table(trials: list[Trial]) -> str:
    """By kind: trials, how many recovered, median seconds of the re-run, how the disturbed run ended, and defects."""
    rows = []
    for kind in KINDS:
        of_kind = [trial for trial in trials if trial.kind is kind]
        if not of_kind:
            continue
        times_s = sorted(trial.recovery_s for trial in of_kind)
        ends = dict.fromkeys(textwrap.shorten(trial.ended, 110, placeholder=" ...") for trial in of_kind)
        found = dict.fromkeys(textwrap.shorten(d, 110, placeholder=" ...") for t in of_kind for d in t.defects)
        good = sum(not trial.defects for trial in of_kind)
        seconds = f"{times_s[len(times_s) // 2]:.0f}"
        rows.append((kind.name, len(of_kind), good, seconds, "; ".join(ends), "; ".join(found)))
    recovered = sum(not trial.defects for trial in trials)
    rows.append(("all", len(trials), recovered, "", "", ""))
    heads = ("fault", "trials", "recovered", "seconds to recover", "how the disturbed run ended", "defects")
    return markdown_table(heads, rows)


def heading(args: argparse.Namespace, done: int) -> str:
    only = f' ONLY="{args.only}"' if args.only else ""
    command = f"`make faults N={args.trials} SEED={args.seed}{only}`"
    return f"{command}, {done} of {args.trials} trials, {os.cpu_count()} cores, {datetime.now(UTC):%Y-%m-%d}:"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="only kinds of fault whose names contain this")
    parser.add_argument("--write", action="store_true", help="put the table into docs/faults.md")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    work, done = Path(tempfile.mkdtemp(prefix="faults-")), []
    order = drawn(args.trials, random.Random(args.seed), args.only)
    with shared_prefect_server(work) as server, Launcher() as launcher:
        trials = Trials(work, launcher, server)
        sys.stdout.write("two nights undisturbed\n")
        trials.prepare()
        for number, kind in enumerate(order, 1):
            done.append(trials.run(kind, f"{args.seed}-{number}"))
            sys.stdout.write(line(number, len(order), done[-1]))
            if args.write:  # each time, so that a count that is stopped has its table, too
                text = f"{heading(args, number)}\n\n{table(done)}"
                put_block("faults.md", "faults", text.replace(f"{work}/", ""))
    sys.stdout.write(f"\n{table(done)}\n")
    if any(trial.defects for trial in done):
        sys.stdout.write(f"logs of failed trials: {work / 'logs'}\n")
        return 1
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
