"""A few seconds of a recording to listen to, as MP3, and their spectrogram as WebP."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from heartdata.audio.decode import resample
from heartdata.audio.spectrograms import SpectrogramConfig, mel_power_db
from heartdata.reports.plots import draw_spectrogram

CLIP_S = 6.0
PLAYED_HZ = 8000  # the lowest rate that every browser plays
MP3_LEVEL = 0.5  # libsndfile's, 0 best: 15 KB a clip, and each band between 20 and 800 Hz within 0.1 dB
FRAME_S = 0.1
LOUD = 0.5  # of full scale: the loudest frames of a clip, as heard
MOST_GAIN_DB = 60.0
OUTLINE = "#5ef2ff"


@dataclass(frozen=True)
class Clip:
    """Seconds ``start_s`` to ``start_s + duration_s`` of a recording of ``of_s`` seconds, ``gain_db`` louder than it is."""

    mp3: bytes
    webp: bytes
    start_s: float
    duration_s: float
    of_s: float
    gain_db: float


def make_clip(mono: np.ndarray, rate_hz: int, config: SpectrogramConfig, relevance: np.ndarray | None = None) -> Clip:
    """The clip of ``mono`` samples, shape (n,), with most ``relevance``, shape (columns, mel_bands); else the loudest.

    ``relevance`` is of the spectrogram by ``config``; its half maximum is outlined. A click does not count as loud.
    """
    mono = np.nan_to_num(mono.astype(np.float32), posinf=0.0, neginf=0.0)
    if relevance is None:
        telling, step_s = _loudness(mono, rate_hz), FRAME_S
    else:
        telling, step_s = relevance.sum(axis=1), config.hop_s
    start_s = _begin(telling, round(CLIP_S / step_s)) * step_s
    first = round(start_s * rate_hz)
    sound = mono[first : first + round(CLIP_S * rate_hz)]
    played, gain = _audible(resample(sound, rate_hz, PLAYED_HZ))
    columns = slice(round(start_s / config.hop_s), None)
    power_db = mel_power_db(resample(sound, rate_hz, config.rate_hz), config)
    picture = _thumbnail(power_db, config, start_s, None if relevance is None else relevance[columns])
    duration_s, of_s = len(sound) / rate_hz, len(mono) / rate_hz
    return Clip(_mp3(played), picture, start_s, duration_s, of_s, float(20 * np.log10(gain)))


def _loudness(mono: np.ndarray, rate_hz: int) -> np.ndarray:
    """The root mean square of each frame, limited to what a twentieth of them reach."""
    samples = max(1, round(FRAME_S * rate_hz))
    frames = np.resize(mono, max(1, len(mono) // samples) * samples).reshape(-1, samples)
    level = np.sqrt(np.mean(np.square(frames, dtype=float), axis=1))
    return np.minimum(level, np.percentile(level, 95))


def _begin(values: np.ndarray, width: int) -> int:
    """Where the ``width`` neighbours of largest sum begin."""
    if len(values) <= width:
        return 0
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return int(np.argmax(sums[width:] - sums[:-width]))


def _audible(sound: np.ndarray) -> tuple[np.ndarray, float]:
    """The sound without its mean, at a level that is heard, peaks limited softly; and the gain."""
    sound = sound - sound.mean()
    gain = min(LOUD / max(float(np.percentile(np.abs(sound), 98)), 1e-9), 10 ** (MOST_GAIN_DB / 20))
    return np.tanh(gain * sound) * 0.9, gain


def _mp3(sound: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, PLAYED_HZ, format="MP3", subtype="MPEG_LAYER_III", compression_level=MP3_LEVEL)
    return file.getvalue()


def _thumbnail(power_db: np.ndarray, config: SpectrogramConfig, start_s: float, relevance: np.ndarray | None) -> bytes:
    figure = Figure(figsize=(3.2, 1.36), dpi=140)
    axes = figure.add_axes((0.135, 0.21, 0.855, 0.77))  # fixed margins: a layout takes longer than the drawing
    draw_spectrogram(axes, power_db, config)
    if relevance is not None and relevance.max() > 0:
        shown = relevance[: len(power_db)]
        at = np.arange(len(shown)) * config.hop_s + config.hop_s / 2, np.arange(config.mel_bands) + 0.5
        if min(shown.shape) > 1 and shown.max() >= 0.5 * relevance.max():
            axes.contour(*at, shown.T, levels=[0.5 * relevance.max()], colors=OUTLINE, linewidths=1.2)
    end_s = start_s + axes.get_xlim()[1]
    seconds = np.arange(np.ceil(start_s), end_s)
    if len(seconds) > 1:
        axes.set_xticks(seconds - start_s, [f"{s:g}" for s in seconds])
    marks = [*axes.get_yticks()]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    apart = [n for n in range(len(marks)) if n + 1 == len(marks) or marks[n + 1] - marks[n] >= 0.12 * config.mel_bands]
    axes.set_yticks([marks[n] for n in apart], [labels[n] for n in apart])
    axes.tick_params(labelsize=7, pad=2, length=2)
    axes.set_xlabel("s", fontsize=7, labelpad=0)
    axes.set_ylabel("Hz", fontsize=7, labelpad=1)
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_webp(image, pil_kwargs={"quality": 70})
    return image.getvalue()
