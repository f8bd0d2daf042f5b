"""The page of the benchmarks is made from what was recorded; every benchmark of `make bench` is on it and says its command."""

import ast
from pathlib import Path

import pytest

from benchmarks.__main__ import about, main, recorded
from benchmarks.command import in_turn
from benchmarks.pages import DOCS
from benchmarks.processes import PROJECT
from benchmarks.report import Record, number, page, table
from benchmarks.rows import Row, Target, Value, absent, mean_with_interval, scored, timed
from benchmarks.suite import SUITE, Benchmark

SECONDS = timed("a file", "ms", [2.0, 4.0, 3.0], "librosa", [8.0, 8.0, 15.0], target=Target(least=4))


def record(*rows: Row, **changes: object) -> Record:
    return Record(
        **{
            "name": "training", "title": "Training", "about": "How fast.", "date": "2026-11-30", "commit": "abc1234",
            "seconds": 90.0, "load": 0.25, "machine": "2 cores of a Z80", "versions": {"Python": "3.11"}, "small": False,
            "rows": list(rows), **changes,
        }
    )  # fmt: skip


def source(name: str) -> str:
    return (PROJECT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")


def test_a_ratio_is_taken_turn_by_turn_and_above_one_is_better():
    assert SECONDS.heartbeat == Value(value=3, low=2, high=4)
    assert SECONDS.peer_value == Value(value=8, low=8, high=15)
    assert SECONDS.ratio == Value(value=4, low=2, high=5)  # 8/2, 8/4, 15/3
    rates = timed("images", "images/s", [30.0], "fastai", [20.0], higher_is_better=True)
    assert rates.ratio == Value(value=1.5)
    once = timed("nothing changed", "s", [1.0, 2.0], "the first time", [10.0])
    assert once.ratio == Value(value=7.5, low=5, high=10)


def test_scores_have_a_ratio_unless_it_would_divide_by_nothing():
    assert scored("F", 0.9, "peaks", 0.6).ratio == Value(value=0.9 / 0.6)
    assert scored("error", 0.1, "peaks", 0.4, lower_is_better=True).ratio == Value(value=4)
    assert scored("recall", 100, "checksums", 0).ratio is None


def test_the_interval_of_a_mean_has_a_known_width():
    value = mean_with_interval([1.0, 3.0])
    # the sd of 2 draws is the root of 2, and t of 1 degree of freedom 12.7062
    assert (value.low, value.value, value.high) == pytest.approx((2 - 12.7062, 2, 2 + 12.7062), abs=1e-4)


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (SECONDS, "met"),
        (SECONDS.model_copy(update={"target": Target(least=4.1)}), "missed"),
        (SECONDS.model_copy(update={"target": Target(of="heartbeat", most=3)}), "met"),
        (SECONDS.model_copy(update={"target": Target(of="heartbeat", most=2.5)}), "missed"),  # a fast turn is no excuse
        (scored("x", Value(value=0.053, low=0.04, high=0.07), "y", 0.5, target=Target(of="heartbeat", most=0.05)),
         "missed within chance"),
        (scored("x", Value(value=0.09, low=0.07, high=0.11), "y", 0.5, target=Target(of="heartbeat", most=0.05)), "missed"),
        (absent("x", "lhotse", "not installed"), ""),
        (scored("x", 1, "y", 1), ""),
    ],
)  # fmt: skip
def test_a_target_is_met_or_missed(row: Row, verdict: str):
    assert row.verdict() == verdict


def test_the_table_shows_medians_spread_ratio_and_target_and_repeats_nothing():
    missed = SECONDS.model_copy(update={"target": Target(of="heartbeat", most=2.5)})
    lines = table([SECONDS, missed, absent("a file", "lhotse", "not installed")]).splitlines()
    assert lines[2:] == [
        "| a file | 3 ms (2 to 4) | librosa | 8 ms (8 to 15) | 4 (2 to 5) | ratio at least 4: met |",
        "|  |  | librosa | 8 ms (8 to 15) | 4 (2 to 5) | at most 2.5 ms: **missed** |",
        "| a file: not installed |  | lhotse | not measured |  |  |",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.000312, "0.0003"),
        (0.0123, "0.012"),
        (0.7612, "0.761"),
        (19.72, "19.7"),
        (143.7, "144"),
        (1143.2, "1,143"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str):
    assert number(value) == text


