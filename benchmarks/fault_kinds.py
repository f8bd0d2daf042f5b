"""The faults of benchmarks/faults.py: each is a context manager that is entered at a random point of a run.

It is left when the disturbed run has ended, and by then has put the input and the machine in order again.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
import soundfile

from benchmarks.processes import PYTHONPATH

UNREACHABLE_S = 20.0
LOCKED_S = 12.0
DISK_BYTES = 1 << 30
SERVERS = {"prefect": "prefect.server.api.server", "mlflow": "mlflow server"}  # as in their command lines
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


class NotInjected(Exception):
    """The run ended, or what the fault needs was gone, before the fault."""


@dataclass
class Disturbed:
    """A run under way: its store and input, its process, and that of `heartbeat up`, None where there is none."""

    rng: random.Random
    store: Path
    recordings: Path
    table: Path
    clock: Path  # what libfaketime adds to the time
    before: frozenset[Path]  # the files of the store before the run
    run: psutil.Process
    up: psutil.Process | None = None

    def kill_run(self) -> None:
        kill(self.run)

    def servers(self, name: str) -> list[psutil.Process]:
        """The processes of the server ``name`` that `heartbeat up`, or else the run, has started."""
        found = []
        for process in (self.up or self.run).children(recursive=True):
            try:
                command = " ".join(process.cmdline())
                if SERVERS[name] in command and "flows.local" not in command:
                    found += [process, *process.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
        return found

    def written(self, pattern: str) -> list[Path]:
        """Files of the store that the run has written, by pattern."""
        return sorted(path for path in self.store.glob(pattern) if path not in self.before)


Inject = Callable[[Disturbed], AbstractContextManager[None]]


@dataclass(frozen=True)
class Kind:
    """A fault; ``at``: the files, new in the store, one of which the run writes just before it, None for any stage."""

    name: str
    inject: Inject
    through: Literal["run", "up"] = "run"
    at: tuple[str, ...] = ()
    changes_input: bool = False
    own_server: bool = False  # the run starts a Prefect server, whose database is in the store
    environment: dict[str, str] = field(default_factory=dict)
    unavailable: str = ""


def kill(*processes: psutil.Process) -> None:
    """Kill processes. Raises `NotInjected` when none of them was left."""
    killed = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
                killed += 1
    if not killed:
        raise NotInjected


@contextmanager
def run_killed(disturbed: Disturbed) -> Iterator[None]:
    disturbed.kill_run()
    yield


@contextmanager
def worker_killed(disturbed: Disturbed) -> Iterator[None]:
    parent = disturbed.run.parent()
    assert parent is not None
    kill(parent)
    yield


@contextmanager
def up_killed(disturbed: Disturbed) -> Iterator[None]:
    assert disturbed.up is not None
    kill(disturbed.up)
    yield


def server_killed(name: str) -> Inject:
    @contextmanager
    def inject(disturbed: Disturbed) -> Iterator[None]:
        kill(*disturbed.servers(name))
        yield

    return inject


@contextmanager
def server_unreachable(disturbed: Disturbed) -> Iterator[None]:
    """The server accepts connections and does not answer, while the run holds the deployment's concurrency slot."""
    stopped = disturbed.servers("prefect")
    if not stopped:
        raise NotInjected
    for process in stopped:
        process.suspend()
    time.sleep(UNREACHABLE_S)
    for process in stopped:
        process.resume()
    yield


def database_locked(name: str) -> Inject:
    @contextmanager
    def inject(disturbed: Disturbed) -> Iterator[None]:
        other = sqlite3.connect(disturbed.store / name, timeout=LOCKED_S, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(LOCKED_S)
        other.execute("ROLLBACK")
        other.close()
        yield

    return inject


@contextmanager
def disk_full(disturbed: Disturbed) -> Iterator[None]:
    """The store is on a file system of its own, which shrinks to what it holds."""
    free = disturbed.rng.randrange(1, 1 << 20)
    for _ in range(20):  # the run may write more than that meanwhile
        with suppress(subprocess.CalledProcessError):
            _resize(disturbed.store, shutil.disk_usage(disturbed.store).used + free)
            break
    else:
        raise NotInjected
    yield
    _resize(disturbed.store, DISK_BYTES)


def _resize(mounted: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(mounted)], check=True)


@contextmanager
def clock_stepped(disturbed: Disturbed) -> Iterator[None]:
    for offset_s in (disturbed.rng.choice((-1, 1)) * disturbed.rng.randrange(3600, 30 * 86400), 0):
        disturbed.clock.write_text(f"{offset_s:+d}\n")
        time.sleep(2)
    yield


