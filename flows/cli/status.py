"""`heartbeat status`: what runs, what ran last and why it ended so, which model is in use, and what the disk holds."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from flows.cli.console import plain_console, rich_table
from flows.local.network import direct_loopback
from flows.local.observed import Up, answers, prefect_api, running_up
from flows.local.servers import API_VARIABLE, check_api
from heartdata.config import RunConfig
from heartdata.settings import without_login, without_logins
from heartdata.storage.remote import is_remote
from heartdata.storage.store import Store, is_store
from heartdata.storage.usage import Usage, free_bytes, nightly_bytes, usage
from tasks.engine.flow_runs import NightlyRun, Nights, nights_in_database, nights_of_api
from tasks.registry.client import is_empty, is_own, tracking_uri
from tasks.registry.locations import check_locations
from tasks.registry.standing import Standing, standings

BY = {"rule": "the rule", "person": "a person's choice", "rollback": "rollback"}
OUTCOMES = {"COMPLETED": "completed", "FAILED": "failed", "CRASHED": "crashed", "CANCELLED": "cancelled"}


@dataclass(frozen=True)
class Status:
    """Everything that is shown, without logins. ``problems``: what could not be read, and why.

    ``nightly_bytes`` and ``free_bytes`` are of this machine's disk, also where the store is in a bucket.
    """

    store: str
    store_exists: bool
    time: datetime
    up: Up | None
    prefect: str | None
    prefect_answers: bool
    mlflow: str
    mlflow_answers: bool | None
    nights: Nights | None
    models: list[Standing]
    disk: list[Usage]
    nightly_bytes: float | None
    free_bytes: int
    problems: list[str]

    @property
    def nights_until_full(self) -> float | None:
        """None where the growth is unknown, or there is none."""
        return self.free_bytes / self.nightly_bytes if self.nightly_bytes else None


def show_status(config: RunConfig, as_json: bool = False) -> None:
    """Print the status of the store and what belongs to it; nothing is changed or started."""
    status = gather(config)
    if as_json:
        values = {**asdict(status), "nights_until_full": status.nights_until_full}
        plain_console().print(json.dumps(values, default=_plain, indent=2), markup=False)
        return
    console = plain_console()
    for name, text in lines(status):
        console.print(f"{name:<11} {text}", markup=False)
    console.print(rich_table("", [_disk_row(kind) for kind in status.disk if kind.size_bytes]))
    console.print(f"{'Free disk':<11} {_disk(status)}", markup=False)


def gather(config: RunConfig) -> Status:
    """Ask servers and read databases. What cannot be read is a problem, not an error."""
    direct_loopback()
    store = Store(config.store)
    problems: list[str] = []
    up = running_up(store)
    api = prefect_api(up)
    nights, models, files, bucket = None, [], [], []
    with _noted("runs", problems):
        nights = nights_of(store, api)
    with _noted("models", problems):
        models = standings(config.registry, store)
    if is_own(config.registry, store) and not is_empty(config.registry, store):
        with _noted("files of versions", problems):
            check_locations(store)
    with _noted("files", problems):
        files = Store(store.root).entries("")
    nightly = nightly_bytes(usage(files, time.time()))
    if is_remote(store.uri):
        with _noted("files in the bucket", problems):
            bucket = store.entries("")
    mlflow = _mlflow(config, store, nights)
    return Status(
        store=store.uri,
        store_exists=is_remote(store.uri) or is_store(store.root),
        time=datetime.now(UTC),
        up=up,
        prefect=without_login(api) if api else None,
        prefect_answers=bool(api) and answers(str(api), "/api/health"),
        mlflow=mlflow,
        mlflow_answers=answers(mlflow, "/health") if mlflow.startswith("http") else None,
        nights=nights,
        models=models,
        disk=usage(bucket + files, time.time()),
        nightly_bytes=nightly,
        free_bytes=free_bytes(store.root),
        problems=problems,
    )


@contextmanager
def _noted(what: str, problems: list[str]) -> Iterator[None]:
    """Where the block fails, note why ``what`` it reads is unknown, and go on."""
    try:
        yield
    except Exception as error:  # ours, sqlite3's, Prefect's, MLflow's, those of their HTTP libraries and of databases
        line = str(error).partition("\n")[0] or type(error).__name__
        problems.append(f"{what}: {without_logins(line)}")


def nights_of(store: Store, api: str | None) -> Nights | None:
    """From the server that a run would use, else from the database that a temporary one has left."""
    if api:
        os.environ[API_VARIABLE] = api
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        check_api()
        return nights_of_api()
    database = store.workpath("prefect/prefect.db")
    return nights_in_database(database) if database.is_file() else None


def _mlflow(config: RunConfig, store: Store, nights: Nights | None) -> str:
    """The address of the MLflow server, without a password: that of `heartbeat up` where the registry is the store's."""
    if not is_own(config.registry, store):
        return without_login(tracking_uri(config.registry, store))
    served = [each.ui_url for each in (nights.schedules if nights else ()) if each.ui_url]
    return (served or [config.registry.ui_url])[0]