def test_the_page_has_each_section_with_its_command_and_lists_what_was_missed():
    other = record(scored("x", 1, "y", 2), name="up", title="Servers", commit="def5678 with changes", date="2026-12-01")
    missed = SECONDS.model_copy(update={"target": Target(least=4.1)})
    text = page([record(SECONDS, missed), other])
    assert (
        "**Targets.** 1 of 2 are met. Missed:\n\n- [Training](#training): a file: ratio 4 to *librosa* (at least 4.1)"
        in text
    )
    made = "`make bench ONLY=training`: 1.5 minutes on 2026-11-30, commit abc1234, load before 0.2."
    assert f"## Training\n\nHow fast.\n\n{table([SECONDS, missed])}\n\n{made}\n\n## Servers" in text
    assert "`make bench ONLY=up`: 1.5 minutes on 2026-12-01, commit def5678 with changes" in text
    assert text.endswith("## Machine and versions\n\n2 cores of a Z80. Python 3.11.\n")
    assert "Not measured" not in text


def test_a_target_of_its_own_value_counts_once_whatever_the_number_of_peers():
    own = SECONDS.model_copy(update={"target": Target(of="heartbeat", most=2)})
    second = own.model_copy(update={"peer": "lhotse"})
    text = page([record(own, second)])
    assert "0 of 1 are met. Missed:\n\n- [Training](#training): a file: 3 ms (at most 2 ms)\n\n" in text
    assert text.count("at most 2 ms: **missed**") == 1
    to_each = [SECONDS.model_copy(update={"target": Target(least=9), "peer": peer}) for peer in ("librosa", "lhotse")]
    assert "a file: ratio 4 to *librosa* (at least 9); ratio 4 to *lhotse* (at least 9)" in page([record(*to_each)])


def test_rows_of_other_machines_and_of_small_sizes_are_shown_as_such():
    text = page([record(SECONDS), record(SECONDS, name="up", title="Servers", machine="4 cores of an M1", small=True)])
    assert "- Training: 2 cores of a Z80. Python 3.11.\n- Servers: 4 cores of an M1. Python 3.11." in text
    assert "**Not measured yet: Servers.**" in text
    assert text.count("**sizes that measure nothing**") == 1


def test_ways_are_measured_in_turn_after_a_warm_up():
    order: list[str] = []

    def way(name: str) -> float:
        order.append(name)
        return len(order)

    results = in_turn({"a": lambda: way("a"), "b": lambda: way("b")}, repeats=2, warm_ups=1)
    assert "".join(order) == "ababab"
    assert results == {"a": [3, 5], "b": [4, 6]}


@pytest.mark.parametrize("name", [benchmark.name for benchmark in SUITE])
def test_every_benchmark_says_its_command_and_only_reduces_its_sizes(name: str):
    tree = ast.parse(source(name))
    assert f"python -m benchmarks.{name}" in (ast.get_docstring(tree) or "")
    assert about(source(name)).endswith(".")
    (sizes,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SIZES"
    )
    assert all(small <= full for full, small in sizes.values())
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "measure")
    assert [argument.arg for argument in function.args.args if argument.arg != "data"] == list(sizes)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, benchmark: Benchmark) -> int:
    """`make bench` with that benchmark alone."""
    monkeypatch.setattr("benchmarks.__main__.SUITE", (benchmark,))
    monkeypatch.setattr("sys.argv", ["benchmarks", "--small", "--out", str(folder)])
    return main()


@pytest.mark.slow
def test_a_benchmark_is_recorded_and_put_on_the_page(monkeypatch, tmp_path: Path, capsys):
    assert run(monkeypatch, tmp_path, Benchmark("label_errors", "Suspected label errors", 1)) == 0
    (made,) = recorded(tmp_path / "benchmarks")
    assert made.small
    assert made.rows
    assert made.about.startswith("How many suspected labels are wrong")
    assert page([made]) == (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "2 classes, distance 1" in capsys.readouterr().out  # progress


def test_a_benchmark_that_fails_shows_why_and_leaves_what_was_recorded(monkeypatch, tmp_path: Path, capsys):
    (tmp_path / "benchmarks").mkdir()
    before = tmp_path / "benchmarks" / "absent.json"
    before.write_text("as it was")
    assert run(monkeypatch, tmp_path, Benchmark("absent", "Absent", 1)) == 1
    assert before.read_text() == "as it was"
    assert "No module named benchmarks.absent" in capsys.readouterr().out


def test_all_benchmarks_together_took_less_than_forty_minutes():
    assert sum(record.seconds for record in recorded(DOCS / "benchmarks")) < 40 * 60


def test_the_page_is_made_of_what_is_recorded_and_has_rows_of_every_benchmark():
    records = recorded(DOCS / "benchmarks")
    assert [record.name for record in records if record.rows] == [benchmark.name for benchmark in SUITE]
    assert (DOCS / "benchmarks.md").read_text(encoding="utf-8") == page(records)
