"""A run that stops: the notice in ``latest/summary.md``, and the sentence in Prefect's log."""

import logging
from pathlib import Path

import pytest

from heartdata.config import RunConfig
from heartdata.errors import DataRefused, HeartbeatError, SourceError
from heartdata.storage.store import Store, atomic_write
from tasks.engine.failure_notice import SERVED_STORE, log_error_once, open_store, run_store

GOOD = "# table: heartbeat version 1\n\n## Recordings\n"


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(store=str(tmp_path / "out"))


@pytest.fixture
def latest(config: RunConfig) -> Path:
    """The files of a successful run."""
    folder = Store(config.store).open().workpath("latest")
    folder.mkdir()
    (folder / "summary.md").write_text(GOOD)
    (folder / "quarantine.csv").write_text("recording_id\n")
    (folder / "roc.png").write_bytes(b"plot")
    return folder


def stop(config: RunConfig, error: Exception, *written: str) -> str:
    """Let a run write files into ``latest/`` and stop; returns its ``summary.md``."""

    def run() -> None:
        with run_store(config) as store:
            for name in written:
                with atomic_write(store.workpath(f"latest/{name}")) as file:
                    file.write(b"new")
            raise error

    with pytest.raises(type(error)):
        run()
    return Path(config.store, "latest", "summary.md").read_text()


def test_a_refused_run_gets_a_notice_above_the_last_summary(config: RunConfig, latest: Path):
    page = stop(config, DataRefused("nothing was trained: only 4 are left"), "quarantine.csv")
    assert page.startswith("# The last run was refused: source demo, 2")
    assert "> nothing was trained: only 4 are left\n" in page
    assert "by that run: this notice and `quarantine.csv`; all other files here, and the summary below, are of" in page
    assert page.endswith(GOOD)
    assert (latest / "roc.png").read_bytes() == b"plot"


def test_a_second_notice_replaces_the_first(config: RunConfig, latest: Path):
    stop(config, DataRefused("the first"), "quarantine.csv")
    page = stop(config, SourceError("the second"))
    assert page.startswith("# The last run stopped: source demo, 2")
    assert page.count("# The last run") == 1
    assert "the first" not in page
    assert "by that run: this notice; all other" in page
    assert page.endswith(GOOD)


def test_the_very_first_run_may_be_refused_twice(config: RunConfig):
    stop(config, DataRefused("the first"))
    page = stop(config, DataRefused("the second"))
    assert page.count("# The last run") == 1
    assert "there is no earlier summary" in page


def test_runs_that_succeed_or_wrote_their_summary_get_no_notice(config: RunConfig, latest: Path):
    with run_store(config):
        pass
    assert (latest / "summary.md").read_text() == GOOD
    assert stop(config, OSError("late"), "summary.md") == "new"


def test_an_unexpected_exception_is_quoted_by_its_first_line(config: RunConfig, latest: Path):
    assert "> OSError: disk full\n" in stop(config, OSError("disk full\nmore"))


def record(error: Exception) -> logging.LogRecord:
    return logging.LogRecord("x", logging.ERROR, "x", 1, "Encountered %r", (error,), (type(error), error, None))


def test_an_error_that_the_user_can_fix_is_logged_once_as_a_sentence():
    refused = DataRefused("only 4 % are left")
    first = record(refused)
    assert log_error_once(first)
    assert (first.getMessage(), first.exc_info) == ("only 4 % are left", None)
    assert not log_error_once(record(refused))


def test_other_exceptions_keep_their_traces():
    other = record(ValueError("x"))
    assert log_error_once(other)
    assert other.exc_info is not None
    assert other.getMessage() == "Encountered ValueError('x')"


def test_a_run_that_names_another_store_than_heartbeat_up_serves_writes_nothing(tmp_path: Path, monkeypatch):
    served = Store(tmp_path / "restored").open()
    monkeypatch.setenv(SERVED_STORE, served.uri)
    with pytest.raises(HeartbeatError, match="names? the store .*original, and its `heartbeat up` serves .*restored"):
        open_store(str(tmp_path / "original"))
    assert not (tmp_path / "original").exists()
    monkeypatch.chdir(tmp_path)
    assert open_store("restored").uri == served.uri
