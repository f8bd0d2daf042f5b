"""The plots of a run are valid PNGs, and say what they show."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.reports import plots
from heartdata.storage.store import Store

CLASSES = ["$x_{", "b$", "c"]  # a dollar is no markup


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """The figures that are drawn, none of them rendered."""
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "as_png", lambda figure, note: drawn.append(figure) or b"")
    return drawn


def predictions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    probabilities = pd.DataFrame(rng.dirichlet(np.ones(3), 60), columns=[f"p_{c}" for c in CLASSES])
    return probabilities.assign(label=rng.choice(CLASSES, 60), prediction=rng.choice(CLASSES, 60))


def history(members: int) -> pd.DataFrame:
    """Two epochs of each network; the last one is kept of the first, the first one of the others."""
    one = pd.DataFrame(
        {"epoch": [0, 1], "train_loss": [2.0, 1.0], "valid_balanced_loss": [2.0, 1.5], "valid_macro_f1": [0.2, 0.6]}
    )
    return pd.concat([one.assign(member=i, kept=[i > 0, i == 0]) for i in range(members)], ignore_index=True)


def test_plots_are_png():
    for plot in (
        plots.plot_training_curves(history(1), "note"),
        plots.plot_confusion(predictions(), CLASSES, "cost: $5 to $6^"),
        plots.plot_roc(predictions(), CLASSES, "cost: $5 to $6^"),
    ):
        assert plot.startswith(b"\x89PNG")
        assert len(plot) > 5000


def test_training_curves_show_each_network_and_its_kept_epoch(figures: list[Figure]):
    plots.plot_training_curves(history(3))
    loss, score = figures[0].axes
    assert (len(score.lines), len(loss.lines)) == (3 * 2, 3 * 3)
    assert [line.get_xdata()[0] for line in score.lines if line.get_linestyle() == "--"] == [2, 1, 1]
    assert [text.get_text() for text in score.get_legend().get_texts()] == [
        "validation macro-F1 (recordings)",
        "epoch kept",
    ]


@pytest.mark.parametrize("factor", [1, 0.01, 7, 1e-4])
@pytest.mark.parametrize("spread", [1.02, 1.4, 2, 4, 9, 30, 1e3, 1e6])
def test_the_loss_axis_has_distinct_ticks_at_any_scale(figures: list[Figure], factor: float, spread: float):
    plots.plot_training_curves(history(1).assign(train_loss=[spread * factor, factor], valid_balanced_loss=factor))
    axes = figures[0].axes[0]
    low, high = axes.get_ylim()
    shown = [at for at in axes.yaxis.get_majorticklocs() if low <= at <= high]
    assert 3 <= len(shown) <= 13
    assert len(set(axes.yaxis.get_major_formatter().format_ticks(shown))) == len(shown)


def test_long_names_are_broken_between_words_and_the_legend_is_beside_the_curves(figures: list[Figure]):
    classes = ["_tricuspid_regurgitation_severe", "MitralValveProlapseLate", "innocent flow murmur of childhood"]
    names = dict(zip(CLASSES, classes, strict=True))
    rows = (
        predictions()
        .replace({"label": names, "prediction": names})
        .rename(columns=lambda c: f"p_{names[c[2:]]}" if c[2:] in names else c)
    )
    plots.plot_confusion(rows, classes)
    plots.plot_roc(rows, classes)
    ticks = [tick.get_text() for tick in figures[0].axes[0].get_yticklabels()]
    assert ticks == [
        "_tricuspid_\nregurgitation_severe",
        "MitralValveProlapse\nLate",
        "innocent flow murmur\nof childhood",
    ]
    (legend,) = figures[1].legends
    assert [text.get_text().rpartition(" (")[0] for text in legend.get_texts()] == [
        " _tricuspid_\nregurgitation_severe", "MitralValveProlapseLate", "innocent flow murmur of\nchildhood",
    ]  # fmt: skip
    assert figures[1].axes[0].get_legend() is None


def test_the_colours_of_a_spectrogram_leave_outliers_out():
    power_db = np.random.default_rng(0).uniform(-70, -50, (400, 10))
    power_db[100] = 0  # a click
    axes = Figure().subplots()
    plots.draw_spectrogram(axes, power_db, SpectrogramConfig(mel_bands=10))
    low, high = axes.images[0].get_clim()
    assert -71 < low < -69
    assert -51 < high < -49


def test_notes_are_as_wide_as_the_figure():
    figure = Figure(figsize=(3, 2), layout="constrained")
    plots.as_png(figure, "note " * 40)
    lines = figure.get_supxlabel().split("\n")
    assert len(lines) > 2
    assert max(map(len, lines)) <= 3 * plots.NOTE_LETTERS


def test_spectrograms_share_one_time_scale(figures: list[Figure], store: Store):
    config = SpectrogramConfig()
    frames = [round(seconds / config.hop_s) for seconds in (3, 240)]
    digest = store.write_array("s.npy", np.zeros((sum(frames), config.mel_bands), np.float16))
    manifest = pd.DataFrame(
        {"recording_id": ["short", "folder/" + 40 * "x"], "group": ["a", "b"], "part": "train", "label": "normal",
         "shard": "s.npy", "shard_sha256": digest, "start": [0, frames[0]], "frames": frames}
    )  # fmt: skip
    plots.plot_spectrograms(manifest, store, config, each=2)
    short, long = figures[0].axes
    assert short.get_xlim() == long.get_xlim() == (0, 6)
    assert short.get_title() == "short"
    assert long.get_title() == f"folder/x…{23 * 'x'}\n(6 of 240.0 s)"


def test_the_confusion_matrix_names_the_decision_rule(figures: list[Figure]):
    plots.plot_confusion(predictions(), CLASSES)
    plots.plot_confusion(predictions(), CLASSES, rule=plots.AT_POINT)
    titles = [figure.axes[0].get_title() for figure in figures]
    assert "the most probable class" in titles[0]
    assert "the class at the operating point" in titles[1]
