"""The plot of a learning curve."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from heartdata.reports.plots import BLUE, GREY, RED, add_grid, as_png, plain_text
from heartdata.scoring.text import metric_label

TIMES_LARGEST = (2, 5, 10)  # ticks beyond what was measured


@plain_text
def plot_learning_curve(curve: pd.DataFrame, metric: str, title: str, note: str = "") -> bytes:
    """`draw_learning_curve` as PNG."""
    figure = Figure(figsize=(7.6, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    draw_learning_curve(axes, curve, metric)
    axes.set_title(title, fontsize=10)
    return as_png(figure, note)


def draw_learning_curve(axes: Axes, curve: pd.DataFrame, metric: str) -> None:
    """Scores of two models by the number of training subjects (rows of schema LEARNING_CURVE).

    Dots with 95 % intervals, and fitted curves with bands; right of the line nothing was measured.
    """
    measured = curve[curve["arm"].notna()]
    largest = measured["subjects"].max()
    for colour, (model, rows) in zip((BLUE, RED), curve.groupby("model", sort=False), strict=True):
        dots, line = rows[rows["arm"].notna()], rows[rows["arm"].isna()].sort_values("subjects")
        errors = [dots["value"] - dots["low"], dots["high"] - dots["value"]]
        axes.errorbar(
            dots["subjects"], dots["value"], yerr=errors, fmt="o", color=colour, markersize=5, capsize=3, label=model
        )
        axes.fill_between(line["subjects"], line["low"], line["high"], color=colour, alpha=0.12, linewidth=0)
        inside = line["subjects"] <= largest
        axes.plot(line.loc[inside, "subjects"], line.loc[inside, "value"], color=colour)
        outside = ~inside | (inside & ~inside.shift(-1, fill_value=False))  # from where the other ends
        axes.plot(line.loc[outside, "subjects"], line.loc[outside, "value"], color=colour, linestyle="--")
    axes.axvline(largest, color=GREY, linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([*sorted(measured["subjects"].unique()), *(times * largest for times in TIMES_LARGEST)])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="training subjects (logarithmic; dashed: extrapolated)")
    axes.set(ylabel=f"{metric_label(metric)}, 95 % interval")
    add_grid(axes)
    axes.legend(fontsize=8, loc="best")
