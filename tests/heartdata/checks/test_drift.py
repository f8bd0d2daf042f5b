"""Population stability index and drift: known values, no alarm by chance, and the plot."""

import numpy as np
import pandas as pd
import pytest

from heartdata.checks.drift import binned, column_drift, lost_fraction, population_stability
from heartdata.reports import plots


def test_the_index_has_its_known_values():
    assert population_stability([5, 5], [50, 50]) == 0
    assert population_stability([50, 50], [75, 25]) == pytest.approx(0.25 * np.log(1.5) - 0.25 * np.log(0.5))
    assert population_stability([10, 0], [0, 10]) == pytest.approx(2 * 0.95 * np.log(20))  # no infinity
    assert population_stability([1000, 0], [1000, 50]) < 0.25  # one in twenty of a new kind
    assert population_stability([0, 0], [1, 1]) < np.inf


def accepted(n: int, seed: int = 0, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"recording_id": [f"r{i}" for i in range(n)], "label": rng.choice(["a", "b"], n), "rate_hz": 4000,
         "duration_s": rng.gamma(4, 2, n), "site": None}
    )  # fmt: skip
    return frame.assign(**columns)


def psi(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float]:
    return column_drift(before, after).set_index("quantity")["psi"].to_dict()


def test_the_same_population_is_stable_and_another_is_not():
    before, after = accepted(2000), accepted(2000, seed=1)
    assert max(psi(before, after).values()) < 0.02
    assert psi(before, before) == dict.fromkeys(psi(before, before), 0.0)
    longer = psi(before, after.assign(duration_s=after["duration_s"] * 1.5))
    assert longer["duration_s"] > 0.25
    assert longer["label"] < 0.02
    assert psi(before, after.assign(rate_hz=np.where(np.arange(2000) % 2, 4000, 8000)))["rate_hz"] > 0.25
    assert psi(before, after.assign(label="a"))["label"] > 0.25
    assert psi(before, after.assign(site="AV"))["site"] > 0.25


def test_chance_in_small_tables_is_no_drift():
    alarms = [column_drift(accepted(20, i), accepted(25, 100 + i)) for i in range(100)]
    assert max(table["psi"].max() for table in alarms) > 0.25  # false alarms of the index alone
    assert sum((table["drift"] > 0.25).any() for table in alarms) <= 1
    halved = column_drift(accepted(200), accepted(200, 1, label="a"))
    assert halved.set_index("quantity")["drift"]["label"] > 0.25


def test_every_recording_is_in_one_bin():
    before, after = accepted(500), accepted(300, seed=2, duration_s=np.r_[[np.nan] * 5, [1e9] * 5, [-1.0] * 290])
    for name in ("duration_s", "label", "site", "rate_hz"):
        table = binned(before[name], after[name])
        assert table.sum().tolist() == [500, 300], name
    numbers = binned(before["duration_s"], after["duration_s"])
    assert len(numbers) == 11
    assert numbers["before"].iloc[:10].between(49, 51).all()
    assert numbers["after"].iloc[0] == 290


def test_recordings_that_are_gone_or_have_lost_their_label_are_lost():
    before = accepted(200)
    assert lost_fraction(before, before) == 0
    assert lost_fraction(before, before.iloc[:100]) == 0.5
    assert lost_fraction(before, accepted(300)) == 0
    assert lost_fraction(before.iloc[:0], before) == 0
    assert lost_fraction(before, before.assign(label=before["label"].where(before.index >= 50, None))) == 0.25


def test_new_unlabelled_recordings_are_no_drift_of_labels():
    before = accepted(200)
    more = accepted(60).assign(recording_id=[f"new {i}" for i in range(60)], label=None)
    assert psi(before, pd.concat([before, more], ignore_index=True))["label"] == 0


def test_the_plot_names_what_it_shows(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "as_png", lambda figure, note: drawn.append(figure) or b"")
    before = accepted(200, collection="")
    plots.plot_drift(column_drift(before, accepted(200, 1, collection="", label="a")), 0.25, earlier="reference")
    (axes,) = drawn[0].axes
    assert axes.get_xlabel() == "share of recordings"
    headings = [text.get_text() for text in axes.texts]
    assert headings[0].startswith("label: changed, PSI")
    assert "rate_hz: PSI 0.000" in headings
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert "(empty)" in names
    assert axes.get_legend() is None  # it would cover a bar
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["reference", "now", "now, changed"]
    at = next(int(text.get_position()[1]) for text in axes.texts if text.get_text().startswith("duration_s"))
    first, second = names[at + 1 : at + 3]
    edge = first.removeprefix("< ")
    assert second.startswith(f"{edge} to ")
