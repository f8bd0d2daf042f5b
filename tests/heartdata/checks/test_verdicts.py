"""Recordings that were judged before are not judged again, and the results are those of judging all."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
from test_change import night

from heartdata.checks import validation
from heartdata.checks.suite import ValidationConfig
from heartdata.checks.validation import Validation, validate


def run(tables: tuple[pa.Table, pa.Table], docs: Path, known: pa.Table | None = None, **settings: Any) -> Validation:
    config = ValidationConfig(max_quarantined_fraction=1.0, **settings)
    return validate(*tables, config, docs, known=known)


def last_night() -> tuple[pa.Table, pa.Table]:
    return night(
        40,
        rms=0.05,
        peak=[0.0 if i < 3 else 0.5 for i in range(40)],
        quality=[0.1 if i % 10 == 0 else 0.9 for i in range(40)],
    )


def tonight() -> tuple[pa.Table, pa.Table]:
    """Recordings 0 and 1 are gone, 4 is new to clipping, 2 has another label, 40-43 are new, one of them poor."""
    recordings, facts = night(
        44, rms=0.05, peak=[0.0 if i < 3 else 0.5 for i in range(44)], quality=[0.1 if i % 10 == 0 or i == 41 else 0.9 for i in range(44)],
        clipped_fraction=[0.5 if i == 4 else 0.0 for i in range(44)],
        label=["other" if i == 2 else "normal" if i % 4 else "murmur" for i in range(44)],
    )  # fmt: skip
    return recordings.slice(2), facts.slice(2)


def words(docs: Path) -> dict[str, str]:
    """The text of each page, without the time and identifiers."""
    pages = {page.name: page.read_text() for page in docs.rglob("*.html")}
    return {
        name: re.sub(r"\d{8}T\d+\.\d+Z|[\d-]+T[\d:.]+(Z|\+[\d:]+)|[0-9a-f]{8}-[-0-9a-f]{27}|[0-9a-f]{32}", "", t)
        for name, t in pages.items()
    }


def test_with_known_verdicts_all_results_and_pages_are_the_same(tmp_path: Path):
    first = run(last_night(), tmp_path / "first")
    whole = run(tonight(), tmp_path / "whole")
    fast = run(tonight(), tmp_path / "fast", known=first.verdicts)
    for name in ("accepted", "quarantine", "checks", "verdicts"):
        assert getattr(fast, name).equals(getattr(whole, name)), name
    assert words(tmp_path / "fast") == words(tmp_path / "whole")
    assert whole.quarantine.column("recording_id").to_pylist() == ["r0002", "r0004"]


def test_only_new_and_changed_recordings_are_judged(tmp_path: Path):
    first = run(last_night(), tmp_path / "first")
    every = pa.array(["silent"] * 40)
    planted = first.verdicts.set_column(3, "failed", every)
    second = run(tonight(), tmp_path / "second", known=planted, classes=("normal", "murmur", "other"))
    assert second.verdicts["failed"].to_pylist().count("silent") == 1  # other checks, so all are judged
    second = run(tonight(), tmp_path / "third", known=planted)
    silent = second.quarantine.to_pandas()["reason"].str.contains("silent")
    judged = {"r0004", "r0040", "r0041", "r0042", "r0043"}
    assert set(second.quarantine.to_pandas()["recording_id"][silent]) == {f"r{i:04d}" for i in range(2, 40)} - judged


def test_verdicts_of_another_version_of_great_expectations_are_not_used(tmp_path: Path, monkeypatch):
    planted = run(last_night(), tmp_path / "first").verdicts.set_column(3, "failed", pa.array(["silent"] * 40))
    monkeypatch.setattr(validation, "version", lambda package: "another")
    second = run(last_night(), tmp_path / "second", known=planted)
    assert sum("silent" in failed for failed in second.verdicts["failed"].to_pylist()) == 3
