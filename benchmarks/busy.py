"""How much slower training and evaluation are beside a process that computes, and two whole runs at once.

    python -m benchmarks.busy [--repeats 3] [--write]

Each run trains resnet34 with another seed on a data set that is prepared once; the machine must be idle otherwise. A
process that computes on one of two cores leaves half of the machine, so its share is a factor of 2 at most. `--write`
puts the table into docs/faults.md.
"""

import argparse
import itertools
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.command import READ_BY_LIBGOMP, busy_process
from benchmarks.pages import markdown_table, put_block
from benchmarks.processes import FINISHED, PROJECT

STAGES = ("train", "calibrate", "evaluate", "register")
LINE = re.compile(r"✓ (\S+) +([\d.]+) s")
SETTINGS = ("training.init=random", "training.epochs=3", "validation.max_quarantined_fraction=0.5")
Seconds = dict[str, float]


class Runs:
    """Runs of `heartbeat run` on one prepared store, each with a training seed of its own."""

    def __init__(self, store: Path) -> None:
        self.store, self.seeds = store, itertools.count()
        self.environment = {n: v for n, v in os.environ.items() if n not in READ_BY_LIBGOMP}  # as on a user's machine
        self.environment["PYTHONPATH"] = str(PROJECT)
        self.together(1)

    def together(self, count: int) -> list[Seconds]:
        """Run ``count`` pipelines at once; returns the seconds of each one's stages and of all of it."""
        began = time.monotonic()
        processes = [self._start(next(self.seeds)) for _ in range(count)]
        results = []
        for process in processes:
            output, _ = process.communicate()
            if process.returncode not in FINISHED:
                raise RuntimeError(output[-2000:])
            results.append({name: float(value) for name, value in LINE.findall(output)})
        for seconds in results:
            seconds["the whole"] = time.monotonic() - began
        return results

    def _start(self, seed: int) -> subprocess.Popen[str]:
        changes = [part for text in (*SETTINGS, f"training.seed={seed}") for part in ("--set", text)]
        command = [sys.executable, "-m", "flows.cli.main", "run", "--store", str(self.store), *changes]
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.store
        )


def medians(results: list[Seconds], stages: tuple[str, ...]) -> Seconds:
    return {name: statistics.median(seconds[name] for seconds in results) for name in stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into docs/faults.md")
    args = parser.parse_args()
    alone: list[Seconds] = []
    beside: list[Seconds] = []
    both: list[Seconds] = []
    with tempfile.TemporaryDirectory(prefix="busy-") as folder:
        runs = Runs(Path(folder))
        for number in range(args.repeats):
            sys.stderr.write(f"{number + 1} of {args.repeats}\n")
            alone += runs.together(1)
            with busy_process():
                beside += runs.together(1)
            both += runs.together(2)
    columns = [medians(results, (*STAGES, "the whole")) for results in (alone, beside, both)]
    rows = []
    for stage in (*STAGES, "the whole"):
        alone_s, beside_s, both_s = (column[stage] for column in columns)
        numbers = (alone_s, beside_s, beside_s / alone_s, both_s, both_s / (2 * alone_s))
        rows.append(
            (stage, *(f"{number:.2f}" if at in (2, 4) else f"{number:.1f}" for at, number in enumerate(numbers)))
        )
    heads = (
        "stage",
        "alone, s",
        "beside a busy process, s",
        "of alone",
        "two at once, s each",
        "of one after the other",
    )
    text = markdown_table(heads, rows)
    sys.stdout.write(f"{text}\n")
    if args.write:
        runs = f"medians of {args.repeats} runs" if args.repeats > 1 else "one run"
        command = f"`python -m benchmarks.busy --repeats {args.repeats} --write`"
        put_block("faults.md", "busy", f"{command}, {runs}, {os.cpu_count()} cores:\n\n{text}")


if __name__ == "__main__":
    main()
