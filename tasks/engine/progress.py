"""Progress of long work: bars in the terminal when somebody watches, a progress artifact in the Prefect UI always.

The seconds that each stage took in this process are kept for the summary.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Protocol, TypeVar

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext

ARTIFACT_EVERY_S = 3.0
LOG_EVERY_S = 20.0  # in Prefect's log, which `heartbeat up` shows
T = TypeVar("T")


class Display(Protocol):
    """Whoever shows progress to a person; the command line sets one."""

    def started(self, stage: str, total: int, unit: str) -> None: ...
    def advanced(self, stage: str, done: int, total: int, detail: str) -> None: ...
    def finished(self, stage: str, seconds: float | None, detail: str) -> None: ...
    def remarked(self, text: str) -> None: ...


class _Run:
    display: Display | None = None
    seconds: dict[str, float] = {}
    remarks: list[str] = []
    part: str = ""  # of the work, such as a fold; in all that is said


def begin(display: Display | None = None) -> None:
    """Forget the last run's times; ``display`` will show this one's."""
    _Run.display, _Run.seconds, _Run.part = display, {}, ""


def seconds() -> dict[str, float]:
    """Seconds of each stage that did work in this run."""
    return dict(_Run.seconds)


def label_each(items: Iterable[T], names: Iterable[str]) -> Iterator[T]:
    """``items`` as they are; what is said while one is worked on begins with its name."""
    around = _Run.part
    for item, name in zip(items, names, strict=True):
        _Run.part = ", ".join(filter(None, (around, name)))
        yield item
    _Run.part = around


def clear_notes() -> None:
    """To be called when a run starts."""
    _Run.remarks = []


def notes() -> list[str]:
    """What was remarked in this run, each text once."""
    return list(dict.fromkeys(_Run.remarks))


def add_note(text: str) -> None:
    """What a person should know before the run ends, or stops; the summary repeats it."""
    _Run.remarks.append(text)
    if FlowRunContext.get() or TaskRunContext.get():
        get_run_logger().warning(text)
    if _Run.display:
        _Run.display.remarked(text)


def unchanged(stage: str) -> None:
    """A stage whose result was taken from the cache."""
    news = _Run.part or stage not in _Run.seconds
    if _Run.display and news and not stage.endswith(" shard"):
        _Run.display.finished(stage, None, _Run.part)


class Tracker:
    """Counts the work of one stage. Call with how much is done so far."""

    def __init__(self, stage: str, total: int, unit: str) -> None:
        self.stage, self.total, self.unit, self.done, self.detail = stage, total, unit, 0, _Run.part
        self._artifact: Any = None
        self._told_s = self._logged_s = monotonic()
        if _Run.display:
            _Run.display.started(stage, total, unit)
            if self.detail:
                _Run.display.advanced(stage, 0, total, self.detail)

    def __call__(self, done: int, total: int | None = None, detail: str = "") -> None:
        self.done, self.total = done, total or self.total
        if detail:
            self.detail = f"{_Run.part}: {detail}" if _Run.part else detail
        if _Run.display:
            _Run.display.advanced(self.stage, self.done, self.total, self.detail)
        if monotonic() - self._told_s > ARTIFACT_EVERY_S and (FlowRunContext.get() or TaskRunContext.get()):
            self._told_s = monotonic()
            percent = 100 * self.done / max(self.total, 1)
            if monotonic() - self._logged_s > LOG_EVERY_S:
                self._logged_s = monotonic()
                get_run_logger().info("%s %d/%d %s", self.stage, self.done, self.total, self.detail)
            if self._artifact is None:
                told = f"{self.stage}: {self.total} {self.unit}" if self.total > 1 else self.stage
                self._artifact = create_progress_artifact(percent, key=self.stage.replace(" ", "-"), description=told)
            else:
                update_progress_artifact(self._artifact, percent)

    def end(self) -> None:
        """All is done: the last call may have come too soon after the one before to be shown."""
        if self._artifact is not None:
            update_progress_artifact(self._artifact, 100.0)


@contextmanager
def track(stage: str, total: int = 1, unit: str = "") -> Iterator[Tracker]:
    """Time a stage and show its progress."""
    started_s = monotonic()
    tracker = Tracker(stage, total, unit)
    yield tracker
    tracker.end()
    took_s = monotonic() - started_s
    _Run.seconds[stage] = _Run.seconds.get(stage, 0.0) + took_s  # several folds or networks are one stage
    if FlowRunContext.get() or TaskRunContext.get():
        get_run_logger().info("%s: %s", stage, tracker.detail or "done")
    if _Run.display:
        _Run.display.finished(stage, took_s, tracker.detail)
