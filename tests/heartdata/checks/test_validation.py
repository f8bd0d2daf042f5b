"""The suite: each fault for its own reason, duplicates and conflicts, stops about the whole table."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import beats, tone, write_wav

from heartdata.audio.measurements import MeasureConfig, measure_file
from heartdata.audio.synthesis import Heart, synthesize
from heartdata.checks.duplicates import mark_duplicates
from heartdata.checks.suite import ValidationConfig, quarantine_reason
from heartdata.checks.validation import Validation, join_facts, validate
from heartdata.dataset.inventory import take_inventory
from heartdata.errors import DataRefused
from heartdata.sources import TableSource
from heartdata.storage.schemas import FACTS
from heartdata.storage.store import table_from_rows


def judge(folder: Path, rows: list[dict[str, Any]], collections: list[str] | None = None, **bounds: Any) -> Validation:
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    recordings, _ = take_inventory(TableSource(data=folder / "table.csv"), folder)
    files = {r["sha256"]: r["uri"] for r in recordings.to_pylist() if r["sha256"]}
    facts = [measure_file(uri, sha256, MeasureConfig()) for sha256, uri in files.items()]
    return validate(recordings, table_from_rows(facts, FACTS), ValidationConfig(**bounds), folder / "docs", collections)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def judged(folder: Path) -> Validation:
    """Twelve good recordings and one of each fault."""
    rows = [{"path": f"good{i}.wav", "label": "ab"[i % 2]} for i in range(12)]
    for i in range(12):
        write_wav(folder / f"good{i}.wav", beats(60 + 2 * i, 4.0, seed=i))
    nan = beats()
    nan[5] = np.inf
    write_wav(folder / "not_finite.wav", nan, subtype="FLOAT")
    write_wav(folder / "silent.wav", np.zeros(16000, np.float32))
    write_wav(folder / "flat.wav", np.full(16000, 0.5, np.float32))
    write_wav(folder / "clipped.wav", np.clip(50 * beats(seed=40), -1, 1))
    write_wav(folder / "too_short.wav", beats(duration_s=0.5))
    write_wav(folder / "rate_too_low.wav", tone(50, rate_hz=500), rate_hz=500)
    write_wav(folder / "mostly_silent.wav", np.concatenate([beats(duration_s=1.0), np.zeros(60000, np.float32)]))
    write_wav(folder / "short.wav", beats(duration_s=2.0, seed=50))
    (folder / "undecodable.wav").write_text("text")
    rows += [{"path": p.name, "label": "a"} for p in sorted(folder.glob("*.wav")) if not p.name.startswith("good")]
    rows.append({"path": "file_missing.wav", "label": "b"})
    for name, label in (("twin1", "a"), ("twin2", "b"), ("copy1", ""), ("copy2", "a")):
        write_wav(folder / f"{name}.wav", beats(75, seed=70) if "twin" in name else beats(90, seed=71))
        rows.append({"path": f"{name}.wav", "label": label})
    return judge(folder, rows, max_quarantined_fraction=0.9, max_unjoined_fraction=0.5)


FAULTS = [
    "not_finite",
    "silent",
    "flat",
    "clipped",
    "too_short",
    "rate_too_low",
    "mostly_silent",
    "undecodable",
    "file_missing",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_caught_for_its_own_reason(judged: Validation, fault: str):
    rows = judged.quarantine.to_pandas().set_index("recording_id")
    assert rows.loc[f"{fault}.wav", "check"] == fault
    assert len(rows.loc[f"{fault}.wav", "reason"]) > 20


def test_one_file_alone_is_judged_as_the_suite_judges_it(folder: Path, judged: Validation):
    refused = judged.quarantine.to_pandas().set_index("recording_id")
    refused = refused[refused["check"].isin(FAULTS)]["reason"]
    for path in sorted(folder.glob("*.wav")):
        fault = quarantine_reason(measure_file(str(path), None, MeasureConfig()), ValidationConfig())
        assert fault == (refused[path.name].partition(" (also:")[0] if path.name in refused else None), path.name


def test_the_loosest_bounds_accept_what_any_source_or_collection_accepts():
    config = ValidationConfig(
        overrides={"a": {"min_duration_s": 0.5, "max_silent_fraction": 0.5}, "b": {"max_duration_s": 900}}
    )
    loosest = config.loosest()
    assert (loosest.min_duration_s, loosest.max_silent_fraction, loosest.max_duration_s) == (0.5, 0.9, 900)
    assert ValidationConfig().loosest() == ValidationConfig().bounds_of("")


def test_everybody_is_either_accepted_or_quarantined(judged: Validation):
    accepted, refused = judged.accepted["recording_id"].to_pylist(), judged.quarantine["recording_id"].to_pylist()
    assert not set(accepted) & set(refused)
    assert len(accepted) + len(refused) == 12 + 9 + 1 + 4
    assert {f"good{i}.wav" for i in range(12)} <= set(accepted)


def test_one_sound_under_two_labels_is_refused_twice(judged: Validation):
    rows = judged.quarantine.to_pandas().set_index("recording_id")
    assert rows.loc["twin1.wav", "reason"] == "the same sound (twin2.wav) is also labelled b: find out which is right"
    assert rows.loc["twin2.wav", "check"] == "label_conflict"


def test_of_copies_the_labelled_one_is_kept(judged: Validation):
    rows = judged.quarantine.to_pandas().set_index("recording_id")
    assert rows.loc["copy1.wav", "reason"] == "a copy of copy2.wav, which is kept"
    assert "copy2.wav" in judged.accepted["recording_id"].to_pylist()


def test_warning_stays_beside_the_recording(judged: Validation):
    accepted = judged.accepted.to_pandas().set_index("recording_id")
    assert accepted.loc["short.wav", "warnings"] == "short"
    assert accepted.loc["good1.wav", "warnings"] == ""


@pytest.mark.parametrize(("there", "enough"), [(19, "0.06"), (30, "0.04"), (0, "")])
def test_missing_files_stop_with_a_setting_to_type_but_where_most_are_missing(tmp_path: Path, there: int, enough: str):
    rows = [{"path": "absent.wav", "label": "a"}]
    for i in range(there):
        write_wav(tmp_path / f"{i}.wav", beats(60 + i, 3.0, seed=i))
        rows.append({"path": f"{i}.wav", "label": "ab"[i % 2]})
    refused = judge(tmp_path, rows, near_duplicates=False).refusal
    assert refused is not None
    if not enough:
        assert refused.endswith("or say with source.folder where the paths of a table begin")
        return
    assert refused.endswith(f"or let them pass with --set validation.max_unjoined_fraction={enough}")
    assert judge(tmp_path, rows, near_duplicates=False, max_unjoined_fraction=float(enough)).refusal is None


def test_docs_read_offline(judged: Validation, tmp_path_factory):
    (docs,) = tmp_path_factory.getbasetemp().glob("faults0/docs")
    pages = [p.read_text() for p in docs.rglob("*.html")]
    assert len(pages) >= 5
    assert not any('src="http' in text or 'link rel="stylesheet" href="http' in text for text in pages)
    assert "twin1.wav" in (docs / "index.html").read_text()


def good(folder: Path, labels: str) -> list[dict[str, Any]]:
    for i in range(len(labels)):
        write_wav(folder / f"{i}.wav", beats(60 + 2 * i, 4.0, seed=i))
    return [{"path": f"{i}.wav", "label": label} for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "bounds", "said"),
    [("aaaaaaaaaaaa", {}, "at least two labels; these have: a"),
     ("ababab", {}, "only 6 labelled recordings are left"),
     ("abababababab", {"classes": ("a", "b", "c")}, "no usable recording is left with the label c"),
     ("abababababab", {"min_duration_s": 10}, "12 of 12 recordings were quarantined, more than"),
     ("abababababab", {}, None)],
)  # fmt: skip
def test_stops_about_the_whole_table(tmp_path: Path, labels: str, bounds: dict, said: str | None):
    result = judge(tmp_path, good(tmp_path, labels), **bounds)
    assert result.refusal is None if said is None else said in str(result.refusal)


def test_a_class_that_was_wholly_quarantined_stops_the_run(tmp_path: Path):
    rows = good(tmp_path, "ab" * 8)
    write_wav(tmp_path / "silence.wav", np.zeros(16000, np.float32))
    result = judge(tmp_path, [*rows, {"path": "silence.wav", "label": "murmur"}])
    assert "no usable recording is left with the label murmur" in str(result.refusal)


def test_a_table_without_any_label_stops_the_run(tmp_path: Path):
    unlabelled = judge(tmp_path, [{**row, "label": ""} for row in good(tmp_path, "a" * 12)])
    assert "only 0 labelled recordings are left" in str(unlabelled.refusal)


def copies(**columns: list) -> pd.DataFrame:
    """Recordings a, b, c of one sound."""
    facts = {"samples_sha256": ["s"] * 3, "rms": [1.0] * 3, "dc_offset": [0.0] * 3}
    table = pd.DataFrame(
        {"recording_id": ["a", "b", "c"], "sha256": ["1", "2", "3"], "label": ["x", "x", None]}
    ).assign(source="s", subject=None)
    return join_facts(table, pd.DataFrame({"sha256": ["1", "2", "3"], **facts})).assign(**columns)


@pytest.mark.parametrize(
    ("sound", "in_use", "kept"),
    [([1, 1, 1], [1, 1, 1], "a"), ([0, 1, 1], [1, 1, 1], "b"), ([1, 1, 1], [0, 1, 1], "b"),
     ([0, 0, 1], [1, 1, 0], "c"), ([1, 1, 1], [0, 0, 1], "c")],
)  # fmt: skip
def test_of_copies_a_good_one_that_is_in_use_is_kept(sound: list, in_use: list, kept: str):
    for table in (copies(), copies()[::-1]):
        masks = [pd.Series(m, index=[0, 1, 2]).astype(bool).reindex(table.index) for m in (sound, in_use)]
        marked = mark_duplicates(table, *masks).set_index("recording_id")["duplicate_of"]
        assert marked.drop(kept).eq(kept).all()
        assert marked[kept] is None


def test_a_label_of_another_collection_is_no_class_of_this_training(tmp_path: Path):
    rows = [{**row, "collection": "mine"} for row in good(tmp_path, "ab" * 6)]
    write_wav(tmp_path / "other.wav", beats(seed=90))
    rows.append({"path": "other.wav", "label": "extra", "collection": "theirs"})
    assert judge(tmp_path, rows, collections=["mine"]).refusal is None
    silent = {"path": "silence.wav", "label": "extra", "collection": "mine"}
    write_wav(tmp_path / "silence.wav", np.zeros(16000, np.float32))
    assert "no usable recording is left with the label extra" in str(
        judge(tmp_path, [*rows, silent], collections=["mine"]).refusal
    )
    with pytest.raises(
        DataRefused, match="split.collections names 'Mine', of which there is no recording: there are mine"
    ):
        judge(tmp_path, rows, collections=["mine", "Mine"])


def made(seed: int) -> np.ndarray:
    """A made heart, 6 s at 4 kHz."""
    rng = np.random.default_rng(seed)
    return synthesize(Heart.draw("normal", rng), 6.0, 0, rng).samples


def test_near_duplicates_are_refused_with_the_kept_one_named(tmp_path: Path):
    rows = good(tmp_path, "ab" * 6)
    for name, label, sound in (
        ("whole", "a", made(1)),
        ("cut", "a", 0.3 * made(1)[5000:]),
        ("said_a", "a", made(2)),
        ("said_b", "b", 0.3 * made(2)[5000:]),
        ("hiss", "b", np.random.default_rng(1234).normal(0, 0.1, 24000)),
    ):
        write_wav(tmp_path / f"{name}.wav", sound)
        rows.append({"path": f"{name}.wav", "label": label})
    refused = judge(tmp_path, rows).quarantine.to_pandas().set_index("recording_id")
    assert set(refused.index) == {"whole.wav", "said_a.wav", "said_b.wav"}
    assert refused.loc["whole.wav", "check"] == "near_duplicate"
    assert refused.loc["whole.wav", "reason"].startswith("nearly the same sound as cut.wav (similarity 0.99")
    assert refused.loc["said_a.wav", "check"] == refused.loc["said_b.wav", "check"] == "label_conflict"
    assert refused.loc["said_a.wav", "reason"].startswith("nearly the same sound (said_b.wav, similarity 0.99")
    accepted = judge(tmp_path, rows, near_duplicates=False).accepted.to_pandas().set_index("recording_id")
    assert len(accepted) == 12 + 5
    assert accepted.loc["hiss.wav", "warnings"].endswith("poor_quality")
    assert accepted.loc["hiss.wav", "quality"] < 0.25 < 0.5 < accepted.loc["whole.wav", "quality"]
