"""What is shown in the terminal: names whole where they fit, and each note once."""

import io
from typing import Any

import pytest
from rich.console import Console

from flows.cli.console import Terminal, rich_table, show, show_nothing_new
from heartdata.reports.summary import Summary
from heartdata.scoring.promotion import Decision

NAME = "ward-a/patient_0012_left.wav"


def test_names_in_tables_are_broken_only_at_their_separators():
    def lines(width: int) -> list[str]:
        output = io.StringIO()
        Console(file=output, width=width).print(
            rich_table("T", [{"file": NAME, "reason": f"is like [b] {NAME} of 0.125 s"}])
        )
        return [line.rstrip() for line in output.getvalue().splitlines()]

    assert f" {NAME}  is like [b] {NAME} of 0.125 s" in lines(100)
    cells = [[line[1:22].strip(), line[22:].strip()] for line in lines(44)[4:-1]]
    assert "".join(left for left, _ in cells) == NAME
    assert all(left == "" or left[-1] in "/_-." or left.endswith("wav") for left, _ in cells)


def test_a_wide_table_shows_every_column_in_several_below_one_another():
    classes = [
        "aortic_stenosis_severe",
        "MitralValveProlapse",
        "innocent flow murmur",
        *(f"class_{i}" for i in range(9)),
    ]
    output = io.StringIO()
    rows = [{"part": part} | {name: 1234 for name in classes} for part in ("training", "unlabelled")]
    Console(file=output, width=60).print(rich_table("T", rows))
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert max(map(len, lines)) <= 60
    words = " ".join(lines).split()
    assert all(name in words for name in classes[3:])
    assert words.count("1234") == 2 * len(classes)
    assert words.count("part") == words.count("training") == words.count("unlabelled") > 1


def test_the_terminal_remembers_the_notes_it_showed_and_aligns_stages():
    output = io.StringIO()
    with Terminal(Console(file=output, width=100)) as terminal:
        terminal.remarked("one")
        terminal.finished("initial weights", 0.0, "x")
        terminal.finished("split", 0.0, "x")
    assert terminal.notes == {"one"}
    one, two = (line for line in output.getvalue().splitlines() if line.endswith(" s  x"))
    assert len(one) == len(two)


REASON = (
    "there is still no champion: macro-F1 0.518 against 0.641 of simple features, difference -0.123 (one-sided 95 % "
    "bound -0.235), not above 0; also failed: better than metadata only, ECE"
)


def summary_of(**changes: Any) -> Summary:
    scores = [
        {"model": model, "metric": metric, "value": 0.518, "low": 0.442, "high": 0.592}
        for model in ("resnet34", "simple features", "metadata only", "majority class")
        for metric in ("macro_f1", "accuracy", "auroc")
    ]
    paths = {"latest": "/home/somebody/heart/out/latest", "report": "/home/somebody/heart/out/latest/report.html"}
    texts = dict.fromkeys(("dataset_version", "model_url", "run_id"), "a/b")
    summary = Summary(
        recordings=[{"label": "all", "found": 5, "accepted": 4, "quarantined": 1, "in use": 4}],
        subjects=[{"label": "subjects", "train": 2, "valid": 1, "test": 1}],
        quarantine=[{"check": "too_short"}], scores=scores, per_class=[], planted=[],
        seconds={f"a stage of name {n}": 123.4 for n in range(9)},
        data_docs="/home/somebody/heart/out/data-docs/0123456789/index.html",
        notes=[], model="heartbeat", model_version=1, decision=Decision(outcome="kept", reason=REASON), **texts, **paths,
    )  # fmt: skip
    return summary.model_copy(update=changes)


def shown(summary: Summary, width: int, terminal: bool = True) -> str:
    output = io.StringIO()
    links = {"To open Prefect and MLflow, run:": "word " * 25, "Prefect UI": "a/b", "MLflow UI": "a/b"}
    console = Console(
        file=output, width=width, highlight=False, soft_wrap=True, force_terminal=terminal, color_system=None
    )
    show(summary, console, links)
    return output.getvalue()


@pytest.mark.parametrize(("width", "screen"), [(100, 24), (80, 28)])
@pytest.mark.parametrize("notes", [["word " * 70] * 3, ["[word] " * 19] * 6, ["one", "other"], []])
def test_a_run_is_shown_on_one_screen(notes: list[str], width: int, screen: int):
    reasons = [{"check": f"some_check_{n}"} for n in range(30)]
    text = shown(summary_of(notes=notes, quarantine=reasons), width)
    assert sum(max(1, -(-len(line.rstrip()) // width)) for line in text.splitlines()) <= screen
    assert "0.518 (0.442-0.592)" in text
    assert text.count("heartbeat version 1") == 1
    assert (f"all {len(notes)} notes are in /home/somebody/heart/out/latest/summary.md" in text) is (len(notes) > 2)
    assert text.count("note ") == min(len(notes), 3)


def test_notes_are_whole_where_the_output_is_no_terminal():
    notes = [f"{number} " + "word " * 70 + "end" for number in range(6)]
    text = shown(summary_of(notes=notes), 80, terminal=False)
    assert [line for line in text.splitlines() if line.startswith("note ")] == [f"note {note}" for note in notes]
    assert "summary.md" not in text


def test_what_needs_no_server_stands_before_the_command_that_starts_them():
    lines = [line[:12].rstrip() for line in shown(summary_of(), 100).splitlines()]
    assert lines[-5:] == ["Report", "Data Docs", "To open Pref", "Prefect UI", "MLflow UI"]


def test_every_reason_of_quarantine_is_named_where_there_is_room_and_exclusions_always():
    some = [{"check": "too_short"}] * 3 + [{"check": f"check_{n}"} for n in range(5)] + [{"check": "excluded"}]
    few = "Quarantine  1 excluded, 3 too short, 1 check 0, 1 check 1, 1 check 2, 1 check 3, 1 check 4\n"
    assert few in shown(summary_of(quarantine=some), 100)
    many = [{"check": f"a_check_of_number_{n}"} for n in range(30)] * 2 + [{"check": "excluded"}]
    text = shown(summary_of(quarantine=many), 80)
    assert "Quarantine  1 excluded, 2 a check of number 0, " in text
    assert " for other reasons\n" in text


def test_of_synthetic_recordings_the_reasons_and_the_faults_that_were_caught_are_said():
    planted = [
        {"fault": fault, "recording": fault, "caught": fault != "clipped"}
        for fault in ("silent", "clipped", "too_short")
    ]
    text = shown(summary_of(quarantine=[{"check": "silent"}, {"check": "too_short"}], planted=planted), 100)
    assert "Quarantine  1 silent, 1 too short; 2 of 3 planted faults caught, not clipped\n" in text


def test_a_night_with_nothing_new_is_a_few_lines():
    nothing_new = "Nothing new since heartbeat version 1 of 2026-11-30; there is no champion"
    output = io.StringIO()
    show_nothing_new(summary_of(nothing_new=nothing_new), Console(file=output, width=100, highlight=False))
    assert [line.rstrip() for line in output.getvalue().splitlines()] == [
        nothing_new,
        "Scores      macro-F1 0.518 (0.442-0.592), AUROC 0.518 (0.442-0.592)",
        "Report      /home/somebody/heart/out/latest/report.html",
        "Files       /home/somebody/heart/out/latest",
    ]
