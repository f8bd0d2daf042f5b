"""`heartbeat inspect`: known counts, and plots whatever the names of classes and files."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from helpers import beats, tone, write_wav

from heartdata.audio.measurements import MeasureConfig, measure_files
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.dataset.inventory import take_inventory
from heartdata.reports.inspect import by_class, examples, quarantined_by_class, with_facts
from heartdata.reports.inspect_plots import class_sheet, rates, write_plots
from heartdata.sources import TableSource

ODD = "a $x^2$_{ 心 é/b"


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    """Two normal recordings of one subject, two of a class with an odd name, and four unfit ones, each for one reason."""
    tmp_path = tmp_path_factory.mktemp("recordings")
    write_wav(tmp_path / "long.wav", beats(duration_s=9))
    write_wav(tmp_path / "short.wav", beats(duration_s=3, seed=1))
    write_wav(tmp_path / "$y$ é 心.wav", np.stack([tone(100), tone(100)], axis=1), rate_hz=8000)
    write_wav(tmp_path / "quick.wav", tone(100)[:50])
    write_wav(tmp_path / "silent.wav", np.zeros(4000))
    write_wav(tmp_path / "clipped.wav", np.clip(20 * tone(100), -1, 1))
    (tmp_path / "noise.wav").write_bytes(b"no audio")
    (tmp_path / "t.csv").write_text(
        "path,label,subject\nlong.wav,normal,1\nshort.wav,normal,1\n"
        f"$y$ é 心.wav,{ODD},2\nquick.wav,{ODD},3\n"
        "silent.wav,,4\nclipped.wav,,4\nnoise.wav,,4\nabsent.wav,,4\n",
        encoding="utf-8",
    )
    table, _ = take_inventory(TableSource(data=tmp_path / "t.csv"), tmp_path / "work")
    progress = []
    facts = measure_files(table, MeasureConfig(), lambda *counts: progress.append(counts))
    assert progress[-1] == (7, 7)
    return with_facts(table, facts)


def test_counts_of_each_class(frame):
    rows = {row.pop("label"): row for row in by_class(frame)}
    assert list(rows) == ["(unlabelled)", ODD, "normal", "all"]
    assert rows["normal"] == {
        "recordings": 2, "subjects": 1, "minutes": 0.2, "median_s": 6.0, "rates_hz": "4000", "channels": "1",
    }  # fmt: skip
    assert rows[ODD]["channels"] == "1, 2"
    assert rows[ODD]["rates_hz"] == "4000, 8000"
    assert [rows["all"][column] for column in ("recordings", "subjects")] == [8, 4]


def test_refused_recordings_are_counted_by_class_and_check(frame):
    refused = frame[frame["recording_id"].isin(["silent.wav", "noise.wav", "quick.wav"])]
    quarantine = refused.assign(check=["undecodable", "too_short", "silent"])[["recording_id", "check"]]
    assert quarantined_by_class(frame, quarantine) == [
        {"label": "(unlabelled)", "recordings": 4, "quarantined": 2, "silent": 1, "too_short": 0, "undecodable": 1},
        {"label": ODD, "recordings": 2, "quarantined": 1, "silent": 0, "too_short": 1, "undecodable": 0},
        {"label": "normal", "recordings": 2, "quarantined": 0, "silent": 0, "too_short": 0, "undecodable": 0},
        {"label": "all", "recordings": 8, "quarantined": 3, "silent": 1, "too_short": 1, "undecodable": 1},
    ]


def test_recordings_that_cannot_be_decoded_are_counted_and_never_examples(frame):
    (row,) = by_class(frame[frame["duration_s"].isna()])
    assert (row["recordings"], row["minutes"], row["median_s"], row["rates_hz"]) == (2, 0.0, "", "")
    assert examples(frame[frame["duration_s"].isna()], 3, 0) == {}


def test_examples_are_chosen_by_the_seed_alone(frame):
    chosen = examples(frame, 1, 0)
    assert {label: len(rows) for label, rows in chosen.items()} == {"(unlabelled)": 1, ODD: 1, "normal": 1}
    again = examples(frame.iloc[::-1], 1, 0)
    assert [list(rows["recording_id"]) for rows in again.values()] == [
        list(rows["recording_id"]) for rows in chosen.values()
    ]
    others = {tuple(examples(frame, 1, seed)["normal"]["recording_id"]) for seed in range(20)}
    assert others == {("long.wav",), ("short.wav",)}


def test_plots_are_written_for_any_names_and_are_deterministic(frame, tmp_path: Path):
    def contents(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in write_plots(frame, chosen, SpectrogramConfig(), folder)}

    chosen = examples(frame, 1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = contents(tmp_path / "out")
    assert list(first) == [
        "class_01_unlabelled.png", "class_02_a_x_2_心_é_b.png", "class_03_normal.png", "durations.png", "rates.png"
    ]  # fmt: skip
    assert all(content.startswith(b"\x89PNG") for content in first.values())
    assert contents(tmp_path / "again") == first


def test_axes_are_readable(frame):
    sheet = class_sheet("normal", examples(frame, 3, 0)["normal"], SpectrogramConfig())
    below = sheet.axes[2]
    assert below.get_ylabel() == "Hz (mel)"  # as in the plots of a run
    assert [text.get_text() for text in below.get_yticklabels()] == ["50", "100", "200", "400"]
    (bars,) = rates(frame[frame["label"] == "normal"]).axes
    low, high = bars.get_xlim()
    assert sum(patch.get_width() for patch in bars.patches) < 0.5 * (high - low)  # one rate
    assert bars.get_legend() is None  # it would cover the bar


def test_plots_without_any_decodable_recording(frame, tmp_path: Path):
    undecodable = frame[frame["duration_s"].isna()]
    paths = write_plots(undecodable, {}, SpectrogramConfig(), tmp_path / "out")
    assert [path.name for path in paths] == ["durations.png", "rates.png"]
