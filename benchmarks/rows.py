"""The rows of docs/benchmarks.md: what was measured, of heartbeat and of a peer in the same run."""

import math
import statistics
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.stats import binomtest, t


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Value(_Frozen):
    """A number; ``low`` and ``high``: lowest and highest of repeated timings, or the bounds of a 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None


class Target(_Frozen):
    """Bounds that heartbeat's own value, or the ratio to its peer, should keep."""

    of: Literal["heartbeat", "ratio"] = "ratio"
    least: float | None = None
    most: float | None = None


class Row(_Frozen):
    """A line of the page. ``peer_value`` is None where the peer could not be measured, and ``note`` says why.

    ``ratio``: above 1 heartbeat is better. ``unit`` is that of both values; scores have none.
    """

    measured: str
    unit: str = ""
    heartbeat: Value | None = None
    peer: str
    peer_value: Value | None = None
    ratio: Value | None = None
    target: Target | None = None
    note: str = ""

    def verdict(self) -> Literal["met", "missed", "missed within chance", ""]:
        """Whether the target is met; within chance: the interval of the value reaches it."""
        value = self.heartbeat if self.target and self.target.of == "heartbeat" else self.ratio
        if self.target is None or value is None:
            return ""
        least = -math.inf if self.target.least is None else self.target.least
        most = math.inf if self.target.most is None else self.target.most
        if least <= value.value <= most:
            return "met"
        low, high = (value.value if bound is None else bound for bound in (value.low, value.high))
        is_score = self.unit in ("", "%")  # a fast turn is no excuse
        return "missed within chance" if is_score and high >= least and low <= most else "missed"


def timed(
    measured: str, unit: str, ours: Sequence[float], peer: str, theirs: Sequence[float], *, higher_is_better: bool = False,
    target: Target | None = None, note: str = "",
) -> Row:  # fmt: skip
    """A row of repeated timings. Item n of ``ours`` and of ``theirs`` are of turn n; the ratio is taken turn by turn.

    Where one side was measured once, it is compared with each turn of the other.
    """
    ratios = np.divide(ours, theirs) if higher_is_better else np.divide(theirs, ours)
    return Row(
        measured=measured, unit=unit, heartbeat=spread(ours), peer=peer, peer_value=spread(theirs),
        ratio=spread(ratios.tolist()), target=target, note=note,
    )  # fmt: skip


def scored(
    measured: str, ours: Value | float, peer: str, theirs: Value | float, *, unit: str = "", lower_is_better: bool = False,
    target: Target | None = None, note: str = "",
) -> Row:  # fmt: skip
    """A row of two scores, or of other numbers that no repetition changes."""
    ours, theirs = (v if isinstance(v, Value) else Value(value=float(v)) for v in (ours, theirs))
    over, under = (theirs.value, ours.value) if lower_is_better else (ours.value, theirs.value)
    ratio = Value(value=over / under) if under > 0 and math.isfinite(over / under) else None
    return Row(
        measured=measured,
        unit=unit,
        heartbeat=ours,
        peer=peer,
        peer_value=theirs,
        ratio=ratio,
        target=target,
        note=note,
    )


def absent(measured: str, peer: str, note: str, target: Target | None = None) -> Row:
    """A row that could not be measured, and why."""
    return Row(measured=measured, peer=peer, note=note, target=target)


def spread(values: Sequence[float]) -> Value:
    """The median, with the lowest and the highest where there are several."""
    several = len(values) > 1
    return Value(
        value=statistics.median(values), low=min(values) if several else None, high=max(values) if several else None
    )


def share(some: int, of: int) -> Value:
    """Per cent, with the 95 % interval after Wilson."""
    bounds = binomtest(int(some), int(of)).proportion_ci(method="wilson")
    return Value(value=100 * some / of, low=100 * bounds.low, high=100 * bounds.high)


def mean_with_interval(values: Sequence[float]) -> Value:
    """The mean of independent draws with its 95 % t-interval, if there are several."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Value(value=mean)
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1)) / math.sqrt(len(values))
    return Value(value=mean, low=mean - half, high=mean + half)
