"""Pictures of a run as PNG bytes: training curves, confusion matrix, ROC, example spectrograms."""

import io

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.storage.store import Store

OCTAVES_HZ = (50, 100, 200, 400, 800, 1600, 3200)
MOST_PROBABLE, AT_POINT = "the most probable class", "the class at the operating point"  # what is answered
SHOWN_S = 6  # of an example
DRIFT_BARS = 12  # the commonest of many names are drawn
FEWEST_ROWS = 4  # of bars for which there is room
GREY, BLUE, RED = "#9aa5b1", "#1f77b4", "#c0392b"
plain_text = rc_context({"text.parse_math": False})  # a dollar in a name is a dollar


def as_png(figure: Figure, note: str) -> bytes:
    if note:
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color="#52606d")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


@plain_text
def plot_training_curves(history: pd.DataFrame, note: str = "") -> bytes:
    """Losses and validation macro-F1 over epochs, a line for each ``member`` of an ensemble, the epoch ``kept`` marked."""
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    loss, score = figure.subplots(1, 2)
    for number, rows in history.groupby("member"):
        epoch, named = rows["epoch"] + 1, number == 0  # people count from one
        for axes, column, color, label in (
            (loss, "train_loss", "C0", "training"),
            (loss, "valid_balanced_loss", "C1", "validation, classes balanced"),
            (score, "valid_macro_f1", "#13795b", "validation macro-F1 (recordings)"),
        ):
            marker = "o" if len(rows) == 1 else None  # a line through one point cannot be seen
            axes.plot(epoch, rows[column], color=color, marker=marker, label=label if named else None)
        for axes in (loss, score):
            kept = float(epoch[rows["kept"]].iloc[0])
            axes.axvline(kept, color=GREY, linestyle="--", linewidth=1, label="epoch kept" if named else None)
    score.set_ylim(0, 1.02)
    loss.set_yscale("log")  # early epochs from random weights may be off by powers of ten
    low, high = loss.get_ylim()
    by_decade = LogLocator(subs=(1, 2, 3, 5) if high < 1000 * low else (1,))
    loss.yaxis.set_major_locator(MaxNLocator(6) if high < 5 * low else by_decade)
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter(NullFormatter())
    for axes, title in ((loss, "Cross entropy"), (score, "Macro-F1")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3, frameon=False)
    return as_png(figure, note)


@plain_text
def plot_confusion(
    predictions: pd.DataFrame,
    classes: list[str],
    note: str = "",
    rule: str = MOST_PROBABLE,
    counted: str = "recordings",
) -> bytes:
    """Counts of test recordings (or what ``counted`` names), coloured by the share of the true class.

    ``rule``: how they were answered.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(predictions["label"], predictions["prediction"], labels=classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.6 + 0.75 * len(classes)
    figure = Figure(figsize=(side + 0.8, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    plot = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column,
            row,
            f"{count:.0f}",
            ha="center",
            va="center",
            color="white" if shares[row, column] > 0.5 else "black",
        )
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    axes.set_title(f"Test {counted}, answered by\n{rule}", fontsize=11)
    figure.colorbar(plot, ax=axes, shrink=0.8, label="share of the true class")
    return as_png(figure, note)


@plain_text
def plot_roc(predictions: pd.DataFrame, classes: list[str], note: str = "") -> bytes:
    """One curve a class against the rest."""
    from sklearn.metrics import roc_auc_score, roc_curve

    figure = Figure(figsize=(5, 4.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    for name in classes:
        positive = (predictions["label"] == name).to_numpy(bool)
        if 0 < positive.sum() < len(positive):
            scores = predictions[f"p_{name}"].to_numpy(float)
            false_rate, true_rate, _ = roc_curve(positive, scores)
            axes.plot(false_rate, true_rate, label=f"{name} ({roc_auc_score(positive, scores):.2f})")
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    axes.set_title("ROC on test recordings (AUROC)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    return as_png(figure, note)


def mel_ticks(axes: Axes, config: SpectrogramConfig) -> None:
    """Frequencies on the y axis of a log-mel spectrogram that is drawn from 0 to ``config.mel_bands``."""
    import librosa

    centres_hz = librosa.mel_frequencies(config.mel_bands + 2, fmin=config.low_hz, fmax=config.high_hz)[1:-1]
    told_hz = [hz for hz in OCTAVES_HZ if centres_hz[0] <= hz <= centres_hz[-1]]
    at = np.interp(told_hz, centres_hz, np.arange(config.mel_bands) + 0.5)
    axes.set_yticks(at, [str(hz) for hz in told_hz])


def room_for(bars: int, fewest: int) -> tuple[float, float]:
    """Limits of an axis for so many bars at 0, 1, ...: with fewer than ``fewest`` there is room around, as one is no block."""
    middle, half = (bars - 1) / 2, max(bars, fewest) / 2
    return middle - half, middle + half


def _end(name: str, length: int = 32) -> str:
    """The end of a recording's name, which tells more than its folder."""
    return name if len(name) <= length else f"…{name[1 - length :]}"


