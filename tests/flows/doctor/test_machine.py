"""Checks of the machine, each on facts that pass and on facts that do not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.doctor import installed, machine
from flows.doctor.finding import Finding, run_checks
from heartdata.errors import StoreError

NOW = datetime(2026, 11, 30, 2, tzinfo=UTC)


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


def test_a_check_that_fails_does_not_stop_the_others():
    def first() -> Finding:
        raise ZeroDivisionError("division by zero at http://me:hunter2@127.0.0.1/api")

    def second() -> Finding:
        raise StoreError("cannot write to x: make it writable")

    def third() -> list[Finding]:
        return [Finding("ok", "a"), Finding("ok", "b")]

    found = list(run_checks([first, second, third]))
    assert levels(found) == ["warning", "problem", "ok", "ok"]
    assert found[0].text == "first could not be checked (ZeroDivisionError: division by zero at http://127.0.0.1/api)"
    assert found[1].text == "cannot write to x: make it writable"


def test_requirements_that_are_met_and_that_are_not():
    required = {
        "heartbeat": ["fastapi<0.151,>=0.139", "sqlalchemy<2.1,>=2.0", 's3fs; extra == "s3"'],
        "torchvision": ["torch==2.14.1"],
    }
    good = {"fastapi": "0.150.0", "sqlalchemy": "2.0.58", "torch": "2.14.1+cpu"}
    assert levels(machine.packages(required, good.get)) == ["ok"]
    bad = {"fastapi": "0.155.0", "torch": "2.13.0"}
    problems = [f for f in machine.packages(required, bad.get) if f.level == "problem"]
    assert [f.text for f in problems] == [
        "fastapi 0.155.0 is installed, and heartbeat needs <0.151,>=0.139",
        "sqlalchemy is not installed, which heartbeat needs",
        "torch 2.13.0 is installed, and torchvision needs ==2.14.1",
    ]
    assert all(f.remedy for f in problems)


def test_what_is_installed_here_is_what_is_required():
    assert "problem" not in levels(machine.packages(installed.requirements(), installed.version))
    assert {"heartbeat", "torchvision"} <= installed.requirements().keys()


def test_a_module_that_cannot_be_imported_is_a_problem():
    assert machine.importable("json", installed.why_not_imported("json")).level == "ok"
    found = machine.importable("no_such", installed.why_not_imported("no_such"))
    assert (found.level, found.text) == (
        "problem",
        "no_such cannot be imported (ModuleNotFoundError: No module named 'no_such')",
    )


def test_other_versions_than_those_tried_are_named():
    lines = ["# tried together", "numpy==2.4.6", "absent==1.0", "pandas==3.1.1", ""]
    assert machine.pinned(lines, {"numpy": "2.4.6", "pandas": "3.1.1"}.get).level == "ok"
    found = machine.pinned(lines, {"numpy": "2.5.0", "pandas": "3.1.1"}.get)
    assert (found.level, "numpy 2.5.0 for 2.4.6" in found.text) == ("warning", True)


@pytest.mark.parametrize(("available", "level"), [(8e9, "ok"), (2e9, "warning"), (1e9, "problem")])
def test_memory(available: float, level: str):
    assert machine.memory(available).level == level


def test_a_container_may_have_less_memory_than_the_machine(tmp_path: Path):
    (tmp_path / "memory.current").write_text("300000000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_memory_bytes(tmp_path) > 2e8
    (tmp_path / "memory.max").write_text("500000000\n")
    (tmp_path / "memory.stat").write_text("anon 200000000\ninactive_file 60000000\n")
    assert machine.available_memory_bytes(tmp_path) == 2.6e8
    assert machine.available_memory_bytes(tmp_path / "absent") > 2e8


def test_worker_processes():
    assert machine.worker_processes("").level == "ok"
    found = machine.worker_processes("/dev/shm: Permission denied")
    assert (found.level, "/dev/shm: Permission denied" in found.text) == ("warning", True)


def test_a_record_in_the_future_is_noticed():
    assert machine.clock(None, NOW).level == "ok"
    assert machine.clock(NOW - timedelta(days=1), NOW).level == "ok"
    found = machine.clock(NOW + timedelta(days=1), NOW)
    assert (found.level, "2026-12-01 02:00" in found.text) == ("warning", True)


def test_time_zones():
    assert machine.time_zones([]).level == "ok"
    assert "Europe/Berlin, UTC" in machine.time_zones(["UTC", "Europe/Berlin", "UTC"]).text
    found = machine.time_zones(["Europe/Berlin", "Mars/Olympus"])
    assert (found.level, "'Mars/Olympus'" in found.text) == ("problem", True)
