"""Runs all checks on the recordings of a source: accepted and quarantined recordings, results, Data Docs."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from heartdata.checks.drift import column_drift, lost_fraction
from heartdata.checks.duplicates import mark_duplicates
from heartdata.checks.expectations import Result, SuiteRunner
from heartdata.checks.suite import (
    Check,
    ValidationConfig,
    change_checks,
    duplicate_checks,
    recording_checks,
    reference_checks,
    sample_deviation,
    silence_remedy,
    subject_checks,
    table_checks,
)
from heartdata.errors import DataRefused
from heartdata.settings import sha256_json
from heartdata.sources.text import shortened
from heartdata.storage.schemas import ACCEPTED, CHECKS, QUARANTINE, VERDICTS
from heartdata.storage.store import table_from_frame, table_from_rows

NO_COPIES = {"excluded", "silent", "flat", "mostly_silent"}
MANY_NEAR_DUPLICATES = 0.1  # of the recordings: more refused ones get a note
DrawDrift = Callable[[pd.DataFrame, float, str, str], bytes]  # as `heartdata.reports.plots.plot_drift`
Reasons = dict[Any, list[tuple[str, str]]]  # row label to failed checks of one severity: name, filled-in reason
Rows = list[dict[str, object]]  # of schema CHECKS


@dataclass(frozen=True)
class Validation:
    """The result of `validate`: tables of the schemas ACCEPTED, QUARANTINE, CHECKS and VERDICTS.

    ``refusal``: why nothing may be trained on these recordings, or None. ``notes``: what people should know.
    """

    accepted: pa.Table
    quarantine: pa.Table
    checks: pa.Table
    verdicts: pa.Table
    refusal: str | None
    notes: tuple[str, ...] = ()


def validate(
    recordings: pa.Table,
    facts: pa.Table,
    config: ValidationConfig = ValidationConfig(),
    docs: Path | None = None,
    collections: Sequence[str] | None = None,
    before: pa.Table | None = None,
    reference: pa.Table | None = None,
    draw_drift: DrawDrift | None = None,
    known: pa.Table | None = None,
    pairs: pd.DataFrame | None = None,
) -> Validation:
    """Check every recording, the subjects, the table and its change; write Data Docs to the folder ``docs``, if given.

    ``recordings`` and ``facts`` have schemas RECORDINGS and FACTS. Every recording is either accepted or quarantined.
    ``collections``: those that will be trained on (None: all), whose labels alone the checks on the table look at.
    ``before``: what was accepted last time (schema ACCEPTED), or None. ``reference``: an earlier such table that stays
    the same for many nights, so that changes too small to notice in one night are noticed once they add up; or None.
    ``known``: earlier ``verdicts`` (schema VERDICTS), by which only new and changed recordings are judged by themselves.
    ``pairs``: near-duplicates (schema CONFIRMED_PAIRS), or None.
    Raises `DataRefused` when ``collections`` or ``config.overrides`` names something that no recording is of.
    """
    refuse_unknown_collections(collections, recordings)
    table = join_facts(recordings.to_pandas(), facts.drop_columns(["fingerprint"]).to_pandas())
    in_use = table["collection"].isin(collections) if collections is not None else pd.Series(True, index=table.index)
    plots: dict[str, bytes] = {}
    with SuiteRunner() as suites:
        rows, reasons, warnings, verdicts = _check_recordings(suites, table, config, known)
        table = _mark_duplicates(table, reasons, in_use, pairs, before, config.near_duplicates == "refuse")
        duplicates = suites.run("copies", table, duplicate_checks())
        rows += [r.row("recording", _template(r)) for r in duplicates]
        for index, failed in failures(table, duplicates)[0].items():
            reasons.setdefault(index, []).extend(failed)
        passed = table[~table.index.isin(list(reasons))]
        passed = passed.assign(warnings=[", ".join(name for name, _ in warnings.get(i, [])) for i in passed.index])
        accepted = table_from_frame(passed, ACCEPTED)
        frame = accepted.to_pandas()  # with the types of an accepted table that is read again, as ``before`` is
        rows += _check_subjects(suites, frame, config)
        stops = [_check_table(suites, table, reasons, in_use, config)]
        excluded = table.loc[table["excluded"].notna(), "recording_id"]
        for level, earlier in (("change", before), ("reference", reference)):
            if earlier is not None:
                rest = earlier.to_pandas()[lambda rows: ~rows["recording_id"].isin(excluded)]
                stops.append(_check_change(suites, level, rest, frame, config, plots, draw_drift))
        result = Validation(
            accepted=accepted,
            quarantine=_quarantine(table, reasons),
            checks=table_from_rows(rows + [row for level_rows, _ in stops for row in level_rows], CHECKS),
            verdicts=verdicts,
            refusal=next((refusal for _, refusal in stops if refusal), None),
            notes=tuple(_near_duplicate_notes(table, passed, config)),
        )
        counts = f"{len(table)} recordings, {len(passed)} accepted, {len(reasons)} quarantined"
        if docs is not None:
            suites.publish(docs, result.checks, result.quarantine, _warned(passed, warnings), counts, plots)
    return result


def refuse_unknown_collections(names: Sequence[str] | None, table: pa.Table) -> None:
    """Raise `DataRefused` for one of ``split.collections`` of which ``table`` has no recording."""
    known = {name or "" for name in table.column("collection").to_pylist()}
    for name in names or ():
        if name not in known:
            existing = ", ".join(sorted(known - {""})) or "none"
            raise DataRefused(
                f"split.collections names {name!r}, of which there is no recording; existing collections: {existing}"
            )


def join_facts(recordings: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """One row per recording with its facts, and ``deviation``: the standard deviation of its samples."""
    table = recordings.merge(facts, on="sha256", how="left", validate="many_to_one")
    table["deviation"] = sample_deviation(table["rms"], table["dc_offset"])
    table["silence_remedy"] = list(map(silence_remedy, table["format"], table["peak"]))
    return table


def _mark_duplicates(
    table: pd.DataFrame, reasons: Reasons, in_use: pd.Series, pairs: pd.DataFrame | None, before: pa.Table | None,
    refuse_near: bool,
) -> pd.DataFrame:  # fmt: skip
    """`mark_duplicates`, except that excluded and silent recordings, which are all alike, are copies of nothing."""
    alone = table.index.isin([i for i, failed in reasons.items() if NO_COPIES & {name for name, _ in failed}])
    comparable = table.assign(samples_sha256=table["samples_sha256"].mask(alone, None))
    kept_before = set(before.column("recording_id").to_pylist()) if before is not None else set()
    passed = ~table.index.to_series().isin(list(reasons))
    marked = mark_duplicates(comparable, passed, in_use, pairs, kept_before, refuse_near)
    return marked.assign(samples_sha256=table["samples_sha256"])


def _near_duplicate_notes(table: pd.DataFrame, accepted: pd.DataFrame, config: ValidationConfig) -> Iterator[str]:
    """What to know where near-duplicates are many, or are not looked for."""
    refused = int(table["near_duplicate_of"].notna().sum())
    if refused > MANY_NEAR_DUPLICATES * len(table):
        yield f"{refused} of {len(table)} recordings were refused as near-duplicates: to keep them, {_keep_near(table)}"
    unknown = int(accepted["subject"].isna().sum())
    if config.near_duplicates == "off" and unknown:
        yield (
            f"validation.near_duplicates=off, and {unknown} recordings have no subject: copies of one may be in training "
            f"and test, and scores too high; {_keep_near(table)}"
        )


def _keep_near(table: pd.DataFrame) -> str:
    """How to keep near-duplicates without leakage."""
    clips = (
        " (with clips cut from longer recordings, also split.strategy=blocks)" if table["subject"].isna().all() else ""
    )
    return f"set validation.near_duplicates=group, which keeps all, those of one sound in one part of the split{clips}"


def by_subject(accepted: pd.DataFrame) -> pd.DataFrame:
    """One row per known subject: ``recording_id`` (its name), ``labels`` (how many), ``share`` of the recordings."""
    known = accepted[accepted["subject"].notna()]
    subjects = known.groupby(known["source"] + "/" + known["subject"])
    table = pd.DataFrame({"labels": subjects["label"].nunique(), "share": subjects.size() / max(len(accepted), 1)})
    return table.rename_axis("recording_id").reset_index()


def failures(table: pd.DataFrame, results: list[Result]) -> tuple[Reasons, Reasons]:
    """What failed, by row label of ``table``: checks of severity critical, and of severity warning."""
    reasons: Reasons = {}
    warnings: Reasons = {}
    for result in results:
        check, failed = result.check, warnings if result.check.severity == "warning" else reasons
        for index, values in zip(result.failing, table.loc[result.failing].to_dict("records"), strict=True):
            failed.setdefault(index, []).append((check.name, check.reason.format_map(values)))
    return reasons, warnings


def _check_recordings(
    suites: SuiteRunner, table: pd.DataFrame, config: ValidationConfig, known: pa.Table | None
) -> tuple[Rows, Reasons, Reasons, pa.Table]:
    """Each recording by itself, by the bounds of its collection or else of its source."""
    names = {*table["collection"], *table["source"]}
    for name in config.overrides:
        if name not in names:
            raise DataRefused(
                f"validation.overrides names {name!r}, which is not a source or collection; existing ones: "
                + ", ".join(sorted(names - {""}))
            )
    override = table["collection"].where(table["collection"].isin(config.overrides), table["source"])
    override = override.where(override.isin(config.overrides), "")
    rows: Rows = []
    reasons: Reasons = {}
    warnings: Reasons = {}
    verdicts = []
    for number, (name, group) in enumerate(table.groupby(override)):
        checks = recording_checks(config.bounds_of(name), config.classes)
        judged = _verdicts(group, checks, known)
        results = suites.run(f"recordings {number or ''}".strip(), group, checks, judged["failed"])
        verdicts.append(_with_failed(judged, results))
        group_reasons, group_warnings = failures(group, results)
        reasons |= group_reasons
        warnings |= group_warnings
        rows += [r.row(f"recording {name}".strip(), _template(r)) for r in results]
    return rows, reasons, warnings, table_from_frame(pd.concat(verdicts), VERDICTS)


def _verdicts(group: pd.DataFrame, checks: list[Check], known: pa.Table | None) -> pd.DataFrame:
    """Columns of VERDICTS for the rows of ``group``; ``failed`` is null for those that are not ``known``, all else equal."""
    columns = sorted({check.bounds["column"] for check in checks})
    suite = sha256_json([version("great_expectations"), *(asdict(check) for check in checks)])[:20]
    row = pd.util.hash_pandas_object(group[columns], index=False)
    judged = group[["recording_id"]].assign(suite=suite, row=row)
    before = (VERDICTS.empty_table() if known is None else known).to_pandas()
    merged = judged.merge(before.drop_duplicates(VERDICTS.names[:3]), on=VERDICTS.names[:3], how="left")
    return merged.set_index(group.index)


def _with_failed(judged: pd.DataFrame, results: list[Result]) -> pd.DataFrame:
    """``judged`` with ``failed`` of all rows."""
    failed: dict[Any, list[str]] = {index: [] for index in judged.index}
    for result in results:
        for index in result.failing:
            failed[index].append(result.check.name)
    return judged.assign(failed=pd.Series(failed).map(", ".join))


def _check_subjects(suites: SuiteRunner, accepted: pd.DataFrame, config: ValidationConfig) -> Rows:
    subjects = by_subject(accepted)
    if subjects.empty:
        return []
    rows = []
    for result in suites.run("subjects", subjects, subject_checks(config)):
        first = ", ".join(subjects.loc[result.failing[:3], "recording_id"])
        rows.append(result.row("subject", f"{first}: {_template(result)}" if first else ""))
    return rows


def _check_table(
    suites: SuiteRunner, table: pd.DataFrame, reasons: Reasons, in_use: pd.Series, config: ValidationConfig
) -> tuple[Rows, str | None]:
    classes = sorted(config.classes or table.loc[in_use, "label"].dropna().unique())
    kept, missing = ~table.index.isin(list(reasons)), table["missing"]
    quarantined = ~kept & table["excluded"].isna()  # by the checks, not by people
    usable = kept & table["label"].notna() & in_use
    frame = pd.DataFrame({
        "recording_id": table["recording_id"],
        "has_file": missing.isna().astype(float),
        "kept": (~quarantined).astype(float),
        "usable": usable.astype(float),
        "usable_label": table["label"].where(usable),
    })  # fmt: skip
    unjoined, labels = missing.dropna(), sorted(frame["usable_label"].dropna().unique())
    near = int(table.loc[list(reasons), "near_duplicate_of"].notna().sum())
    values = {
        "recordings": len(table),
        "unjoined": len(unjoined),
        "or_allow": _or_allow(len(unjoined), int(quarantined.sum()), len(table), config.max_quarantined_fraction),
        "or_accept": (
            f"; {near} are near-duplicates: {_keep_near(table)}" if near > MANY_NEAR_DUPLICATES * len(table) else ""
        )
        + (
            f"; or train on the others with {_quarantine_setting(int(quarantined.sum()), len(table))}"
            if usable.any()
            else ""
        ),
        "first_unjoined": ", ".join(map(shortened, table.loc[unjoined.index, "recording_id"].head(3))),
        "first_missing": next(iter(unjoined), None),
        "quarantined": int(quarantined.sum()),
        "usable": int(usable.sum()),
        "labels": ", ".join(labels) or "none",
        "absent_labels": ", ".join(c for c in classes if c not in labels),
        "commonest_reason": _commonest({index: reasons[index] for index in table.index[quarantined]}),
    }
    return _stops(suites.run("table", frame, table_checks(config, classes)), "table", config, values)


def _commonest(reasons: Reasons) -> str | None:
    """The most common sentence of the check that fails most often; many sentences name their recording."""
    by_check: dict[str, Counter[str]] = defaultdict(Counter)
    for check, reason in (each for failed in reasons.values() for each in failed):
        by_check[check][reason] += 1
    most = max(by_check.values(), key=Counter.total, default=None)
    return most.most_common(1)[0][0] if most else None


def _or_allow(unjoined: int, quarantined: int, recordings: int, max_quarantined: float) -> str:
    """How to train without so many recordings; nothing where most have no file, as then the paths are wrong.

    Recordings without a file are also quarantined, so the bound of those may have to be raised as well.
    """
    if 2 * unjoined > recordings:
        return ""
    both = quarantined > max_quarantined * recordings
    more = f" {_quarantine_setting(quarantined, recordings)}" if both else ""
    allow = f"--set validation.max_unjoined_fraction={_enough(unjoined, recordings):g}"
    return f", or leave these recordings out with {allow}{more}"


def _quarantine_setting(quarantined: int, recordings: int) -> str:
    return f"--set validation.max_quarantined_fraction={_enough(quarantined, recordings):g}"


def _enough(some: int, recordings: int) -> float:
    """A bound, to two decimals, on the share of recordings that ``some`` are."""
    return min(1.0, some * 100 // max(recordings, 1) / 100 + 0.01)


def _check_change(
    suites: SuiteRunner, level: str, before: pd.DataFrame, accepted: pd.DataFrame, config: ValidationConfig,
    plots: dict[str, bytes], draw_drift: DrawDrift | None,
) -> tuple[Rows, str | None]:  # fmt: skip
    """``accepted`` against an earlier table: the last (``level`` change) or the reference; a plot goes to ``plots``."""
    if level == "change":
        checks, max_drift = change_checks(config), config.max_drift
        since, earlier = "Since the recordings were last accepted", "last accepted"
    else:
        checks, max_drift = reference_checks(config), config.max_drift_since_reference
        since, earlier = "Since the reference", "reference"
    drift, lost = column_drift(before, accepted), lost_fraction(before, accepted)
    if draw_drift:
        plots[f"{level}.png"] = draw_drift(drift, max_drift, since, earlier)
    drifted = drift[drift["drift"] > config.drift_warning].sort_values("drift", ascending=False)
    names = ", ".join(f"{row.quantity} {row.psi:.2f}" for row in drifted.itertuples())
    frame = drift.drop(columns="counts").rename(columns={"quantity": "recording_id"}).assign(lost_fraction=lost)
    values = {"lost_fraction": lost, "before": len(before), "drifted": names}
    return _stops(suites.run(level, frame, checks), level, config, values)


def _stops(
    results: list[Result], level: str, config: ValidationConfig, values: dict[str, Any]
) -> tuple[Rows, str | None]:
    """The results as rows, and the reason of the first critical check that failed; ``values`` and settings fill it in."""
    values = config.model_dump() | values
    reasons = ["" if r.passed else r.check.reason.format_map(values) for r in results]
    rows = [r.row(level, reason) for r, reason in zip(results, reasons, strict=True)]
    critical = (reason for r, reason in zip(results, reasons, strict=True) if r.check.severity == "critical")
    return rows, next(filter(None, critical), None)


def _template(result: Result) -> str:
    """The check's reason with an ellipsis for what differs by row; nothing when no row fails."""
    return "" if result.passed else re.sub(r"\{.*?\}", "…", result.check.reason)


def _warned(accepted: pd.DataFrame, warnings: Reasons) -> list[dict[str, object]]:
    """The recording, the check and what was observed, of each warning of an accepted recording."""
    return [
        {"recording_id": recording_id, "check": check, "observed": observed}
        for index, recording_id in accepted["recording_id"].items()
        for check, observed in warnings.get(index, [])
    ]


def _quarantine(table: pd.DataFrame, reasons: Reasons) -> pa.Table:
    """Schema QUARANTINE: the first failed check's reason in full, and the names of the others."""
    order = sorted(reasons)
    sentences = []
    for index in order:
        (_, first), *others = reasons[index]
        sentences.append(first + (f" (also: {', '.join(name for name, _ in others)})" if others else ""))
    refused = table.loc[order].assign(check=[reasons[i][0][0] for i in order], reason=sentences)
    return table_from_frame(refused, QUARANTINE)
