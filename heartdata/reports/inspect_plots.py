"""Pictures of a quick look: waveforms and log-mel spectrograms of a few recordings a class, histograms."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from heartdata.audio.decode import decode, read_bytes, resample
from heartdata.audio.spectrograms import SpectrogramConfig, mel_power_db
from heartdata.reports.plots import mel_ticks, room_for
from heartdata.storage.store import atomic_write

POINTS = 400  # of a waveform as drawn: with more than there are dots, it fades
INK = "#123f66"
FEWEST_BARS = 6  # for which there is room
NOT_IN_NAMES = r"[\W_]+"  # of files
MOST_CLASSES = 9  # in a histogram; the rest are drawn as one


def write_plots(
    frame: pd.DataFrame, chosen: dict[str, pd.DataFrame], config: SpectrogramConfig, folder: Path
) -> list[Path]:
    """A sheet for each class of ``true_class_probability`` (see `heartdata.reports.inspect.examples`) and the histograms of ``frame``.

    Written as PNG into ``folder``; returns the paths. Raises OSError.
    """
    paths = []
    # a dollar in a name is a dollar; a letter that the font lacks is drawn as a box
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        for number, (label, rows) in enumerate(chosen.items(), 1):
            name = f"class_{number:02}_{re.sub(NOT_IN_NAMES, '_', label).strip('_')[:40]}.png"
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
        _waveform(above, audio.mono, audio.rate_hz)
        above.set_title(_short(row.recording_id), fontsize=8)
        power_db = mel_power_db(resample(audio.mono, audio.rate_hz, config.rate_hz), config)
        below.imshow(
            power_db.T, origin="lower", aspect="auto", cmap="magma",
            extent=(0, len(power_db) * config.hop_s, 0, config.mel_bands),
        )  # fmt: skip
        mel_ticks(below, config)
        below.set_xlabel("s", fontsize=8)
        for axes in (above, below):
            axes.tick_params(labelsize=7)
    grid[0, 0].set_ylabel("full scale = 1", fontsize=8)
    grid[1, 0].set_ylabel("Hz (mel)", fontsize=8)
    figure.suptitle(_short(label), fontsize=10)
    return figure


def _waveform(axes: Axes, mono: np.ndarray, rate_hz: int) -> None:
    """The sound, or between which values it moves where there are more samples than points to draw."""
    step = max(1, len(mono) // POINTS)
    pieces = mono[: len(mono) // step * step].reshape(-1, step)
    time_s = np.arange(len(pieces)) * step / rate_hz
    if step == 1:
        axes.plot(time_s, mono, linewidth=0.8, color=INK)
    else:
        axes.fill_between(time_s, pieces.min(axis=1), pieces.max(axis=1), linewidth=0.8, color=INK)


def durations(frame: pd.DataFrame) -> Figure:
    """How long the recordings are, stacked by class."""
    figure, axes = _axes("Durations", "s")
    groups = _groups(frame, "duration_s")
    if groups:
        axes.hist(
            [values.to_numpy(float) for values in groups.values()],
            bins=40,
            stacked=True,
            label=[_legend(name) for name in groups],
        )
        figure.legend(fontsize=8, loc="outside right upper")
    return figure


def rates(frame: pd.DataFrame) -> Figure:
    """How many recordings have each sampling rate, stacked by class."""
    figure, axes = _axes("Sampling rates", "Hz")
    groups = _groups(frame, "rate_hz")
    known = sorted({int(rate) for values in groups.values() for rate in values})
    below = np.zeros(len(known))
    for label, values in groups.items():
        counts = values.astype(int).value_counts().reindex(known, fill_value=0).to_numpy()
        axes.bar(range(len(known)), counts, bottom=below, label=_legend(label))
        below += counts
    axes.set_xticks(range(len(known)), [str(rate) for rate in known], rotation=30 if len(known) > 6 else 0)
    axes.set_xlim(*room_for(len(known), FEWEST_BARS))
    if groups:
        figure.legend(fontsize=8, loc="outside right upper")
    return figure


def _axes(title: str, unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 3.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title)
    axes.set_xlabel(unit)
    axes.set_ylabel("recordings")
    return figure, axes


def _groups(frame: pd.DataFrame, column: str) -> dict[str, pd.Series]:
    """The known values of ``column`` by class, the largest classes first and the smallest together."""
    known = frame.dropna(subset=[column])
    largest = list(known["label"].value_counts().index[:MOST_CLASSES])
    shown = known["label"].where(known["label"].isin(largest), "(others)")
    return {str(label): part[column] for label, part in known.groupby(shown, sort=False)}


def _legend(label: str) -> str:
    return f" {_short(label)}"  # a legend leaves out names that begin with an underscore


def _short(text: str, length: int = 44) -> str:
    return text if len(text) <= length else f"{text[:8]}...{text[-(length - 11) :]}"


def _write(path: Path, figure: Figure) -> Path:
    with atomic_write(path) as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return path
