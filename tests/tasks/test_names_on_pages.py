"""Pages and tables for people show labels and names that look like markup as text."""

import io

import pandas as pd
from helpers import IMAGE, LABEL, words
from rich.console import Console

from flows.cli import console
from heartdata.errors import DataRefused
from heartdata.reports.summary import Summary, summary_page
from heartdata.scoring.promotion import Decision
from heartdata.studies.config import study_config
from heartdata.studies.facts import Measured, StudyFacts, StudyRecord
from heartdata.studies.page import command_of, study_page
from tasks.engine.failure_notice import failure_notice

LINE = " ".join(LABEL.split())
SUMMARY = Summary(
    recordings=[{"label": LABEL, "found": 3}], subjects=[{"part": "train", LABEL: 3}], planted=[], seconds={"train": 1.0},
    scores=[{"model": "resnet34", "metric": "macro_f1", "value": 0.5, "low": 0.4, "high": 0.6}],
    per_class=[{"label": LABEL, "f1": "0.500"}],
    quarantine=[{"recording_id": f"{LABEL}.wav", "check": "unknown_label", "reason": f"its label {LABEL!r} is odd"}],
    notes=[f"None of the 3 held-out recordings of {LABEL} was recognised"], dataset_version="0" * 64,
    model="heartbeat", model_version=1, model_url="http://127.0.0.1:5000/#/models/heartbeat/versions/1", run_id="r",
    data_docs=f"/out/{IMAGE}`/index.html", latest="/out/latest", report="/out/latest/report.html",
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
    facts = StudyFacts(
        study=config.study,
        command=command_of(config.study, config.run),
        operating_point="none",
        subject_rule="mean",
        init="random",
        recordings=1,
        subjects=1,
        labels={LABEL: 1},
        collections={LABEL: 1},
        warning=f"{LABEL} does not say what it was trained on",
        measured=Measured(recorded_at="now"),
    )
    page = words(study_page(StudyRecord(facts, empty)))
    assert page.found == []
    assert f"{LINE} does not say" in "".join(page.text)
    assert f"a`{IMAGE}" in "".join(page.text)


def test_the_terminal_shows_names_as_they_are():
    odd = "[red]x[/red] :heart: [/] [link=http://x.org]y[/link]"
    terminal = Console(file=io.StringIO(), width=200, emoji=False, highlight=False)
    decision = Decision(outcome="kept", reason=f"worse for {odd}")
    changed = {"decision": decision, "notes": [f"a note on {odd}"], "quarantine": [{"check": odd}]}
    console.show(SUMMARY.model_copy(update=changed), terminal, {"UI": odd})
    assert terminal.file.getvalue().count(odd) == 4


def test_the_summary_of_a_run_fits_one_screen():
    names = ("resnet34", "simple features", "metadata only", "majority class")
    metrics = ("macro_f1", "balanced_accuracy", "accuracy", "auroc", "macro_f1_by_subject", "auroc_by_subject")
    stages = ("inventory", "measure", "near-duplicates", "validate", "split", "spectrograms", "train", "calibrate")
    scores = [{"model": name, "metric": m, "value": 0.5, "low": 0.4, "high": 0.6} for name in names for m in metrics]
    summary = SUMMARY.model_copy(
        update={
            "recordings": [{"label": "all", "found": 832, "accepted": 814, "quarantined": 18, "in use": 455}],
            "subjects": [{"label": "subjects", "train": 99, "valid": 33, "test": 31}],
            "scores": scores,
            "quarantine": [{"check": check} for check in ("too_short", "too_short", "a", "b", "c", "d", "e")],
            "notes": ["said before", *(f"note number {number}" for number in range(30))],
            "seconds": {stage: float(number) for number, stage in enumerate(stages)},
            "decision": Decision(outcome="promoted", reason="macro-F1 .61 against .52, difference +.09"),
        }
    )
    terminal = Console(
        file=io.StringIO(),
        width=100,
        emoji=False,
        highlight=False,
        soft_wrap=True,
        force_terminal=True,
        color_system=None,
    )
    links = {
        "To open Prefect and MLflow, run:": "heartbeat up --store out",
        "Prefect UI": "http://p",
        "MLflow UI": "http://m",
    }
    console.show(summary, terminal, links, {"said before"})
    text = terminal.file.getvalue()
    lines = text.splitlines()
    assert sum(-(-max(len(line), 1) // 100) for line in lines) <= 24
    assert "said before" not in text
    assert "all 30 notes are in /out/latest/summary.md" in text
    assert "heartbeat version 1: promoted to champion: macro-F1 .61 against .52, difference +.09" in lines
    assert "Recordings  832 found, 814 accepted, 18 quarantined, 455 in use" in lines
    assert "Quarantine  2 too short, 1 a, 1 b, 1 c, 1 d, 1 e" in lines
    assert "Seconds     28.0 · calibrate 7.0 · train 6.0 · spectrograms 5.0 · split 4.0 · validate 3.0" in lines
    assert all(any(line.split("  ")[0].strip() == name for line in lines) for name in names)
    assert lines.index("Report      /out/latest/report.html") < lines.index("Prefect UI  http://p")
