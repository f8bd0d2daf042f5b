"""Memory of `heartbeat up` while it waits, and the seconds that it takes to start and to stop; beside Prefect's and MLflow's
servers and a served flow, each started by hand.

    python -m benchmarks.up [--repeats 2]
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.command import run_benchmark, say, seconds_of
from benchmarks.rows import Row, timed
from flows.local.child import is_healthy
from flows.local.servers import free_port

SIZES = {"repeats": (2, 1), "wait": (10, 1)}  # seconds, until the runner has loaded
LIMIT_S = 300
SERVED_FLOW = """\
from prefect import flow


@flow
def nothing(): ...


if __name__ == "__main__":
    nothing.serve("nothing")
"""
Measured = tuple[float, float, float]  # seconds to start, MiB, seconds to stop


def memory_mib(processes: list[subprocess.Popen[str]]) -> float:
    """Proportional set size (where the system does not count it, the unique one) of the processes and all that they started."""
    roots = [psutil.Process(process.pid) for process in processes]
    everyone = [process for root in roots for process in (root, *root.children(recursive=True))]
    total = 0.0
    for process in everyone:
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.uss) / 2**20
    return total


def user_environment() -> dict[str, str]:
    """Without what `make bench` sets for all benchmarks."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "HEARTBEAT_"))
    }


def stop(processes: list[subprocess.Popen[str]]) -> None:
    """End them one after the other: the served flow needs its server to the end."""
    for process in processes:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_S)


def heartbeat_up(store: Path, wait_s: int) -> Measured:
    ports = ["--prefect-port", str(free_port()), "--mlflow-port", str(free_port())]
    command = [sys.executable, "-m", "flows.cli.main", "up", "--store", str(store), *ports]
    began_s = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=user_environment()
    ) as process:
        assert process.stdout is not None
        try:
            if not any("Ctrl-C" in line for line in process.stdout):
                raise SystemExit("`heartbeat up` ended before it was ready")
            started_s = time.perf_counter() - began_s
            time.sleep(wait_s)
            return started_s, memory_mib([process]), seconds_of(stop, [process])
        finally:
            kill([process])


def by_hand(home: Path, wait_s: int, lean: bool = False) -> Measured:
    """Prefect's server, MLflow's server and a served flow, as their documentation starts them; or ``lean``, with one MLflow worker
    and without its jobs, as `heartbeat up` has them.
    """
    prefect, mlflow = free_port(), free_port()
    environment = user_environment() | {
        "PREFECT_HOME": str(home), "PREFECT_API_URL": f"http://127.0.0.1:{prefect}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true",
    } | ({"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} if lean else {})  # fmt: skip
    (home / "served.py").write_text(SERVED_FLOW)
    database = f"sqlite:///{home}/mlflow.db"
    options = ["--workers", "1"] if lean else []
    commands = (
        ["-m", "prefect", "server", "start", "--port", str(prefect)],
        ["-m", "mlflow", "server", "--port", str(mlflow), "--backend-store-uri", database, *options],
        ["served.py"],
    )
    addresses = (f"http://127.0.0.1:{prefect}/api/health", f"http://127.0.0.1:{mlflow}/health")
    began_s, processes = time.perf_counter(), []
    try:
        for number, command in enumerate(commands):
            if number == 2:  # it needs the server
                wait_for(addresses)
            processes.append(
                subprocess.Popen(
                    [sys.executable, *command], env=environment, cwd=home, stdout=subprocess.PIPE if number == 2 else subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, text=True, start_new_session=True,
                )
            )  # fmt: skip
        assert processes[2].stdout is not None
        if not any("is being served" in line for line in processes[2].stdout):
            raise SystemExit("the flow that Prefect was to serve has ended")
        started_s = time.perf_counter() - began_s
        time.sleep(wait_s)
        return started_s, memory_mib(processes), seconds_of(stop, processes[::-1])
    finally:
        kill(processes)


def kill(processes: list[subprocess.Popen[str]]) -> None:
    """End what is left of them and of all that they started."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(addresses: tuple[str, ...]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not all(map(is_healthy, addresses)):
        if time.monotonic() > deadline:
            raise SystemExit(f"no answer from {' and '.join(addresses)}")
        time.sleep(0.1)


def measure(repeats: int, wait: int) -> Iterator[Row]:
    # a shell's background processes ignore it, and so would all that they start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    turns: list[tuple[Measured, Measured, Measured]] = []
    with tempfile.TemporaryDirectory(prefix="heartbeat-") as folder:
        store, home = Path(folder) / "store", Path(folder) / "home"
        home.mkdir()
        for turn in range(repeats + 1):  # the first makes databases
            say(f"turn {turn} of {repeats}: heartbeat up")
            ours = heartbeat_up(store, wait if turn else 0)
            say(f"turn {turn} of {repeats}: the servers by hand")
            turns.append((ours, *(by_hand(home, wait if turn else 0, lean) for lean in (False, True))))
    peer = "`prefect server start`, `mlflow server` and a served flow"
    peers = {1: f"{peer}, defaults", 2: f"{peer}, one MLflow worker, no jobs"}
    what = (
        ("`heartbeat up` until it is ready, databases made before", "s"),
        ("`heartbeat up`, waiting: proportional set size of all processes", "MiB"),
        ("`heartbeat up` from Ctrl-C to its end", "s"),
    )
    for number, (measured, unit) in enumerate(what):
        for side, name in peers.items():
            ours, theirs = ([turn[which][number] for turn in turns[1:]] for which in (0, side))
            yield timed(measured, unit, ours, name, theirs)


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
