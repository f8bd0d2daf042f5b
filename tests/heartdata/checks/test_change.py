"""Checks on subjects, bounds by source, and what stops a night whose recordings are not those of the last."""

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
    """Recordings and facts, made without audio; ``columns`` of either set other values."""
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


def after(tonight: tuple[pa.Table, pa.Table], first: Validation, docs: Path, **settings: Any) -> Validation:
    return validate(*tonight, ValidationConfig(**settings), docs, None, first.accepted, draw_drift=plot_drift)


def checks(result: Validation) -> pd.DataFrame:
    return result.checks.to_pandas().set_index("check")


def test_nothing_changed_passes(first: Validation, tmp_path: Path):
    result = after(night(), first, tmp_path / "docs")
    assert result.refusal is None
    assert checks(result).loc[["recordings_lost", "drift", "some_drift"], "passed"].all()
    assert "recordings_lost" not in checks(first).index  # the first night has nothing to compare with
    assert (tmp_path / "docs" / "change.png").read_bytes().startswith(b"\x89PNG")
    assert 'src="change.png"' in (tmp_path / "docs" / "index.html").read_text()


def test_an_undecodable_file_is_no_change_of_the_others(first: Validation, tmp_path: Path):
    broken = [None] * (N - 1) + ["cannot be decoded"]
    unknown = {
        n: [v] * (N - 1) + [None] for n, v in (("rate_hz", 4000), ("duration_s", 10.0), ("peak", 0.5), ("rms", 0.05))
    }
    tonight = night(**unknown, error=broken)
    before = validate(*night(duration_s=10.0, rms=0.05), ValidationConfig(), tmp_path / "before")
    result = after(tonight, before, tmp_path / "docs")
    assert result.quarantine["recording_id"].to_pylist() == ["r0199"]
    assert result.refusal is None


