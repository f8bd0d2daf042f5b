"""Progress of long work: bars in the terminal when somebody watches, a progress artifact in the Prefect UI always.

The seconds that each stage took in this process, and the notes, are kept for the summary.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol, TypeVar

import httpx
from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

ARTIFACT_EVERY_S = 3.0
PUBLISHING_SHARE = 0.1  # of the time at most, where the server answers late or not at all
LOG_EVERY_S = 20.0  # in Prefect's log, which `heartbeat up` shows
T = TypeVar("T")


class Display(Protocol):
    """Shows progress to a person; the command line sets one."""

    def started(self, stage: str, total: int, unit: str) -> None: ...
    def advanced(self, stage: str, done: int, total: int, detail: str) -> None: ...
    def finished(self, stage: str, seconds: float | None, detail: str) -> None: ...
    def remarked(self, text: str) -> None: ...


@dataclass
class _State:
    """Of the run in this process; ``label`` names the item that is worked on, such as a fold."""

    display: Display | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    label: str = ""


_state = _State()


def begin(display: Display | None = None) -> None:
    """Start a run: forget the times of the last one; ``display`` will show this one's progress."""
    _state.display, _state.seconds, _state.label = display, {}, ""


def seconds() -> dict[str, float]:
    """Seconds of each stage that did work in this run."""
    return dict(_state.seconds)


def label_each(items: Iterable[T], labels: Iterable[str]) -> Iterator[T]:
    """Iterate over ``items``; all progress that is shown meanwhile begins with the item's label."""
    outer = _state.label
    for item, label in zip(items, labels, strict=True):
        _state.label = ", ".join(filter(None, (outer, label)))
        yield item
    _state.label = outer


def clear_notes() -> None:
    """To be called when a run starts."""
    _state.notes = []


def notes() -> list[str]:
    """The notes of this run, each text once."""
    return list(dict.fromkeys(_state.notes))


def add_note(text: str) -> None:
    """Show what a person should know before the run ends or stops; the summary repeats it."""
    _state.notes.append(text)
    if _in_prefect():
        get_run_logger().warning(text)
    if _state.display:
        _state.display.remarked(text)


def unchanged(stage: str) -> None:
    """Show that a stage's result was taken from the cache."""
    first = _state.label or stage not in _state.seconds
    if _state.display and first and not stage.endswith(" shard"):
        _state.display.finished(stage, None, _state.label)


def _in_prefect() -> bool:
    return bool(FlowRunContext.get() or TaskRunContext.get())


class Tracker:
    """Counts the work of one stage. Call it with how much is done so far."""

    def __init__(self, stage: str, total: int, unit: str) -> None:
        self.stage, self.total, self.unit, self.detail = stage, total, unit, _state.label
        self.artifact: Any = None
        self._publishing_s = 0.0  # what it took last
        self._published_s = self._logged_s = monotonic()
        if _state.display:
            _state.display.started(stage, total, unit)
            if self.detail:
                _state.display.advanced(stage, 0, total, self.detail)

    def __call__(self, done: int, total: int | None = None, detail: str = "") -> None:
        self.total = total or self.total
        if detail:
            self.detail = f"{_state.label}: {detail}" if _state.label else detail
        if _state.display:
            _state.display.advanced(self.stage, done, self.total, self.detail)
        if not _in_prefect():
            return
        now_s = monotonic()
        if now_s - self._logged_s > LOG_EVERY_S:
            self._logged_s = now_s
            get_run_logger().info("%s %d/%d %s", self.stage, done, self.total, self.detail)
        if now_s - self._published_s >= max(ARTIFACT_EVERY_S, self._publishing_s / PUBLISHING_SHARE):
            self.publish(100 * done / max(self.total, 1))
            self._published_s = monotonic()
            self._publishing_s = self._published_s - now_s

    def publish(self, percent: float) -> None:
        """Show progress in the Prefect UI. A server that is away must neither end the work nor hold it up."""
        with (
            suppress(httpx.HTTPError, PrefectException, ValueError),  # the last: what a proxy answers is not JSON
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
        ):
            if self.artifact is None:
                text = f"{self.stage}: {self.total} {self.unit}" if self.total > 1 else self.stage
                self.artifact = create_progress_artifact(percent, key=self.stage.replace(" ", "-"), description=text)
            else:
                update_progress_artifact(self.artifact, percent)


@contextmanager
def track(stage: str, total: int = 1, unit: str = "") -> Iterator[Tracker]:
    """Time a stage and show its progress."""
    started_s = monotonic()
    tracker = Tracker(stage, total, unit)
    yield tracker
    if tracker.artifact is not None:  # the last call may have come too soon after the one before to be shown
        tracker.publish(100.0)
    took_s = monotonic() - started_s
    _state.seconds[stage] = _state.seconds.get(stage, 0.0) + took_s  # several folds or networks are one stage
    if _in_prefect():
        get_run_logger().info("%s: %s", stage, tracker.detail or "done")
    if _state.display:
        _state.display.finished(stage, took_s, tracker.detail)
