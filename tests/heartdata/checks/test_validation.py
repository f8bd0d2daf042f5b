"""Validation of sound files: each fault has its own reason; copies, label conflicts and near-duplicates are refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import beats, tone, write_wav

from heartdata.audio.measurements import MeasureConfig, measure_file
from heartdata.audio.synthesis import Heart, synthesize
from heartdata.checks.duplicates import mark_duplicates
from heartdata.checks.suite import Check, ValidationConfig, _holds, quarantine_reason
from heartdata.checks.validation import Validation, _commonest, join_facts, validate
from heartdata.checks.waveforms import near_duplicate_pairs
from heartdata.dataset.inventory import take_inventory
from heartdata.sources import TableSource
from heartdata.storage.schemas import FACTS
from heartdata.storage.store import table_from_rows


def check(folder: Path, rows: list[dict[str, Any]], **bounds: Any) -> Validation:
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    recordings, _ = take_inventory(TableSource(data=folder / "table.csv"), folder)
    files = {r["sha256"]: r["uri"] for r in recordings.to_pylist() if r["sha256"]}
    facts = [measure_file(uri, sha256, MeasureConfig()) for sha256, uri in files.items()]
    config = ValidationConfig(**bounds)
    pairs = near_duplicate_pairs(recordings, table_from_rows(facts, FACTS), config, MeasureConfig())
    return validate(recordings, table_from_rows(facts, FACTS), config, folder / "docs", pairs=pairs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def checked(folder: Path) -> Validation:
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
    ecg = 0.9 * np.maximum(0, np.sin(2 * np.pi * 1.2 * np.arange(16000) / 4000)) ** 20
    write_wav(folder / "two_sounds.wav", np.stack([0.1 * beats(80, 4.0, seed=80), ecg], axis=1))
    unfinished = bytearray(write_wav(folder / "unfinished.wav", beats(85, 4.0, seed=81)).read_bytes())
    unfinished[40:44] = bytes(4)  # the length of the data
    (folder / "unfinished.wav").write_bytes(unfinished)
    (folder / "undecodable.wav").write_text("text")
    rows += [{"path": p.name, "label": "a"} for p in sorted(folder.glob("*.wav")) if not p.name.startswith("good")]
    rows.append({"path": "file_missing.wav", "label": "b"})
    for name, label in (("twin1", "a"), ("twin2", "b"), ("copy1", ""), ("copy2", "a")):
        write_wav(folder / f"{name}.wav", beats(75, seed=70) if "twin" in name else beats(90, seed=71))
        rows.append({"path": f"{name}.wav", "label": label})
    return check(folder, rows, max_quarantined_fraction=0.9, max_unjoined_fraction=0.5)


FAULTS = ["not_finite", "silent", "flat", "clipped", "too_short", "rate_too_low", "mostly_silent", "undecodable",
          "file_missing"]  # fmt: skip


def refused(result: Validation) -> pd.DataFrame:
    return result.quarantine.to_pandas().set_index("recording_id")


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_refused_for_its_own_reason(checked: Validation, fault: str):
    assert refused(checked).loc[f"{fault}.wav", "check"] == fault
    assert len(refused(checked).loc[f"{fault}.wav", "reason"]) > 20


def test_a_single_file_is_refused_for_the_same_reason_as_in_a_table(folder: Path, checked: Validation):
    rows = refused(checked)
    reasons = rows[rows["check"].isin(FAULTS)]["reason"]
    for path in sorted(folder.glob("*.wav")):
        reason = quarantine_reason(measure_file(str(path), None, MeasureConfig()), ValidationConfig())
        assert reason == (reasons[path.name].partition(" (also:")[0] if path.name in reasons else None), path.name


def test_a_recording_with_a_fault_that_was_mended_is_accepted_with_a_warning(checked: Validation):
    warnings = checked.accepted.to_pandas().set_index("recording_id")["warnings"]
    assert "channels_differ" in warnings["two_sounds.wav"]
    assert "header_fault" in warnings["unfinished.wav"]


@pytest.mark.parametrize(
    ("subtype", "scale", "remedy"),
    [("PCM_32", 4000 / 2**31, "whole numbers up to 4000 in a 32-bit file.*scale them"),
     ("PCM_16", 0.0004, "check the microphone$"), ("PCM_24", 4000 / 2**23, "check the microphone, or scale .* counts"),
     ("FLOAT", 2e-5, "check the microphone, or scale .* volts")],
)  # fmt: skip
def test_counts_of_a_converter_are_not_called_silence(tmp_path: Path, subtype: str, scale: float, remedy: str):
    sound = beats()
    path = write_wav(tmp_path / "a.wav", scale * sound / np.abs(sound).max(), subtype=subtype)
    reason = quarantine_reason(measure_file(str(path), None, MeasureConfig()), ValidationConfig())
    assert re.match(f"silent .*: (its samples are )?{remedy}", str(reason))


def test_an_expectation_that_a_single_file_cannot_be_tested_by_is_an_error():
    with pytest.raises(ValueError, match="no rule for ExpectColumnValuesToMatchRegex"):
        _holds(Check("wav", "critical", "ExpectColumnValuesToMatchRegex", {"column": "format"}, ""), "WAV")


def test_the_loosest_bounds_accept_what_any_source_or_collection_accepts():
    config = ValidationConfig(
        overrides={"a": {"min_duration_s": 0.5, "max_silent_fraction": 0.5}, "b": {"max_duration_s": 900}}
    )
    loosest = config.loosest()
    assert (loosest.min_duration_s, loosest.max_silent_fraction, loosest.max_duration_s) == (0.5, 0.9, 900)
    assert ValidationConfig().loosest() == ValidationConfig().bounds_of("")


def test_every_recording_is_either_accepted_or_quarantined(checked: Validation):
    accepted, quarantined = checked.accepted["recording_id"].to_pylist(), checked.quarantine["recording_id"].to_pylist()
    assert not set(accepted) & set(quarantined)
    assert len(accepted) + len(quarantined) == 12 + 9 + 3 + 4
    assert {f"good{i}.wav" for i in range(12)} <= set(accepted)


def test_one_sound_with_two_labels_is_refused_twice(checked: Validation):
    rows = refused(checked)
    assert rows.loc["twin1.wav", "reason"].startswith("the same sound (twin2.wav) is also labelled b: ")
    assert rows.loc["twin2.wav", "check"] == "label_conflict"


def test_of_copies_the_labelled_one_is_kept(checked: Validation):
    assert refused(checked).loc["copy1.wav", "reason"] == "a copy of copy2.wav, which is kept"
    assert "copy2.wav" in checked.accepted["recording_id"].to_pylist()


def test_a_warning_is_recorded_with_the_recording(checked: Validation):
    accepted = checked.accepted.to_pandas().set_index("recording_id")
    assert accepted.loc["short.wav", "warnings"] == "short"
    assert accepted.loc["good1.wav", "warnings"] == ""


def test_data_docs_need_no_network(folder: Path, checked: Validation):
    pages = [p.read_text() for p in (folder / "docs").rglob("*.html")]
    assert len(pages) >= 4
    assert not any('src="http' in text or 'link rel="stylesheet" href="http' in text for text in pages)
    assert "twin1.wav" in (folder / "docs" / "index.html").read_text()


def test_data_docs_name_the_accepted_recordings_with_a_warning_and_what_was_observed(folder: Path, checked: Validation):
    page = (folder / "docs" / "index.html").read_text()
    table = page.partition("<h2>Accepted with a warning (")[2].partition("<h2>")[0]
    assert "<td>short.wav</td><td>short</td><td>2.0 s long</td>" in table
    assert "<td>unfinished.wav</td><td>header_fault</td>" in table
    assert "too_short.wav" not in table  # it is short, too, but refused
    marked = checked.accepted.to_pandas()["warnings"]
    assert table.startswith(f"{(marked != '').sum()})")
    assert table.count("<tr><td>") == marked[marked != ""].str.split(", ").map(len).sum()


def copies(**columns: list) -> pd.DataFrame:
    """Recordings a, b, c of one sound."""
    facts = {
        "samples_sha256": ["s"] * 3, "rms": [1.0] * 3, "dc_offset": [0.0] * 3, "peak": 1.0, "format": "WAV",
        "duration_s": [5.0] * 3,
    }  # fmt: skip
    table = pd.DataFrame(
        {"recording_id": ["a", "b", "c"], "sha256": ["1", "2", "3"], "label": ["x", "x", None]}
    ).assign(source="s", subject=None)
    return join_facts(table, pd.DataFrame({"sha256": ["1", "2", "3"], **facts})).assign(**columns)


@pytest.mark.parametrize(
    ("passed", "in_use", "kept"),
    [([1, 1, 1], [1, 1, 1], "a"), ([0, 1, 1], [1, 1, 1], "b"), ([1, 1, 1], [0, 1, 1], "b"),
     ([0, 0, 1], [1, 1, 0], "c"), ([1, 1, 1], [0, 0, 1], "c")],
)  # fmt: skip
def test_of_copies_one_that_passed_and_is_in_use_is_kept(passed: list, in_use: list, kept: str):
    for table in (copies(), copies()[::-1]):
        masks = [pd.Series(m, index=[0, 1, 2]).astype(bool).reindex(table.index) for m in (passed, in_use)]
        marked = mark_duplicates(table, *masks).set_index("recording_id")["duplicate_of"]
        assert marked.drop(kept).eq(kept).all()
        assert marked[kept] is None


def heart(seed: int) -> np.ndarray:
    """A synthetic heart, 6 s at 4 kHz."""
    rng = np.random.default_rng(seed)
    return synthesize(Heart.draw("normal", rng), 6.0, 0, rng).samples


def test_near_duplicates_are_refused_with_the_kept_one_named(tmp_path: Path):
    rows = []
    for name, label, sound in (
        ("whole", "a", heart(1)),
        ("cut", "a", 0.3 * heart(1)[5000:]),
        ("conflict_a", "a", heart(2)),
        ("conflict_b", "b", 0.3 * heart(2)[5000:]),
        ("hiss", "b", np.random.default_rng(1234).normal(0, 0.1, 24000)),
    ):
        write_wav(tmp_path / f"{name}.wav", sound)
        rows.append({"path": f"{name}.wav", "label": label})
    quarantined = refused(check(tmp_path, rows))
    assert quarantined["check"].to_dict() == {
        "cut.wav": "near_duplicate", "conflict_a.wav": "label_conflict", "conflict_b.wav": "label_conflict"
    }  # fmt: skip
    assert quarantined.loc["cut.wav", "reason"].startswith("nearly the same sound as whole.wav (similarity 0.99")
    assert "nearly the same sound (conflict_b.wav, similarity 0.99" in quarantined.loc["conflict_a.wav", "reason"]
    assert set(refused(check(tmp_path, rows, near_duplicates="group"))["check"]) == {"label_conflict"}
    accepted = check(tmp_path, rows, near_duplicates="off").accepted.to_pandas().set_index("recording_id")
    assert len(accepted) == len(rows)
    assert accepted.loc["hiss.wav", "warnings"].endswith("poor_quality")
    assert accepted.loc["hiss.wav", "quality"] < 0.25 < 0.5 < accepted.loc["whole.wav", "quality"]


@pytest.mark.parametrize(("given", "meant"), [(True, "refuse"), (False, "off"), ("group", "group")])
def test_the_near_duplicates_of_older_configurations_are_understood(given: object, meant: str):
    assert ValidationConfig(near_duplicates=given).near_duplicates == meant


def test_many_near_duplicates_and_a_search_that_is_off_are_noted_with_what_to_set(tmp_path: Path):
    for name, sound in (("a", heart(1)), ("b", heart(1)[5000:]), ("c", heart(2)), ("d", heart(2)[5000:])):
        write_wav(tmp_path / f"{name}.wav", sound)
    rows = [{"path": f"{name}.wav", "label": label} for name, label in zip("abcd", "xxyy", strict=True)]
    refusing = check(tmp_path, rows)
    assert "2 are near-duplicates: set validation.near_duplicates=group" in str(refusing.refusal)
    assert "split.strategy=blocks" in str(refusing.refusal)
    assert refusing.notes[0].startswith("2 of 4 recordings were refused as near-duplicates: ")
    assert check(tmp_path, rows, near_duplicates="group").notes == ()
    (note,) = check(tmp_path, rows, near_duplicates="off").notes
    assert note.startswith("validation.near_duplicates=off, and 4 recordings have no subject: ")
    known = [row | {"subject": row["path"]} for row in rows]
    assert check(tmp_path, known, near_duplicates="off").notes == ()
    assert "blocks" not in str(check(tmp_path, known).refusal)


def test_the_most_common_reason_is_that_of_the_check_that_fails_most_often():
    """Sentences of one check may differ by recording."""
    near = [[("near_duplicate", f"nearly the same sound as {n}")] for n in range(3)]
    reasons = dict(
        enumerate([[("duplicate", "a copy of 7")], *near, [("undecodable", "empty")], [("undecodable", "empty")]])
    )
    assert _commonest(reasons) == "nearly the same sound as 0"
    assert _commonest({}) is None
