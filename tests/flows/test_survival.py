"""A run that is killed and started again finishes as if undisturbed: no finished work repeated, no torn file used."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers import TINY, registry, tiny
from zygote import Zygote, has_ended, wait

from flows.cli.exit_codes import ExitCode
from heartdata.storage.store import content_digest, read_parquet, sha256_file

# Files that appear during, or just after, training and registering; test_preparation.py kills in the stages before.
MOMENTS = ["models/*.safetensors", "mlflow-artifacts/**/MLmodel"]
TIMEOUT_S = 180


def contents(store: Path) -> dict[str, str]:
    """The digest of the content (of a table: of its values) of every file that a stage has written."""
    stages = ("accepted", "facts", "manifest", "models", "predictions", "quarantine", "spectrograms", "splits")
    files = [p for name in stages for p in (store / name).rglob("*.*") if p.name[0] != "."]
    return {
        str(p.relative_to(store)): content_digest(read_parquet(p)) if p.suffix == ".parquet" else sha256_file(p)
        for p in files
    }


@pytest.mark.unattended
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_run_killed_in_training_and_registering_finishes_as_if_undisturbed(prefect_server, tmp_path: Path):
    store, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    with Zygote(tmp_path / "run.log") as zygote:
        for moment in MOMENTS:
            run = zygote.start(tiny(store), flow="heartbeat")
            deadline = time.monotonic() + TIMEOUT_S
            while not any(store.glob(moment)):
                assert not has_ended(run), f"the run ended before {moment}: {zygote.log.read_text()[-2000:]}"
                assert time.monotonic() < deadline
                time.sleep(0.005)
            os.kill(run, signal.SIGKILL)
            assert wait(run, TIMEOUT_S)
        finished = {p: p.stat().st_mtime_ns for p in (*store.glob("spectrograms/*/*.npy"), *store.glob("facts/v*/*"))}
        assert len(finished) > 10
        for folder in (store, undisturbed):
            assert wait(zygote.start(tiny(folder), flow="heartbeat"), TIMEOUT_S)
    assert {p: p.stat().st_mtime_ns for p in finished} == finished
    assert contents(store) == contents(undisturbed)

    client = registry(store)
    assert len(client.search_model_versions("name = 'heartbeat-demo'")) == 1
    runs = client.search_runs([client.get_experiment_by_name("heartbeat").experiment_id])
    assert sorted(r.info.status for r in runs) == ["FINISHED", "KILLED"]


@pytest.mark.slow
def test_a_run_goes_on_when_its_temporary_prefect_server_is_killed(tmp_path: Path):
    changes = [part for key, value in TINY.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    command = [sys.executable, "-m", "flows.cli.main", "run", "--store", str(tmp_path / "store"), *changes]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    printed, killed = list[str](), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as run:
        assert run.stdout is not None
        for line in run.stdout:
            printed.append(line)
            if "manifest" not in line:
                continue
            for each in psutil.Process(run.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if each.cmdline()[1:3] == ["-m", "uvicorn"]:
                        each.kill()
                        killed += 1
    text = "".join(printed)
    assert killed == 1, text
    assert run.returncode == ExitCode.GATES_NOT_PASSED, text  # too few subjects for a champion
    assert "Error" not in text
    assert "heartbeat-demo version 1" in text
