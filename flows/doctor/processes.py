"""Checks of what runs: ports, locks and their holders, servers that nobody stops, runs that nobody ends."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from flows.doctor.finding import Finding
from flows.local.observed import Up
from heartdata.sources.text import enumerated
from tasks.engine.flow_runs import NightlyRun
from tasks.registry.killed_runs import has_ended

NAMED = 3
STARTING_S = 120


def port(number: int, option: str, is_free: bool, up: Up | None) -> Finding:
    """The port is free for `heartbeat up`, or used by that of this store."""
    if is_free:
        return Finding("ok", f"port {number} is free")
    if up:
        return Finding("ok", f"port {number} is taken, and heartbeat up runs")
    return Finding("warning", f"port {number} is taken by another program", f"heartbeat up {option} {number + 10}")


def serving(up: Up | None) -> Finding:
    """A `heartbeat up` that holds the store's lock answers."""
    if up is None:
        return Finding("ok", "no heartbeat up runs on this store, and none has left a lock")
    since = f", since {up.since:%Y-%m-%d %H:%M} UTC" if up.since else ""
    holder = f"heartbeat up (process {up.process}{since})"
    if up.api is None:
        text = f"{holder} holds the store's lock, and its Prefect server does not answer"
        remedy = (
            f"wait, if it was just started or is a heartbeat upgrade; otherwise kill {up.process} and start it again"
        )
        return Finding("warning", text, remedy)
    return Finding("ok", f"{holder} serves {up.api}")


def runner(up: Up, started: datetime | None, now: datetime, log: Path) -> Finding:
    """The process that executes the runs of `heartbeat up` stays: one that fails at its start is started again and again."""
    if up.since and (now - up.since).total_seconds() < STARTING_S:
        return Finding("ok", "heartbeat up was just started, and so is its runner")
    if started is None or (now - started).total_seconds() < STARTING_S:
        text = "no run can start: the runner of heartbeat up has ended, or was started again less than two minutes ago"
        return Finding("problem", text, f"see the end of {log}")
    return Finding("ok", "the runner of heartbeat up waits for runs")


def champion_locks(held: Sequence[tuple[Path, int]]) -> Finding:
    """Nobody holds the lock of a champion, which a process needs for a moment only."""
    if held:
        path, process = held[0]
        text = f"process {process} holds {path}: nobody else can change that champion"
        return Finding("warning", text, f"if it is still so in a minute: kill {process}")
    return Finding("ok", "no champion is locked")


def servers(orphans: Sequence[int]) -> Finding:
    """No server of this store has outlived what started it."""
    if orphans:
        ids = " ".join(map(str, orphans))
        return Finding("problem", f"{len(orphans)} servers of this store outlived what started them", f"kill {ids}")
    return Finding("ok", "no server outlived what started it")


def tracked_runs(names: Sequence[str], store: str) -> Finding:
    """No MLflow run is open whose process has ended."""
    if names:
        text = f"{_named(names)} in MLflow {_are(names)} open, but the process has ended"
        return Finding("warning", text, f"heartbeat run --store {store}, or the next night, marks them as killed")
    return Finding("ok", "no MLflow run was left open")


def flow_runs(unfinished: Iterable[NightlyRun], alive: Collection[str]) -> Finding:
    """Every unfinished flow run of this machine has a process.

    ``alive``: the ids of runs that have a process of their own, as those of deployments do; others are of a
    command such as `heartbeat run`, which a tag names.
    """
    orphans = [run for run in unfinished if run.id not in alive and (run.deployment or any(map(has_ended, run.tags)))]
    if not orphans:
        return Finding("ok", "no flow run was left unfinished")
    names = [run.name for run in orphans]
    text = f"{_named(names)} in Prefect {_are(names)} {orphans[0].state.lower()}, without a process"
    return Finding("warning", text, "start heartbeat up (again): it marks interrupted runs as crashed")


def _named(names: Sequence[str]) -> str:
    return ("run " if len(names) == 1 else "runs ") + enumerated(names, NAMED)


def _are(things: Collection[object]) -> str:
    return "is" if len(things) == 1 else "are"
