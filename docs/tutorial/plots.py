"""The plots of pages 4 and 6."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from heartdata.scoring.calibration import reliability_bins
from heartdata.scoring.confusion import class_numbers, confusion_counts

BLUE, RED, GREEN, GREY = "#1f77b4", "#c0392b", "#13795b", "#9aa5b1"


def matrix(rows: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """Counts of shape (true classes, predicted classes)."""
    truth, predicted = (class_numbers(rows[column], classes) for column in ("label", "prediction"))
    return confusion_counts(truth, predicted, len(classes))[0].astype(int)


def intervals(
    axes: plt.Axes, rows: pd.DataFrame, at: np.ndarray, color: str, marker: str = "o", label: str = ""
) -> None:
    """Dots at ``value`` with lines from ``low`` to ``high``, at heights ``at``."""
    axes.hlines(at, rows["low"], rows["high"], color=color, alpha=0.5, linewidth=3)
    axes.plot(rows["value"], at, marker, color=color, label=label or None)


def by_metric(scores: Mapping[str, pd.DataFrame]) -> plt.Figure:
    """Models from top to bottom, a marker for each metric; ``scores``: rows of `scores.compared`, by the metric's name."""
    figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
    for (metric, rows), color, marker, shift in zip(
        scores.items(), (GREY, BLUE, RED), "sod", (-0.2, 0, 0.2), strict=True
    ):
        intervals(axes, rows, np.arange(len(rows)) + shift, color, marker, metric)
    axes.set_yticks(range(len(rows)), rows.index)
    axes.invert_yaxis()
    axes.set(xlabel="score, 95 % interval", title="The same predictions by three metrics")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def confusions(tables: Mapping[str, pd.DataFrame], classes: list[str]) -> plt.Figure:
    """Confusion matrices side by side, by title: counts, coloured by the share of the true class."""
    figure, panels = plt.subplots(1, len(tables), figsize=(3.7 * len(tables), 3.6), layout="constrained")
    for axes, (title, rows) in zip(panels, tables.items(), strict=True):
        counts = matrix(rows, classes)
        shares = counts / counts.sum(axis=1, keepdims=True)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, count, ha="center", va="center", color=color)
        axes.set_xticks(range(len(classes)), classes, fontsize=8)
        axes.set_yticks(range(len(classes)), classes, fontsize=8)
        axes.set_xlabel("predicted")
        axes.set_title(title, fontsize=10)
    panels[0].set_ylabel("true")
    return figure


def ranking(models: Mapping[str, pd.DataFrame], label: str) -> plt.Figure:
    """ROC and precision-recall curves of ``label`` against the rest, a line for each fold of each model."""
    figure, (roc, pr) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for (name, rows), color in zip(models.items(), (GREY, GREEN, BLUE), strict=True):
        for number, (_, part) in enumerate(rows.groupby("fold")):
            legend = f"{name}, a line a fold" if number == 0 else None
            yes, probability = part["label"] == label, part[f"p_{label}"]
            false_alarms, recall, _ = roc_curve(yes, probability)
            roc.plot(false_alarms, recall, color=color, alpha=0.6, linewidth=1, label=legend)
            precision, recall, _ = precision_recall_curve(yes, probability)
            pr.plot(recall, precision, color=color, alpha=0.6, linewidth=1)
    roc.plot([0, 1], [0, 1], "--", color="black", linewidth=0.8, label="guessing")
    pr.axhline((rows["label"] == label).mean(), linestyle="--", color="black", linewidth=0.8)
    roc.set(xlabel=f"share of the others called {label}", ylabel=f"recall of {label}", title="ROC")
    pr.set(xlabel=f"recall of {label}", ylabel="precision", title="Precision and recall", ylim=(0, 1.03))
    for axes in (roc, pr):
        axes.grid(alpha=0.3)
    roc.legend(fontsize=8)
    return figure


def reliability(panels_of: Mapping[str, tuple[pd.DataFrame, np.ndarray]], classes: list[str]) -> plt.Figure:
    """Accuracy against confidence in ten bins; by title, rows and their probabilities of shape (rows, classes)."""
    size = (3.7 * len(panels_of), 3.6)
    figure, panels = plt.subplots(1, len(panels_of), figsize=size, sharey=True, layout="constrained")
    for axes, (title, (rows, probabilities)) in zip(panels, panels_of.items(), strict=True):
        correct = probabilities.argmax(axis=1) == class_numbers(rows["label"], classes)
        bins = reliability_bins(probabilities.max(axis=1).clip(0, 1), correct, 10).query("count > 0")
        axes.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
        axes.vlines(bins["confidence"], bins["confidence"], bins["accuracy"], color=RED, alpha=0.5, linewidth=3)
        axes.plot(bins["confidence"], bins["accuracy"], color=BLUE, linewidth=1)
        axes.scatter(bins["confidence"], bins["accuracy"], 6 + 400 * bins["count"] / len(rows), color=BLUE, zorder=3)
        axes.set(xlabel="confidence", xlim=(0, 1.02), ylim=(-0.02, 1.05))
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy (dot area: predictions)")
    return figure


