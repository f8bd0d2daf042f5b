"""What a recording, and a table of recordings, must satisfy: the Great Expectations suite as a specification.

A recording that fails a critical check is quarantined with the check's reason, a sentence that says what to do; one
that fails a warning is accepted and marked. A critical check on the whole table stops the run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from heartdata.audio.channels import MIN_AGREEMENT
from heartdata.settings import Settings

FULL_SCALE_32 = 2**31
MOST_COUNTS = 2**20  # a converter's; the peak of a recording that uses the range of 32 bits is higher


class RecordingBounds(Settings):
    """Bounds of the checks on single recordings; `ValidationConfig.overrides` may set them by source."""

    min_duration_s: float = Field(default=1.0, ge=0.1, description="shorter recordings are quarantined")
    short_duration_s: float = Field(default=3.0, ge=0, description="shorter recordings get a warning")
    max_duration_s: float = Field(default=600.0, gt=0, description="longer recordings are quarantined")
    min_rate_hz: int = Field(default=1000, gt=0, description="recordings at a lower sampling rate are quarantined")
    min_peak: float = Field(
        default=1e-3, ge=0, description="recordings with a lower peak are silent, and quarantined; share of full scale"
    )
    min_deviation: float = Field(
        default=1e-4,
        ge=0,
        description="recordings whose samples vary less (standard deviation, share of full scale) are quarantined",
    )
    max_missing_fraction: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of the frames declared by the header that the file may lack; more is quarantined",
    )
    clipped_fraction_warning: float = Field(
        default=0.01, ge=0, le=1, description="share of clipped samples; more gets a warning"
    )
    max_clipped_fraction: float = Field(
        default=0.1, ge=0, le=1, description="share of clipped samples; more is quarantined"
    )
    max_silent_fraction: float = Field(
        default=0.9, ge=0, le=1, description="share of silent 50 ms frames; more is quarantined"
    )
    max_dc_offset: float = Field(
        default=0.5, ge=0, le=1, description="mean of the samples, share of full scale; more gets a warning"
    )
    min_periodicity: float = Field(
        default=0.1, ge=0, le=1, description="how clearly it repeats at a heart rate; less gets a warning"
    )
    min_quality: float = Field(default=0.25, ge=0, le=1, description="signal quality index; less gets a warning")

    @model_validator(mode="after")
    def _check_durations(self) -> Self:
        if self.min_duration_s >= self.max_duration_s:
            raise ValueError("min_duration_s < max_duration_s must hold")
        return self


class ValidationConfig(RecordingBounds):
    """Bounds of all checks."""

    overrides: dict[str, dict[str, Any]] = Field(
        default={},
        description="other bounds for the recordings of a source or collection, such as {set_a: {min_rate_hz: 8000}}",
    )
    classes: tuple[str, ...] | None = Field(
        default=None, min_length=2, description="labels that must occur, and no others may; null: those in the table"
    )
    near_duplicates: Literal["refuse", "group", "off"] = Field(
        default="refuse",
        description="copies in another codec, cut or noise: refuse all but one, keep them in one part of the split, or "
        "off: do not look for them",
    )
    near_duplicate_similarity: float = Field(
        default=0.98,
        ge=0.9,
        le=1,
        description="least correlation of the envelopes of near-duplicates; see docs/checks.md",
    )
    max_unjoined_fraction: float = Field(
        default=0.0, ge=0, le=1, description="share of the recordings without a file; more stops the run"
    )
    max_quarantined_fraction: float = Field(
        default=0.25, ge=0, le=1, description="share of the recordings that are quarantined; more stops the run"
    )
    min_recordings: int = Field(
        default=10, ge=1, description="recordings that are labelled and not quarantined; fewer stop the run"
    )
    max_subject_fraction: float = Field(
        default=0.2, gt=0, le=1, description="share of the recordings that are of one subject; more gets a warning"
    )
    max_lost_fraction: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of the recordings accepted last time that are gone; more stops the run",
    )
    drift_warning: float = Field(
        default=0.1, ge=0, description="population stability index since last time; more gets a warning"
    )
    max_drift: float = Field(
        default=0.25, ge=0, description="population stability index since last time; more stops the run"
    )
    max_lost_since_reference: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="share of the reference's recordings that are gone; more stops the run; see docs/checks.md",
    )
    max_drift_since_reference: float = Field(
        default=0.5, ge=0, description="population stability index since the reference; more stops the run"
    )
    series: str | None = Field(
        default=None,
        description="runs with the same name here are compared with each other; null: those of one source configuration",
    )
    accept_change: bool = Field(
        default=False, description="let the change since last time pass, and compare later runs with this one"
    )

    @field_validator("near_duplicates", mode="before")
    @classmethod
    def _accept_bool(cls, value: object) -> object:
        return {True: "refuse", False: "off"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check_overrides(self) -> Self:
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
        return RecordingBounds(**general | self.overrides.get(name, {}))

    def loosest(self) -> RecordingBounds:
        """Bounds that accept every recording that those of at least one source or collection accept."""
        each = [self.bounds_of(name) for name in ("", *self.overrides)]
        names = list(RecordingBounds.model_fields)
        lowest = {n: min(getattr(b, n) for b in each) for n in names if n.startswith("min_")}
        highest = {n: max(getattr(b, n) for b in each) for n in names if n.startswith("max_")}
        return each[0].model_copy(update=lowest | highest)


Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Check:
    """One expectation. ``reason`` is a template over the values of the failing row, or of the table."""

    name: str
    severity: Severity
    expectation: str
    bounds: dict[str, Any]
    reason: str


def _between(
    column: str, low: float | None = None, high: float | None = None, of: str = "Values"
) -> tuple[str, dict[str, Any]]:
    return f"ExpectColumn{of}ToBeBetween", {"column": column, "min_value": low, "max_value": high}


def _null(column: str) -> tuple[str, dict[str, Any]]:
    return "ExpectColumnValuesToBeNull", {"column": column}


def _in_set(column: str, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    return "ExpectColumnValuesToBeInSet", {"column": column, "value_set": list(values)}


def recording_checks(c: RecordingBounds, classes: Sequence[str] | None = None) -> list[Check]:
    """Checks on single recordings: the file, the sound, and, with ``classes``, that the label is one of them."""
    checks = [
        Check("excluded", "critical", *_null("excluded"), "{excluded}"),
        Check("file_missing", "critical", *_null("missing"), "{missing}: correct the path or add the file"),
        Check("undecodable", "critical", *_null("error"), "{error}"),
        Check("truncated", "critical", *_between("missing_fraction", high=c.max_missing_fraction),
              "the file ends early: {missing_fraction:.0%} of the audio that its header declares is missing; copy it again"),
        Check("not_finite", "critical", *_in_set("finite", [True]),
              "contains samples that are not finite numbers (NaN or infinity): export the recording again"),
        Check("rate_too_low", "critical", *_between("rate_hz", low=c.min_rate_hz),
              "sampled at {rate_hz:.0f} Hz: heart sounds above {rate_hz:.0f} / 2 Hz are lost; record at 2,000 Hz or more"),
        Check("too_short", "critical", *_between("duration_s", low=c.min_duration_s),
              "only {duration_s:.2f} s long: too short to contain a whole heart cycle"),
        Check("too_long", "critical", *_between("duration_s", high=c.max_duration_s),
              "{duration_s:.0f} s long: is it one recording? Cut it, or raise validation.max_duration_s"),
        Check("silent", "critical", *_between("peak", low=c.min_peak),
              "silent (peak {peak:.1g} of full scale): {silence_remedy}"),
        Check("flat", "critical", *_between("deviation", low=c.min_deviation),
              "silent except for a constant offset (deviation {deviation:.1g} of full scale): check the microphone"),
        Check("mostly_silent", "critical", *_between("silent_fraction", high=c.max_silent_fraction),
              "{silent_fraction:.0%} of it is silence: cut that part, choose another channel (measure.channel), or record again"),
        Check("clipped", "critical", *_between("clipped_fraction", high=c.max_clipped_fraction),
              "{clipped_fraction:.0%} of the samples are clipped: the waveform is distorted; record again at a lower level"),
        Check("short", "warning", *_between("duration_s", low=c.short_duration_s), "{duration_s:.1f} s long"),
        Check("some_clipping", "warning", *_between("clipped_fraction", high=c.clipped_fraction_warning),
              "{clipped_fraction:.1%} of the samples are clipped"),
        Check("dc_offset", "warning", *_between("dc_offset", -c.max_dc_offset, c.max_dc_offset),
              "DC offset of {dc_offset:.2f} of full scale"),
        Check("header_fault", "warning", *_null("header_fault"), "{header_fault}: all that follows it was read as sound"),
        Check("channels_differ", "warning", *_between("channel_agreement", low=MIN_AGREEMENT),
              "its {channels:.0f} channels are not one sound at one time (correlation {channel_agreement:.2f}), and channel "
              "{channel:.0f} (0: their mean) was used: choose with measure.channel"),
        Check("no_rhythm", "warning", *_between("periodicity", low=c.min_periodicity),
              "nothing in it repeats at a heart rate (periodicity {periodicity:.2f})"),
        Check("poor_quality", "warning", *_between("quality", low=c.min_quality),
              "a heart is hardly audible in it (quality {quality:.2f})"),
    ]  # fmt: skip
    if classes:
        reason = "its label {label!r} is not in validation.classes"
        checks.append(Check("unknown_label", "critical", *_in_set("label", classes), reason))
    return checks


def sample_deviation(rms: Any, dc_offset: Any) -> Any:
    """The standard deviation of samples, from their RMS and mean: numbers, or columns of them."""
    return np.maximum(rms**2 - dc_offset**2, 0.0) ** 0.5


def silence_remedy(form: Any, peak: Any) -> str:
    """What to do about a recording that is too quiet."""
    encoding = str(form).rpartition("/")[2]
    if encoding in ("FLOAT", "DOUBLE", "PCM_24") and peak > 0:
        return "check the microphone, or scale the samples to full range if they are volts or an A/D converter's counts"
    if encoding != "PCM_32" or not 0 < peak < MOST_COUNTS / FULL_SCALE_32:
        return "check the microphone"
    counts = f"{peak * FULL_SCALE_32:.0f}"
    return f"its samples are whole numbers up to {counts} in a 32-bit file, as of an A/D converter: scale them to full range"


def quarantine_reason(facts: Mapping[str, Any], bounds: RecordingBounds) -> str | None:
    """Why a single recording with these facts (a row of schema FACTS) would be quarantined; None if it would not."""
    known = _with_derived(facts)
    failed = _failed(known, bounds, "critical")
    return failed[0].reason.format_map(known) if failed else None


def warnings_of(facts: Mapping[str, Any], bounds: RecordingBounds) -> tuple[str, ...]:
    """The names of the checks of severity warning that a single recording with these facts fails."""
    return tuple(check.name for check in _failed(_with_derived(facts), bounds, "warning"))


def _with_derived(facts: Mapping[str, Any]) -> dict[str, Any]:
    """``facts`` with what the checks derive from them."""
    if "rms" not in facts:
        return dict(facts)
    return {
        **facts,
        "deviation": sample_deviation(facts["rms"], facts["dc_offset"]),
        "silence_remedy": silence_remedy(facts["format"], facts["peak"]),
    }


def _failed(known: Mapping[str, Any], bounds: RecordingBounds, severity: Severity) -> list[Check]:
    return [
        check
        for check in recording_checks(bounds)
        if check.severity == severity and not _holds(check, known.get(check.bounds["column"]))
    ]


def _holds(check: Check, value: Any) -> bool:
    """Whether ``value`` meets one of the expectations of `recording_checks`, as in Great Expectations."""
    if check.expectation == "ExpectColumnValuesToBeNull":
        return value is None
    if check.expectation == "ExpectColumnValuesToBeInSet":
        return value is None or value in check.bounds["value_set"]
    if check.expectation == "ExpectColumnValuesToBeBetween":
        low, high = check.bounds["min_value"], check.bounds["max_value"]
        return value is None or ((low is None or value >= low) and (high is None or value <= high))
    raise ValueError(f"no rule for {check.expectation}")


def duplicate_checks() -> list[Check]:
    """Checks on recordings of the same sound (see `heartdata.checks.duplicates.mark_duplicates`)."""
    return [
        Check("label_conflict", "critical", *_null("other_labels"),
              "{same_sound} is also labelled {other_labels}: find out which label is right"),
        Check("duplicate", "critical", *_null("duplicate_of"), "a copy of {duplicate_of}, which is kept"),
        Check("near_duplicate", "critical", *_null("near_duplicate_of"),
              "nearly the same sound as {near_duplicate_of}, which is kept: remove one of them, or keep both, in one part of "
              "the split, with validation.near_duplicates=group"),
    ]  # fmt: skip


def table_checks(c: ValidationConfig, classes: list[str]) -> list[Check]:
    """Checks on the whole table, after those on recordings. ``classes``: the labels that must occur."""
    return [
        Check("unjoined", "critical", *_between("has_file", 1 - c.max_unjoined_fraction, of="Mean"),
              "{unjoined} of {recordings} recordings have no file, for example {first_unjoined} ({first_missing}): correct "
              "the paths, or set source.folder to the folder that they start from{or_allow}"),
        Check("too_many_quarantined", "critical", *_between("kept", 1 - c.max_quarantined_fraction, of="Mean"),
              "{quarantined} of {recordings} recordings were quarantined, more than validation.max_quarantined_fraction = "
              "{max_quarantined_fraction} allows; the most common reason: {commonest_reason}{or_accept}"),
        Check("too_few_recordings", "critical", *_between("usable", c.min_recordings, of="Sum"),
              "only {usable} labelled recordings are left to train on, {min_recordings} are needed"),
        Check("one_class", "critical", *_between("usable_label", 2, of="UniqueValueCount"),
              "a classifier needs recordings with at least two labels; these have: {labels}"),
        Check("class_missing", "critical",
              "ExpectColumnDistinctValuesToContainSet", {"column": "usable_label", "value_set": classes},
              "no usable recording has the label {absent_labels}: fix those that were quarantined, or remove the label "
              "from the table (or from validation.classes)"),
    ]  # fmt: skip


def subject_checks(c: ValidationConfig) -> list[Check]:
    """Warnings on subjects, over rows of `heartdata.checks.validation.by_subject`: caveats of the scores."""
    return [
        Check("several_labels", "warning", *_between("labels", high=1),
              "has recordings with {labels} different labels: right if labels describe recordings, wrong if people"),
        Check("too_much_of_one", "warning", *_between("share", high=c.max_subject_fraction),
              "{share:.0%} of all recordings are of this subject: the model may learn the person"),
    ]  # fmt: skip


def change_checks(c: ValidationConfig) -> list[Check]:
    """Checks on what changed since the recordings were last accepted (`heartdata.checks.drift.column_drift`)."""
    severity: Severity = "warning" if c.accept_change else "critical"
    accept = "if the change is right, accept it once with validation.accept_change=true"
    return [
        Check("recordings_lost", severity, *_between("lost_fraction", high=c.max_lost_fraction, of="Max"),
              "{lost_fraction:.0%} of the {before} recordings accepted last time are gone, refused or without their label, "
              "more than validation.max_lost_fraction = {max_lost_fraction}: restore them; or " + accept),
        Check("drift", severity, *_between("drift", high=c.max_drift),
              "the recordings are not like those accepted last time: {drifted} (population stability index above "
              "validation.max_drift = {max_drift}): check them; " + accept),
        Check("some_drift", "warning", *_between("drift", high=c.drift_warning),
              "the recordings have changed since last time: {drifted}"),
    ]  # fmt: skip


def reference_checks(c: ValidationConfig) -> list[Check]:
    """`change_checks` against the reference, an earlier table, for changes that are small each night and add up."""
    severity: Severity = "warning" if c.accept_change else "critical"
    accept = (
        "if the change is right, make tonight's recordings the reference with validation.accept_change=true in one run"
    )
    return [
        Check("recordings_lost_since_reference", severity,
              *_between("lost_fraction", high=c.max_lost_since_reference, of="Max"),
              "night by night, {lost_fraction:.0%} of the {before} recordings of the reference (those behind the champion, or "
              "the first accepted) have gone, been refused or lost their label, more than "
              "validation.max_lost_since_reference = {max_lost_since_reference}: restore them; or " + accept),
        Check("drift_since_reference", severity, *_between("drift", high=c.max_drift_since_reference),
              "night by night, the recordings have become unlike those of the reference (those behind the champion, or the "
              "first accepted): {drifted} (population stability index above "
              "validation.max_drift_since_reference = {max_drift_since_reference}): check them; " + accept),
    ]  # fmt: skip
