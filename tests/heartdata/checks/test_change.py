"""Checks of validate on tables without audio: change and drift, the whole table, subjects, bounds by source, copies."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from heartdata.checks.suite import ValidationConfig
from heartdata.checks.validation import Validation, validate
from heartdata.dataset.splits import SplitConfig, assign_splits
from heartdata.errors import DataRefused
from heartdata.reports.plots import plot_drift
from heartdata.storage.schemas import FACTS, RECORDINGS

N = 200


def night(n: int = N, **columns: Any) -> tuple[pa.Table, pa.Table]:
    """Tables of recordings and facts without audio; ``columns`` of either set other values."""
    ids = [f"r{i:04d}" for i in range(n)]
    rng = np.random.default_rng(0)
    values = {
        "recording_id": ids, "sha256": ids, "source": "s", "collection": "c", "subject": [f"p{i // 4}" for i in range(n)],
        "label": ["normal" if i % 4 else "murmur" for i in range(n)], "extra": "{}", "size_bytes": 1, "rate_hz": 4000,
        "channels": 1, "frames": 40_000, "duration_s": rng.uniform(5, 15, n), "missing_fraction": 0.0, "peak": 0.5,
        "rms": rng.uniform(0.01, 0.1, n), "dc_offset": 0.0, "clipped_fraction": 0.0, "silent_fraction": 0.0,
        "finite": True, "periodicity": 0.6, "quality": 0.9, "samples_sha256": ids, **columns,
    }  # fmt: skip
    frame = pd.DataFrame(values)
    return tuple(
        pa.Table.from_pandas(frame.reindex(columns=s.names), schema=s, preserve_index=False)
        for s in (RECORDINGS, FACTS)
    )  # type: ignore[return-value]


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Validation:
    return validate(*night(), ValidationConfig(), tmp_path_factory.mktemp("docs") / "first")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return tmp_path / "docs"


def compare(tonight: tuple[pa.Table, pa.Table], docs: Path, *earlier: Validation, **settings: Any) -> Validation:
    """Validate against the accepted recordings of the last night and, if there are two, of the reference."""
    tables = [result.accepted for result in earlier]
    return validate(*tonight, ValidationConfig(**settings), docs, None, *tables, draw_drift=plot_drift)


def checks(result: Validation) -> pd.DataFrame:
    return result.checks.to_pandas().set_index("check")


def test_unchanged_recordings_pass(first: Validation, docs: Path):
    result = compare(night(), docs, first)
    assert result.refusal is None
    assert checks(result).loc[["recordings_lost", "drift", "some_drift"], "passed"].all()
    assert "recordings_lost" not in checks(first).index  # the first night has nothing to compare with
    assert (docs / "change.png").read_bytes().startswith(b"\x89PNG")
    assert 'src="change.png"' in (docs / "index.html").read_text()


def test_each_plot_names_the_table_that_it_compares_with(first: Validation, docs: Path):
    named = []

    def draw_drift(changes: pd.DataFrame, drifted: float, note: str, earlier: str) -> bytes:
        named.append((note, earlier))
        return b""

    tables = first.accepted, first.accepted
    validate(*night(), ValidationConfig(), docs, None, *tables, draw_drift=draw_drift)
    assert named == [
        ("Since the recordings were last accepted", "last accepted"), ("Since the reference", "reference"),
    ]  # fmt: skip


def test_an_undecodable_file_is_not_drift(first: Validation, docs: Path):
    recordings, facts = night(error=[None] * (N - 1) + ["cannot be decoded"])
    frame = facts.to_pandas()
    frame.loc[N - 1, ["rate_hz", "duration_s", "peak", "rms"]] = None
    result = compare((recordings, pa.Table.from_pandas(frame, FACTS, preserve_index=False)), docs, first)
    assert result.quarantine["recording_id"].to_pylist() == ["r0199"]
    assert result.refusal is None


def test_losing_half_the_recordings_stops_unless_accepted(first: Validation, docs: Path):
    half = night(N // 2)
    refusal = str(compare(half, docs, first).refusal)
    assert "50% of the 200 recordings accepted last time are gone" in refusal
    assert "validation.accept_change=true" in refusal
    assert compare(half, docs, first, accept_change=True).refusal is None


def test_growth_of_the_same_population_passes(first: Validation, docs: Path):
    result = compare(night(700), docs, first, first)
    assert result.refusal is None
    lost_and_drift = ["recordings_lost", "drift", "recordings_lost_since_reference", "drift_since_reference"]
    assert checks(result).loc[lost_and_drift, "passed"].all()


def test_another_population_stops_with_every_drifted_quantity_named(first: Validation, docs: Path):
    other = night(duration_s=40.0, label=["normal", "murmur"] * (N // 2), rate_hz=8000, quality=np.linspace(0, 1, N))
    result = compare(other, docs, first)
    listed = str(result.refusal).removeprefix("the recordings are not like those accepted last time: ").split(" (")[0]
    assert {entry.split()[0] for entry in listed.split(", ")} == {"duration_s", "label", "rate_hz", "quality"}
    assert not checks(result).loc["drift", "passed"]


def test_a_loss_too_slow_for_one_night_stops_at_the_bound_of_the_reference(first: Validation, docs: Path):
    second = compare(night(165), docs, first, first)
    third = compare(night(135), docs, second, first)
    assert second.refusal is None
    assert checks(third).loc["recordings_lost", "passed"]  # 18 % in a night
    assert "32% of the 200 recordings of the reference" in str(third.refusal)
    assert checks(third).loc["recordings_lost_since_reference", "severity"] == "critical"
    assert 'src="reference.png"' in (docs / "index.html").read_text()
    for settings in ({"accept_change": True}, {"max_lost_since_reference": 0.4}):
        assert compare(night(135), docs, second, first, **settings).refusal is None


def test_a_drift_too_slow_for_one_night_stops_at_the_bound_of_the_reference(first: Validation, docs: Path):
    labels = [["murmur" if i < share * N else "normal" for i in range(N)] for share in (0.45, 0.65)]
    second = compare(night(label=labels[0]), docs, first, first)
    third = compare(night(label=labels[1]), docs, second, first)
    assert second.refusal is None
    assert checks(third).loc["drift", "passed"]
    assert "unlike those of the reference" in str(third.refusal)
    assert "label 0.69" in str(third.refusal)


@pytest.mark.parametrize(
    ("labels", "settings", "columns", "message"),
    [("aaaaaaaaaaaa", {}, {}, "at least two labels; these have: a"),
     ("ababab", {}, {}, "only 6 labelled recordings are left"),
     ([None] * 12, {}, {}, "only 0 labelled recordings are left"),
     ("abababababab", {"classes": ("a", "b", "c")}, {}, "no usable recording has the label c"),
     ("ababababababc", {}, {"peak": [0.5] * 12 + [0.0]}, "no usable recording has the label c"),
     ("abababababab", {"min_duration_s": 20}, {}, "12 of 12 recordings were quarantined, more than"),
     ("abababababab", {}, {}, None)],
)  # fmt: skip
def test_a_table_unfit_for_training_stops_the_run(
    docs: Path, labels: Any, settings: dict, columns: dict, message: str | None
):
    refusal = validate(*night(len(labels), label=list(labels), **columns), ValidationConfig(**settings), docs).refusal
    assert refusal is None if message is None else message in str(refusal)


def test_labels_of_collections_not_in_use_are_not_required(docs: Path):
    def refusal(collection: str, *in_use: str) -> str | None:
        tables = night(13, label=[*"ababababababc"], collection=[*["mine"] * 12, collection], peak=[0.5] * 12 + [0.0])
        return validate(*tables, ValidationConfig(), docs, in_use).refusal

    assert refusal("other", "mine") is None
    assert "no usable recording has the label c" in str(refusal("mine", "mine"))
    with pytest.raises(DataRefused, match="names 'Mine', of which there is no recording; existing collections: mine"):
        refusal("mine", "mine", "Mine")


@pytest.mark.parametrize(("existing", "enough"), [(19, "0.06"), (30, "0.04"), (0, "")])
def test_missing_files_stop_with_a_setting_to_type_unless_most_are_missing(docs: Path, existing: int, enough: str):
    missing = ["no such file", *[None] * existing]
    tables = night(existing + 1, missing=missing, label=[*"ab" * 16][: existing + 1])
    refusal = str(validate(*tables, ValidationConfig(), docs).refusal)
    assert f"1 of {existing + 1} recordings have no file, for example r0000 (no such file)" in refusal
    assert refusal.endswith(f"max_unjoined_fraction={enough}" if enough else "the folder that they start from")
    if enough:
        assert validate(*tables, ValidationConfig(max_unjoined_fraction=float(enough)), docs).refusal is None


def test_the_settings_that_a_refusal_names_are_enough(docs: Path):
    """40 % have no file, and are therefore quarantined too, as are others."""
    tables = night(20, missing=["no such file"] * 8 + [None] * 12, peak=[0.5] * 18 + [0.0] * 2)

    def refusal(*settings: str) -> str:
        typed = {name.removeprefix("validation."): float(value) for name, value in (s.split("=") for s in settings)}
        return str(validate(*tables, ValidationConfig(min_recordings=5, **typed), docs).refusal)

    both = refusal().partition(" --set ")[2].split(" --set ")
    assert both == ["validation.max_unjoined_fraction=0.41", "validation.max_quarantined_fraction=0.51"]
    assert refusal(*both) == "None"
    assert refusal(both[0]).endswith(f"; or train on the others with --set {both[1]}")
    assert refusal(both[0], refusal(both[0]).rpartition("--set ")[2]) == "None"


def test_bounds_by_source_and_collection(docs: Path):
    tonight = night(rate_hz=4000, collection=["mix/a", "b"] * (N // 2))
    overrides = {"mix/a": {"min_rate_hz": 8000}, "s": {"max_duration_s": 10}}
    result = validate(*tonight, ValidationConfig(overrides=overrides, max_quarantined_fraction=1.0), docs)
    refused = result.quarantine.to_pandas().set_index("recording_id")["check"]
    where = tonight[0].to_pandas().set_index("recording_id")["collection"]
    lengths = tonight[1].to_pandas().set_index("sha256")["duration_s"]
    assert set(refused[refused == "rate_too_low"].index) == set(where[where == "mix/a"].index)
    assert set(refused[refused == "too_long"].index) == set(lengths[(lengths > 10) & (where == "b")].index)
    with pytest.raises(DataRefused, match="overrides names 'z', which is not a .*: b, mix/a, s$"):
        validate(*tonight, ValidationConfig(overrides={"z": {}}), docs)
    with pytest.raises(ValueError, match=r"overrides.a.min_rat in"):
        ValidationConfig(overrides={"a": {"min_rat": 1}})


def test_silent_recordings_are_copies_of_nothing(docs: Path):
    silent = [i % 2 == 0 for i in range(N)]
    samples = ["all zero" if s else f"r{i:04d}" for i, s in enumerate(silent)]
    tonight = night(peak=[0.0 if s else 0.5 for s in silent], samples_sha256=samples)
    result = validate(*tonight, ValidationConfig(max_quarantined_fraction=1.0), docs)
    assert result.accepted["near_group"].null_count == result.accepted.num_rows == N // 2
    assert set(result.quarantine["check"].to_pylist()) == {"silent"}
    assert not any("label_conflict" in reason for reason in result.quarantine["reason"].to_pylist())


def test_copies_move_no_subject_out_of_the_test_part(docs: Path):
    def parts_of(result: Validation) -> pd.Series:
        config = SplitConfig(strategy="hash", seed=3, test_fraction=0.4, valid_fraction=0.1)
        return assign_splits(result.accepted, config).to_pandas().set_index("recording_id")["part"]

    alone = night(subject=[f"p{i}" for i in range(N)])
    first = validate(*alone, ValidationConfig(), docs)
    before = parts_of(first)
    tested = before.index[before == "test"][:20]
    names = [f"a{i}" for i in range(20)]
    labels = alone[0].to_pandas().set_index("recording_id").loc[tested, "label"].tolist()
    durations_s = alone[1].to_pandas().set_index("sha256").loc[tested, "duration_s"].tolist()
    copies = night(20, recording_id=names, sha256=names, subject=[f"q{i}" for i in range(20)], label=labels,
                   samples_sha256=tested.tolist(), duration_s=durations_s)  # fmt: skip
    tonight = [pa.concat_tables(pair) for pair in zip(alone, copies, strict=True)]
    for last in (None, first.accepted):
        result = validate(tonight[0], tonight[1], ValidationConfig(accept_change=True), docs, None, last)
        now = parts_of(result)
        assert set(now.index) & set(tested) == (set() if last is None else set(tested))  # kept last time, kept now
        assert set(now[now.index.intersection([*tested, *names])]) == {"test"}
        stayed = before.index.intersection(now.index)
        assert (now[stayed] == before[stayed]).all()


def test_subjects_with_several_labels_or_too_many_recordings_are_reported(docs: Path, first: Validation):
    results = checks(first)
    assert not results.loc["several_labels", "passed"]  # each has a murmur and three normal recordings
    assert results.loc["several_labels", "reason"].startswith("s/p0, s/p1, s/p10: has recordings with")
    assert results.loc["several_labels", "severity"] == "warning"
    assert results.loc["too_much_of_one", "passed"]
    one = validate(*night(subject="the same"), ValidationConfig(), docs)
    assert not checks(one).loc["too_much_of_one", "passed"]
    nobody = validate(*night(subject=None), ValidationConfig(), docs)
    assert "several_labels" not in checks(nobody).index
