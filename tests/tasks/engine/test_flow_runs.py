"""What Prefect knows of the nights: a real server asked by its API, and its database read as a file, say the same."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.schedules import Cron
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL
from prefect.states import Completed, Running

from heartdata.errors import DataRefused
from tasks.engine.flow_runs import NightlySchedule, Nights, nights_in_database, nights_of_api, reason_of


@flow(name="heartbeat")
def pipeline(refuse: bool = False, config: dict | None = None):
    if refuse:
        raise DataRefused("no recording was accepted")
    return Completed(message="Nothing new since heartbeat version 3")


@pytest.fixture
def database(prefect_server) -> Path:
    return Path(str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).partition("///")[2])


def same(database: Path) -> Nights:
    """What both ways say, after a check that they say the same."""
    by_api, by_file = nights_of_api(), nights_in_database(database)
    assert by_api == by_file
    return by_file


def test_the_last_run_and_why_it_ended_so(database: Path):
    pipeline(return_state=True)
    first = same(database).last
    assert (first.state, first.message, first.deployment) == (
        "COMPLETED", "Nothing new since heartbeat version 3", None,
    )  # fmt: skip
    assert first.started <= first.ended
    pipeline(refuse=True, return_state=True)
    nights = same(database)
    assert (nights.last.state, nights.last.message) == ("FAILED", "no recording was accepted")
    assert nights.last_completed == first


def test_schedules_and_unfinished_runs(database: Path):
    schedule = Cron("0 2 * * *", timezone="Europe/Berlin", slug="night")
    parameters = {"refuse": False, "config": {"registry": {"ui_url": "http://127.0.0.1:5010"}}}
    deployment = pipeline.to_deployment(name="full-pipeline", schedules=[schedule], parameters=parameters).apply()
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(pipeline)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Running(), force=True)
    try:
        nights = same(database)
        assert nights.schedules == (
            NightlySchedule("heartbeat/full-pipeline", "0 2 * * *", "Europe/Berlin", True, "http://127.0.0.1:5010"),
        )
        assert str(run.id) in [each.id for each in nights.unfinished]  # beside those of other tests
    finally:
        with get_client(sync_client=True) as client:
            client.delete_flow_run(run.id)
            client.delete_deployment(deployment)


def test_the_next_run_is_in_the_time_zone_of_the_schedule():
    nightly = NightlySchedule("heartbeat/full-pipeline", "0 2 * * *", "Europe/Berlin", True)
    following = nightly.next_run(datetime(2026, 7, 1, 0, 30, tzinfo=UTC))
    assert following.isoformat() == "2026-07-02T02:00:00+02:00"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, ""),
        ("Flow run encountered an exception: DataRefused: none was accepted\nmore", "none was accepted"),
        (
            "Flow run encountered an exception: ZeroDivisionError: division by zero",
            "ZeroDivisionError: division by zero",
        ),
        ("heartbeat up was stopped during this run", "heartbeat up was stopped during this run"),
    ],
)
def test_reasons_are_without_what_prefect_puts_before_them(message: str | None, reason: str):
    assert reason_of(message) == reason
