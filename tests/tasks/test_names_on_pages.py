"""Pages and tables for people show labels and names that look like markup as text."""

import io

import pandas as pd
from helpers import IMAGE, LABEL, words
from rich.console import Console

from flows.cli import console
from heartdata.errors import DataRefused
from heartdata.reports.summary import Summary, summary_page
from heartdata.studies.config import study_config
from heartdata.studies.page import study_page
from tasks.engine.failure_notice import failure_notice

LINE = " ".join(LABEL.split())
SUMMARY = Summary(
    recordings=[{"label": LABEL, "found": 3}], subjects=[{"part": "train", LABEL: 3}], planted=[], seconds={"train": 1.0},
    scores=[{"model": "resnet34", "metric": "macro_f1", "value": 0.5, "low": 0.4, "high": 0.6}],
    per_class=[{"label": LABEL, "f1": "0.500"}],
    quarantine=[{"recording_id": f"{LABEL}.wav", "check": "unknown_label", "reason": f"its label {LABEL!r} is odd"}],
    notes=[f"None of the 3 held-out recordings of {LABEL} was recognised"], dataset_version="0" * 64,
    model="heartbeat", model_version=1, model_url="http://127.0.0.1:5000/#/models/heartbeat/versions/1", run_id="r",
    data_docs=f"/out/{IMAGE}`/index.html", latest="/out/latest",
)  # fmt: skip


def test_the_summary_shows_names_as_they_are():
    page = words(summary_page(SUMMARY, "demo"))
    assert page.found == []
    shown = "".join(page.text)
    assert shown.count(f"{LINE}\n") == 3  # a row of two tables and the head of one
    assert f"recordings of {LINE} was recognised" in shown
    assert f"{LINE}.wav" in shown
    assert f"/out/{IMAGE}`/index.html" in shown
    assert not {"img", "script", "strong", "em"} & set(page.tags)
    assert page.tags.count("a") == 1


def test_metrics_have_their_usual_names():
    score = {"model": "resnet34", "value": 0.5, "low": 0.4, "high": 0.6}
    scores = [{**score, "metric": name} for name in ("macro_f1", "auroc_by_subject", "balanced_accuracy")]
    rows = SUMMARY.model_copy(update={"scores": scores}).score_rows()
    assert [row["metric"] for row in rows] == ["macro-F1", "AUROC by subject", "balanced accuracy"]


def test_the_notice_of_a_run_that_stopped_shows_names_as_they_are():
    page = words(failure_notice(DataRefused(f"nothing was trained: {LABEL}"), "table", ["quarantine.csv"], True))
    assert page.found == []
    assert f"nothing was trained: {LINE}" in "".join(page.text)


def test_the_page_of_a_study_shows_settings_and_warnings_as_they_are():
    config = study_config("pascal-b", "x", None, {"validation.classes": [f"a`{IMAGE}", "b"]})
    empty = pd.DataFrame(columns=["arm", "model", "metric", "value", "sd", "low", "high"])
    page = words(study_page(config.study, config.run, empty, warning=f"{LABEL} does not say what it was trained on"))
    assert page.found == []
    assert f"{LINE} does not say" in "".join(page.text)
    assert f"a`{IMAGE}" in "".join(page.text)


def test_the_terminal_shows_names_as_they_are():
    odd = "[red]x[/red] :heart: [/] [link=http://x.org]y[/link]"
    terminal = Console(file=io.StringIO(), width=200, emoji=False, highlight=False)
    tables = {"recordings": [{"label": odd, odd: 1}], "subjects": [], "notes": [f"a note on {odd}"]}
    console.show(SUMMARY.model_copy(update=tables), terminal, {})
    assert terminal.file.getvalue().count(odd) == 3
