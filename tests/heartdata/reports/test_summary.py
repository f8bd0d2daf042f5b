"""The notes and tables in the summary of a run."""

import pandas as pd
import pytest

from heartdata.dataset.splits import SplitConfig
from heartdata.reports.summary import (
    Summary,
    baseline_note,
    check_warnings,
    data_notes,
    data_set_notes,
    missed_classes,
    planted_faults,
    recordings_by_class,
    subjects_by_part,
    summary_page,
)
from heartdata.scoring.promotion import Decision, Gate
from heartdata.storage.schemas import METRICS

MANIFEST = pd.DataFrame(
    [
        ("a", "murmur", "train", "1", "1", "c"),
        ("b", "train", "train", "2", "2", "c"),  # a label that is also a part
        ("c", "murmur", "test", "3", "3", "c"),
        ("d", "train", "test", "3", "3", "c"),
        ("e", None, "unlabelled", None, "e", "c"),
    ],
    columns=["recording_id", "label", "part", "subject", "group", "collection"],
).assign(source="table", sha256="0")


def test_recordings_are_counted_by_class():
    listed = pd.DataFrame({"label": ["murmur", "murmur", "all", None]})
    rows = recordings_by_class(listed, listed[:3], listed[3:], listed[:1])
    assert rows == [
        {"label": "(unlabelled)", "found": 1, "accepted": 0, "quarantined": 1, "in use": 0},
        {"label": "all (label)", "found": 1, "accepted": 1, "quarantined": 0, "in use": 0},
        {"label": "murmur", "found": 2, "accepted": 2, "quarantined": 0, "in use": 1},
        {"label": "all", "found": 4, "accepted": 3, "quarantined": 1, "in use": 1},
    ]


def test_subjects_are_counted_by_part():
    rows = subjects_by_part(MANIFEST.replace({"label": {"train": "subjects"}}))
    assert rows == [
        {"label": "murmur", "train": 1, "valid": 0, "test": 1, "unlabelled": 0},
        {"label": "subjects (label)", "train": 1, "valid": 0, "test": 1, "unlabelled": 0},
        {"label": "all", "train": 2, "valid": 0, "test": 2, "unlabelled": 1},
        {"label": "subjects", "train": 2, "valid": 0, "test": 1, "unlabelled": 1},
    ]
    assert "unlabelled" not in subjects_by_part(MANIFEST[:4])[0]


def test_planted_faults_are_caught_only_for_their_own_reason():
    listed = pd.DataFrame(
        [
            ("a", "demo", '{"planted": "silent"}'),
            ("b", "demo", '{"planted": "clipped"}'),
            ("c", "demo", "{}"),
            ("d", "table", '{"planted": "silent"}'),
        ],
        columns=["recording_id", "source", "extra"],
    )
    quarantine = pd.DataFrame({"recording_id": ["a", "b"], "check": ["silent", "duration"]})
    caught = {row["recording"]: row["caught"] for row in planted_faults(listed, quarantine)}
    assert caught == {"a": True, "b": False}


def test_notes_name_what_was_not_used_and_what_limits_the_scores():
    unused = pd.DataFrame({"recording_id": ["x", "y"], "label": "murmur", "collection": ["c", "other"]})
    accepted = pd.concat([MANIFEST, unused])
    notes = data_set_notes(accepted, MANIFEST, SplitConfig(collections=("c",), strategy="hash"))
    expected = ["1 labelled recording of other was checked but not used", "1 labelled recording was left out by",
                "Only 1 subject is held out", "Scores by subject leave out 1 held-out subject whose",
                "1 recording names no subject"]  # fmt: skip
    assert [text for text, note in zip(expected, notes, strict=True) if note.startswith(text)] == expected


@pytest.mark.parametrize(
    ("of_source", "times"),
    [
        ({}, 1),
        ({"note_0": "The subjects of 1 of 5 are not known, so each counts as one: ..."}, 0),
        ({"note_0": "The table has no subject column: every recording counts as a subject of its own: ..."}, 0),
    ],
)
def test_unknown_subjects_are_noted_once(of_source: dict[str, str], times: int):
    checks = pd.DataFrame({"check": [], "level": [], "failing": [], "severity": [], "passed": []})
    metrics = pd.DataFrame(
        [("resnet34", 0.7, 0.6, 0.8, 0.0, 0.0, 0.0), ("metadata only", 0.2, 0.1, 0.3, 0.5, 0.4, 0.6)],
        columns=[n for n in METRICS.names if n != "metric"],
    ).assign(metric="macro_f1")
    notes = data_notes(of_source, checks, MANIFEST.assign(warnings=""), MANIFEST, SplitConfig(), metrics, {}, "")
    assert notes.count("1 recording names no subject: each counts as its own") == times
    assert set(of_source.values()) <= set(notes)