def corrupted(pattern: str, kills: bool | None = None, of_run: bool = True) -> Inject:
    """Truncate, empty or flip bits of a file; ``kills``: whether the run is killed before, None: at random."""

    @contextmanager
    def inject(disturbed: Disturbed) -> Iterator[None]:
        if disturbed.rng.random() < 0.5 if kills is None else kills:
            disturbed.kill_run()
            disturbed.run.wait(60)
        files = list[Path]()
        while not files:
            ended = not disturbed.run.is_running()
            found = disturbed.written(pattern) if of_run else disturbed.store.glob(pattern)
            files = sorted(path for path in found if path.name[0] != "." and path.stat().st_size)
            if ended:
                break
            time.sleep(0.05)
        if not files:
            raise NotInjected
        damage(disturbed.rng.choice(files), disturbed.rng)
        yield

    return inject


def damage(path: Path, rng: random.Random) -> None:
    size = path.stat().st_size
    how = rng.choice(("truncate", "empty", "flip"))
    if how == "flip":
        with path.open("r+b") as file:
            at = rng.randrange(size)
            file.seek(at)
            bits = bytes(byte ^ 0xFF for byte in file.read(64))
            file.seek(at)
            file.write(bits)
    else:
        os.truncate(path, 0 if how == "empty" else size // 2)


@contextmanager
def recording_added(disturbed: Disturbed) -> Iterator[None]:
    before, rows = disturbed.table.read_bytes(), disturbed.table.read_text().splitlines()
    chosen = disturbed.recordings / rows[1].split(",")[0]
    added = disturbed.recordings / "X000_AV.wav"
    shutil.copy(chosen, added)
    _replace(added)
    disturbed.table.write_text("\n".join([*rows, f"{added.name},normal,X000,AV"]) + "\n")
    yield
    disturbed.table.write_bytes(before)
    added.unlink()


def recording_changed(change: Callable[[Path], None]) -> Inject:
    @contextmanager
    def inject(disturbed: Disturbed) -> Iterator[None]:
        chosen = disturbed.rng.choice(sorted(disturbed.recordings.glob("*.wav")))
        before = chosen.read_bytes()
        change(chosen)
        yield
        chosen.write_bytes(before)

    return inject


def _replace(path: Path) -> None:
    """Another recording under the same name, of the same size."""
    samples, rate_hz = soundfile.read(path, dtype="int16")
    soundfile.write(path, samples[::-1], rate_hz, subtype="PCM_16")


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def other_clock() -> dict[str, str]:
    """The environment of processes whose clock libfaketime sets; the times of files stay as they are."""
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_CACHE_DURATION": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else threads of Python wait for each other 500 times as long
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": PYTHONPATH,
    }


NOT_ROOT = "" if os.geteuid() == 0 else "only root may mount a file system"
KINDS = [
    Kind("run killed", run_killed),
    Kind("worker killed", worker_killed, "up"),
    Kind("`up` killed", up_killed, "up"),
    Kind("Prefect server of `up` killed", server_killed("prefect"), "up"),
    Kind("MLflow server of `up` killed", server_killed("mlflow"), "up"),
    Kind("Prefect server silent for 20 s", server_unreachable, "up"),
    Kind("Prefect server of `run` killed", server_killed("prefect"), own_server=True),
    Kind("Prefect's database locked for 12 s", database_locked("prefect/prefect.db"), own_server=True),
    Kind("MLflow's database locked for 12 s", database_locked("mlflow.db")),
    Kind("disk full", disk_full, own_server=True, unavailable=NOT_ROOT),
    Kind("clock stepped and back", clock_stepped, own_server=True, environment=other_clock(), unavailable="" if FAKETIME else "faketime is not installed"),
    Kind("cached result corrupted", corrupted("results/*")),
    Kind("spectrogram shard corrupted", corrupted("spectrograms/v*/*.npy", of_run=False), at=("manifest/*.parquet", "progress/*", "predictions/*", "mlflow-artifacts/**/MLmodel")),
    Kind("weights corrupted", corrupted("models/*.safetensors"), at=("models/*.safetensors", "predictions/*", "mlflow-artifacts/**/MLmodel")),
    Kind("checkpoint corrupted", corrupted("progress/*.safetensors", kills=True), at=("progress/*.safetensors",)),
    Kind("recording added", recording_added, changes_input=True),
    Kind("recording removed", recording_changed(lambda path: path.unlink()), changes_input=True),
    Kind("recording replaced", recording_changed(_replace), changes_input=True),
    Kind("recording half written", recording_changed(_halve), changes_input=True),
]  # fmt: skip
