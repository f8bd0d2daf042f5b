"""The plot of an explanation: waveform with beats, and the spectrogram with what speaks for a class."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from heartdata.audio.beats import Beats
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.reports.labels import shortened
from heartdata.reports.plots import BLUE, COLOUR_RANGE, GREY, OCTAVES_HZ, RED, add_grid, as_png, plain_text
from heartdata.serving.explain import Explanation

WAVE_POINTS = 2000  # pairs of least and greatest sample: more cannot be seen
PIXELS = 1500  # columns of a spectrogram that are drawn
SHOWN_BEATS = 60  # more would hide the waveform
NOTE = "Grey: the darker, the louder. For research only, not for diagnosis."
CYAN = (0.0, 0.8, 0.87)
RELEVANT = LinearSegmentedColormap.from_list("relevant", [(0, (*CYAN, 0)), (0.25, (*CYAN, 0.05)), (1, (*CYAN, 0.85))])


@plain_text
def plot_explanation(explanation: Explanation, config: SpectrogramConfig, title: str = "") -> bytes:
    """PNG: the waveform with the beats above, the spectrogram with its relevance below, in seconds and Hz.

    ``title`` is above the prediction.
    """
    figure = Figure(figsize=(9, 5.4), dpi=120, layout="constrained")
    wave, spectrogram = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.5))
    duration_s = len(explanation.samples) / explanation.rate_hz
    _draw_waveform(wave, explanation.samples, explanation.rate_hz)
    _draw_beats(wave, explanation.beats)
    _draw_relevance(spectrogram, explanation, config)
    wave.set_xlim(0, duration_s)
    spectrogram.set_xlabel("seconds")
    if title:
        figure.suptitle(shortened(title, 90), fontsize=12, weight="bold")
    wave.set_title(_prediction(explanation), fontsize=10, loc="left")
    return as_png(figure, NOTE)


def _prediction(explanation: Explanation) -> str:
    """The label with its probability, whether it is unsure, the heart rate and the warnings."""
    prediction, beats = explanation.prediction, explanation.beats
    sure = "Unsure: " if prediction.unsure else "Predicted: "
    rate = f"{beats.heart_rate_bpm:.0f} beats a minute" if beats else "heart rate not clear"
    lines = [f"{sure}{shortened(prediction.label, 32)}, probability {explanation.probability:.2f}; {rate}"]
    if prediction.warnings:
        lines.append(shortened(f"Warnings: {', '.join(prediction.warnings)}", 100))
    return "\n".join(lines)


def _draw_waveform(axes: Axes, samples: np.ndarray, rate_hz: int) -> None:
    """The least and the greatest of each stretch, so that no peak is lost however long the recording is."""
    step = max(1, len(samples) // WAVE_POINTS)
    stretches = samples[: len(samples) // step * step].reshape(-1, step)
    at_s = (np.arange(len(stretches)) + 0.5) * step / rate_hz
    if step == 1:
        axes.plot(at_s, samples, color=GREY, linewidth=0.6)
    else:
        axes.fill_between(at_s, stretches.min(axis=1), stretches.max(axis=1), color=GREY, linewidth=0.3)
    peak = float(np.abs(samples).max(initial=0)) or 1.0
    axes.set_ylim(-1.05 * peak, 1.35 * peak)  # the marks of the beats are above
    axes.set_ylabel("amplitude")
    add_grid(axes, "x")


def _draw_beats(axes: Axes, beats: Beats | None) -> None:
    """S1 as full triangles with a line, S2 as empty circles with a dashed one."""
    if beats is None:
        return
    low, high = axes.get_ylim()
    few = len(beats.s1_s) + len(beats.s2_s) <= SHOWN_BEATS
    marks: list[tuple[str, np.ndarray, str, str, str, Any]] = [
        ("S1 begins", beats.s1_s, "v", RED, RED, "-"),
        ("S2 begins", beats.s2_s, "o", "white", BLUE, "--"),
    ]
    for _, at_s, marker, face, color, line in marks:
        axes.plot(
            at_s,
            np.full(len(at_s), high - 0.07 * (high - low)),
            marker,
            mfc=face,
            mec=color,
            markersize=5 if few else 3,
        )
        if few:
            axes.vlines(at_s, low, high - 0.11 * (high - low), color=color, linestyle=line, linewidth=0.8, alpha=0.7)
    handles = [
        Line2D([], [], color=color, marker=marker, mfc=face, linestyle=line, markersize=5, label=name)
        for name, _, marker, face, color, line in marks
    ]
    title = "S1 and S2 may be swapped at this rate" if beats.may_be_swapped else None
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2, "frameon": False}
    axes.legend(handles=handles, title=title, title_fontsize=8, fontsize=8, ncols=2, **place)


def _draw_relevance(axes: Axes, explanation: Explanation, config: SpectrogramConfig) -> None:
    """The spectrogram at its bands' true frequencies, in grey, with the relevance over it in colour."""
    import librosa

    edges_hz = librosa.mel_frequencies(config.mel_bands + 2, fmin=config.low_hz, fmax=config.high_hz)
    borders_hz = np.concatenate([[edges_hz[0]], (edges_hz[1:-2] + edges_hz[2:-1]) / 2, [edges_hz[-1]]])
    step = -(-len(explanation.spectrogram) // PIXELS)
    power, relevance = (_pooled(each, step) for each in (explanation.spectrogram, explanation.relevance))
    # the first column is centred on the first sample
    starts_s = (np.arange(len(power) + 1) * step - 0.5) * config.hop_s
    low, high = np.percentile(power, COLOUR_RANGE)
    axes.pcolormesh(starts_s, borders_hz, power.T, cmap="gray_r", vmin=low, vmax=high, rasterized=True)
    axes.set_yscale("log")
    shown_hz = [hz for hz in OCTAVES_HZ if borders_hz[0] <= hz <= borders_hz[-1]]
    axes.yaxis.set_major_locator(FixedLocator(shown_hz))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(max(borders_hz[0], borders_hz[1] / 2), borders_hz[-1])
    axes.set_ylabel("Hz")
    explained = shortened(explanation.explained, 32)
    greatest = float(relevance.max())
    if greatest <= 0:
        axes.set_title(f"Nothing in it speaks for {explained}", fontsize=10, loc="left")
        return
    mesh = axes.pcolormesh(starts_s, borders_hz, relevance.T, cmap=RELEVANT, vmin=0, vmax=greatest, rasterized=True)
    if min(relevance.shape) > 1:
        centres_s = (starts_s[1:] + starts_s[:-1]) / 2
        at_hz = np.concatenate([borders_hz[:1], edges_hz[1:-1], borders_hz[-1:]])
        rows = np.pad(relevance.T, ((1, 1), (0, 0)), "edge")
        axes.contour(centres_s, at_hz, rows, [greatest / 2], colors=RED, linewidths=0.8)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.01, aspect=25, ticks=[0, greatest / 2, greatest])
    bar.ax.set_yticklabels(["none", "half", "most"], fontsize=8)
    axes.set_title(
        f"What speaks for {explained} (coloured; outlined: more than half of the most)", fontsize=10, loc="left"
    )


def _pooled(columns: np.ndarray, step: int) -> np.ndarray:
    """The mean of each ``step`` columns; the last group may be smaller."""
    sums = np.add.reduceat(columns.astype(np.float32), np.arange(0, len(columns), step))
    counts = np.diff([*range(0, len(columns), step), len(columns)])
    return sums / counts[:, None]
