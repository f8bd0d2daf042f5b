"""Plots of a run as PNG bytes: training curves, confusion matrix, ROC, example spectrograms, drift."""

import io
import textwrap
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.reports.labels import in_legend, shortened, wrapped
from heartdata.storage.store import Store

OCTAVES_HZ = (50, 100, 200, 400, 800, 1600, 3200)
MOST_PROBABLE, AT_POINT = "the most probable class", "the class at the operating point"  # how predictions are made
SHOWN_S = 6  # of an example
COLOUR_RANGE = (1, 99.5)  # percentiles: a click or a silent band would leave the rest one colour
NOTE_LETTERS = 16  # an inch
DRIFT_BARS = 12  # of the commonest values; the rest are left out
GREY, BLUE, RED = "#9aa5b1", "#1f77b4", "#c0392b"
plain_text = rc_context({"text.parse_math": False})  # a dollar in a name is a dollar


def as_png(figure: Figure, note: str = "") -> bytes:
    """``figure`` as PNG, without the software's version in it, and ``note`` below; no pyplot, which is not thread-safe."""
    if note:
        note = textwrap.fill(note, round(NOTE_LETTERS * figure.get_figwidth()))
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color="#52606d")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def add_grid(axes: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Light grid lines behind the data."""
    axes.grid(axis=axis, alpha=0.3)
    axes.set_axisbelow(True)


@plain_text
def plot_training_curves(history: pd.DataFrame, note: str = "") -> bytes:
    """Losses and validation macro-F1 over epochs, a line for each ``member`` of an ensemble, the epoch ``kept`` marked."""
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    loss, score = figure.subplots(1, 2)
    for number, rows in history.groupby("member"):
        epoch, labelled = rows["epoch"] + 1, number == 0  # shown from 1
        for axes, column, color, label in (
            (loss, "train_loss", "C0", "training"),
            (loss, "valid_balanced_loss", "C1", "validation, classes balanced"),
            (score, "valid_macro_f1", "#13795b", "validation macro-F1 (recordings)"),
        ):
            marker = "o" if len(rows) == 1 else None  # a line through one point cannot be seen
            axes.plot(epoch, rows[column], color=color, marker=marker, label=label if labelled else None)
        for axes in (loss, score):
            kept = float(epoch[rows["kept"]].iloc[0])
            axes.axvline(kept, color=GREY, linestyle="--", linewidth=1, label="epoch kept" if labelled else None)
    score.set_ylim(0, 1.02)
    loss.set_yscale("log")  # early epochs from random weights may be off by powers of ten
    low, high = loss.get_ylim()
    by_decade = LogLocator(subs=(1, 2, 3, 5) if high < 1000 * low else (1,))
    loss.yaxis.set_major_locator(MaxNLocator(6) if high < 5 * low else by_decade)
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter(NullFormatter())
    for axes, title in ((loss, "Cross entropy"), (score, "Macro-F1")):
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        add_grid(axes)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False)
    return as_png(figure, note)


@plain_text
def plot_confusion(
    predictions: pd.DataFrame, classes: list[str], note: str = "", rule: str = MOST_PROBABLE, unit: str = "recordings"
) -> bytes:
    """Counts of test recordings (or another ``unit``) predicted by ``rule``, coloured by the share of the true class."""
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(predictions["label"], predictions["prediction"], labels=classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [wrapped(name) for name in classes]
    side = 2.6 + 0.75 * len(classes)
    figure = Figure(figsize=(side + 0.8, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    plot = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color)
    axes.set_xticks(range(len(classes)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(len(classes)), names, fontsize=9)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(f"Test {unit}, predicted:\n{rule}", fontsize=11)
    figure.colorbar(plot, ax=axes, shrink=0.8, label="share of the true class")
    return as_png(figure, note)


@plain_text
def plot_roc(predictions: pd.DataFrame, classes: list[str], note: str = "") -> bytes:
    """One curve per class against the rest."""
    from sklearn.metrics import roc_auc_score, roc_curve

    figure = Figure(figsize=(7.2, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    for name in classes:
        positive = (predictions["label"] == name).to_numpy(bool)
        if 0 < positive.sum() < len(positive):
            scores = predictions[f"p_{name}"].to_numpy(float)
            false_rate, true_rate, _ = roc_curve(positive, scores)
            axes.plot(false_rate, true_rate, label=f"{in_legend(name)} ({roc_auc_score(positive, scores):.2f})")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC on test recordings (AUROC)")
    add_grid(axes)
    figure.legend(fontsize=8, loc="outside right upper")
    return as_png(figure, note)


def draw_spectrogram(axes: Axes, power_db: np.ndarray, config: SpectrogramConfig) -> None:
    """A log-mel spectrogram of shape (frames, mel_bands) over seconds, ticks in Hz; `librosa.display` needs pyplot."""
    import librosa

    extent = (0, len(power_db) * config.hop_s, 0, config.mel_bands)
    decibels = power_db.T.astype(np.float32)
    low, high = np.percentile(decibels, COLOUR_RANGE)
    axes.imshow(decibels, origin="lower", aspect="auto", cmap="magma", extent=extent, vmin=low, vmax=high)
    centres_hz = librosa.mel_frequencies(config.mel_bands + 2, fmin=config.low_hz, fmax=config.high_hz)[1:-1]
    shown_hz = [hz for hz in OCTAVES_HZ if centres_hz[0] <= hz <= centres_hz[-1]]
    axes.set_yticks(np.interp(shown_hz, centres_hz, np.arange(config.mel_bands) + 0.5), [str(hz) for hz in shown_hz])


def bar_limits(bars: int, fewest: int) -> tuple[float, float]:
    """Limits of an axis with bars at 0, 1, ...: as wide as for ``fewest``, so that a single bar does not fill the plot."""
    middle, half = (bars - 1) / 2, max(bars, fewest) / 2
    return middle - half, middle + half


@plain_text
def plot_spectrograms(
    manifest: pd.DataFrame, store: Store, config: SpectrogramConfig, note: str = "", each: int = 3
) -> bytes:
    """The first SHOWN_S of ``each`` training examples per class, as the network sees them, on one time scale."""
    from heartdata.dataset.windows import Shards  # brings torch, which the drift plot must not wait for

    train = manifest[manifest["part"] == "train"]
    classes = sorted(train["label"].unique())
    figure = Figure(figsize=(3.4 * each + 0.6, 1.9 * len(classes) + 0.7), dpi=100, layout="constrained")
    grid = figure.subplots(len(classes), each, squeeze=False)
    longest_s = train["frames"].max() * config.hop_s
    shards = Shards(store)
    for axes_row, name in zip(grid, classes, strict=True):
        examples = train[train["label"] == name].drop_duplicates("group").head(each)
        shards.open(examples)
        for axes, row in zip(axes_row, examples.itertuples(index=False), strict=False):
            spectrogram = shards.spectrogram(row.shard, row.start, row.frames)
            draw_spectrogram(axes, spectrogram, config)
            duration_s = len(spectrogram) * config.hop_s
            axes.set_xlim(0, min(SHOWN_S, longest_s))
            cut = f"\n({SHOWN_S:g} of {duration_s:.1f} s)" if duration_s > SHOWN_S else ""
            axes.set_title(f"{shortened(row.recording_id, 32)}{cut}", fontsize=9)
            axes.tick_params(labelsize=8)
        for axes in axes_row[len(examples) :]:
            axes.set_axis_off()
        axes_row[0].set_ylabel(f"{wrapped(name)}\nHz (mel)", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("s", fontsize=9)
    return as_png(figure, note)


@plain_text
def plot_drift(changes: pd.DataFrame, drifted: float, note: str = "", earlier: str = "last accepted") -> bytes:
    """Shares of each quantity's values in the ``earlier`` table and now; red where its index is above ``drifted``.

    ``changes``: rows of `heartdata.checks.drift.column_drift`; PSI: see `heartdata.checks.drift.population_stability`.
    """
    names: list[str] = []  # of the lines from top to bottom: a heading for each quantity, then its values
    headings: list[tuple[int, str]] = []
    bars: dict[str, list[tuple[int, float]]] = {GREY: [], BLUE: [], RED: []}
    for row in changes.itertuples(index=False):
        shares = row.counts / row.counts.sum().clip(lower=1)
        if len(shares) > DRIFT_BARS:
            shares = shares.loc[shares.sum(axis=1).nlargest(DRIFT_BARS).index.sort_values()]
        moved = row.drift > drifted
        headings.append((len(names), f"{row.quantity}: {'changed, ' if moved else ''}PSI {row.psi:.3f}"))
        bars[GREY] += [(len(names) + 1 + i, share) for i, share in enumerate(shares["before"])]
        bars[RED if moved else BLUE] += [(len(names) + 1 + i, share) for i, share in enumerate(shares["after"])]
        names += ["", *(shortened(str(name), 32) or "(empty)" for name in shares.index), ""]
    height = 0.2 * len(names) + 1.3
    figure = Figure(figsize=(8, height), dpi=100)  # one axes and fixed margins: many, or a layout, take seconds to draw
    axes = figure.add_axes((0.32, 0.8 / height, 0.65, 1 - 1.3 / height))
    for color, at in bars.items():
        rows = np.array([row for row, _ in at])
        axes.barh(rows + (-0.2 if color == GREY else 0.2), [share for _, share in at], 0.4, color=color)
    for line, text in headings:
        axes.text(0, line + 0.3, text, fontsize=10, weight="bold")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of recordings", fontsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    add_grid(axes, "x")
    colors = {earlier: GREY, "now": BLUE, "now, changed": RED}
    patches = [Patch(color=color, label=name) for name, color in colors.items()]
    figure.legend(handles=patches, fontsize=9, loc="upper right", ncols=3, frameon=False)
    return as_png(figure, note)
