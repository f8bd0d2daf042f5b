"""What a run that stops leaves for people: a notice on top of ``latest/summary.md``, one sentence in Prefect's log."""

import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from heartdata.config import RunConfig
from heartdata.errors import DataRefused, HeartbeatError
from heartdata.markdown import plain
from heartdata.storage.store import Store, atomic_write
from tasks.engine import progress
from tasks.registry.killed_runs import end_killed_runs

PREFECT_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "prefect.engine")
EARLIER = "<!-- what follows is of an earlier run -->\n\n"
Files = dict[str, tuple[int, int]]  # by name, what changes when one is written again


@contextlib.contextmanager
def run_store(config: RunConfig) -> Iterator[Store]:
    """The store of a run inside a flow. What the block raises is told in ``latest/summary.md`` as well.

    MLflow runs that killed ones left open are ended first.
    """
    for name in PREFECT_LOGGERS:
        logging.getLogger(name).addFilter(log_error_once)
    progress.clear_notes()
    store = Store(config.store).open()
    latest = store.workpath("latest")
    before = _files(latest)
    end_killed_runs(config.registry, store)
    try:
        yield store
    except Exception as error:
        with contextlib.suppress(OSError):  # it must not hide what went wrong
            _tell(error, config.source.name, latest, before)
        raise


def log_error_once(record: logging.LogRecord) -> bool:
    """A logging filter: a fault that the user can mend is told once, as its sentence, without a stack trace."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if not isinstance(error, HeartbeatError):
        return True
    record.msg, record.args, record.exc_info, record.exc_text = str(error), (), None, None
    told = getattr(error, "told_in_log", False)
    error.told_in_log = True  # type: ignore[attr-defined]
    return not told


def _files(folder: Path) -> Files:
    if not folder.is_dir():
        return {}
    return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()}


def _tell(error: Exception, source: str, latest: Path, before: Files) -> None:
    """Put a notice above the last summary, in place of an earlier notice."""
    page = latest / "summary.md"
    written = [name for name, state in _files(latest).items() if before.get(name) != state]
    if page.name in written:  # it came to its summary, so all the files are its own
        return
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    summary = text.partition(EARLIER)[2] if EARLIER in text else text
    with atomic_write(page) as file:
        file.write((failure_notice(error, source, written, bool(summary)) + EARLIER + summary).encode())


def failure_notice(error: Exception, source: str, written: list[str], summary: bool) -> str:
    """What came of a run that stopped, and which files in ``latest/`` are its own."""
    what = "was refused" if isinstance(error, DataRefused) else "stopped"
    reason = str(error) if isinstance(error, HeartbeatError) else f"{type(error).__name__}: {error}".partition("\n")[0]
    own = " and ".join(["this notice", *(f"`{name}`" for name in sorted(written))])
    rest = (
        "all other files here, and the summary below, are of an earlier one"
        if summary
        else "there is no earlier summary"
    )
    return (
        f"# The last run {what}: source {source}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n\n"
        f"> {plain(reason)}\n\n"
        f"Of that run: {own}; {rest}. The next run that comes to its end replaces all.\n\n"
    )
