"""Secrets of the environment are in no file that a run writes, and not in its output."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers import TINY

from flows.cli.exit_codes import ExitCode

PROJECT = Path(__file__).parents[2]
SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "planted-password-1",
    "MLFLOW_TRACKING_TOKEN": "planted-token-2",
    "AWS_SECRET_ACCESS_KEY": "planted-key-3",
    "AWS_SESSION_TOKEN": "planted-session-4",
    "HEARTBEAT_WEBHOOK_URL": "http://127.0.0.1:9/hook/planted-hook-5",
    "PREFECT_API_KEY": "planted-api-key-6",
    "HTTPS_PROXY": "http://me:planted-proxy-7@127.0.0.1:9",
    "POSTGRES_PASSWORD": "planted-postgres-8",
}
PLANTED = [
    value.rpartition("/")[2].rpartition("@")[0].rpartition(":")[2] or value.rpartition("/")[2]
    for value in SECRETS.values()
]
RUN = """
import sys
import pytest
from helpers import use_small_network
use_small_network(pytest.MonkeyPatch())
from flows.cli.main import main
sys.argv[0] = "heartbeat"
main()
"""


def contents(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".parquet":  # compressed
        content += str(pq.read_table(path).to_pydict()).encode() + str(pq.read_schema(path).metadata).encode()
    return content


def holds_a_secret(content: bytes) -> bool:
    forms = [form for secret in PLANTED for form in (secret.encode(), base64.b64encode(secret.encode())[:-4])]
    return any(form in content for form in forms)


@pytest.mark.parametrize(
    "fails", [pytest.param(False, marks=pytest.mark.slow), pytest.param(True, marks=pytest.mark.unattended)]
)
def test_no_file_of_a_run_holds_a_secret(tmp_path: Path, fails: bool):
    assert all(secret.startswith("planted-") for secret in PLANTED)
    store = tmp_path / "store"
    changes = TINY | ({"validation.max_quarantined_fraction": 0.0} if fails else {})
    arguments = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    run = subprocess.run(
        [sys.executable, "-c", RUN, "run", "--source", "demo", "--store", str(store), *arguments],
        capture_output=True, cwd=tmp_path,
        env={**environment, **SECRETS, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}"},
    )  # fmt: skip
    expected = ExitCode.DATA_REFUSED if fails else ExitCode.GATES_NOT_PASSED  # too few subjects for a champion
    assert run.returncode == expected, run.stdout + run.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"prefect.db", "mlflow.db"} - {path.name for path in files} <= ({"mlflow.db"} if fails else set())
    assert [str(path) for path in files if holds_a_secret(contents(path))] == []
    assert not holds_a_secret(run.stdout + run.stderr)
    (tmp_path / "x").write_text(f"a {PLANTED[0]}")
    assert holds_a_secret(contents(tmp_path / "x"))
