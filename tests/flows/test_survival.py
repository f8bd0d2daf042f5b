"""Killing a run at any stage, and running again: it completes, repeats no finished shard, trusts no torn file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import registry, tiny
from zygote import Zygote, has_ended, wait

from flows.pipeline import heartbeat
from heartdata.storage.store import content_digest, read_parquet, sha256_file

# A file that appears while, or just after, a stage is at work; test_preparation.py kills between all those before.
MOMENTS = ["facts/v*/*.parquet", "spectrograms/*/*.npy", "models/*.safetensors", "mlflow-artifacts/**/MLmodel"]
START_TIMEOUT_S = 180


def contents(store: Path) -> dict[str, str]:
    """Every file that a stage made, with the digest of its content (of a table: of its values)."""
    kept = ("accepted", "facts", "manifest", "models", "predictions", "quarantine", "spectrograms", "splits")
    files = [p for name in kept for p in (store / name).rglob("*.*") if p.name[0] != "."]
    return {
        str(p.relative_to(store)): content_digest(read_parquet(p)) if p.suffix == ".parquet" else sha256_file(p)
        for p in files
    }


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_killed_at_every_stage_ends_as_if_undisturbed(prefect_server, tmp_path: Path):
    store = tmp_path / "killed"
    with Zygote(tmp_path / "run.log") as zygote:
        for moment in MOMENTS:
            run = zygote.start(tiny(store), flow="heartbeat")
            deadline = time.monotonic() + START_TIMEOUT_S
            while not any(store.glob(moment)):
                assert not has_ended(run), f"the run ended before {moment}: {zygote.log.read_text()[-2000:]}"
                assert time.monotonic() < deadline
                time.sleep(0.005)
            os.kill(run, signal.SIGKILL)
            assert wait(run, START_TIMEOUT_S)
        finished = {p: p.stat().st_mtime_ns for p in (*store.glob("spectrograms/*/*.npy"), *store.glob("facts/v*/*"))}
        assert len(finished) > 10
        assert wait(zygote.start(tiny(store), flow="heartbeat"), START_TIMEOUT_S)
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
        [sys.executable, "-m", "flows.cli.main", "run", "--source", "table", "--data", str(tmp_path / "recordings.csv"),
         "--store", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=START_TIMEOUT_S,
        env={**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value()},
    )  # fmt: skip
    assert result.returncode == 2
    assert "2 of 2 recordings have no file, the first being absent one.wav" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout
