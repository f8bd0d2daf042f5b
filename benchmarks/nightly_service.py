"""A `heartbeat up` to be disturbed: its deployment run on request, its processes, and how the runs ended."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.processes import LIMIT_S, Command, Launcher
from benchmarks.small_pipeline import query
from flows.local.servers import free_port, is_healthy

DEPLOYMENT = "heartbeat/full-pipeline"
START_LIMIT_S = 300.0
RESTART_LIMIT_S = 90.0
LEAVE_LIMIT_S = 90.0
OPEN = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING")


class Service:
    """`heartbeat up` on free ports. Everything that it starts is stopped by `stop` at the latest."""

    def __init__(self, launcher: Launcher, arguments: Sequence[str], store: Path, log: Path) -> None:
        port, self.store = free_port(), store
        self.api = f"http://127.0.0.1:{port}/api"
        ports = ["--prefect-port", str(port), "--mlflow-port", str(free_port())]
        self.command: Command = launcher.start(["up", *arguments, *ports], log)
        self.seen: set[psutil.Process] = set()
        deadline = time.monotonic() + START_LIMIT_S
        while "Press Ctrl-C" not in self.command.output:
            if not self.command.is_running() or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"`heartbeat up` did not start: {self.command.output[-2000:]}")
            time.sleep(0.2)
        self.look()

    def look(self) -> None:
        """Remember the processes that `up` has started."""
        if self.command.process is not None and self.command.is_running():
            self.seen |= {*self.command.process.children(recursive=True)}

    def trigger(self) -> str:
        """Run the deployment now, once it is served; returns the flow run's id."""
        deployment = self._ask("GET", f"deployments/name/{DEPLOYMENT}")["id"]
        token = self._ask("GET", "csrf-token?client=benchmark")["token"]
        headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "benchmark"}
        return self._ask("POST", f"deployments/{deployment}/create_flow_run", json={}, headers=headers)["id"]

    def process_of(self, flow_run: str) -> psutil.Process:
        """The process of a flow run, once it has started. Raises TimeoutError."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            run = self._ask("GET", f"flow_runs/{flow_run}")
            if run["state_type"] in ("CANCELLED", "CRASHED", "FAILED"):
                raise TimeoutError(f"it did not start: {run['state']['message']}")
            self.look()
            for process in sorted(self.seen, key=lambda each: each.create_time()):  # what the run starts is younger
                with contextlib.suppress(psutil.Error):
                    if process.environ().get("PREFECT__FLOW_RUN_ID") == flow_run:
                        return process
            time.sleep(0.2)
        raise TimeoutError(f"the flow run did not start within {START_LIMIT_S} s")

    def wait_ended(self, flow_run: str, limit_s: float = LIMIT_S) -> str:
        """Wait for the flow run's end; returns the type of its state. Raises TimeoutError."""
        deadline = time.monotonic() + limit_s
        while (state := self._ask("GET", f"flow_runs/{flow_run}")["state_type"]) in OPEN:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the flow run was {state} after {limit_s} s")
            time.sleep(0.5)
        return state

    def is_back(self) -> bool:
        """Whether `up` runs and its Prefect server answers, perhaps after a while."""
        deadline = time.monotonic() + RESTART_LIMIT_S
        while self.command.is_running() and time.monotonic() < deadline:
            if is_healthy(f"{self.api}/health"):
                return True
            time.sleep(0.5)
        return False

    def stop(self) -> list[str]:
        """Stop `up` as a service manager does; returns the commands of processes that it has left running, now ended."""
        self.look()
        if self.command.is_running() and self.command.process is not None:
            self.command.process.terminate()
        _, left = psutil.wait_procs([p for p in [self.command.process, *self.seen] if p], LEAVE_LIMIT_S)
        names = []
        for process in left:
            try:
                names.append(" ".join(process.cmdline())[:80])
                process.kill()
            except psutil.NoSuchProcess:
                continue
        return names

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        """What the server answers; asked again while it is busy, or does not know a deployment yet."""
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            answer = httpx.request(method, f"{self.api}/{path}", timeout=60, **options)
            if answer.status_code not in (404, 503) or time.monotonic() > deadline:
                return answer.raise_for_status().json()
            time.sleep(0.2)


def how_it_ended(store: Path, flow_run: str) -> str:
    """State and message of a flow run, by the store's database."""
    rows = query(
        store / "prefect/prefect.db",
        "select s.name, s.message from flow_run r join flow_run_state s on s.id = r.state_id "
        f"where replace(r.id, '-', '') = '{flow_run.replace('-', '')}'",
    )
    return ": ".join(part for part in rows[0] if part) if rows else "no record"
