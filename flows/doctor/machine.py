"""Checks of the machine and of what is installed: versions, memory, processes, clock, time zones."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psutil
from packaging.requirements import Requirement

from flows.doctor.finding import Finding
from heartdata.sources.text import enumerated

INSTALL = "pip install -c constraints.txt -e . in the project's folder"
NIGHT_BYTES, TIGHT_BYTES = 3e9, 1.5e9  # of memory; the smallest demo's process takes 1.6 GB while it trains
CLOCK_TOLERANCE = timedelta(minutes=5)
NAMED = 4
Installed = Callable[[str], str | None]


def packages(requirements: Mapping[str, Sequence[str]], installed: Installed) -> Iterator[Finding]:
    """What each distribution requires is installed in a version that it accepts, such as torch's for torchvision."""
    count = 0
    for name, texts in requirements.items():
        for requirement in map(Requirement, texts):
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            count += 1
            version = installed(requirement.name)
            if version is None:
                yield Finding("problem", f"{requirement.name} is not installed, which {name} needs", INSTALL)
            elif not requirement.specifier.contains(version, prereleases=True):
                needed = f"{requirement.name} {version} is installed, and {name} needs {requirement.specifier}"
                yield Finding("problem", needed, INSTALL)
    yield Finding("ok", f"{count} requirements of {', '.join(requirements)} compared with what is installed")


def importable(module: str, obstacle: str) -> Finding:
    """A module can be imported: torchvision cannot where it was built for another torch."""
    if obstacle:
        return Finding("problem", f"{module} cannot be imported ({obstacle})", INSTALL)
    return Finding("ok", f"{module} can be imported")


def pinned(constraints: Iterable[str], installed: Installed) -> Finding:
    """The versions are those that were tried together."""
    pins = [Requirement(line) for line in constraints if line.strip() and not line.startswith("#")]
    others = [
        f"{pin.name} {version}{pin.specifier}".replace("==", " for ")
        for pin in pins
        if (version := installed(pin.name)) and not pin.specifier.contains(version, prereleases=True)
    ]
    if not others:
        return Finding("ok", "packages are in the versions of constraints.txt")
    named = enumerated(others, NAMED)
    return Finding("warning", f"other versions than those of constraints.txt are installed: {named}", INSTALL)


def available_memory_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """What the machine has available, or the container where that allows less."""
    available = psutil.virtual_memory().available
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit == "max":
            return available
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        reclaimable = float(stat["inactive_file"])  # the page cache of files, which counts as used
        return min(available, float(limit) - float(used) + reclaimable)
    except (OSError, ValueError, KeyError):
        return available


def memory(available_bytes: float) -> Finding:
    """Enough memory is free for a night beside the servers."""
    text = f"{available_bytes / 1e9:.1f} GB of memory are free"
    remedy = "stop other programs, or set engine.name=threads and a smaller training.batch"
    if available_bytes < TIGHT_BYTES:
        return Finding("problem", f"{text}: a night needs about {NIGHT_BYTES / 1e9:.0f} GB", remedy)
    if available_bytes < NIGHT_BYTES:
        return Finding("warning", f"{text}: a night may need {NIGHT_BYTES / 1e9:.0f} GB", remedy)
    return Finding("ok", text)


def worker_processes(obstacle: str) -> Finding:
    """Worker processes can start, which needs shared memory."""
    if obstacle:
        remedy = "docker run --shm-size=1g, or engine.name=threads"
        return Finding("warning", f"worker processes cannot start ({obstacle}): threads compute instead", remedy)
    return Finding("ok", "worker processes can start (/dev/shm)")


def clock(newest: datetime | None, now: datetime) -> Finding:
    """Nothing that was recorded is in the future, as after a clock was set back."""
    if newest and newest - now > CLOCK_TOLERANCE:
        text = f"the newest record is of {newest.astimezone(UTC):%Y-%m-%d %H:%M} UTC, and the clock says {now:%Y-%m-%d %H:%M}"
        return Finding(
            "warning", f"{text}: one of them is wrong", "set the clock, for example timedatectl set-ntp true"
        )
    return Finding("ok", f"the clock says {now:%Y-%m-%d %H:%M} UTC, after every record")


def time_zones(names: Iterable[str]) -> Finding:
    """The time zones of the schedules are known here."""
    unique = sorted({*names})
    for name in unique:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            return Finding(
                "problem",
                f"the time zone {name!r} of a schedule is not known here",
                "pip install tzdata, or correct schedules in prefect.yaml",
            )
    schedules = f"schedules are in {', '.join(unique)}" if unique else "no schedule yet"
    return Finding("ok", f"the time zone here is {time.tzname[0]}; {schedules}")