@plain_text
def plot_spectrograms(
    manifest: pd.DataFrame, store: Store, config: SpectrogramConfig, note: str = "", each: int = 3
) -> bytes:
    """The first SHOWN_S of ``each`` training examples a class, as the network sees them, on one scale of time."""
    from heartdata.dataset.windows import Shards  # brings torch, which the plot of change must not wait for

    train = manifest[manifest["part"] == "train"]
    classes = sorted(train["label"].unique())
    figure = Figure(figsize=(3.4 * each + 0.6, 1.7 * len(classes) + 0.7), dpi=100, layout="constrained")
    grid = figure.subplots(len(classes), each, squeeze=False)
    longest_s = train["frames"].max() * config.hop_s
    shards = Shards(store)
    for axes_row, name in zip(grid, classes, strict=True):
        examples = train[train["label"] == name].drop_duplicates("group").head(each)
        shards.open(examples)
        for axes, row in zip(axes_row, examples.itertuples(index=False), strict=False):
            spectrogram = shards.spectrogram(row.shard, row.start, row.frames)
            axes.imshow(
                spectrogram.T.astype(np.float32), origin="lower", aspect="auto", cmap="magma",
                extent=(0, len(spectrogram) * config.hop_s, 0, config.mel_bands),
            )  # fmt: skip
            lasts_s = len(spectrogram) * config.hop_s
            axes.set_xlim(0, min(SHOWN_S, longest_s))
            cut = f" ({SHOWN_S:g} of {lasts_s:.1f} s)" if lasts_s > SHOWN_S else ""
            axes.set_title(f"{_end(row.recording_id)}{cut}", fontsize=9)
            mel_ticks(axes, config)
            axes.tick_params(axis="x", labelsize=8)
            axes.tick_params(axis="y", labelsize=7)
        for axes in axes_row[len(examples) :]:
            axes.set_axis_off()
        axes_row[0].set_ylabel(f"{name}\nHz (mel)", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("s", fontsize=9)
    return as_png(figure, note)


@plain_text
def plot_drift(changes: pd.DataFrame, drifted: float, note: str = "") -> bytes:
    """Shares of each quantity then and now (rows of `heartdata.checks.drift.changes`); red where the index is above ``drifted``.

    PSI: see `heartdata.checks.drift.population_stability`.
    """
    columns = min(3, max(1, len(changes)))
    rows = -(-len(changes) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.7), dpi=100, layout="constrained")
    grid = figure.subplots(max(rows, 1), columns, squeeze=False).ravel()
    for axes, row in zip(grid, changes.itertuples(index=False), strict=False):
        shares = row.counts / row.counts.sum().clip(lower=1)
        shares = (
            shares.loc[shares.sum(axis=1).nlargest(DRIFT_BARS).index.sort_values()]
            if len(shares) > DRIFT_BARS
            else shares
        )
        at = np.arange(len(shares))
        axes.barh(at - 0.2, shares["before"], 0.4, color=GREY)
        moved = row.drift > drifted
        axes.barh(at + 0.2, shares["after"], 0.4, color=RED if moved else BLUE)
        axes.set_yticks(at, [str(name)[:24] or "(empty)" for name in shares.index], fontsize=8)
        axes.set_ylim(*reversed(room_for(len(shares), FEWEST_ROWS)))
        axes.set_title(f"{row.quantity}: {'changed, ' if moved else ''}PSI {row.psi:.3f}", fontsize=10)
        axes.set_xlabel("share of recordings", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    for axes in grid[len(changes) :]:
        axes.set_axis_off()
    told = {"last accepted": GREY, "now": BLUE, "now, changed": RED}
    patches = [Patch(color=color, label=name) for name, color in told.items()]
    figure.legend(handles=patches, fontsize=9, loc="outside upper right", ncols=3, frameon=False)
    return as_png(figure, note)
