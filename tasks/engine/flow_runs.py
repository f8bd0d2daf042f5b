"""What Prefect knows of a store's nights: runs, schedules, deployments, by a server's API or from its database."""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from heartdata import errors
from heartdata.storage.sqlite import read_only

FLOW = "heartbeat"
OWN_ERRORS = tuple(  # sentences
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.HeartbeatError)
)
UNFINISHED = ("PENDING", "RUNNING", "CANCELLING")
RUNS = """
SELECT run.id, run.name, flow.name AS flow, deployment.name AS deployment, run.state_type AS state, state.message,
       run.start_time AS started, run.end_time AS ended, run.tags
FROM flow_run AS run JOIN flow ON flow.id = run.flow_id LEFT JOIN deployment ON deployment.id = run.deployment_id
     LEFT JOIN flow_run_state AS state ON state.id = run.state_id
WHERE run.parent_task_run_id IS NULL AND """
SCHEDULES = """
SELECT deployment.name AS deployment, flow.name AS flow, each.schedule, deployment.parameters, each.active AND NOT deployment.paused AS active
FROM deployment_schedule AS each JOIN deployment ON deployment.id = each.deployment_id
     JOIN flow ON flow.id = deployment.flow_id ORDER BY deployment.name"""


@dataclass(frozen=True)
class NightlyRun:
    """A flow run that was started. ``message``: why it is in its ``state``, where Prefect knows; one of the ``tags`` may
    name its process.
    """

    id: str
    name: str
    flow: str
    deployment: str | None
    state: str
    message: str
    started: datetime | None
    ended: datetime | None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class NightlySchedule:
    """When a deployment runs by itself, and where its links to models point (``ui_url``)."""

    deployment: str
    cron: str
    timezone: str
    active: bool
    ui_url: str = ""

    def next_run(self, now: datetime) -> datetime:
        """The first time after ``now``, in the schedule's time zone."""
        from cronsim import CronSim

        return next(CronSim(self.cron, now.astimezone(ZoneInfo(self.timezone))))


@dataclass(frozen=True)
class Nights:
    """The last run of the pipeline that was started, the last that was completed, unfinished runs, and the schedules."""

    last: NightlyRun | None
    last_completed: NightlyRun | None
    unfinished: tuple[NightlyRun, ...]
    schedules: tuple[NightlySchedule, ...]


def crash_unfinished(path: Path, message: str) -> None:
    """Mark unfinished flow runs in the SQLite database of a Prefect server that is not running as crashed, and free their slots.

    Their processes know nothing of this database. Raises sqlite3.Error.
    """
    with closing(sqlite3.connect(path)) as database, database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables >= {"flow_run_state", "concurrency_limit_v2"}:  # of a server that was killed at its first start
            return
        states = ", ".join(f"'{state}'" for state in UNFINISHED)
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")  # as Prefect writes times
        for (run,) in database.execute(f"SELECT id FROM flow_run WHERE state_type IN ({states})").fetchall():
            state = str(uuid4())
            database.execute(
                "INSERT INTO flow_run_state (id, flow_run_id, type, name, timestamp, message) VALUES (?, ?, 'CRASHED', 'Crashed', ?, ?)",
                (state, run, now, message),
            )
            database.execute(
                "UPDATE flow_run SET state_id = ?, state_type = 'CRASHED', state_name = 'Crashed', state_timestamp = ?, end_time = ? "
                "WHERE id = ?",
                (state, now, now, run),
            )
        database.execute("UPDATE concurrency_limit_v2 SET active_slots = 0")


def nights_in_database(path: Path) -> Nights:
    """From the SQLite database of a Prefect server, running or not, which stays as it is. Raises sqlite3.Error."""
    pipeline = f"flow.name = '{FLOW}' AND run.start_time IS NOT NULL"
    states = ", ".join(f"'{state}'" for state in UNFINISHED)
    with read_only(path) as database:

        def runs(condition: str, limit: int = 1000) -> list[NightlyRun]:
            rows = database.execute(f"{RUNS} {condition} ORDER BY run.start_time DESC LIMIT {limit}")
            return [_run_of_row(row) for row in rows]

        last = runs(pipeline, 1)
        completed = runs(f"{pipeline} AND run.state_type = 'COMPLETED'", 1)
        unfinished = runs(f"run.state_type IN ({states})")
        rows = [dict(row) for row in database.execute(SCHEDULES)]
    return Nights(_first(last), _first(completed), tuple(unfinished), tuple(_schedules(rows)))


