"""How long torch's idle threads should spin: predictions under several settings, alone and beside a busy process.

    python -m benchmarks.threads [--recordings 100]

Predicts like `calibrate`, in a new process for each setting. torch's OpenMP is libgomp, which reads the settings when it is
loaded; its idle threads spin for milliseconds before they sleep.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext

from benchmarks.command import READ_BY_LIBGOMP, busy_process, in_turn, run_benchmark
from benchmarks.rows import Row, Target, timed
from flows.local.environment import SPIN_COUNT

USED, DEFAULT = f"`GOMP_SPINCOUNT={SPIN_COUNT}`", "libgomp's default"
SETTINGS: dict[str, dict[str, str]] = {
    USED: {"GOMP_SPINCOUNT": SPIN_COUNT},
    DEFAULT: {},
    "`GOMP_SPINCOUNT=1000`": {"GOMP_SPINCOUNT": "1000"},
    "`GOMP_SPINCOUNT=30000`": {"GOMP_SPINCOUNT": "30000"},
    "`OMP_WAIT_POLICY=PASSIVE`": {"OMP_WAIT_POLICY": "PASSIVE"},
    "`OMP_NUM_THREADS=1`": {"OMP_NUM_THREADS": "1"},
}
SIZES = {"recordings": (100, 2), "repeats": (3, 1)}
CHILD = "from benchmarks.threads import predict_s; print(predict_s({}))"


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
    with busy_process() if busy else nullcontext():
        command = [sys.executable, "-c", CHILD.format(recordings)]
        return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def measure(recordings: int, repeats: int) -> Iterator[Row]:
    places = {"alone": False, "beside a busy process": True}
    ways = {
        f"{name}, {place}": lambda variables=variables, busy=busy: measured_s(variables, recordings, busy)
        for name, variables in SETTINGS.items()
        for place, busy in places.items()
    }
    seconds = in_turn(ways, repeats)
    for place in places:
        for peer in SETTINGS:
            if peer != USED:
                yield timed(
                    f"predictions for {recordings} recordings of 8 s, {USED} (used), {place}", "s", seconds[f"{USED}, {place}"],
                    peer, seconds[f"{peer}, {place}"],
                    target=Target(least=0.95) if (peer, place) == (DEFAULT, "alone") else None,
                )  # fmt: skip
    yield timed(
        "the same beside a busy process (at most 2.5 times as long)", "s", seconds[f"{USED}, beside a busy process"],
        f"{DEFAULT}, alone", seconds[f"{DEFAULT}, alone"], target=Target(least=1 / 2.5),
    )  # fmt: skip


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
