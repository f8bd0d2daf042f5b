"""What a run that trains nothing leaves for people: a notice above ``latest/summary.md``, one sentence in Prefect's log."""

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from heartdata.config import RunConfig
from heartdata.errors import DataRefused, HeartbeatError
from heartdata.markdown import escape
from heartdata.storage.store import Store, atomic_write
from tasks.engine import progress
from tasks.registry.client import check_registry
from tasks.registry.killed_runs import end_killed_runs

PREFECT_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")
SERVED_STORE = "HEARTBEAT_SERVED_STORE"  # of the runs of `heartbeat up`
END_OF_NOTICE = "<!-- what follows is of an earlier run -->\n\n"
Files = dict[str, tuple[int, int]]  # by name: inode and modification time


@contextlib.contextmanager
def run_store(config: RunConfig) -> Iterator[Store]:
    """The store of a run inside a flow; an exception also becomes a notice in ``latest/summary.md``.

    First asks the registry, and ends MLflow runs that killed processes left open.
    """
    log_errors_once()
    progress.clear_notes()
    store = open_store(config.store)
    latest = store.workpath("latest")
    before = _files(latest)
    try:
        check_registry(config.registry, store)
        end_killed_runs(config.registry, store)
        yield store
    except Exception as error:
        with contextlib.suppress(OSError):  # it must not hide what went wrong
            _write_notice(error, config.source.name, latest, before)
        raise


def open_store(uri: str) -> Store:
    """The store of a flow run. Raises `HeartbeatError` where `heartbeat up` serves another one.

    A run that was scheduled before a backup was restored names the original store.
    """
    store = Store(uri)
    if (served := os.environ.get(SERVED_STORE)) and served != store.uri:
        raise HeartbeatError(
            f"this run's settings name the store {store.uri}, and its `heartbeat up` serves {served}: start a new run"
        )
    return store.open()


def log_errors_once() -> None:
    """Apply `log_error_once` to what Prefect logs of a run in this process."""
    for name in PREFECT_LOGGERS:
        logging.getLogger(name).addFilter(log_error_once)


def log_error_once(record: logging.LogRecord) -> bool:
    """A logging filter: an error that the user can fix is logged once, as its sentence, without a stack trace."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if not isinstance(error, HeartbeatError):
        return True
    record.msg, record.args, record.exc_info, record.exc_text = str(error), (), None, None
    is_first = not hasattr(error, "was_logged")
    error.was_logged = True  # type: ignore[attr-defined]
    return is_first


def _files(folder: Path) -> Files:
    if not folder.is_dir():
        return {}
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()}


def _write_notice(error: Exception, source: str, latest: Path, before: Files) -> None:
    page = latest / "summary.md"
    written = [name for name, state in _files(latest).items() if before.get(name) != state]
    if page.name in written:  # the run wrote its own summary, so all files are its own
        return
    put_notice(failure_notice(error, source, written, has_summary=bool(_summary(page))), latest)


def put_notice(notice: str, latest: Path) -> None:
    """Put ``notice`` above the last summary, in place of an earlier one."""
    page = latest / "summary.md"
    with atomic_write(page) as file:
        file.write((notice + END_OF_NOTICE + _summary(page)).encode())


def _summary(page: Path) -> str:
    """What a page says below its notice, if it has one."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    return text.partition(END_OF_NOTICE)[2] if END_OF_NOTICE in text else text


def failure_notice(error: Exception, source: str, written: list[str], has_summary: bool) -> str:
    """Why a run stopped, and which files in ``latest/`` it has written; the others are of the run before it."""
    outcome = "was refused" if isinstance(error, DataRefused) else "stopped"
    reason = str(error) if isinstance(error, HeartbeatError) else f"{type(error).__name__}: {error}".partition("\n")[0]
    own = " and ".join(["this notice", *(f"`{name}`" for name in sorted(written))])
    others = "all other files here, and the summary below, are of an earlier run"
    return (
        f"# The last run {outcome}: source {source}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n"
        f"> {escape(reason)}\n\n"
        f"Written by that run: {own}; {others if has_summary else 'there is no earlier summary'}. "
        "The next run that finishes replaces them.\n\n"
    )
