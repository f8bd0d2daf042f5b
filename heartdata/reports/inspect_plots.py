"""Plots of `heartbeat inspect`: waveforms and log-mel spectrograms of a few recordings per class, histograms."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from heartdata.audio.decode import decode, read_bytes, resample
from heartdata.audio.spectrograms import SpectrogramConfig, mel_power_db
from heartdata.reports.labels import in_legend, shortened, wrapped
from heartdata.reports.plots import as_png, bar_limits, draw_spectrogram, plain_text
from heartdata.storage.store import atomic_write

POINTS = 400  # of a waveform as drawn: with more points than pixels, it fades
INK = "#123f66"
FEWEST_BARS = 6  # an axis has room for so many bars at least
NOT_IN_FILE_NAMES = r"[\W_]+"
MOST_CLASSES = 9  # in a histogram; the others are drawn as one


@plain_text
def write_plots(
    frame: pd.DataFrame, chosen: dict[str, pd.DataFrame], config: SpectrogramConfig, folder: Path
) -> list[Path]:
    """A sheet for each class of ``chosen`` (see `heartdata.reports.inspect.examples`), and histograms of ``frame``.

    Written as PNG into ``folder``; returns the paths. Raises OSError.
    """
    paths = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # such a letter is drawn as a box
        for number, (label, rows) in enumerate(chosen.items(), 1):
            name = f"class_{number:02}_{re.sub(NOT_IN_FILE_NAMES, '_', label).strip('_')[:40]}.png"
            paths.append(_write(folder / name, class_sheet(label, rows, config)))
        paths.append(_write(folder / "durations.png", durations(frame)))
        paths.append(_write(folder / "rates.png", rates(frame)))
    return paths


def class_sheet(label: str, rows: pd.DataFrame, config: SpectrogramConfig) -> Figure:
    """Each recording of ``rows`` in a column: its waveform, below it its log-mel spectrogram in dB."""
    figure = Figure(figsize=(3.6 * len(rows) + 0.6, 4), dpi=100, layout="constrained")
    grid = figure.subplots(2, len(rows), squeeze=False, sharex="col", height_ratios=(1, 2))
    for (above, below), row in zip(grid.T, rows.itertuples(index=False), strict=True):
        audio = decode(read_bytes(row.uri, row.sha256))
        mono = audio.samples[:, int(row.channel) - 1] if row.channel else audio.mono
        _waveform(above, mono, audio.rate_hz)
        above.set_title(shortened(row.recording_id), fontsize=8)
        power_db = mel_power_db(resample(mono, audio.rate_hz, config.rate_hz), config)
        draw_spectrogram(below, power_db, config)
        below.set_xlabel("s", fontsize=8)
        for axes in (above, below):
            axes.tick_params(labelsize=7)
    grid[0, 0].set_ylabel("full scale = 1", fontsize=8)
    grid[1, 0].set_ylabel("Hz (mel)", fontsize=8)
    figure.suptitle(wrapped(label, 36), fontsize=10)
    return figure


def _waveform(axes: Axes, mono: np.ndarray, rate_hz: int) -> None:
    """The samples, or where there are more than POINTS, the range of each run of them."""
    step = max(1, len(mono) // POINTS)
    pieces = mono[: len(mono) // step * step].reshape(-1, step)
    time_s = np.arange(len(pieces)) * step / rate_hz
    if step == 1:
        axes.plot(time_s, mono, linewidth=0.8, color=INK)
    else:
        axes.fill_between(time_s, pieces.min(axis=1), pieces.max(axis=1), linewidth=0.8, color=INK)


def durations(frame: pd.DataFrame) -> Figure:
    """A histogram of the recordings' lengths, stacked by class."""
    figure, axes, groups = _histogram(frame, "duration_s", "Durations", "s")
    if groups:
        names, values = zip(*groups, strict=True)
        axes.hist([of_class.to_numpy(float) for of_class in values], bins=40, stacked=True, label=names)
        figure.legend(fontsize=8, loc="outside right upper")
    return figure


def rates(frame: pd.DataFrame) -> Figure:
    """How many recordings have each sampling rate, stacked by class."""
    figure, axes, groups = _histogram(frame, "rate_hz", "Sampling rates", "Hz")
    rates_hz = sorted({int(rate) for _, values in groups for rate in values})
    bottom = np.zeros(len(rates_hz))
    for name, values in groups:
        counts = values.astype(int).value_counts().reindex(rates_hz, fill_value=0).to_numpy()
        axes.bar(range(len(rates_hz)), counts, bottom=bottom, label=name)
        bottom += counts
    axes.set_xticks(range(len(rates_hz)), [str(rate) for rate in rates_hz], rotation=30 if len(rates_hz) > 6 else 0)
    axes.set_xlim(*bar_limits(len(rates_hz), FEWEST_BARS))
    if groups:
        figure.legend(fontsize=8, loc="outside right upper")
    return figure


def _histogram(
    frame: pd.DataFrame, column: str, title: str, unit: str
) -> tuple[Figure, Axes, list[tuple[str, pd.Series]]]:
    """An empty plot, and the known values of ``column`` by class: the largest classes, and the others together."""
    figure = Figure(figsize=(7, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=unit, ylabel="recordings")
    known = frame.dropna(subset=[column])
    largest = list(known["label"].value_counts().index[:MOST_CLASSES])
    shown = known["label"].where(known["label"].isin(largest), "(others)")
    groups = [(in_legend(label), part[column]) for label, part in known.groupby(shown, sort=False)]
    return figure, axes, groups


def _write(path: Path, figure: Figure) -> Path:
    with atomic_write(path) as file:
        file.write(as_png(figure))
    return path
