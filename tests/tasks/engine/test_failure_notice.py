"""A run that stops: the notice in ``latest/summary.md``, and the sentence in Prefect's log."""

import logging
from pathlib import Path

import pytest

from heartdata.config import RunConfig
from heartdata.errors import DataRefused, SourceError
from heartdata.storage.store import Store, atomic_write
from tasks.engine.failure_notice import log_error_once, run_store

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


def stop(config: RunConfig, error: Exception, **written: str) -> None:
    """A run that writes files, named by their stem, into ``latest/`` and then stops."""

    def run() -> None:
        with run_store(config) as store:
            for name in ("quarantine.csv", "summary.md"):
                if text := written.get(Path(name).stem):
                    with atomic_write(store.workpath(f"latest/{name}")) as file:
                        file.write(text.encode())
            raise error

    with pytest.raises(type(error)):
        run()


def test_a_refused_run_gets_a_notice_above_the_last_summary(config: RunConfig, latest: Path):
    stop(config, DataRefused("nothing was trained: only 4 are left"), quarantine="recording_id\na\n")
    page = (latest / "summary.md").read_text()
    first, *_ = page.splitlines()
    assert first.startswith("# The last run was refused: source demo, 2")
    assert "> nothing was trained: only 4 are left\n" in page
    assert "by that run: this notice and `quarantine.csv`; all other files here, and the summary below, are of" in page
    assert page.endswith(GOOD)
    assert (latest / "roc.png").read_bytes() == b"plot"


def test_a_second_notice_replaces_the_first(config: RunConfig, latest: Path):
    stop(config, DataRefused("the first"), quarantine="recording_id\na\n")
    stop(config, SourceError("the second"))
    page = (latest / "summary.md").read_text()
    assert page.startswith("# The last run stopped: source demo, 2")
    assert "the first" not in page
    assert "> the second\n" in page
    assert "by that run: this notice; all other" in page
    assert page.count("# The last run") == 1
    assert page.endswith(GOOD)


def test_the_very_first_run_may_be_refused_twice(config: RunConfig):
    for reason in ("the first", "the second"):
        stop(config, DataRefused(reason), quarantine="recording_id\na\n")
        page = Path(config.store, "latest", "summary.md").read_text()
        assert f"> {reason}\n" in page
        assert page.count("# The last run") == 1
        assert "summary below" not in page


def test_a_good_run_and_one_that_wrote_its_summary_get_no_notice(config: RunConfig, latest: Path):
    with run_store(config):
        pass
    assert (latest / "summary.md").read_text() == GOOD
    stop(config, OSError("late"), summary="# new\n")
    assert (latest / "summary.md").read_text() == "# new\n"


def test_an_unexpected_exception_is_quoted_by_its_first_line(config: RunConfig, latest: Path):
    stop(config, OSError("disk full\nmore"))
    assert "> OSError: disk full\n" in (latest / "summary.md").read_text()


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
