"""Exit statuses: the same in the code, `--help` and the docs, and what each command ends with."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy
import typer
from mlflow.exceptions import MlflowException

from flows.cli import run as run_command
from flows.cli.exit_codes import ExitCode, code_of
from heartdata.config import RunConfig
from heartdata.errors import ConfigError, DataRefused, Fault, HeartbeatError, LeakError, StoreError
from heartdata.scoring.promotion import Decision

PROJECT = Path(__file__).parents[3]
FULL, GONE = "database or disk is full", "terminating connection due to administrator command"


def test_help_and_docs_list_every_status(heartbeat):
    _, _, out = heartbeat("--help")
    listed = " ".join(out.split())
    docs = (PROJECT / "docs/operations.md").read_text(encoding="utf-8")
    for code in ExitCode:
        assert f"{code.value} {code.meaning}" in listed
        assert f"| {code.value} | {code.meaning}" in docs


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConfigError("x"), 2), (StoreError("x"), 2), (HeartbeatError("x"), 2), (DataRefused("x"), 4), (Fault("x"), 1)],
)  # fmt: skip
def test_an_error_has_its_status(error: HeartbeatError, status: int, heartbeat, monkeypatch):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("flows.cli.run.run_pipeline", fail)
    assert code_of(error) == status
    assert heartbeat("run") == (status, "heartbeat: x\n", "")


@pytest.mark.parametrize(
    ("error", "status"), [(ZeroDivisionError("division by zero"), 1), (OSError(28, "No space left"), 2)]
)
def test_any_command_that_raises_names_a_log(error: Exception, status: int, heartbeat, monkeypatch, tmp_path: Path):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("flows.cli.status.gather", fail)
    ended, err, out = heartbeat("status", "--store", tmp_path)
    assert (ended, err.count("\n"), out) == (status, 1, "")
    (log,) = tmp_path.glob("heartbeat-*.log")
    assert err.endswith(f"; log: {log}\n")
    assert "in fail\n" in log.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert heartbeat("status", "--store", tmp_path)[1].endswith("; log: none (No such file or directory)\n")


def lost_database(why: str) -> MlflowException:
    """As MLflow raises it when its PostgreSQL server has been stopped."""
    of_driver = type("AdminShutdown", (Exception,), {"__module__": "psycopg2.errors"})(why)
    cause = sqlalchemy.exc.OperationalError("select", {}, of_driver)
    error = MlflowException(cause)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ZeroDivisionError("division by zero"), 1, "the command failed unexpectedly (ZeroDivisionError: division by zero); log: "),
        (OSError(28, "No space left on device"), 2, "No space left on device): fix that and run again; log: "),
        (LeakError("in two parts"), 1, "the command failed unexpectedly (LeakError: in two parts); log: "),
        (MlflowException(f"(raised as a result of autoflush)\n(sqlite3.OperationalError) {FULL}"), 2, f"({FULL}): fix that and run again; log: "),
        (lost_database(GONE), 2, f"{GONE}): fix that and run again; log: "),
        (MlflowException("(sqlite3.OperationalError) no such table: runs"), 1, "failed unexpectedly (MlflowException: "),
        (DataRefused("no recording was accepted"), 4, "no recording was accepted"),
    ],
)  # fmt: skip
def test_a_flow_that_raises(error: Exception, status: int, sentence: str, tmp_path: Path):
    with pytest.raises(HeartbeatError) as shown, run_command._errors_as_sentences(tmp_path / "log"):
        raise error
    assert code_of(shown.value) == status
    assert sentence in str(shown.value)


def decided(outcome: str, nothing_new: str = "") -> SimpleNamespace:
    return SimpleNamespace(
        decision=Decision(outcome=outcome, reason="because"), nothing_new=nothing_new, model_url="", run_id=""
    )


@pytest.mark.parametrize(
    ("outcome", "nothing_new", "status"),
    [
        ("promoted", "", 0),
        ("kept", "", 5),
        ("cannot decide", "", 5),
        ("promoted", "Nothing new since version 3", 3),
        ("kept", "Nothing new since version 3", 3),
    ],
)
def test_a_run_ends_as_was_decided(outcome: str, nothing_new: str, status: int, heartbeat, monkeypatch, tmp_path: Path):
    finished = run_command.FinishedRun(
        decided(outcome, nothing_new), "", False, run_command.plain_console(), frozenset()
    )
    monkeypatch.setattr(run_command, "run_flow", lambda *_: finished)
    for name in ("show", "show_nothing_new", "where_to_look"):
        monkeypatch.setattr(run_command, name, lambda *_: None)
    assert heartbeat("run", "--store", tmp_path)[0] == status
    assert heartbeat("pretrain", "--store", tmp_path)[0] == status


def test_a_run_that_waits_for_more_has_nothing_new(monkeypatch, tmp_path: Path, capsys):
    from tasks.retrain import Waiting

    waits = Waiting("Nothing was trained: 1 recording waits", "summary.md")
    finished = run_command.FinishedRun(waits, "", False, run_command.plain_console(), frozenset())
    monkeypatch.setattr(run_command, "run_flow", lambda *_: finished)
    with pytest.raises(typer.Exit) as ended:
        run_command.run_pipeline(RunConfig(store=str(tmp_path)))
    assert ended.value.exit_code == ExitCode.NOTHING_NEW
    assert "1 recording waits" in capsys.readouterr().out


@pytest.mark.parametrize("status", [0, 1, 2, 3, 4, 5])
def test_make_run_fails_only_where_something_went_wrong(status: int, tmp_path: Path):
    program = tmp_path / ".venv/bin/heartbeat"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt", ".venv/ready"):
        (tmp_path / name).touch()
    command = ["make", "-C", str(tmp_path), "-f", str(PROJECT / "Makefile"), "run"]
    made = subprocess.run(command, capture_output=True, text=True)
    assert (made.returncode == 0) == (status in (0, 3, 5))
    assert (f"Error {status}" in made.stderr) == (status in (1, 2, 4))