def _run_of_row(row: Any) -> NightlyRun:
    times = {name: _utc(row[name]) for name in ("started", "ended")}
    return NightlyRun(
        **{**dict(row), **times, "message": reason_of(row["message"]), "tags": tuple(json.loads(row["tags"]))}
    )


def _utc(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


def _first(runs: list[NightlyRun]) -> NightlyRun | None:
    return runs[0] if runs else None


def _schedules(rows: list[dict[str, Any]]) -> Iterator[NightlySchedule]:
    for row in rows:
        schedule = json.loads(row["schedule"])
        if "cron" in schedule:
            config = json.loads(row["parameters"] or "{}").get("config") or {}
            yield NightlySchedule(
                deployment=f"{row['flow']}/{row['deployment']}",
                cron=schedule["cron"],
                timezone=schedule.get("timezone") or "UTC",
                active=bool(row["active"]),
                ui_url=(config.get("registry") or {}).get("ui_url", ""),
            )


def reason_of(message: str | None) -> str:
    """The first line of a state's message, without what Prefect puts before an exception."""
    line = (message or "").strip().partition("\n")[0]
    return re.sub(rf"^Flow run encountered an exception: ({'|'.join(OWN_ERRORS)}): ", "", line).removeprefix(
        "Flow run encountered an exception: "
    )


def read_all(read: Callable[..., list[Any]], **filters: Any) -> list[Any]:
    """All that a method of Prefect's client finds, which gives a page at a time."""
    items: list[Any] = []
    while page := read(**filters, offset=len(items)):
        items += page
    return items


def nights_of_api() -> Nights:
    """From the server of PREFECT_API_URL. Raises what Prefect and its HTTP library raise."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    order = FlowRunSort.START_TIME_DESC
    of_pipeline = FlowFilter.model_validate({"name": {"any_": [FLOW]}})
    with get_client(sync_client=True) as client:
        flows = {flow.id: flow.name for flow in read_all(client.read_flows)}
        deployments = {each.id: each for each in read_all(client.read_deployments)}
        names = {key: each.name for key, each in deployments.items()}

        def newest(condition: dict[str, Any]) -> NightlyRun | None:
            wanted = FlowRunFilter.model_validate({"start_time": {"is_null_": False}, **condition})
            runs = client.read_flow_runs(flow_run_filter=wanted, flow_filter=of_pipeline, sort=order, limit=1)
            return _run_of_api(runs[0], flows, names) if runs else None

        last, completed = newest({}), newest({"state": {"type": {"any_": ["COMPLETED"]}}})
        open_runs = {"state": {"type": {"any_": list(UNFINISHED)}}, "parent_task_run_id": {"is_null_": True}}
        wanted = FlowRunFilter.model_validate(open_runs)
        unfinished = [
            _run_of_api(run, flows, names)
            for run in read_all(client.read_flow_runs, flow_run_filter=wanted, sort=order)
        ]
    rows = [
        {"deployment": each.name, "flow": flows.get(each.flow_id, ""), "active": s.active and not each.paused,
         "schedule": s.schedule.model_dump_json(), "parameters": json.dumps(each.parameters, default=str)}
        for each in deployments.values() for s in each.schedules
    ]  # fmt: skip
    return Nights(last, completed, tuple(unfinished), tuple(_schedules(rows)))


def _run_of_api(run: Any, flows: dict[Any, str], deployments: dict[Any, str]) -> NightlyRun:
    message = reason_of(run.state.message if run.state else "")
    state = run.state_type.value if run.state_type else "UNKNOWN"
    return NightlyRun(
        id=str(run.id), name=run.name, flow=flows.get(run.flow_id, ""), deployment=deployments.get(run.deployment_id),
        state=state, message=message, started=run.start_time, ended=run.end_time,
        tags=tuple(run.tags),
    )  # fmt: skip
