"""The plot of a learning curve as PNG bytes."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from heartdata.reports.plots import BLUE, RED, add_grid, as_png, plain_text
from heartdata.scoring.text import metric_label

COLOURS = (BLUE, RED, "#13795b", "#8e44ad")


@plain_text
def plot_learning_curve(curve: pd.DataFrame, metric: str, title: str, note: str = "") -> bytes:
    """Scores by the number of training subjects (rows of schema LEARNING_CURVE): dots with 95 % intervals, fitted curves
    with bands, dashed beyond the largest number measured.
    """
    figure = Figure(figsize=(7.6, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    measured = curve[curve["arm"].notna()]
    largest = measured["subjects"].max()
    for colour, (model, rows) in zip(COLOURS, curve.groupby("model", sort=False), strict=False):
        dots, line = rows[rows["arm"].notna()], rows[rows["arm"].isna()]
        errors = [dots["value"] - dots["low"], dots["high"] - dots["value"]]
        axes.errorbar(
            dots["subjects"], dots["value"], yerr=errors, fmt="o", color=colour, markersize=5, capsize=3, label=model
        )
        axes.fill_between(line["subjects"], line["low"], line["high"], color=colour, alpha=0.12, linewidth=0)
        inside = line["subjects"] <= largest
        axes.plot(line.loc[inside, "subjects"], line.loc[inside, "value"], color=colour)
        axes.plot(line.loc[~inside, "subjects"], line.loc[~inside, "value"], color=colour, linestyle="--")
    axes.set_xscale("log")
    numbers = sorted(measured["subjects"].unique())
    axes.set_xticks([*numbers, *(times * largest for times in (2, 5, 10))])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(8))
    axes.set(
        xlabel="training subjects (logarithmic; dashed: extrapolated)", ylabel=f"{metric_label(metric)}, 95 % interval"
    )
    axes.set_title(title, fontsize=10)
    add_grid(axes)
    axes.legend(fontsize=8, loc="best")
    return as_png(figure, note)
