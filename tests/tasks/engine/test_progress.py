"""Progress lines of labelled items, and progress artifacts."""

from types import SimpleNamespace

import httpx
import pytest
from helpers import DisplayLog
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES

from tasks.engine import progress


def test_lines_begin_with_the_label_of_the_item():
    display = DisplayLog()
    progress.begin(display)
    for fold in progress.label_each([3, 4], ["fold 3", "fold 4"]):
        with progress.track("train", 2) as advance:
            advance(1, 2, f"epoch of {fold}")
    for _ in progress.label_each("ab", ["fold 3", ""]):
        for _ in progress.label_each("cd", ["network 1 of 2", "network 2 of 2"]):
            with progress.track("train"):
                pass
        progress.unchanged("train")
    with progress.track("results") as advance:
        advance(1, 1, "2 folds")
    progress.begin()
    assert display.said == [
        ("train", False, "fold 3: epoch of 3"),
        ("train", False, "fold 4: epoch of 4"),
        ("train", False, "fold 3, network 1 of 2"),
        ("train", False, "fold 3, network 2 of 2"),
        ("train", True, "fold 3"),
        ("train", False, "network 1 of 2"),
        ("train", False, "network 2 of 2"),
        ("results", False, "2 folds"),
    ]


def test_the_progress_artifact_of_a_finished_stage_is_at_100_percent(monkeypatch):
    shown: list[float] = []
    monkeypatch.setattr(progress, "FlowRunContext", SimpleNamespace(get=lambda: True))
    monkeypatch.setattr(progress, "get_run_logger", lambda: SimpleNamespace(info=lambda *_: None))
    monkeypatch.setattr(progress, "create_progress_artifact", lambda percent, **_: shown.append(percent) or "id")
    monkeypatch.setattr(progress, "update_progress_artifact", lambda _, percent: shown.append(percent))
    monkeypatch.setattr(progress, "ARTIFACT_EVERY_S", 0.0)
    monkeypatch.setattr(progress, "PUBLISHING_SHARE", float("inf"))
    with progress.track("evaluate", 14, "recordings") as advance:
        advance(7)
        monkeypatch.setattr(progress, "ARTIFACT_EVERY_S", 1e9)
        advance(14)
    assert shown == [pytest.approx(50), 100]


def test_a_server_that_is_away_is_asked_once_and_other_errors_are_not_hidden(monkeypatch):
    raised: list[Exception] = [
        httpx.ConnectError("away"),
        httpx.ReadTimeout("away"),
        ValueError("no JSON"),
        TypeError("a bug"),
    ]
    retries: list[int] = []

    def create(_: float, **__: object) -> None:
        retries.append(PREFECT_CLIENT_MAX_RETRIES.value())
        raise raised.pop(0)

    monkeypatch.setattr(progress, "FlowRunContext", SimpleNamespace(get=lambda: True))
    monkeypatch.setattr(progress, "get_run_logger", lambda: SimpleNamespace(info=lambda *_: None))
    monkeypatch.setattr(progress, "create_progress_artifact", create)
    monkeypatch.setattr(progress, "ARTIFACT_EVERY_S", 0.0)
    monkeypatch.setattr(progress, "PUBLISHING_SHARE", float("inf"))
    with progress.track("evaluate", 14) as advance:
        advance(1)
        advance(2)
        advance(3)
        with pytest.raises(TypeError, match="a bug"):
            advance(4)
    assert retries == [0, 0, 0, 0]


def test_a_server_that_answers_late_takes_a_small_share_of_the_time(monkeypatch):
    clock = [0.0]

    def create(_: float, **__: object) -> None:
        asked.append(clock[0])
        clock[0] += 60

    asked: list[float] = []
    monkeypatch.setattr(progress, "FlowRunContext", SimpleNamespace(get=lambda: True))
    monkeypatch.setattr(progress, "get_run_logger", lambda: SimpleNamespace(info=lambda *_: None))
    monkeypatch.setattr(progress, "create_progress_artifact", create)
    monkeypatch.setattr(progress, "monotonic", lambda: clock[0])
    with progress.track("evaluate", 1000) as advance:
        for done in range(1000):
            clock[0] += 1
            advance(done)
    assert asked == [3, 663]
