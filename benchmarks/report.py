"""docs/benchmarks.md, from what `make bench` recorded in docs/benchmarks/."""

import math
from collections.abc import Sequence
from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from benchmarks.pages import markdown_table
from benchmarks.rows import Row, Target, Value

HEADS = ("measured", "heartbeat", "peer", "peer's", "ratio", "target")
INTRODUCTION = """\
# Benchmarks

`make bench` measures all of this, one benchmark after the other, in less than 40 minutes on two idle cores, and writes this
page. `make bench ONLY="training serving"` measures some anew and keeps the others; `SMALL=1` only tries whether they run.

Each row has heartbeat and a peer on the same input in the same run: another program, a plain way to do the same, or, as of nights
with nothing new, heartbeat's own full run. Timings with brackets are taken in turn and repeated: medians, the lowest and the
highest; the ratio is taken turn by turn. Timings without brackets were taken once. Of scores, the brackets are 95 % intervals.
**A ratio above 1 is in heartbeat's favour.** Seconds and ratios are of this machine. Simulated subjects and synthetic
recordings test a method, never a model."""
LONGER = """\
## Longer measurements

| | command | in |
| --- | --- | --- |
| one random fault a night, and what a plain re-run mends | `make faults WRITE=1` (an hour) | [faults](faults.md#faults) |
| 72 nights back to back | `make nights WRITE=1` | [faults](faults.md#72-nights) |
| training beside a busy process, and two runs at once | `make busy WRITE=1` (minutes) | [faults](faults.md#a-busy-machine) |
| scores of the recipe on real recordings | `heartbeat study NAME` (minutes to an hour) | [studies](studies.md#results) |
| licences of the dependencies | `python -m benchmarks.licences` | [security](security.md) |"""


class Record(BaseModel):
    """What one benchmark measured, when, and where. ``about``: a sentence of its docstring; ``load``: of the machine
    before it began.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    title: str
    about: str
    date: str
    commit: str
    seconds: float
    load: float
    machine: str
    versions: dict[str, str]
    small: bool
    rows: list[Row]


def page(records: Sequence[Record]) -> str:
    """The whole page, with a section for each benchmark."""
    sections = [INTRODUCTION]
    if any(record.small for record in records):
        names = ", ".join(record.title for record in records if record.small)
        sections.append(f"> **Not measured yet: {names}.** Their numbers are of `make bench SMALL=1` and mean nothing.")
    sections += [_targets(records), *map(_section, records), LONGER, _machines(records)]
    return "\n\n".join(sections) + "\n"


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; what was measured is not repeated for further peers."""
    lines = [_cells(row) for row in with_own_targets_once(rows)]
    shown = [line if line[:2] != before[:2] else ("", "", *line[2:]) for before, line in pairwise([("",) * 6, *lines])]
    return markdown_table(HEADS, shown)


def with_own_targets_once(rows: Sequence[Row]) -> list[Row]:
    """The rows, with a target of heartbeat's own value in the first of several rows about it only."""
    seen: set[tuple[str, Target]] = set()
    shown = []
    for row in rows:
        own = row.target if row.target and row.target.of == "heartbeat" else None
        shown.append(row.model_copy(update={"target": None}) if own and (row.measured, own) in seen else row)
        if own:
            seen.add((row.measured, own))
    return shown


def _section(record: Record) -> str:
    took = f"{record.seconds / 60:.1f} minutes" if record.seconds >= 60 else f"{record.seconds:.0f} s"
    small = ", **sizes that measure nothing**" if record.small else ""
    made = f"`make bench ONLY={record.name}`: {took} on {record.date}, commit {record.commit}, load before {record.load:.1f}{small}"
    return f"## {record.title}\n\n{record.about}\n\n{table(record.rows)}\n\n{made}."


def _cells(row: Row) -> tuple[str, ...]:
    ratio = _with_spread(row.ratio, "") if row.ratio else ""
    measured = f"{row.measured}: {row.note}" if row.note else row.measured
    ours, theirs = (_with_spread(value, row.unit) if value else "" for value in (row.heartbeat, row.peer_value))
    return measured, ours, row.peer, theirs or "not measured", ratio, _target(row)


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    verdict = row.verdict() or "not measured"
    shown = f"**{verdict}**" if verdict == "missed" else verdict
    return f"{_bounds(row.target, row.unit)}: {shown}"


def _bounds(target: Target, unit: str) -> str:
    of = "ratio " if target.of == "ratio" else ""
    unit = f" {unit}" if unit and target.of == "heartbeat" else ""
    if target.least is not None and target.most is not None:
        return f"{of}{number(target.least)} to {number(target.most)}{unit}"
    if target.least is not None:
        return f"{of}at least {number(target.least)}{unit}"
    return f"{of}at most {number(target.most or 0)}{unit}"


def _with_spread(value: Value, unit: str) -> str:
    text = f"{number(value.value)} {unit}".rstrip()
    if value.low is None or value.high is None:
        return text
    return f"{text} ({number(value.low)} to {number(value.high)})"


def number(value: float) -> str:
    """Three significant digits, at most three decimals; less than a thousandth with one digit."""
    if not math.isfinite(value):
        return "-"
    if 0 < abs(value) < 0.001:
        return f"{value:.{-math.floor(math.log10(abs(value)))}f}"
    size = math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{min(3, max(0, 2 - size))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _targets(records: Sequence[Record]) -> str:
    rows = [(record, row) for record in records if not record.small for row in with_own_targets_once(record.rows)]
    rows = [(record, row) for record, row in rows if row.target]
    missed = [(record, row) for record, row in rows if row.verdict() != "met"]
    count = f"**Targets.** {len(rows) - len(missed)} of {len(rows)} are met"
    if not missed:
        return f"{count}."
    lines: dict[str, list[str]] = {}
    for record, row in missed:
        anchor = record.title.lower().replace(" ", "-")
        lines.setdefault(f"[{record.title}](#{anchor}): {row.measured}", []).append(_missed(row))
    return "\n".join([f"{count}. Missed:\n", *(f"- {what}: {'; '.join(shown)}" for what, shown in lines.items())])


def _missed(row: Row) -> str:
    if not row.verdict():
        return f"not measured beside *{row.peer}* ({row.note})"
    of_ratio = row.target is not None and row.target.of == "ratio"
    value, unit = (row.ratio, "") if of_ratio else (row.heartbeat, row.unit)
    shown = f"{number(value.value)} {unit}".rstrip() if value else ""
    against = f" to *{row.peer}*" if of_ratio else ""
    chance = ", within chance" if row.verdict() == "missed within chance" else ""
    bounds = _bounds(row.target, row.unit).removeprefix("ratio ") if row.target else ""
    return f"{'ratio ' * of_ratio}{shown}{against} ({bounds}{chance})"


def _machines(records: Sequence[Record]) -> str:
    """The machines and the versions, each set with the benchmarks that ran there."""
    places: dict[str, list[str]] = {}
    for record in records:
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        places.setdefault(f"{record.machine}. {versions}.", []).append(record.title)
    if len(places) == 1:
        return f"## Machine and versions\n\n{next(iter(places))}"
    return "## Machines and versions\n\n" + "\n".join(
        f"- {', '.join(titles)}: {place}" for place, titles in places.items()
    )
