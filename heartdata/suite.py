"""What a recording, and a table of recordings, must satisfy: the Great Expectations suite as a specification.

Each check names its expectation, its severity and, in words a person can act on, the reason it is there. A failed
critical check on recordings sends them to quarantine; on the table it stops the run. A warning is kept beside the
recording. Bounds are configuration (`ValidationConfig`); the reasons are filled from the failing row.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from heartdata.settings import Settings

VERSION = "3"  # raise when a check changes


class ValidationConfig(Settings):
    """The bounds of the checks."""

    min_duration_s: float = Field(default=1.0, ge=0.1)
    short_duration_s: float = Field(default=3.0, ge=0, description="shorter recordings carry a warning")
    max_duration_s: float = Field(default=600.0, gt=0)
    min_rate_hz: int = Field(default=1000, gt=0)
    min_peak: float = Field(default=1e-3, ge=0, description="of full scale; below it a recording is silent")
    min_deviation: float = Field(default=1e-4, ge=0, description="of full scale, DC removed")
    max_missing_fraction: float = Field(default=0.01, ge=0, le=1, description="of the frames the header declares")
    clipped_fraction_warning: float = Field(default=0.01, ge=0, le=1)
    max_clipped_fraction: float = Field(default=0.1, ge=0, le=1)
    max_silent_fraction: float = Field(default=0.9, ge=0, le=1)
    max_dc_offset: float = Field(default=0.5, ge=0, le=1, description="of full scale; more carries a warning")
    min_periodicity: float = Field(default=0.1, ge=0, le=1, description="less carries a warning")
    classes: tuple[str, ...] | None = Field(
        default=None, min_length=2, description="the labels there must be; null: those in the table"
    )
    max_unjoined_fraction: float = Field(default=0.0, ge=0, le=1, description="rows of the table without a file")
    max_quarantined_fraction: float = Field(default=0.25, ge=0, le=1)
    min_recordings: int = Field(default=10, ge=1, description="labelled ones, after quarantine")

    @model_validator(mode="after")
    def _fits_together(self) -> "ValidationConfig":
        if self.min_duration_s >= self.max_duration_s:
            raise ValueError("min_duration_s < max_duration_s must hold")
        return self


@dataclass(frozen=True)
class Check:
    """One expectation. ``reason`` is a template over the failing row's (or the table's) values."""

    name: str
    severity: Literal["critical", "warning"]
    expectation: str
    bounds: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def recording_checks(c: ValidationConfig) -> list[Check]:
    """Checks on each recording by itself: its file and its sound."""
    between, null, true = (
        "ExpectColumnValuesToBeBetween",
        "ExpectColumnValuesToBeNull",
        "ExpectColumnValuesToBeInSet",
    )

    def bound(column: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
        return {"column": column, "min_value": low, "max_value": high}

    checks = [
        Check("file_missing", "critical", null, {"column": "missing"}, "{missing}: correct the path or bring the file"),
        Check("undecodable", "critical", null, {"column": "error"}, "{error}: export the recording again"),
        Check("truncated", "critical", between, bound("missing_fraction", high=c.max_missing_fraction),
              "the file ends early: {missing_fraction:.0%} of the sound its header declares is not there; copy it again"),
        Check("not_finite", "critical", true, {"column": "finite", "value_set": [True]},
              "holds samples that are not numbers (NaN or infinite): export the recording again"),
        Check("rate_too_low", "critical", between, bound("rate_hz", low=c.min_rate_hz),
              "sampled at {rate_hz} Hz: heart sounds above {rate_hz} / 2 Hz are lost; record at 2,000 Hz or more"),
        Check("too_short", "critical", between, bound("duration_s", low=c.min_duration_s),
              "only {duration_s:.2f} s long: too short to hold a whole heart cycle"),
        Check("too_long", "critical", between, bound("duration_s", high=c.max_duration_s),
              "{duration_s:.0f} s long: is it one recording? Cut it, or raise validation.max_duration_s"),
        Check("silent", "critical", between, bound("peak", low=c.min_peak),
              "silent (peak {peak:.1e} of full scale): check the microphone"),
        Check("flat", "critical", between, bound("deviation", low=c.min_deviation),
              "silent but for a constant offset (deviation {deviation:.1e} of full scale): check the microphone"),
        Check("mostly_silent", "critical", between, bound("silent_fraction", high=c.max_silent_fraction),
              "{silent_fraction:.0%} of it is silence: cut the silent part or record again"),
        Check("clipped", "critical", between, bound("clipped_fraction", high=c.max_clipped_fraction),
              "{clipped_fraction:.0%} of the samples stand at the peak: recorded too loud, the sound's shape is lost"),
        Check("short", "warning", between, bound("duration_s", low=c.short_duration_s), "{duration_s:.1f} s long"),
        Check("some_clipping", "warning", between, bound("clipped_fraction", high=c.clipped_fraction_warning),
              "{clipped_fraction:.1%} of the samples stand at the peak"),
        Check("dc_offset", "warning", between, bound("dc_offset", -c.max_dc_offset, c.max_dc_offset),
              "offset of {dc_offset:.2f} of full scale"),
        Check("no_rhythm", "warning", between, bound("periodicity", low=c.min_periodicity),
              "nothing in it repeats at a heart's rate (periodicity {periodicity:.2f})"),
    ]  # fmt: skip
    if c.classes:
        checks.append(
            Check("unknown_label", "critical", true, {"column": "label", "value_set": list(c.classes)},
                  "its label {label!r} is none of validation.classes")
        )  # fmt: skip
    return checks


def copy_checks() -> list[Check]:
    """Checks on recordings of the same sound (see `heartdata.validation.mark_copies`)."""
    null = "ExpectColumnValuesToBeNull"
    return [
        Check("label_conflict", "critical", null, {"column": "other_labels"},
              "the same sound is also labelled {other_labels}: find out which is right"),
        Check("duplicate", "critical", null, {"column": "duplicate_of"}, "a copy of {duplicate_of}, which is kept"),
    ]  # fmt: skip


def table_checks(c: ValidationConfig, classes: list[str]) -> list[Check]:
    """Checks on the whole table, after each recording was judged; all critical. ``classes``: what there must be."""
    return [
        Check("unjoined", "critical", "ExpectColumnMeanToBeBetween",
              {"column": "has_file", "min_value": 1 - c.max_unjoined_fraction},
              "{unjoined} of {found} rows name a file that is not there, the first being {first_unjoined}: correct the "
              "paths, or allow a share of them with validation.max_unjoined_fraction"),
        Check("too_many_quarantined", "critical", "ExpectColumnMeanToBeBetween",
              {"column": "kept", "min_value": 1 - c.max_quarantined_fraction},
              "{quarantined} of {found} recordings were quarantined, more than validation.max_quarantined_fraction = "
              "{max_quarantined_fraction} allows, most often because: {commonest_reason}"),
        Check("too_few_recordings", "critical", "ExpectColumnSumToBeBetween",
              {"column": "usable", "min_value": c.min_recordings},
              "only {usable} labelled recordings are left to train on, {min_recordings} are needed"),
        Check("one_class", "critical", "ExpectColumnUniqueValueCountToBeBetween",
              {"column": "usable_label", "min_value": 2},
              "a classifier needs recordings of at least two labels; these have: {labels}"),
        Check("class_missing", "critical", "ExpectColumnDistinctValuesToContainSet",
              {"column": "usable_label", "value_set": classes},
              "no usable recording is left with the label {absent_labels}: mend those that were quarantined, or take "
              "the label out of the table (or of validation.classes)"),
    ]  # fmt: skip
