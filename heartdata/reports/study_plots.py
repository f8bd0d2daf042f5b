"""Pictures of a study as PNG bytes: reliability, coverage against risk, and models side by side."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heartdata.reports.plots import BLUE, GREY, MOST_PROBABLE, RED, as_png, plain_text
from heartdata.scoring.metrics import metric_label

LONGEST_NAME = 40  # of a model as drawn


@plain_text
def plot_reliability(bins: pd.DataFrame, error: float | None = None, note: str = "") -> bytes:
    """Accuracy of the most probable class against its probability, below it how many answers each bin holds.

    ``bins`` are rows of `heartdata.scoring.calibration.reliability_bins`; ``error`` is the expected calibration error.
    """
    figure = Figure(figsize=(5, 5.4), dpi=120, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    full = bins[bins["count"] > 0]
    width = bins["high"] - bins["low"]
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as sure as right")
    above.vlines(full["confidence"], full["confidence"], full["accuracy"], color=RED, alpha=0.5, linewidth=3)
    above.plot(full["confidence"], full["accuracy"], "o-", color=BLUE, markersize=5, label="answers, by bin")
    above.set_ylim(-0.02, 1.02)
    above.set_ylabel("share right")
    told = "" if error is None else f"\nECE {error:.3f} ({len(bins)} bins)"
    above.set_title(f"Reliability of {MOST_PROBABLE}{told}", fontsize=11)
    above.legend(fontsize=8, loc="upper left")
    bars = below.bar(bins["low"], bins["count"], width=width, align="edge", color=BLUE, alpha=0.5, edgecolor="white")
    below.bar_label(bars, [f"{n:.0f}" if n else "" for n in bins["count"]], fontsize=7)
    below.set_xlim(-0.02, 1.02)
    below.margins(y=0.2)
    below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    below.set_ylabel("answers")
    below.set_xlabel("confidence (probability of the answer)")
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    return as_png(figure, note)


@plain_text
def plot_coverage_risk(curve: pd.DataFrame, threshold: float | None = None, note: str = "") -> bytes:
    """Share wrong among the answers that stand, the most probable classes, against the share that stands.

    The point at ``threshold`` is marked. ``curve`` are rows of `heartdata.scoring.calibration.coverage_risk`, ``threshold`` is
    that of `unsure_threshold`.
    """
    figure = Figure(figsize=(5.4, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(curve["coverage"], curve["risk"], color=BLUE, label="by confidence")
    everything = float(curve["risk"].iloc[0])
    axes.axhline(
        everything, color=GREY, linestyle="--", linewidth=1, label=f"all answers stand: {everything:.3f} wrong"
    )
    if threshold is not None:
        at = curve[curve["threshold"] >= threshold].iloc[:1]
        for row in at.itertuples():
            told = f"unsure below {threshold:.3f}: {row.coverage:.0%} stand, {row.risk:.3f} wrong"
            axes.plot([row.coverage], [row.risk], "o", color=RED, markersize=7, label=told)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, max(0.05, 1.4 * float(curve["risk"].max())))
    axes.set_xlabel("coverage (share of answers that stand)")
    axes.set_ylabel("risk (share wrong of these)")
    axes.set_title(f"Unsure answers: {MOST_PROBABLE}, or none", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
    return as_png(figure, note)


@plain_text
def plot_comparison(
    metrics: pd.DataFrame, metric: str, reference: float | None = None, note: str = "", title: str = ""
) -> bytes:
    """One metric of several models: dots with 95 % intervals, in the rows' order from the top.

    ``compute_metrics`` are rows of `heartdata.storage.schemas.METRICS`; those of other metrics are left out. ``reference``, what
    others reach, is drawn as a line. A model whose value is not a number has no dot. Without a row the frame stays empty.
    """
    rows = metrics[metrics["metric"] == metric].reset_index(drop=True)
    figure = Figure(figsize=(8, 1.5 + 0.36 * max(len(rows), 1)), dpi=120, layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(rows))
    value, low, high = (rows[c].to_numpy(float) for c in ("value", "low", "high"))
    axes.hlines(y, low, high, color=BLUE, alpha=0.5, linewidth=3)
    axes.plot(value, y, "o", color=BLUE, markersize=6)
    beside = axes.get_yaxis_transform()  # right of the frame, where no line can cross the metrics
    for at, (x, down, up) in enumerate(zip(value, low, high, strict=True)):
        told = f"{x:.3f}" if np.isfinite(x) else "none"
        if np.isfinite([down, up]).all():
            told += f" ({down:.3f} to {up:.3f})"
        axes.text(1.02, at, told, transform=beside, va="center", fontsize=8, color="#323f4b")
    if reference is not None:
        decimals = 0 if reference >= 1000 else 3  # a cost, or a share
        axes.axvline(reference, color=RED, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"reference {reference:,.{decimals}f}", (reference, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", fontsize=8, color=RED,
        )  # fmt: skip
    axes.set_yticks(y, [_short(name) for name in rows["model"]], fontsize=8)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.margins(x=0.08)
    name = metric_label(metric)
    axes.set_xlabel(f"{name}, 95 % interval")
    axes.set_title(title or f"Models by {name}", fontsize=10, pad=16 if reference is not None else None)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return as_png(figure, note)


def _short(name: object) -> str:
    told = str(name)
    return told if len(told) <= LONGEST_NAME else f"{told[: LONGEST_NAME - 1]}…"
