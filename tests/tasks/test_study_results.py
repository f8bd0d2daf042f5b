"""What the plots of a study say, and how its folds are called."""

import pandas as pd
import pytest

from heartdata.reports import study_plots
from heartdata.storage.store import Store
from heartdata.studies.protocols import Fold, study_named
from heartdata.studies.scores import AT_POINT, NETWORK
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


@pytest.mark.parametrize(
    ("study", "name"),
    [("cinc2016-lodo", "seed 2, fold training-a"), ("article", "by subject, seed 2, fold training-a")],
)
def test_a_fold_is_called_by_its_arm_if_there_are_several(study: str, name: str):
    fold = Fold(arm="by subject", seed=2, name="training-a", split={"strategy": "k_fold", "folds": 5, "fold": 0})
    assert study_named(study).fold_title(fold) == name
