"""The texts on the plots of a study."""

import pandas as pd

from heartdata.reports import study_plots
from heartdata.scoring.model_names import NETWORK
from heartdata.storage.store import Store
from heartdata.studies.protocols import study_named
from heartdata.studies.scores import AT_POINT
from tasks.study import _plots


def test_the_comparison_says_what_was_held_out_and_resampled(store: Store, monkeypatch):
    texts = []
    monkeypatch.setattr(study_plots, "plot_comparison", lambda *args: texts.append(args[3:]) or b"")
    row = {"arm": "by subject", "label": "normal", "prediction": "normal", "p_abnormal": 0.3, "p_normal": 0.7}
    rows = pd.DataFrame([row | {"model": NETWORK}, row | {"model": AT_POINT}])
    _plots(study_named("cinc2016-lodo"), rows, rows, ["abnormal", "normal"], store)
    ((note, title),) = texts
    assert title == "CinC 2016: each database held out in turn"
    assert "a recording whose subject is not known counts as a subject" in note
