"""Killing a run at any stage, and running again: it completes, repeats no finished shard, trusts no torn file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from helpers import TINY, registry, tiny

from flows.pipeline import heartbeat
from heartdata.store import content_digest, read_parquet, sha256_file

# A file that appears while, or just after, a stage is at work.
MOMENTS = [
    "facts/v*/*.parquet",
    "accepted/*.parquet",
    "spectrograms/*/*.npy",
    "manifest/*.parquet",
    "models/*.safetensors",
    "mlflow-artifacts/**/MLmodel",
]
START_TIMEOUT_S = 180


def contents(store: Path) -> dict[str, str]:
    """Every file that a stage made, with the digest of its content (of a table: of its values)."""
    kept = ("accepted", "facts", "manifest", "models", "predictions", "quarantine", "spectrograms", "splits")
    files = [p for name in kept for p in (store / name).rglob("*.*") if p.name[0] != "."]
    return {
        str(p.relative_to(store)): content_digest(read_parquet(p)) if p.suffix == ".parquet" else sha256_file(p)
        for p in files
    }


def start(store: Path) -> subprocess.Popen:
    from prefect.settings import PREFECT_API_URL

    settings = [f"--set={key}={value}" for key, value in TINY.items()]
    log = (store.parent / "run.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", "--store", str(store), *settings],
        stdout=log, stderr=log, env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()},
    )  # fmt: skip


def test_killed_at_every_stage_ends_as_if_undisturbed(prefect_server, tmp_path: Path):
    store = tmp_path / "killed"
    for moment in MOMENTS:
        run = start(store)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not any(store.glob(moment)):
            assert run.poll() is None, f"the run ended before {moment}: {(tmp_path / 'run.log').read_text()[-2000:]}"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        run.wait()
    finished = {p: p.stat().st_mtime_ns for p in (*store.glob("spectrograms/*/*.npy"), *store.glob("facts/v*/*"))}
    assert len(finished) > 10
    run = start(store)
    assert run.wait(START_TIMEOUT_S) == 0, (tmp_path / "run.log").read_text()[-2000:]
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    undisturbed = heartbeat(tiny(tmp_path / "undisturbed"))
    assert undisturbed.model_version == 1
    assert contents(store) == contents(tmp_path / "undisturbed")

    client = registry(store)
    assert len(client.search_model_versions("name = 'heartbeat-demo'")) == 1
    runs = client.search_runs([client.get_experiment_by_name("heartbeat").experiment_id])
    assert sorted(r.info.status for r in runs) == ["FINISHED", "KILLED"]


def test_failed_run_says_why_in_one_sentence(prefect_server, tmp_path: Path):
    from prefect.settings import PREFECT_API_URL

    (tmp_path / "recordings.csv").write_text("path,label\nabsent one.wav,normal\nabsent two.wav,murmur\n")
    result = subprocess.run(
        [sys.executable, "-m", "flows.cli", "run", "--source", "table", "--data", str(tmp_path / "recordings.csv"),
         "--store", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=START_TIMEOUT_S,
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()},
    )  # fmt: skip
    assert result.returncode == 2
    assert "2 of 2 rows name a file that is not there, the first being absent one.wav" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout
