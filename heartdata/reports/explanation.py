"""The plot of an explanation: waveform with beats, and the spectrogram with what speaks for a class."""

from matplotlib.figure import Figure

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.reports.plots import as_png, plain_text
from heartdata.serving.explain import Explanation


@plain_text
def plot_explanation(explanation: Explanation, config: SpectrogramConfig, title: str = "", note: str = "") -> bytes:
    """PNG: the waveform with the beats above, the spectrogram with its relevance below, in seconds and Hz."""
    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    wave, spectrogram = figure.subplots(2, 1, sharex=True)
    duration_s = len(explanation.samples) / explanation.rate_hz
    wave.plot([i / explanation.rate_hz for i in range(len(explanation.samples))], explanation.samples, linewidth=0.5)
    extent = (0, duration_s, config.low_hz, config.high_hz)
    spectrogram.imshow(explanation.spectrogram.T.astype(float), origin="lower", aspect="auto", extent=extent)
    spectrogram.imshow(
        explanation.relevance.T,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap="Reds",
        alpha=explanation.relevance.T,
    )
    spectrogram.set(xlabel="seconds", ylabel="Hz")
    figure.suptitle(title or f"What speaks for {explanation.explained}")
    return as_png(figure, note)
