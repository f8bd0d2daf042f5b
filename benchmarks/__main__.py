"""Run the benchmarks one after the other and write docs/benchmarks.md: `make bench`, or

python -m benchmarks [NAME ...] [--small] [--out FOLDER]
"""

import argparse
import ast
import collections
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.command import READ_BY_LIBGOMP, ROWS
from benchmarks.pages import DOCS
from benchmarks.processes import PROJECT
from benchmarks.report import Record, page
from benchmarks.rows import Row
from benchmarks.suite import SUITE, Benchmark
from flows.local.environment import prepare_environment
from heartdata import machine
from heartdata.storage.store import Store

PACKAGES = ("prefect", "mlflow", "great-expectations", "lhotse", "onnxruntime")
SILENCE_S = 8.0  # after which a line says that a benchmark is still at work


def main() -> int:
    names = [benchmark.name for benchmark in SUITE]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names)}")
    parser.add_argument("--small", action="store_true", help="only try whether they run; writes to a temporary folder")
    parser.add_argument("--out", type=Path, help="folder of benchmarks.md; default docs/")
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}: choose of {', '.join(names)}")
    out = args.out or (Path(tempfile.mkdtemp(prefix="benchmarks-")) if args.small else DOCS)
    folder = out / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [benchmark for benchmark in SUITE if not args.names or benchmark.name in args.names]
    began, failed = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="heartbeat-") as scratch:
        prepare_environment(Store(Path(scratch) / "store").open())  # for the processes of the benchmarks
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
        for number, benchmark in enumerate(chosen, 1):
            expected = "" if args.small else f", about {benchmark.minutes:g} minutes"
            _print(f"{number}/{len(chosen)} {benchmark.title}{expected}")
            record = measured(benchmark, args.small, Path(scratch))
            if record is None:
                failed.append(benchmark.name)
                continue
            (folder / f"{benchmark.name}.json").write_text(
                record.model_dump_json(indent=1, exclude_defaults=True) + "\n", encoding="utf-8"
            )
            (out / "benchmarks.md").write_text(page(recorded(folder)), encoding="utf-8")
            _print(f"    done in {record.seconds:.0f} s")
    _print(f"{time.monotonic() - began:.0f} s in all: {out / 'benchmarks.md'}")
    if failed:
        _print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def recorded(folder: Path) -> list[Record]:
    """What was recorded in ``folder``, in the order of SUITE."""
    files = (folder / f"{benchmark.name}.json" for benchmark in SUITE)
    return [Record.model_validate_json(file.read_text(encoding="utf-8")) for file in files if file.is_file()]


def measured(benchmark: Benchmark, small: bool, scratch: Path) -> Record | None:
    """Run a benchmark in a process of its own, showing its progress; None, after its last lines, when it fails."""
    rows_file = scratch / f"{benchmark.name}.json"
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{benchmark.name}", "--json", str(rows_file)]
    load, began = os.getloadavg()[0], time.monotonic()
    with subprocess.Popen(
        command + ["--small"] * small, cwd=PROJECT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        last_lines = _show(process, began)
    if process.returncode:
        _print("\n".join(["    failed:", *last_lines]))
        return None
    rows: list[Row] = ROWS.validate_json(rows_file.read_bytes())
    source = (PROJECT / "benchmarks" / f"{benchmark.name}.py").read_text(encoding="utf-8")
    return Record(
        name=benchmark.name, title=benchmark.title, about=about(source), date=f"{datetime.now(UTC):%Y-%m-%d}",
        commit=code(), seconds=round(time.monotonic() - began, 1), load=round(load, 2), machine=place_of_measurement(),
        versions=versions(), small=small, rows=rows,
    )  # fmt: skip


def _show(process: subprocess.Popen[str], began: float) -> collections.deque[str]:
    """Print what the process says until it ends, and something at least every ten seconds; returns its last lines."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stderr or ():
            lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    last_lines: collections.deque[str] = collections.deque(maxlen=30)
    while True:
        try:
            line = lines.get(timeout=SILENCE_S)
        except queue.Empty:
            line = f"... {last_lines[-1] if last_lines else 'starting'}"
        else:
            if line is None:
                return last_lines
            last_lines.append(line)
        _print(f"    {time.monotonic() - began:4.0f} s  {line}")


def about(source: str) -> str:
    """The first paragraph of a module's docstring, on one line."""
    return " ".join((ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].split())


def code() -> str:
    """The commit of the code that runs, and whether it was changed since; the results themselves are no change."""
    return (machine.commit()[:7] or "unknown") + (" with changes" if machine.is_changed([".", ":!docs"]) else "")


def place_of_measurement() -> str:
    """The machine, and settings of threads that are not the defaults."""
    return ", ".join([machine.machine(), *(f"{n}={os.environ[n]}" for n in READ_BY_LIBGOMP if n in os.environ)])


def versions() -> dict[str, str]:
    """Of Python and of the packages that were measured, as far as they are installed."""
    packages = machine.versions()
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    return packages


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
