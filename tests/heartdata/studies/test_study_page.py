"""The page of a study: its command, its tables, and the source of its reference score."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from heartdata.scoring.model_names import NETWORK
from heartdata.storage.schemas import STUDY_METRICS
from heartdata.studies.config import study_config
from heartdata.studies.facts import Measured, StudyFacts, StudyRecord
from heartdata.studies.page import command_of, metric_rows, study_page

MEASURED = Measured(
    recorded_at="2030-01-02 03:04 UTC", commit="0123456789abcdef", machine="2 cores", versions={"torch": "9"}
)
EMPTY = pd.DataFrame(columns=STUDY_METRICS.names)


def record_of(name: str, metrics: pd.DataFrame = EMPTY, changes: dict | None = None, **facts: Any) -> StudyRecord:
    config = study_config(name, "x", None, changes)
    fixed = {
        "study": config.study, "command": command_of(config.study, config.run), "init": "random", "measured": MEASURED,
        "recordings": 1234, "subjects": 90, "labels": {"normal": 1000, "murmur": 234}, "collections": {"set_b": 1234},
        "operating_point": config.run.decision.operating_point, "subject_rule": config.run.evaluation.subject_rule,
    }  # fmt: skip
    return StudyRecord(StudyFacts(**{**fixed, **facts}), metrics)


def test_the_page_says_what_was_scored():
    assert "Scored: 1,234 recordings of 90 subjects (normal 1000, murmur 234), of set_b 1234." in page_of("pascal-b")
    assert "(normal 1000, murmur 234)." in page_of("pascal-b", collections={})


def page_of(name: str, metrics: pd.DataFrame = EMPTY, changes: dict | None = None, **facts: object) -> str:
    return study_page(record_of(name, metrics, changes, **facts))


def test_the_page_shows_the_metrics_the_plots_and_the_source_of_the_reference_score():
    nothing = dict.fromkeys(STUDY_METRICS.names, np.nan)
    row = nothing | {"arm": "by subject", "model": NETWORK, "metric": "macc", "value": 1.0}
    page = page_of("cinc2016-lodo", pd.DataFrame([row]), plots=("comparison",))
    assert "| resnet34 | 1.000 |" in page
    assert "![comparison](comparison.png)" in page
    assert "Reference: MAcc 0.519, a third-party audit without a publication, each database left out in turn" in page
    assert "Patients are scored" not in page


@pytest.mark.parametrize(
    ("name", "point", "rule"),
    [("circor2022", "weighted_accuracy", "highest"), ("circor2022-outcome", "cost_per_patient", "mean")],
)
def test_the_page_says_how_patients_are_scored(name: str, point: str, rule: str):
    page = page_of(name)
    assert f"the probability of a class is the {rule} over a patient's recordings" in page
    assert f"the operating point optimises `{point}`" in page


def test_the_page_names_the_command_with_every_setting_that_differs():
    changes = {"training.mixup": 0.4, "split.collections": ["set_a", "set_b"]}
    init = "models:/heartbeat-backbone@champion"
    page = page_of("pascal-b", changes=changes, warning="unknown subjects", init=init, weights="0123456789abcdef")
    assert (
        '`heartbeat study pascal-b --data FOLDER --seeds 3 --set \'split.collections=["set_a", "set_b"]\' '
        "--set training.mixup=0.4`"
    ) in page
    assert "**unknown subjects.**" in page
    assert "start from `models:/heartbeat-backbone@champion`, weights `0123456789ab`." in page
    assert "`heartbeat study pascal-b --data FOLDER --seeds 3`" in page_of("pascal-b")


def test_a_cell_is_blank_where_the_value_is_not_finite():
    rows = [
        ("a", -np.inf, np.nan, -np.inf, -np.inf),
        ("b", np.nan, np.nan, np.nan, np.nan),
        ("c", 0.25, 0.125, 0.2, 0.5),
        ("d", -0.25, np.nan, -np.inf, -0.125),
        ("e", 11144.0, 20.0, 9000.0, np.inf),
    ]
    metrics = pd.DataFrame(rows, columns=["model", "value", "sd", "low", "high"]).assign(metric="accuracy")
    assert {row["model"]: row["accuracy"] for row in metric_rows(metrics, ["accuracy"])} == {
        "a": "", "b": "", "c": "0.250 ± 0.125 (0.200-0.500)", "d": "-0.250 (-inf to -0.125)",
        "e": "11,144 ± 20 (9,000-inf)",
    }  # fmt: skip


def test_the_last_column_is_the_paired_difference_to_the_network():
    rows = [(NETWORK, 0.5, 0.0, 0.0, 0.0), ("a", 0.25, 0.25, -0.125, 0.5), ("b", 0.5, np.nan, np.nan, np.nan)]
    metrics = pd.DataFrame(rows, columns=["model", "value", "difference", "difference_low", "difference_high"])
    shown = metric_rows(metrics.assign(metric="accuracy", sd=None, low=np.nan, high=np.nan), [], "accuracy")
    assert {row["model"]: row["accuracy, resnet34 minus this"] for row in shown} == {
        NETWORK: "", "a": "+0.250 (-0.125 to +0.500)", "b": "",
    }  # fmt: skip


def test_the_page_says_where_when_and_by_which_code_the_study_was_measured():
    page = page_of("pascal-b")
    assert (
        "- Recorded 2030-01-02 03:04 UTC\n- Code: commit `0123456789ab`\n- Machine: 2 cores\n- Versions: torch 9"
        in page
    )
    changed = MEASURED.model_copy(update={"changed": True})
    assert "commit `0123456789ab` with uncommitted changes" in page_of("pascal-b", measured=changed)
