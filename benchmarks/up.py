"""Memory of `heartbeat up` while it waits, and the seconds that it takes to start and to stop: python benchmarks/up.py STORE."""

import os
import signal
import subprocess
import sys
import time

import psutil
import typer

from flows.local.servers import free_port

WAIT_S = 30  # until the runner has loaded


def main(store: str) -> None:
    """Print a line a process, and totals."""
    ports = ["--prefect-port", str(free_port()), "--mlflow-port", str(free_port())]
    command = [sys.executable, "-m", "flows.cli.main", "up", "--store", store, *ports]
    started_s = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        next(line for line in up.stdout if "Ctrl-C" in line)
        typer.echo(f"ready after {time.monotonic() - started_s:.1f} s")
        time.sleep(WAIT_S)
        total_mb = 0.0
        for process in [psutil.Process(up.pid), *psutil.Process(up.pid).children(recursive=True)]:
            memory_mb = process.memory_full_info().pss / 2**20
            total_mb += memory_mb
            typer.echo(f"{memory_mb:6.0f} MB  {' '.join(process.cmdline())[-100:]}")
        typer.echo(f"{total_mb:6.0f} MB in all")
        stopped_s = time.monotonic()
        up.send_signal(signal.SIGINT)
        up.communicate()
        typer.echo(f"stopped in {time.monotonic() - stopped_s:.1f} s; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(sys.argv[1])
