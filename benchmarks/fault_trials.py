"""One trial of benchmarks/faults.py: a store after its first night, a disturbed second night, the night run again."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import httpx
import psutil

from benchmarks.fault_kinds import DISK_BYTES, FAKETIME, Disturbed, Kind, NotInjected, disk_full, other_clock
from benchmarks.nightly_service import Service, how_it_ended
from benchmarks.processes import FINISHED, LIMIT_S, Command, Launcher
from benchmarks.small_pipeline import (
    defects,
    make_recordings,
    open_flow_runs,
    outcome,
    unfinished_files,
    write_config,
)
from flows.local.servers import free_port, prefect_server

MOMENTS = (  # files that a run writes, from its first stage to its last
    "recordings/*.parquet", "facts/v*/*", "accepted/*.parquet", "spectrograms/v*/*.npy", "manifest/*.parquet",
    "progress/*", "models/*.safetensors", "predictions/*", "mlflow-artifacts/**/MLmodel", "report/*.html",
)  # fmt: skip
POLL_S = 0.01
ATTEMPTS = 5


@dataclass
class Trial:
    """One disturbed night and its re-run; ``defects`` is empty where all was mended. ``point``: after which file the fault came."""

    kind: Kind
    point: str
    ended: str = ""
    recovery_s: float = 0.0
    defects: list[str] = field(default_factory=list)


@contextlib.contextmanager
def shared_prefect_server(work: Path, own: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """A Prefect server with its database in ``work``; yields the environment of its clients, ``own`` is its own."""
    environment = {"PREFECT_HOME": str(work / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    port = free_port()
    with patch.dict(os.environ, environment | dict(own or {})):
        server = prefect_server(port, work / "logs" / "prefect-server.log", ui=False)
        server.start()
    try:
        server.wait_ready()
        yield environment | {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    finally:
        server.stop()
        server.close()


class Trials:
    """The folder of all trials: recordings, configuration, and the store before and after an undisturbed second night."""

    def __init__(self, work: Path, launcher: Launcher, server: dict[str, str]) -> None:
        self.work, self.launcher, self.server = work, launcher, server
        self.store, self.first_night, self.logs = work / "store", work / "first-night", work / "logs"
        self.recordings, self.clock = work / "recordings", work / "clock"
        self.table = self.recordings / "table.csv"
        self.options = ["--config", str(write_config(work / "config.yaml", self.table, self.store))]

    def prepare(self) -> None:
        """Run two nights undisturbed, and keep the store of the first."""
        table = make_recordings(self.recordings, 4)
        own_server: dict[str, str] = {}  # its database in the store is then made once, and not in each trial
        nights = (
            ("first night", table[~table["subject"].str.endswith("3")], own_server),
            ("second night", table, self.server),
        )
        for name, rows, server in nights:
            rows.to_csv(self.table, index=False)
            command = self.launcher.run(["run", *self.options], self.logs / f"{name}.log", server)
            if command.wait() not in FINISHED:
                raise RuntimeError(f"an undisturbed run failed: {command.output[-2000:]}")
            if not self.first_night.exists():
                shutil.copytree(self.store, self.first_night)
        self.expected = outcome(self.store)
        if found := defects(self.store, self.expected):
            raise RuntimeError(f"undisturbed runs end with {found}")
        shutil.rmtree(self.store)

    def run(self, kind: Kind, seed: str) -> Trial:
        """A trial of which the run did not end before the fault; it is a defect when it always does."""
        for attempt in range(ATTEMPTS):
            with contextlib.suppress(NotInjected):
                return self._run(kind, f"{seed}.{attempt}" if attempt else seed)
        return Trial(kind, "", defects=[f"the run ended before the fault in each of {ATTEMPTS} attempts"])

    def _run(self, kind: Kind, seed: str) -> Trial:
        rng, logs = random.Random(seed), self.logs / seed
        trial = Trial(kind, rng.choice(kind.at or MOMENTS))
        database = self.work / "prefect/prefect.db"
        before = open_flow_runs(database)
        with self._store(on_small_disk=kind.inject is disk_full):
            try:
                night = self._in_service if kind.through == "up" else self._by_command
                night(trial, rng, logs)
                self._prune_unfinished(logs)
                trial.defects += defects(self.store, self.expected, kind.changes_input)
            except (TimeoutError, RuntimeError, OSError, httpx.HTTPError, psutil.Error, sqlite3.Error) as error:
                trial.defects.append(textwrap.shorten(f"{type(error).__name__}: {error}", 300))
            if open_flow_runs(database) - before:
                trial.defects.append("a run is still open in Prefect")
            if trial.defects:
                shutil.copytree(self.store / "logs", logs / "store", dirs_exist_ok=True)
        return trial

    @contextlib.contextmanager
    def _store(self, on_small_disk: bool) -> Iterator[None]:
        """The store as it was after the first night, in a place of its own."""
        self.store.mkdir()
        if on_small_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", self.store], check=True)
        try:
            shutil.copytree(self.first_night, self.store, dirs_exist_ok=True)
            yield
        finally:
            if on_small_disk:
                subprocess.run(["umount", "--lazy", self.store], check=True)
            shutil.rmtree(self.store)

    def _by_command(self, trial: Trial, rng: random.Random, logs: Path) -> None:
        """Disturb a `heartbeat run`, then run it again."""
        environment = {} if trial.kind.own_server else self.server
        with contextlib.ExitStack() as stack:
            launcher = self.launcher
            if trial.kind.environment:
                self.clock.write_text("+0\n")
                preset = trial.kind.environment | {"FAKETIME_TIMESTAMP_FILE": str(self.clock)}
                launcher = stack.enter_context(Launcher(preset))
            before = frozenset(self.store.rglob("*"))
            command = launcher.start(["run", *self.options], logs / "disturbed.log", environment)
            try:
                if not command.process or not self._reached(trial, before, rng, command.is_running):
                    raise NotInjected
                with trial.kind.inject(self._disturbed(rng, before, command.process)):
                    command.wait()
            finally:
                command.wait()
        trial.ended = self._said(command, trial)
        began = time.monotonic()
        again = self.launcher.run(["run", *self.options], logs / "again.log", environment)
        trial.recovery_s = time.monotonic() - began
        if again.wait() not in FINISHED:
            trial.defects.append(f"the re-run failed: {again.last_sentence()}")

    def _said(self, command: Command, trial: Trial) -> str:
        if "Traceback" in command.output:
            trial.defects.append("a stack trace on the terminal")
        status = command.wait()
        return "killed" if status is None else "finished" if status in FINISHED else command.last_sentence()

    def _in_service(self, trial: Trial, rng: random.Random, logs: Path) -> None:
        """Disturb a run of `heartbeat up`, then let `up`, started again if it has ended, run it again."""
        before = frozenset(self.store.rglob("*"))
        service = Service(self.launcher, self.options, self.store, logs / "up.log")
        try:
            flow_run = service.trigger()
            run = service.process_of(flow_run)
            if not self._reached(trial, before, rng, run.is_running):
                raise NotInjected
            with trial.kind.inject(self._disturbed(rng, before, run, service.command.process)):
                psutil.wait_procs([run], LIMIT_S)
            began = time.monotonic()
            ended = "" if service.is_back() else "; `up` had to be started again"
            if ended:
                trial.defects += [f"left running: {name}" for name in service.stop()]
                service = Service(self.launcher, self.options, self.store, logs / "up-again.log")
            service.wait_ended(flow_run)
            trial.ended = how_it_ended(self.store, flow_run) + ended
            again = service.trigger()
            if service.wait_ended(again) != "COMPLETED":
                trial.defects.append(f"the re-run failed: {how_it_ended(self.store, again)}")
            trial.recovery_s = time.monotonic() - began
        finally:
            trial.defects += [f"left running: {name}" for name in service.stop()]
        if any("Traceback" in log.read_text(errors="replace") for log in logs.glob("up*.log")):
            trial.defects.append("a stack trace on the terminal")

    def _disturbed(
        self, rng: random.Random, before: frozenset[Path], run: psutil.Process, up: psutil.Process | None = None
    ) -> Disturbed:
        return Disturbed(rng, self.store, self.recordings, self.table, self.clock, before, run, up)

    def _reached(
        self, trial: Trial, before: frozenset[Path], rng: random.Random, is_running: Callable[[], bool]
    ) -> bool:
        """Wait until the run has written one of the trial's files, or some of them; False if it ends first."""
        wanted = rng.randint(1, 3)
        while (new := sum(path not in before for path in self.store.glob(trial.point))) < wanted:
            if not is_running():
                return False
            if new and rng.random() < POLL_S:
                return True
            time.sleep(POLL_S)
        return True

    def _prune_unfinished(self, logs: Path) -> None:
        """Let `heartbeat prune` remove what killed runs left, as it does once that is old."""
        if not unfinished_files(self.store) or FAKETIME is None:
            return
        later = other_clock() | {"FAKETIME": "+2d"}
        command = [sys.executable, "-m", "flows.cli.main", "prune", "--yes", *self.options]
        output = (logs / "prune.log").open("wb")
        with output:
            subprocess.run(command, env={**os.environ, **later}, stdout=output, stderr=output, check=False)
