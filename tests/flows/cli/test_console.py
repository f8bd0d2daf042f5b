"""What is shown in the terminal: names whole where they fit, and each note once."""

import io

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


def test_a_run_is_shown_on_one_screen():
    scores = [
        {"model": model, "metric": metric, "value": 0.518, "low": 0.442, "high": 0.592}
        for model in ("resnet34", "simple features", "metadata only", "majority class")
        for metric in ("macro_f1", "accuracy", "auroc")
    ]
    reason = (
        "there is still no champion: macro-F1 0.518 against 0.641 of simple features, difference -0.123 (one-sided 95 % "
        "bound -0.235), not above 0; also failed: better than metadata only, ECE"
    )
    texts = dict.fromkeys(("dataset_version", "model_url", "run_id", "data_docs", "latest", "report"), "a/b")
    summary = Summary(
        recordings=[{"label": "all", "found": 5, "accepted": 4, "quarantined": 1, "in use": 4}],
        subjects=[{"label": "subjects", "train": 2, "valid": 1, "test": 1}],
        quarantine=[{"check": "too_short"}], scores=scores, per_class=[], planted=[], seconds={"train": 9.0},
        notes=["word " * 19] * 6, model="heartbeat", model_version=1, decision=Decision(outcome="kept", reason=reason), **texts,
    )  # fmt: skip
    output = io.StringIO()
    links = {"To open these, run:": "word " * 30, "Prefect UI": "a/b", "MLflow UI": "a/b"}
    show(summary, Console(file=output, width=100), links)
    lines = output.getvalue().splitlines()
    assert sum(max(1, -(-len(line.rstrip()) // 100)) for line in lines) <= 24
    assert "0.518 (0.442-0.592)" in output.getvalue()
    assert "3 more are in summary.md" in output.getvalue()
    assert output.getvalue().count("there is still no champion") == 1
    output = io.StringIO()
    nothing_new = "Nothing new since heartbeat version 1 of 2026-11-30; there is no champion"
    show_nothing_new(summary.model_copy(update={"nothing_new": nothing_new}), Console(file=output, width=100))
    assert [line.rstrip() for line in output.getvalue().splitlines()] == [
        nothing_new,
        "Scores      macro-F1 0.518 (0.442-0.592), AUROC 0.518 (0.442-0.592)",
        "Report      open a/b",
        "Files       a/b",
    ]