def test_half_the_recordings_gone_stops(first: Validation, tmp_path: Path):
    half = [table.slice(0, N // 2) for table in night()]
    result = after((half[0], half[1]), first, tmp_path / "docs")
    assert "50% of the 200 recordings accepted last time are gone" in str(result.refusal)
    assert "validation.accept_change=true" in str(result.refusal)
    assert after((half[0], half[1]), first, tmp_path / "docs", accept_change=True).refusal is None


def test_a_fifth_more_of_the_same_passes(first: Validation, tmp_path: Path):
    assert after(night(N + 40), first, tmp_path / "docs").refusal is None


@pytest.mark.parametrize(
    ("columns", "named"),
    [({"duration_s": 40.0}, "duration_s"), ({"label": ["normal", "murmur"] * (N // 2)}, "label"), ({"rate_hz": 8000}, "rate_hz"),
     ({"quality": np.linspace(0, 1, N)}, "quality")],
)  # fmt: skip
def test_another_population_stops(columns: dict[str, Any], named: str, first: Validation, tmp_path: Path):
    result = after(night(**columns), first, tmp_path / "docs")
    assert f"not like those accepted last time: {named} " in str(result.refusal)
    assert not checks(result).loc["drift", "passed"]


def nights(*tonight: tuple[pa.Table, pa.Table], docs: Path, **settings: Any) -> list[Validation]:
    """Each night compared with the one before, and with the first."""
    results: list[Validation] = []
    for tables in tonight:
        before = [results[-1].accepted, results[0].accepted] if results else [None, None]
        results.append(validate(*tables, ValidationConfig(**settings), docs, None, *before, draw_drift=plot_drift))
    return results


def parts(share: float) -> list[str]:
    return ["murmur" if i < share * N else "normal" for i in range(N)]


def test_a_slow_loss_is_refused_at_the_bound_of_the_reference(tmp_path: Path):
    slow = [night(n) for n in (200, 170, 145, 125)]
    *passed, last = nights(*slow, docs=tmp_path / "docs")
    assert [result.refusal for result in passed] == [None, None, None]
    assert checks(last).loc["recordings_lost", "passed"]  # 14 % in a night
    assert "38% of the 200 recordings of the reference" in str(last.refusal)
    assert checks(last).loc["recordings_lost_since_reference", "severity"] == "critical"
    assert 'src="reference.png"' in (tmp_path / "docs" / "index.html").read_text()
    assert nights(*slow, docs=tmp_path / "docs", accept_change=True)[-1].refusal is None
    assert nights(*slow, docs=tmp_path / "docs", max_lost_since_reference=0.4)[-1].refusal is None


def test_a_slow_drift_is_refused_at_the_bound_of_the_reference(tmp_path: Path):
    slow = [night(label=parts(share)) for share in (0.25, 0.4, 0.55, 0.7)]
    *passed, last = nights(*slow, docs=tmp_path / "docs")
    assert [result.refusal for result in passed] == [None, None, None]
    assert checks(last).loc["drift", "passed"]
    assert "unlike those of the reference" in str(last.refusal)
    assert "label 0.8" in str(last.refusal)


def test_growth_of_the_same_population_passes(tmp_path: Path):
    grown = [night(n) for n in (200, 300, 450, 700)]
    results = nights(*grown, docs=tmp_path / "docs")
    assert [result.refusal for result in results] == [None] * 4
    assert checks(results[-1]).loc[["recordings_lost_since_reference", "drift_since_reference"], "passed"].all()


def test_bounds_by_source_and_collection(tmp_path: Path):
    tonight = night(rate_hz=4000, collection=["a", "b"] * (N // 2))
    strict = {"overrides": {"a": {"min_rate_hz": 8000}, "s": {"max_duration_s": 10}}, "max_quarantined_fraction": 1.0}
    result = validate(*tonight, ValidationConfig(**strict), tmp_path / "docs")
    refused = result.quarantine.to_pandas().set_index("recording_id")["check"]
    where = tonight[0].to_pandas().set_index("recording_id")["collection"]
    lengths = tonight[1].to_pandas().set_index("sha256")["duration_s"]
    assert set(refused[refused == "rate_too_low"].index) == set(where[where == "a"].index)
    assert set(refused[refused == "too_long"].index) == set(lengths[(lengths > 10) & (where == "b")].index)
    with pytest.raises(DataRefused, match="overrides names 'z', which is no source or collection: there are a, b, s"):
        validate(*tonight, ValidationConfig(overrides={"z": {}}), tmp_path / "docs")
    slashed = night(collection=["mix/a", "mix/b"] * (N // 2))
    assert validate(*slashed, ValidationConfig(overrides={"mix/a": {"max_duration_s": 10}}), tmp_path / "d").accepted
    with pytest.raises(ValueError, match=r"overrides.a.min_rat in"):
        ValidationConfig(overrides={"a": {"min_rat": 1}})


def test_silence_ties_nobody(tmp_path: Path):
    silent = [i % 2 == 0 for i in range(N)]
    samples = ["all zero" if s else f"r{i:04d}" for i, s in enumerate(silent)]
    tonight = night(peak=[0.0 if s else 0.5 for s in silent], samples_sha256=samples)
    result = validate(*tonight, ValidationConfig(max_quarantined_fraction=1.0), tmp_path / "docs")
    assert result.accepted["near_group"].null_count == result.accepted.num_rows == N // 2
    assert set(result.quarantine["check"].to_pylist()) == {"silent"}
    assert not any("label_conflict" in reason for reason in result.quarantine["reason"].to_pylist())


def test_a_copy_draws_nobody_out_of_the_test_part(tmp_path: Path):
    config = SplitConfig(strategy="hash", seed=3, test_fraction=0.4, valid_fraction=0.1)
    alone = night(subject=[f"p{i}" for i in range(N)])
    first = validate(*alone, ValidationConfig(), tmp_path / "one")
    before = assign_splits(first.accepted, config).to_pandas().set_index("recording_id")["part"]
    tested = before.index[before == "test"][:20]
    copies = night(20, recording_id=[f"a{i}" for i in range(20)], sha256=[f"a{i}" for i in range(20)],
                   subject=[f"q{i}" for i in range(20)], samples_sha256=tested.tolist(),
                   label=alone[0].to_pandas().set_index("recording_id").loc[tested, "label"].tolist())  # fmt: skip
    tonight = [pa.concat_tables(pair) for pair in zip(alone, copies, strict=True)]
    for last in (None, first.accepted):
        result = validate(tonight[0], tonight[1], ValidationConfig(accept_change=True), tmp_path / "two", None, last)
        kept = set(result.accepted["recording_id"].to_pylist())
        assert kept & set(tested) == (set() if last is None else set(tested))  # what was kept last time is kept
        now = assign_splits(result.accepted, config).to_pandas().set_index("recording_id")["part"]
        assert set(now[[n for n in now.index if n in {*tested, *(f"a{i}" for i in range(20))}]]) == {"test"}
        stayed = before.index.intersection(now.index)
        assert (now[stayed] == before[stayed]).all()


def test_subjects_are_told(tmp_path: Path, first: Validation):
    assert not checks(first).loc["several_labels", "passed"]  # each has a murmur and three normal recordings
    assert checks(first).loc["several_labels", "reason"].startswith("s/p0, s/p1, s/p10: has recordings under")
    assert checks(first).loc["too_much_of_one", "passed"]
    assert checks(first).loc["several_labels", "severity"] == "warning"
    assert first.refusal is None
    one = validate(*night(subject="the same"), ValidationConfig(), tmp_path / "docs")
    assert not checks(one).loc["too_much_of_one", "passed"]
    nobody = validate(*night(subject=None), ValidationConfig(), tmp_path / "docs")
    assert "several_labels" not in checks(nobody).index