def device_share(areas: pd.DataFrame, models: Sequence[str]) -> plt.Figure:
    """AUROC of each class (the index) in the columns "MODEL, both sets" and "MODEL, inside"."""
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    at = np.arange(len(areas))
    for model, color, shift in zip(models, (BLUE, GREY), (-0.12, 0.12), strict=True):
        both, inside = areas[f"{model}, both sets"], areas[f"{model}, inside"]
        axes.hlines(at + shift, inside, both, color=color, alpha=0.5, linewidth=3)
        axes.plot(both, at + shift, "o", color=color, label=f"{model}, both sets")
        axes.plot(inside, at + shift, "o", color=color, markerfacecolor="white", label=f"{model}, inside one set")
    axes.axvline(0.5, color="black", linestyle="--", linewidth=0.8)
    axes.set_yticks(at, areas.index)
    axes.invert_yaxis()
    axes.set(xlabel="AUROC of the class against the rest", title="What is left when the device is the same")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def inputs(rows: Sequence[tuple[Path, np.ndarray, float, Sequence[int]]], hop_s: float) -> plt.Figure:
    """For each recording a PNG, its spectrogram (columns, mel_bands), its duration in s and where its windows start."""
    figure, panels = plt.subplots(
        len(rows), 2, figsize=(11, 2.6 * len(rows)), width_ratios=(1, 3), layout="constrained"
    )
    for (image, floats), (png, spectrogram, duration_s, starts) in zip(panels, rows, strict=True):
        image.imshow(plt.imread(png))
        image.set_title(f"tutorial: {duration_s:.1f} s as one PNG", fontsize=10)
        image.axis("off")
        shown = spectrogram.T.astype(np.float32)
        floats.imshow(shown, origin="lower", aspect="auto", interpolation="nearest", cmap="magma", vmin=-2, vmax=3)
        for start in starts[1:]:
            floats.axvline(start, color="white", linewidth=0.8, linestyle="--")
        floats.set(xlabel=f"column ({1000 * hop_s:.0f} ms each)", ylabel="mel band")
        floats.set_title("pipeline: floats at one time scale (dashed: where a window begins)", fontsize=10)
    return figure


def splits(*groups: pd.DataFrame) -> plt.Figure:
    """Rows of `scores.compared` from top to bottom, with a gap between groups; red where the name says random."""
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.26 * sum(map(len, groups))), layout="constrained")
    at, names = 0.0, {}
    for rows in groups:
        for name, row in rows.iterrows():
            color = RED if "random" in str(name) else BLUE
            intervals(axes, row.to_frame().T, np.array([at]), color)
            axes.text(1.01, at, f"{row['value']:.3f}", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
            names[at] = name
            at += 1
        at += 0.6
    axes.set_yticks(list(names), list(names.values()), fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("macro-F1, 95 % interval by bootstrap over subjects")
    axes.set_title("Random splits (red) and splits by subject (blue)", fontsize=10)
    return figure


def rate_finder(
    searches: Mapping[str, tuple[np.ndarray, np.ndarray, Mapping[str, float]]], default: float
) -> plt.Figure:
    """Loss against learning rate: by title, rates, losses and the suggested rates by their rule."""
    figure, panels = plt.subplots(1, len(searches), figsize=(5 * len(searches), 3.4), layout="constrained")
    for axes, (title, (rates, losses, suggested)) in zip(panels, searches.items(), strict=True):
        axes.plot(rates[:-2], losses[:-2], color=BLUE)
        for (rule, rate), color in zip(suggested.items(), (GREEN, RED, GREY), strict=True):
            axes.plot(rate, np.interp(rate, rates, losses), "o", color=color, label=f"{rule}: {rate:.1e}")
        axes.axvline(default, color="black", linestyle="--", linewidth=0.8, label=f"default: {default:g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed", title=title)
        axes.set_ylim(losses[:-2].min() * 0.95, np.percentile(losses[:-2], 90) * 1.15)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure
