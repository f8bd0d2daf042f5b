"""`heartbeat doctor`: check what a night depends on, and say how to mend what is wrong."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property

import typer
from rich.text import Text

from flows.cli.console import plain_console
from flows.cli.exit_codes import ExitCode
from flows.cli.status import nights_of
from flows.deployments import PROJECT
from flows.doctor import installed, machine, processes
from flows.doctor import store as stores
from flows.doctor.finding import Check, Finding, run_checks
from flows.local.network import direct_loopback
from flows.local.observed import flow_run_processes, orphaned_servers, prefect_api, runner_started, running_up
from flows.local.servers import API_VARIABLE, PREFECT_PORT, check_api, port_is_free
from heartdata.config import RunConfig
from heartdata.processes import why_no_processes
from heartdata.settings import without_login
from heartdata.storage.locks import holders, why_no_locks
from heartdata.storage.store import Store, is_store
from heartdata.storage.usage import free_bytes, nightly_bytes, usage
from tasks.engine.flow_runs import Nights
from tasks.registry.client import check_registry, connect, is_empty, is_own

MLFLOW_PORT = 5000
STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def examine(config: RunConfig) -> None:
    """Print what each check finds; exits with `ExitCode.USER_ERROR` where something must be mended."""
    direct_loopback()
    console = plain_console()
    counts = dict.fromkeys(STYLES, 0)
    for finding in run_checks(Examination(config).checks()):
        counts[finding.level] += 1
        console.print(Text(f"{finding.level:<8} ", STYLES[finding.level]) + Text(finding.text))
        if finding.remedy:
            console.print(Text(f"         to mend it: {finding.remedy}"))
    console.print(f"{counts['problem']} problems, {counts['warning']} warnings, {counts['ok']} checks passed")
    if counts["problem"]:
        raise typer.Exit(ExitCode.USER_ERROR)


class Examination:
    """The facts of one store and this machine, each gathered by the check that needs it first."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.store = Store(config.store)

        self.up = running_up(self.store)
        self.is_ours = API_VARIABLE not in os.environ  # or else runs may have their processes on other machines
        if api := prefect_api(self.up):
            os.environ[API_VARIABLE] = api  # before a check imports Prefect

    @cached_property
    def nights(self) -> Nights | None:
        """None also where the server or database cannot be read, which a check of its own says."""
        with suppress(Exception):  # ours, sqlite3's, Prefect's, those of its HTTP library
            return nights_of(self.store, prefect_api(self.up))
        return None

    def checks(self) -> Iterator[Check]:
        """All checks, in the order in which they are shown; those of a store only where there is one."""
        yield from (self._packages, self._torchvision, self._pinned, self._memory, self._worker_processes, self._usable)
        if is_store(self.store.root) or self.store.root.is_dir():
            yield from (self._permissions, self._file_locks, self._disk, self._databases)
        yield from (self._ports, self._serving, self._prefect, self._registry)
        yield from (self._champion_locks, self._servers, self._flow_runs)
        yield from (self._clock, self._time_zones)

    def _packages(self) -> Iterator[Finding]:
        yield Finding("ok", f"Python {sys.version.partition(' ')[0]}")
        yield from machine.packages(installed.requirements(), installed.version)

    def _torchvision(self) -> Finding:
        return machine.importable("torchvision", installed.why_not_imported("torchvision"))

    def _pinned(self) -> Iterator[Finding]:
        file = PROJECT / "constraints.txt"
        if file.is_file():
            yield machine.pinned(file.read_text(encoding="utf-8").splitlines(), installed.version)

    def _memory(self) -> Finding:
        return machine.memory(machine.available_memory_bytes())

    def _worker_processes(self) -> Finding:
        return machine.worker_processes(why_no_processes())

    def _usable(self) -> Finding:
        return stores.usable(self.store)

    def _permissions(self) -> Iterator[Finding]:
        root = self.store.root
        names = ("", "prefect", "prefect/prefect.db", "mlflow.db", "mlflow-artifacts", "models", "results", "champions")
        return stores.permissions([root / name for name in names], os.getuid())

    def _file_locks(self) -> Finding:
        return stores.file_locks(self.store.root, why_no_locks(self.store.root))

    def _disk(self) -> Finding:
        return stores.disk(
            free_bytes(self.store.root), nightly_bytes(usage(Store(self.store.root).entries(""), time.time()))
        )

    def _databases(self) -> Iterator[Finding]:
        for name, program in (("mlflow.db", "MLflow"), ("prefect/prefect.db", "Prefect")):
            path = self.store.root / name
            if path.is_file():
                yield stores.database(path, program, self.store.uri)

    def _ports(self) -> Iterator[Finding]:
        for number, option in ((PREFECT_PORT, "--prefect-port"), (MLFLOW_PORT, "--mlflow-port")):
            yield processes.port(number, option, port_is_free(number), self.up)

    def _serving(self) -> Iterator[Finding]:
        yield processes.serving(self.up)
        if self.up and self.up.api:
            log = self.store.root / "logs/runner.log"
            yield processes.runner(self.up, runner_started(self.up), datetime.now(UTC), log)

    def _prefect(self) -> Iterator[Finding]:
        if api := prefect_api(self.up):
            check_api()
            yield Finding("ok", f"Prefect answers at {without_login(api)}")

    def _registry(self) -> Iterator[Finding]:
        from tasks.registry.killed_runs import killed_runs

        registry, names = self.config.registry, []
        if not is_empty(registry, self.store):
            check_registry(registry, self.store)
            kept = ", and keeps its files where it should" if is_own(registry, self.store) else ""
            yield Finding("ok", f"the MLflow registry can be read{kept}")
            runs = killed_runs(connect(registry, self.store), registry)
            names = [run.info.run_name for run in runs]
        yield processes.tracked_runs(names, self.store.uri)

    def _champion_locks(self) -> Finding:
        paths = sorted((self.store.root / "champions").glob("*.lock"))
        return processes.champion_locks([(path, process) for path in paths for process in holders(path)])

    def _servers(self) -> Finding:
        return processes.servers(orphaned_servers(self.store))

    def _flow_runs(self) -> Iterator[Finding]:
        is_unread = self.nights is None and (self.up or self.store.workpath("prefect/prefect.db").is_file())
        if self.is_ours and not is_unread:
            unfinished = self.nights.unfinished if self.nights else ()
            yield processes.flow_runs(unfinished, flow_run_processes())

    def _clock(self) -> Finding:
        return machine.clock(stores.newest_record(self.store.root), datetime.now(UTC))

    def _time_zones(self) -> Finding:
        return machine.time_zones(each.timezone for each in (self.nights.schedules if self.nights else ()))
