"""What a recording, and a table of recordings, must satisfy: the Great Expectations suite as a specification.

Each check names its expectation, its severity and, in words a person can act on, the reason it is there. A failed
critical check on recordings sends them to quarantine; on the table it stops the run. A warning is kept beside the
recording. Bounds are configuration (`ValidationConfig`); the reasons are filled from the failing row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from heartdata.settings import Settings


class RecordingBounds(Settings):
    """The bounds of the checks on a recording by itself; `ValidationConfig.overrides` may set them by source."""

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
    min_quality: float = Field(default=0.25, ge=0, le=1, description="of the quality index; less carries a warning")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_duration_s >= self.max_duration_s:
            raise ValueError("min_duration_s < max_duration_s must hold")
        return self


class ValidationConfig(RecordingBounds):
    """The bounds of the checks."""

    overrides: dict[str, dict[str, Any]] = Field(
        default={},
        description="other bounds for the recordings of a source or a collection: {set_a: {min_rate_hz: 8000}}",
    )
    classes: tuple[str, ...] | None = Field(
        default=None, min_length=2, description="the labels there must be; null: those in the table"
    )
    near_duplicates: bool = Field(default=True, description="look for the same sound in another coding, cut or noise")
    near_duplicate_similarity: float = Field(
        default=0.98,
        ge=0.9,
        le=1,
        description="of envelopes, where the fine structure agrees by .2; from .45 on it decides alone",
    )
    max_unjoined_fraction: float = Field(default=0.0, ge=0, le=1, description="rows of the table without a file")
    max_quarantined_fraction: float = Field(default=0.25, ge=0, le=1)
    min_recordings: int = Field(default=10, ge=1, description="labelled ones, after quarantine")
    max_subject_fraction: float = Field(
        default=0.2, gt=0, le=1, description="recordings of one; more carries a warning"
    )
    max_lost_fraction: float = Field(default=0.2, ge=0, le=1, description="of those accepted last time")
    drift_warning: float = Field(default=0.1, ge=0, description="population stability index since then")
    max_drift: float = Field(default=0.25, ge=0, description="more stops the run")
    max_lost_since_reference: float = Field(
        default=0.3, ge=0, le=1, description="share of the recordings of the reference; see docs/checks.md"
    )
    max_drift_since_reference: float = Field(default=0.5, ge=0, description="more stops the run")
    series: str | None = Field(
        default=None, description="nights to compare with each other; null: those of one source configuration"
    )
    accept_change: bool = Field(default=False, description="let change pass, and compare with this run from now on")

    @model_validator(mode="after")
    def _overrides_are_bounds(self) -> Self:
        for name, bounds in self.overrides.items():
            try:
                self.bounds_of(name)
            except ValidationError as error:
                wrong = error.errors()[0]
                key = ".".join(["overrides", name, *map(str, wrong["loc"])])
                raise ValueError(f"{key} in {bounds}: {wrong['msg'].removeprefix('Value error, ')}") from error
        return self

    def bounds_of(self, name: str) -> RecordingBounds:
        """The bounds for recordings of the source or collection ``name``."""
        general = {n: getattr(self, n) for n in RecordingBounds.model_fields}
        return RecordingBounds(**{**general, **self.overrides.get(name, {})})

    def loosest(self) -> RecordingBounds:
        """The bounds that accept whatever those of any source or collection accept."""
        each = [self.bounds_of(name) for name in ("", *self.overrides)]
        names = list(RecordingBounds.model_fields)
        lowest = {n: min(getattr(b, n) for b in each) for n in names if n.startswith("min_")}
        highest = {n: max(getattr(b, n) for b in each) for n in names if n.startswith("max_")}
        return each[0].model_copy(update=lowest | highest)


@dataclass(frozen=True)
class Check:
    """One expectation. ``reason`` is a template over the failing row's (or the table's) values."""

    name: str
    severity: Literal["critical", "warning"]
    expectation: str
    bounds: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def recording_checks(c: RecordingBounds, classes: Sequence[str] | None = None) -> list[Check]:
    """Checks on each recording by itself: its file, its sound, and that its label is one of ``classes``, if given."""
    between, null, true = (
        "ExpectColumnValuesToBeBetween",
        "ExpectColumnValuesToBeNull",
        "ExpectColumnValuesToBeInSet",
    )

    def bound(column: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
        return {"column": column, "min_value": low, "max_value": high}

    checks = [
        Check("file_missing", "critical", null, {"column": "missing"}, "{missing}: correct the path or bring the file"),
        Check("undecodable", "critical", null, {"column": "error"}, "{error}: export or download the recording again"),
        Check("truncated", "critical", between, bound("missing_fraction", high=c.max_missing_fraction),
              "the file ends early: {missing_fraction:.0%} of the sound its header declares is not there; copy it again"),
        Check("not_finite", "critical", true, {"column": "finite", "value_set": [True]},
              "holds samples that are not numbers (NaN or infinite): export the recording again"),
        Check("rate_too_low", "critical", between, bound("rate_hz", low=c.min_rate_hz),
              "sampled at {rate_hz:.0f} Hz: heart sounds above {rate_hz:.0f} / 2 Hz are lost; record at 2,000 Hz or more"),
        Check("too_short", "critical", between, bound("duration_s", low=c.min_duration_s),
              "only {duration_s:.2f} s long: too short to hold a whole heart cycle"),
        Check("too_long", "critical", between, bound("duration_s", high=c.max_duration_s),
              "{duration_s:.0f} s long: is it one recording? Cut it, or raise validation.max_duration_s"),
        Check("silent", "critical", between, bound("peak", low=c.min_peak),
              "silent (peak {peak:.1g} of full scale): check the microphone"),
        Check("flat", "critical", between, bound("deviation", low=c.min_deviation),
              "silent but for a constant offset (deviation {deviation:.1g} of full scale): check the microphone"),
        Check("mostly_silent", "critical", between, bound("silent_fraction", high=c.max_silent_fraction),
              "{silent_fraction:.0%} of it is silence, all channels averaged: cut that part, keep one channel, or record again"),
        Check("clipped", "critical", between, bound("clipped_fraction", high=c.max_clipped_fraction),
              "{clipped_fraction:.0%} of the samples stand at the peak: recorded too loud, the sound's shape is lost"),
        Check("short", "warning", between, bound("duration_s", low=c.short_duration_s), "{duration_s:.1f} s long"),
        Check("some_clipping", "warning", between, bound("clipped_fraction", high=c.clipped_fraction_warning),
              "{clipped_fraction:.1%} of the samples stand at the peak"),
        Check("dc_offset", "warning", between, bound("dc_offset", -c.max_dc_offset, c.max_dc_offset),
              "offset of {dc_offset:.2f} of full scale"),
        Check("no_rhythm", "warning", between, bound("periodicity", low=c.min_periodicity),
              "nothing in it repeats at a heart's rate (periodicity {periodicity:.2f})"),
        Check("poor_quality", "warning", between, bound("quality", low=c.min_quality),
              "a heart can hardly be heard in it (quality {quality:.2f})"),
    ]  # fmt: skip
    if classes:
        checks.append(
            Check("unknown_label", "critical", true, {"column": "label", "value_set": list(classes)},
                  "its label {label!r} is none of validation.classes")
        )  # fmt: skip
    return checks


def quarantine_reason(facts: Mapping[str, Any], bounds: RecordingBounds) -> str | None:
    """Why one recording with these facts (`heartdata.audio.measurements.measure_samples`) would go to quarantine; None where it would not."""
    known = dict(facts)
    if "rms" in facts:  # as `heartdata.checks.validation.join_facts` has it
        known["deviation"] = max(0.0, facts["rms"] ** 2 - facts["dc_offset"] ** 2) ** 0.5
    for check in recording_checks(bounds):
        if check.severity == "critical" and not _holds(check, known.get(check.bounds["column"])):
            return check.reason.format_map(known)
    return None


def _holds(check: Check, value: Any) -> bool:
    """Whether ``value`` meets one of the expectations of `recording_checks`, as Great Expectations has it."""
    if check.expectation == "ExpectColumnValuesToBeNull":
        return value is None
    if value is None:
        return True
    if check.expectation == "ExpectColumnValuesToBeInSet":
        return value in check.bounds["value_set"]
    low, high = check.bounds["min_value"], check.bounds["max_value"]
    return (low is None or value >= low) and (high is None or value <= high)


def duplicate_checks() -> list[Check]:
    """Checks on recordings of the same sound (see `heartdata.checks.duplicates.mark_duplicates`)."""
    null = "ExpectColumnValuesToBeNull"
    return [
        Check("label_conflict", "critical", null, {"column": "other_labels"},
              "{same_sound} is also labelled {other_labels}: find out which is right"),
        Check("duplicate", "critical", null, {"column": "duplicate_of"}, "a copy of {duplicate_of}, which is kept"),
        Check("near_duplicate", "critical", null, {"column": "near_duplicate_of"},
              "nearly the same sound as {near_duplicate_of}, which is kept: leave one of them out, or switch "
              "validation.near_duplicates off"),
    ]  # fmt: skip


def table_checks(c: ValidationConfig, classes: list[str]) -> list[Check]:
    """Checks on the whole table, after each recording was judged; all critical. ``classes``: what there must be."""
    return [
        Check("unjoined", "critical", "ExpectColumnMeanToBeBetween",
              {"column": "has_file", "min_value": 1 - c.max_unjoined_fraction},
              "{unjoined} of {found} recordings have no file, the first being {first_unjoined} ({first_missing}): "
              "correct that, or say with source.folder where the paths of a table begin{let_them_pass}"),
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


def subject_checks(c: ValidationConfig) -> list[Check]:
    """Checks on subjects, over rows of `heartdata.checks.validation.by_subject`; all warnings: scores are to be read with them."""
    between = "ExpectColumnValuesToBeBetween"
    return [
        Check("several_labels", "warning", between, {"column": "labels", "max_value": 1},
              "has recordings under {labels} labels: right if the label is of the recording, wrong if of the person"),
        Check("too_much_of_one", "warning", between, {"column": "share", "max_value": c.max_subject_fraction},
              "{share:.0%} of all recordings are of this subject: the model may learn the person"),
    ]  # fmt: skip


def change_checks(c: ValidationConfig) -> list[Check]:
    """Checks on the accepted recordings against those accepted last time, over rows of `heartdata.checks.drift.column_drift`."""
    severity: Literal["critical", "warning"] = "warning" if c.accept_change else "critical"
    how = "look into it, then let it pass once with validation.accept_change=true"
    return [
        Check("recordings_lost", severity, "ExpectColumnMaxToBeBetween",
              {"column": "lost_fraction", "max_value": c.max_lost_fraction},
              "{lost_fraction:.0%} of the {before} recordings accepted last time are gone, refused or without their label, more than "
              "validation.max_lost_fraction = {max_lost_fraction}: bring them back; or " + how),
        Check("drift", severity, "ExpectColumnValuesToBeBetween", {"column": "drift", "max_value": c.max_drift},
              "the recordings are not like those accepted last time: {drifted} (population stability index above "
              "validation.max_drift = {max_drift}): " + how),
        Check("some_drift", "warning", "ExpectColumnValuesToBeBetween", {"column": "drift", "max_value": c.drift_warning},
              "the recordings have changed since the last time: {drifted}"),
    ]  # fmt: skip


def reference_checks(c: ValidationConfig) -> list[Check]:
    """`change_checks` against the reference (see `heartdata.checks.validation.validate`), for what each night changes a little."""
    severity: Literal["critical", "warning"] = "warning" if c.accept_change else "critical"
    how = "look into it, then make tonight's recordings the reference with validation.accept_change=true in one run"
    return [
        Check("recordings_lost_since_reference", severity, "ExpectColumnMaxToBeBetween",
              {"column": "lost_fraction", "max_value": c.max_lost_since_reference},
              "night by night, {lost_fraction:.0%} of the {before} recordings of the reference (those behind the champion, or "
              "the first accepted) are gone, refused or without their label, more than "
              "validation.max_lost_since_reference = {max_lost_since_reference}: bring them back; or " + how),
        Check("drift_since_reference", severity, "ExpectColumnValuesToBeBetween",
              {"column": "drift", "max_value": c.max_drift_since_reference},
              "night by night, the recordings have become unlike those of the reference (those behind the champion, or the "
              "first accepted): {drifted} (population stability index above "
              "validation.max_drift_since_reference = {max_drift_since_reference}): " + how),
    ]  # fmt: skip
