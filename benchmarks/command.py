"""What all benchmarks share: their command line, and timing in turn.

Ways are timed in turn, so that what else the machine does falls on all of them alike; `timeit`, `torch.utils.benchmark` and
pyperf finish one before the next begins.
"""

import argparse
import contextlib
import inspect
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from benchmarks.report import table
from benchmarks.rows import Row

ROWS = TypeAdapter(list[Row])
READ_BY_LIBGOMP = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"  # ends with its parent, too
Sizes = Mapping[str, tuple[int, int]]


def run_benchmark(
    doc: str, measure: Callable[..., Iterable[Row]], sizes: Sizes, **others: Callable[[Path], Iterable[str]]
) -> None:
    """The command line of a benchmark: ``measure`` is called with the folder of real recordings, if it takes it, and the sizes.

    ``sizes``: of each argument the default, and what it is with --small. ``others``: options that print the lines of something
    else about the real recordings instead.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="sizes that show that it works, and measure nothing")
    parser.add_argument("--json", type=Path, help="write the rows to this file instead of printing them")
    for name, (full, small) in sizes.items():
        parser.add_argument(f"--{name}", type=int, help=f"default {full}; with --small {small}")
    if uses_data := "data" in inspect.signature(measure).parameters:
        parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real recordings")
    for name, function in others.items():
        parser.add_argument(f"--{name}", action="store_true", help=(function.__doc__ or "").partition("\n")[0])
    args = parser.parse_args()
    for name, function in others.items():
        if getattr(args, name):
            for line in function(args.data):
                sys.stdout.write(f"{line}\n")
            return
    chosen: dict[str, Any] = {"data": args.data} if uses_data else {}
    for name, values in sizes.items():
        chosen[name] = getattr(args, name) or values[args.small]
    rows = list(measure(**chosen))
    if args.json:
        args.json.write_bytes(ROWS.dump_json(rows))
    else:
        sys.stdout.write(f"{table(rows)}\n")


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def seconds_of(function: Callable[..., Any], *args: Any) -> float:
    started_s = time.perf_counter()
    function(*args)
    return time.perf_counter() - started_s


def peak_memory_mib() -> float:
    """The most that this process has held in memory."""
    bytes_each = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_each / 2**20


def in_turn(ways: Mapping[str, Callable[[], float]], repeats: int, warm_ups: int = 0) -> dict[str, list[float]]:
    """What each way returns, such as its seconds, in each of ``repeats`` turns of all, after ``warm_ups`` of them."""
    results: dict[str, list[float]] = {name: [] for name in ways}
    last_line_s = 0.0
    for turn in range(1 - warm_ups, repeats + 1):
        for name, way in ways.items():
            if time.monotonic() - last_line_s > 2:
                say(f"turn {turn} of {repeats}: {name}" if turn > 0 else f"warming up: {name}")
                last_line_s = time.monotonic()
            result = way()
            if turn > 0:
                results[name].append(result)
    return results


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    """A process beside this one that computes all the time."""
    other = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield
    finally:
        other.kill()
        other.wait()
