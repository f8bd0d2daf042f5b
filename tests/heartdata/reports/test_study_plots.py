"""The plots of a study are valid PNGs, also of very little, and say what they show."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from heartdata.reports import study_plots
from heartdata.reports.curve_plot import draw_learning_curve, plot_learning_curve
from heartdata.scoring.calibration import coverage_risk, reliability_bins
from heartdata.storage.schemas import LEARNING_CURVE


def predictions(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Confidence, and whether the prediction is correct."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.35, 1, n)
    return confidence, rng.random(n) < confidence - 0.1


def metrics() -> pd.DataFrame:
    rows = [
        ("resnet34, backbone", 0.61, 0.55, 0.66),
        ("features, boosted $x$", 0.52, 0.45, 0.58),
        ("majority class", 0.27, np.nan, np.nan),
        ("a model with a name that is too long for a label", np.nan, np.nan, np.nan),
    ]
    frame = pd.DataFrame(rows, columns=["model", "value", "low", "high"]).assign(metric="macro_f1")
    return pd.concat([frame, frame.assign(metric="auroc", value=0.9)])


@pytest.mark.filterwarnings("error")
def test_plots_are_png():
    bins, curve = reliability_bins(*predictions()), coverage_risk(*predictions())
    for plot in (
        study_plots.plot_reliability(bins, 0.1, "a note"),
        study_plots.plot_reliability(reliability_bins([1.0], [True]), 0.0, ""),
        study_plots.plot_coverage_risk(curve, "a note"),
        study_plots.plot_coverage_risk(coverage_risk([1.0], [True]), ""),
        study_plots.plot_comparison(metrics(), "macro_f1", 0.47, "a note", "A title"),
        study_plots.plot_comparison(metrics(), "no such metric", None, "", ""),
    ):
        assert plot.startswith(b"\x89PNG")
        assert len(plot) > 5000


def test_plots_of_confidence_name_the_most_probable_class(monkeypatch):
    titles = []
    monkeypatch.setattr(study_plots, "as_png", lambda figure, note: titles.append(figure.axes[0].get_title()) or b"")
    study_plots.plot_reliability(reliability_bins(*predictions()), 0.1, "")
    study_plots.plot_coverage_risk(coverage_risk(*predictions()), "")
    assert all("the most probable class" in title for title in titles)
    assert len(titles) == 2


def test_the_comparison_shows_values_intervals_and_the_reference(monkeypatch):
    texts = []
    monkeypatch.setattr(study_plots, "as_png", lambda figure, note: texts.extend(figure.axes[0].texts) or b"")
    study_plots.plot_comparison(metrics(), "macro_f1", 11144, "", "")
    assert [text.get_text() for text in texts] == [
        "0.610 (0.550-0.660)", "0.520 (0.450-0.580)", "0.270", "none", "reference 11,144"
    ]  # fmt: skip


def test_the_axis_of_a_risk_ends_at_one(monkeypatch):
    ends = []
    monkeypatch.setattr(study_plots, "as_png", lambda figure, note: ends.append(figure.axes[0].get_ylim()[1]) or b"")
    for wrong in (1.0, 0.01):
        curve = pd.DataFrame({"coverage": [1.0, 0.5], "risk": [wrong, wrong]})
        study_plots.plot_coverage_risk(curve, "")
    assert ends == [1.02, 0.05]


def test_a_learning_curve_has_a_tick_at_each_number_measured_and_a_line_where_measuring_ends():
    measured = [(model, f"arm {n}", float(n), 0.5, 0.4, 0.6, 0.1) for model in ("a", "b") for n in (10, 40, 80)]
    fitted = [(model, None, float(n), 0.5, 0.4, 0.6, 0.1) for model in ("a", "b") for n in range(10, 810, 100)]
    curve = pd.DataFrame(measured + fitted, columns=LEARNING_CURVE.names)
    axes = Figure().subplots()
    draw_learning_curve(axes, curve, "macro_f1")
    assert axes.get_xticks().tolist() == [10, 40, 80, 160, 400, 800]
    assert axes.get_ylabel() == "macro-F1, 95 % interval"
    assert [80, 80] in [list(line.get_xdata()) for line in axes.lines]
    assert plot_learning_curve(curve, "macro_f1", "A title", "a note").startswith(b"\x89PNG")
