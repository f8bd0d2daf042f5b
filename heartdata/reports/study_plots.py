"""Plots of a study as PNG bytes: reliability, risk against coverage, and models side by side."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from heartdata.reports.labels import shortened
from heartdata.reports.plots import BLUE, GREY, MOST_PROBABLE, RED, add_grid, as_png, plain_text
from heartdata.scoring.challenges import LOWER_IS_BETTER
from heartdata.scoring.text import metric_label, with_bounds


@plain_text
def plot_reliability(bins: pd.DataFrame, error: float, note: str, rule: str = MOST_PROBABLE) -> bytes:
    """Accuracy of predictions by ``rule`` against their probability, below it the number of predictions in each bin.

    ``bins`` are rows of `heartdata.scoring.calibration.reliability_bins`; ``error`` is the expected calibration error.
    """
    figure = Figure(figsize=(5, 5.4), dpi=120, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    full = bins[bins["count"] > 0]
    width = bins["high"] - bins["low"]
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    above.vlines(full["confidence"], full["confidence"], full["accuracy"], color=RED, alpha=0.5, linewidth=3)
    above.plot(full["confidence"], full["accuracy"], "o-", color=BLUE, markersize=5, label="predictions, by bin")
    above.set(ylim=(-0.02, 1.02), ylabel="accuracy")
    above.set_title(f"Reliability of {rule}\nECE {error:.3f} ({len(bins)} bins)", fontsize=11)
    above.legend(fontsize=8, loc="best")
    bars = below.bar(bins["low"], bins["count"], width=width, align="edge", color=BLUE, alpha=0.5, edgecolor="white")
    below.bar_label(bars, [f"{n:.0f}" if n else "" for n in bins["count"]], fontsize=7)
    below.margins(y=0.2)
    below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
    below.set(xlim=(-0.02, 1.02), xlabel="confidence (probability of the prediction)", ylabel="predictions")
    for axes in (above, below):
        add_grid(axes)
    return as_png(figure, note)


@plain_text
def plot_coverage_risk(
    curve: pd.DataFrame, note: str, rule: str = MOST_PROBABLE, point: tuple[float, float] | None = None
) -> bytes:
    """Error rate of the predictions that are not unsure against their share, from `calibration.coverage_risk`.

    ``point``: the coverage and risk that the model has.
    """
    figure = Figure(figsize=(5.4, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot(curve["coverage"], curve["risk"], color=BLUE, label="by confidence")
    total = float(curve["risk"].iloc[0])
    axes.axhline(total, color=GREY, linestyle="--", linewidth=1, label=f"without abstaining: risk {total:.3f}")
    if point is not None and np.isfinite(point).all():
        label = f"as fitted: coverage {point[0]:.2f}, risk {point[1]:.3f}"
        axes.plot(*point, "o", color=RED, markersize=7, label=label, clip_on=False)
    axes.set(xlim=(0, 1.02), ylim=(0, float(np.clip(1.4 * curve["risk"].max(), 0.05, 1.02))))
    axes.set(xlabel="coverage (share of predictions not unsure)", ylabel="risk (error rate of these)")
    axes.set_title(f"Abstaining: {rule}, or unsure", fontsize=11)
    add_grid(axes)
    axes.legend(fontsize=8, loc="best")
    return as_png(figure, note)


@plain_text
def plot_comparison(metrics: pd.DataFrame, metric: str, reference: float | None, note: str, title: str) -> bytes:
    """One metric of several models: dots with 95 % intervals, in the rows' order from the top.

    ``metrics`` are rows of `heartdata.storage.schemas.METRICS`; those of other metrics are left out. ``reference``, a
    published value, is drawn as a line. A model whose value is not finite has no dot.
    """
    rows = metrics[metrics["metric"] == metric].reset_index(drop=True)
    figure = Figure(figsize=(8, 1.5 + 0.36 * max(len(rows), 1)), dpi=120, layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(rows))
    value, low, high = (rows[c].to_numpy(float) for c in ("value", "low", "high"))
    axes.hlines(y, low, high, color=BLUE, alpha=0.5, linewidth=3)
    axes.plot(value, y, "o", color=BLUE, markersize=6)
    beside = axes.get_yaxis_transform()  # right of the frame, where no line crosses the numbers
    for at, values in enumerate(zip(value, low, high, strict=True)):
        text = with_bounds(*values) if np.isfinite(values[0]) else "none"
        axes.text(1.02, at, text, transform=beside, va="center", fontsize=8, color="#323f4b")
    if reference is not None:
        axes.axvline(reference, color=RED, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"reference {with_bounds(reference)}", (reference, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", ha="center", fontsize=8, color=RED,
        )  # fmt: skip
    axes.set_yticks(y, [shortened(name) for name in rows["model"]], fontsize=8)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axes.margins(x=0.08)
    better = ", lower is better" if metric in LOWER_IS_BETTER else ""
    axes.set_xlabel(f"{metric_label(metric)}, 95 % interval{better}")
    axes.set_title(title, fontsize=10, pad=16 if reference is not None else None)
    add_grid(axes, "x")
    return as_png(figure, note)