def test_a_class_with_few_held_out_subjects_is_named():
    labels = ["normal"] * 21 + ["murmur"] * 4
    rows = pd.DataFrame({"recording_id": range(25), "label": labels, "group": range(25), "part": "test"})
    rows = rows.assign(collection="c", source="t", sha256="0", subject=[str(i) for i in range(25)])
    (note,) = data_set_notes(rows, rows, SplitConfig())
    assert note == "Only 4 held-out subjects are murmur: intervals may be too narrow"
    assert data_set_notes(rows, rows[rows["label"] == "normal"], SplitConfig())[1:] == []


def test_failed_checks_of_severity_warning_are_one_sentence_that_counts_accepted_recordings():
    columns = ["check", "level", "severity", "passed", "failing"]
    rows = [("several_labels", "subject", "warning", False, 3), ("short", "recording", "warning", False, 4), ("poor_quality", "recording b", "warning", False, 2),
                       ("short", "recording b", "warning", False, 1), ("no_rhythm", "recording", "warning", False, 2),
                       ("silent", "recording", "critical", False, 9), ("clipped", "recording", "warning", True, 0)]  # fmt: skip
    checks, accepted = (
        pd.DataFrame(rows, columns=columns),
        pd.DataFrame({"warnings": ["short, poor_quality", "", None]}),
    )
    text = "The checks warn (several labels: 3 subjects, short: 1 recording, poor quality: 1): the Data Docs say which"
    assert check_warnings(checks, accepted) == [text]
    assert check_warnings(checks[1:], accepted[1:]) == []  # those that fail were refused


def test_a_class_of_which_nothing_was_recognised_is_named():
    rows = {"a": (0.5, 4), "b": (0.0, 6), "c": (0.0, 0)}  # of c nothing was held out
    per_class = {name: {"recall": recall, "recordings": count} for name, (recall, count) in rows.items()}
    assert missed_classes(per_class) == ["None of the 6 held-out recordings of b was recognised"]


def test_many_classes_of_which_nothing_was_recognised_are_one_note():
    per_class = {name: {"recall": 0.0, "recordings": 2} for name in "abcde"} | {"f": {"recall": 0.5, "recordings": 2}}
    text = "No held-out recording of 5 of the 6 classes was recognised, for example of a, b, c"
    assert missed_classes(per_class) == [text]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.09, None),
        (-0.01, 0.11, "not clearly better than metadata only"),
        (-0.2, -0.1, "worse than metadata only"),
    ],
)
def test_the_model_is_compared_with_the_best_baseline_on_the_same_resamples(
    low: float, high: float, verdict: str | None
):
    """Their own intervals overlap in every case: the interval of the difference decides."""
    difference = (low + high) / 2
    rows = [
        ("resnet34", 0.7, 0.6, 0.8, 0.0, 0.0, 0.0),
        ("metadata only", 0.7 - difference, 0.5, 0.9, difference, low, high),
        ("majority class", 0.2, 0.1, 0.3, 0.5, 0.4, 0.6),
    ]
    metrics = pd.DataFrame(rows, columns=[n for n in METRICS.names if n != "metric"]).assign(metric="macro_f1")
    assert [note.partition(":")[0] for note in baseline_note(metrics)] == (
        [f"The model is {verdict}"] if verdict else []
    )
    gate = Gate(name="better than metadata only", value=low, bound=0.0, passed=False)
    of_gate = Decision(outcome="kept", reason="not better", gates=(gate,))
    assert baseline_note(metrics, of_gate) == []
    assert baseline_note(metrics, of_gate.model_copy(update={"gates": ()})) == baseline_note(metrics)


def test_the_decision_is_on_top_and_its_gates_are_a_table():
    gates = (
        Gate(name="over the champion", value=-0.03, bound=0.0, passed=False, detail="macro-F1 .61 against .60"),
        Gate(name="sensitivity of murmur", value=None, bound=0.7, passed=False),
        Gate(name="held-out subjects", value=12, bound=20, passed=False),
    )
    decision = Decision(outcome="kept", reason="the champion stays", gates=gates, challenger=7, champion=5)
    tables = dict.fromkeys(("recordings", "subjects", "scores", "per_class", "quarantine", "planted", "notes"), [])
    texts = dict.fromkeys(("dataset_version", "model_url", "run_id", "data_docs", "latest", "report"), "x")
    summary = Summary(**tables, **texts, seconds={}, model="m", model_version=7, decision=decision)
    page = summary_page(summary, "table")
    assert page.splitlines()[2] == "m version 7: not promoted: the champion stays"
    assert "| over the champion | -0.030 | 0.000 | failed | macro-F1 .61 against .60 |" in page
    assert "| sensitivity of murmur | unknown | 0.700 | failed |" in page
    assert "| held-out subjects | 12 | 20 | failed |" in page
    again = summary.model_copy(update={"nothing_new": "Nothing new since version 7"})
    assert summary_page(again, "table").splitlines()[2] == "Nothing new since version 7"
    assert "## The decision\n\nnot promoted: the champion stays" in summary_page(again, "table")
    assert again.model_copy(update={"decision": None, "nothing_new": ""}).headline == "m version 7 is the challenger"