def lines(status: Status) -> Iterator[tuple[str, str]]:
    """Name and text of each line above the table of the disk."""
    yield "Store", status.store if status.store_exists else f"there is none at {status.store}: name one with --store"
    yield from _servers(status)
    yield from _schedule(status)
    yield from _last_run(status)
    for model in status.models:
        yield from _model(model)
    if not status.models:
        yield "Champion", "no model is registered"
    for problem in status.problems:
        yield "Unknown", problem


def _servers(status: Status) -> Iterator[tuple[str, str]]:
    if status.up:
        yield "Serving", f"heartbeat up, process {status.up.process}, since {_moment(status.up.since)}"
    else:
        yield "Serving", "heartbeat up does not run on this store and machine"
    if status.prefect or status.up:
        state = "answers" if status.prefect_answers else "does not answer: see `heartbeat doctor`"
        yield "Prefect", f"{status.prefect or 'server of heartbeat up'} {state}"
    if status.mlflow_answers is not None and (status.up or not status.mlflow.startswith("http://127.0.0.1")):
        yield "MLflow", f"{status.mlflow} {'answers' if status.mlflow_answers else 'does not answer'}"


def _schedule(status: Status) -> Iterator[tuple[str, str]]:
    schedules = status.nights.schedules if status.nights else ()
    if not schedules:
        none = "none yet: see `heartbeat doctor`" if status.up else "none: `heartbeat up` runs the pipeline every night"
        yield "Schedule", none
    for each in schedules:
        if not each.active:
            yield "Schedule", f"{each.deployment}, {each.cron!r} {each.timezone}, is not active"
            continue
        when = each.next_run(status.time)
        missing = "" if status.prefect_answers else ", if `heartbeat up` runs then"
        yield "Schedule", f"{each.deployment}, {each.cron!r} {each.timezone}, next {when:%a %Y-%m-%d %H:%M %Z}{missing}"


def _last_run(status: Status) -> Iterator[tuple[str, str]]:
    last = status.nights.last if status.nights else None
    if not (status.nights and last):
        yield "Last run", "none"
        return
    yield "Last run", _run(last, status)
    for run in status.nights.unfinished:
        if run.id != last.id and run.state == "RUNNING":  # a second one was cancelled meanwhile
            yield "Running", _run(run, status)
    completed = status.nights.last_completed
    if last.state != "COMPLETED":
        yield "Last good", _run(completed, status) if completed else "none"


def _run(run: NightlyRun, status: Status) -> str:
    by = run.deployment or "heartbeat run"
    if run.ended is None or run.started is None:
        taking = _duration((status.time - run.started).total_seconds()) if run.started else "?"
        doubt = "" if status.prefect_answers else "; or it was killed: see `heartbeat doctor`"
        return f"{_moment(run.started)}, {by}, {run.state.lower()} for {taking}{doubt}"
    took = _duration((run.ended - run.started).total_seconds())
    why = run.message or (
        "a version was registered, see the challenger" if run.state == "COMPLETED" else "no reason is known"
    )
    return f"{_moment(run.started)}, {by}, {took}, {OUTCOMES.get(run.state, run.state.lower())}: {why}"


def _model(model: Standing) -> Iterator[tuple[str, str]]:
    if model.champion is None:
        yield "Champion", f"{model.model} has none"
    else:
        since = f", since {_moment(model.move.when)} by {BY[model.move.by]}" if model.move else ""
        yield "Champion", f"{model.model} version {model.champion}{_score(model.champion_score)}{since}"
    if model.challenger is not None and model.challenger != model.champion:
        decision = f"; {model.decision.partition('; ')[0]}" if model.decision else ""  # the first reason
        yield "Challenger", f"{model.model} version {model.challenger}{_score(model.challenger_score)}{decision}"


def _score(value: str) -> str:
    return f", macro-F1 {value}" if value else ""


def _disk_row(kind: Usage) -> dict[str, str]:
    grown = "unknown yet" if kind.nightly_bytes is None else f"{kind.nightly_bytes / 1e6:.1f}"
    return {"on disk": kind.kind, "MB": f"{kind.size_bytes / 1e6:.1f}", "MB a night": grown}


def _disk(status: Status) -> str:
    free, nights = f"{status.free_bytes / 1e9:.1f} GB", status.nights_until_full
    growth = status.nightly_bytes
    if nights is None:
        known = "nothing is added" if growth == 0 else "how much a night adds is known after two days"
        return f"{free}; {known}"
    return f"{free}; at {(growth or 0) / 1e6:.1f} MB a night here, enough for {min(nights, 9999):.0f} nights"


def _moment(when: datetime | None) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if when else "an unknown time"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value.model_dump(mode="json")  # type: ignore[attr-defined]
