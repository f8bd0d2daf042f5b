"""Pictures of a study are plots, whatever is missing."""

import numpy as np
import pandas as pd
import pytest

from heartdata.reports import study_plots
from heartdata.scoring import calibration


def predictions(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.35, 1, n)
    return confidence, rng.random(n) < confidence - 0.1


def metrics() -> pd.DataFrame:
    rows = [
        ("resnet34, backbone", 0.61, 0.55, 0.66),
        ("resnet34, random weights", 0.54, 0.48, 0.6),
        ("features, boosted $x$", 0.52, 0.45, 0.58),
        ("metadata only", 0.41, 0.36, 0.46),
        ("majority class", 0.27, 0.27, 0.28),
        ("a model with a name that goes on and on and on", np.nan, np.nan, np.nan),
    ]
    frame = pd.DataFrame(rows, columns=["model", "value", "low", "high"]).assign(metric="macro_f1")
    return pd.concat([frame, frame.assign(metric="auroc", value=0.9)])


def test_pictures_are_png():
    sure, right = predictions()
    bins = calibration.reliability_bins(sure, right)
    curve = calibration.coverage_risk(sure, right)
    for plot in (
        study_plots.plot_reliability(bins, calibration.expected_calibration_error(sure, right), "a note"),
        study_plots.plot_coverage_risk(curve, calibration.unsure_threshold(sure, right, 0.2), "a note"),
        study_plots.plot_comparison(metrics(), "macro_f1", 0.47, "a note"),
    ):
        assert plot.startswith(b"\x89PNG")
        assert len(plot) > 5000


def test_pictures_of_confidence_say_that_it_is_of_the_most_probable_class(monkeypatch):
    titles = []
    monkeypatch.setattr(study_plots, "as_png", lambda figure, note: titles.append(figure.axes[0].get_title()) or b"")
    sure, right = predictions()
    study_plots.plot_reliability(calibration.reliability_bins(sure, right))
    study_plots.plot_coverage_risk(calibration.coverage_risk(sure, right))
    assert all("the most probable class" in title for title in titles)
    assert len(titles) == 2


@pytest.mark.filterwarnings("error")
def test_pictures_of_very_little():
    bins = calibration.reliability_bins([1.0], [True])
    curve = calibration.coverage_risk([1.0], [True])
    for plot in (
        study_plots.plot_reliability(bins),
        study_plots.plot_coverage_risk(curve),
        study_plots.plot_coverage_risk(curve, 0.0),
        study_plots.plot_comparison(metrics(), "macro_f1"),
        study_plots.plot_comparison(metrics(), "no such metric"),
    ):
        assert plot.startswith(b"\x89PNG")
