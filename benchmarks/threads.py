"""How long torch's idle threads should spin: predictions under several settings, alone and beside a busy process.

`python benchmarks/threads.py` predicts like `calibrate`, in a new process for each setting, in turn, repeated, and prints
the medians. The machine must be idle otherwise. torch's OpenMP is libgomp, which reads the settings when it is loaded.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

DEFAULT = "libgomp's default"
SETTINGS: dict[str, dict[str, str]] = {
    DEFAULT: {},
    **{f"GOMP_SPINCOUNT={count}": {"GOMP_SPINCOUNT": str(count)} for count in (1_000, 3_000, 10_000, 30_000, 100_000)},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}
READ_BY_LIBGOMP = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


def predict_s(recordings: int) -> float:
    """Seconds to predict ``recordings`` of 250 columns, after a warm-up."""
    import numpy as np

    from heartdata.dataset.windows import scoring_views
    from heartdata.training.features import outputs_of
    from heartdata.training.network import build_net

    net = build_net(4).eval()
    rng = np.random.default_rng(0)
    views = [scoring_views(rng.normal(0, 1, (250, 32)).astype(np.float16), 128, "windows") for _ in range(recordings)]
    for _ in outputs_of(net, views[:30]):
        pass
    began = time.perf_counter()
    for _ in outputs_of(net, views):
        pass
    return time.perf_counter() - began


def measured_s(variables: dict[str, str], recordings: int, busy: bool) -> float:
    """`predict_s` in a new process with ``variables``, beside a process that computes all the time if ``busy``."""
    environment = {name: value for name, value in os.environ.items() if name not in READ_BY_LIBGOMP} | variables
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
    try:
        command = [sys.executable, __file__, "--recordings", str(recordings), "--child"]
        return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    finally:
        if other is not None:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        sys.stdout.write(str(predict_s(args.recordings)))
        return
    seconds: dict[tuple[str, bool], list[float]] = {(name, busy): [] for name in SETTINGS for busy in (False, True)}
    for _ in range(args.repeats):
        for (name, busy), results in seconds.items():
            results.append(measured_s(SETTINGS[name], args.recordings, busy))
    median_s = {key: statistics.median(results) for key, results in seconds.items()}
    best_s = median_s[DEFAULT, False]
    title = f"{args.recordings} recordings of 8 s, {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}"
    table = Table("setting", "alone, s", "of default", "beside a busy process, s", "of default alone", title=title)
    for name in SETTINGS:
        alone_s, beside_s = median_s[name, False], median_s[name, True]
        table.add_row(name, f"{alone_s:.1f}", f"{alone_s / best_s:.2f}", f"{beside_s:.1f}", f"{beside_s / best_s:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
