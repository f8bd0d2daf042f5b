"""The plot of an explanation is a readable PNG for every length, with and without beats and relevance."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from heartdata.audio.beats import Beats
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.reports import explanation as module
from heartdata.reports.explanation import plot_explanation
from heartdata.serving.explain import Explanation
from heartdata.serving.predictor import Prediction

CONFIG = SpectrogramConfig()


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures of the plots that a test makes."""
    figures: list[Figure] = []
    original = module.as_png
    monkeypatch.setattr(module, "as_png", lambda figure, note: figures.append(figure) or original(figure, note))
    return figures


def explanation(
    duration_s: float = 4, relevant: float = 1, bpm: float | None = 60, **prediction: object
) -> Explanation:
    rng = np.random.default_rng(0)
    columns = round(duration_s / CONFIG.hop_s) + 1
    relevance = np.zeros((columns, CONFIG.mel_bands))
    relevance[columns // 2 :, 10:14] = relevant
    starts_s = np.arange(0.1, duration_s, 60 / bpm) if bpm else None
    return Explanation(
        prediction=Prediction(**{"label": "a$b", "unsure": False, "probabilities": (0.2, 0.8), **prediction}),  # type: ignore[arg-type]
        explained="a$b",
        samples=rng.normal(0, 0.1, round(4000 * duration_s)).astype(np.float32),
        rate_hz=4000,
        spectrogram=rng.normal(0, 1, (columns, CONFIG.mel_bands)).astype(np.float16),
        relevance=relevance,
        beats=None if starts_s is None else Beats(bpm or 0, 0.9, starts_s, starts_s + 0.3),
        probability=0.8,
    )


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize(("duration_s", "bpm"), [(0.02, None), (1, 60), (10, 75), (300, 80), (4, None)])
def test_any_length_is_drawn(drawn: list[Figure], duration_s: float, bpm: float | None):
    content = plot_explanation(explanation(duration_s, bpm=bpm), CONFIG, "recording.wav")
    assert content.startswith(b"\x89PNG")
    wave, spectrogram = drawn[0].axes[:2]
    assert wave.get_xlim() == pytest.approx((0, duration_s), rel=0.01)
    assert wave.get_shared_x_axes().joined(wave, spectrogram)
    assert "research only" in texts(drawn[0])
    assert "recording.wav" in texts(drawn[0])


def test_the_frequency_axis_is_in_hz(drawn: list[Figure]):
    plot_explanation(explanation(), CONFIG)
    axes = drawn[0].axes[1]
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert high == pytest.approx(CONFIG.high_hz)
    ticks = [hz for hz in axes.get_yticks() if low <= hz <= high]
    assert ticks == [50, 100, 200, 400, 800]
    (mesh, over) = axes.collections[:2]
    edges_hz = np.asarray(mesh.get_coordinates())[:, 0, 1]  # type: ignore[attr-defined]
    assert len(edges_hz) == CONFIG.mel_bands + 1
    assert edges_hz[0] == pytest.approx(CONFIG.low_hz)
    assert edges_hz[-1] == pytest.approx(CONFIG.high_hz)
    assert (np.diff(edges_hz) > 0).all()
    assert np.shape(over.get_array()) == (CONFIG.mel_bands, 126)


def test_the_prediction_its_doubts_and_its_warnings_are_said(drawn: list[Figure]):
    plot_explanation(explanation(unsure=True, warnings=("min_quality",)), CONFIG)
    assert "Unsure: a$b, probability 0.80; 60 beats a minute" in texts(drawn[0])
    assert "Warnings: min_quality" in texts(drawn[0])
    plot_explanation(explanation(relevant=0, bpm=None), CONFIG)
    assert "Predicted: a$b, probability 0.80; heart rate not clear" in texts(drawn[1])
    assert "Nothing in it speaks for a$b" in texts(drawn[1])


def test_s1_and_s2_differ_without_colour_and_may_be_swapped_in_a_fast_heart(drawn: list[Figure]):
    plot_explanation(explanation(bpm=150), CONFIG)
    s1, s2 = [line for line in drawn[0].axes[0].lines if len(line.get_xdata()) > 1][:2]
    assert s1.get_marker() != s2.get_marker()
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["S1 begins", "S2 begins"]
    assert "may be swapped" in legend.get_title().get_text()
    plot_explanation(explanation(bpm=60), CONFIG)
    assert "may be swapped" not in texts(drawn[1])


def test_the_picture_fits_a_page(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(plot_explanation(explanation(), CONFIG, "x" * 300))
    assert Image.open(path).size == (1080, 648)
