"""Validating a source: the suite over the joined table, quarantine with reasons, Data Docs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from heartdata.checks.drift import column_drift, lost_fraction
from heartdata.checks.duplicates import mark_duplicates
from heartdata.checks.expectations import Result, SuiteRunner
from heartdata.checks.near_duplicates import near_duplicates
from heartdata.checks.suite import (
    Check,
    ValidationConfig,
    change_checks,
    duplicate_checks,
    recording_checks,
    reference_checks,
    subject_checks,
    table_checks,
)
from heartdata.errors import DataRefused
from heartdata.storage.schemas import ACCEPTED, CHECKS, QUARANTINE
from heartdata.storage.store import table_from_rows

SILENT = {"silent", "flat", "mostly_silent"}
DrawDrift = Callable[[pd.DataFrame, float, str], bytes]  # as `heartdata.reports.plots.plot_drift`
Reasons = dict[Any, list[tuple[str, str]]]  # row label to failed critical checks: name, filled reason


@dataclass(frozen=True)
class Validation:
    """What came of a validation. ``refusal``: why nothing may be trained on this table, or None."""

    accepted: pa.Table
    quarantine: pa.Table
    checks: pa.Table
    refusal: str | None


def validate(
    recordings: pa.Table,
    facts: pa.Table,
    config: ValidationConfig,
    docs: Path,
    collections: Sequence[str] | None = None,
    before: pa.Table | None = None,
    reference: pa.Table | None = None,
    draw_drift: DrawDrift | None = None,
) -> Validation:
    """Judge every recording, the subjects, the table, and its change; Data Docs are written to the folder ``docs``.

    Takes tables of schemas RECORDINGS and FACTS. Every recording ends in exactly one of accepted and quarantine.
    ``collections``: those that will be trained on (None: all); the checks on the table look at their labels only, and
    one of which there is no recording is refused (`DataRefused`).
    ``before``: what was accepted last time (schema ACCEPTED), or None. ``reference``: an earlier such table, which stays
    the same over many nights, so that changes too small for one night are noticed when they add up; or None.
    """
    refuse_unknown_collections(collections, recordings)
    measured = facts.to_pandas()
    pairs = near_duplicates(measured, config.near_duplicate_similarity) if config.near_duplicates else None
    table = join_facts(recordings.to_pandas(), measured.drop(columns="fingerprint"))
    in_use = table["collection"].isin(collections) if collections is not None else pd.Series(True, index=table.index)
    plots: dict[str, bytes] = {}
    with SuiteRunner() as suites:
        rows, reasons, warnings = _judge_recordings(suites, table, config)
        table = _with_copies(table, reasons, in_use, pairs, before)
        copies = suites.run("copies", table, duplicate_checks())
        for index, failed in by_recording(table, copies)[0].items():
            reasons.setdefault(index, []).extend(failed)
        rows += [r.row("recording", _template(r)) for r in copies]
        kept = ~table.index.isin(list(reasons))
        passed = table[kept].assign(warnings=[", ".join(warnings.get(i, [])) for i in table.index[kept]])
        result = pa.Table.from_pandas(passed[ACCEPTED.names], schema=ACCEPTED, preserve_index=False)
        accepted = result.to_pandas()  # with the types that a table has when it is read again
        rows += _judge_subjects(suites, accepted, config)
        failed_rows, table_refusal = _judge_table(suites, table, reasons, in_use, config)
        rows += failed_rows
        refusals = [table_refusal]
        earlier = (("change", before, change_checks(config)), ("reference", reference, reference_checks(config)))
        for level, table_then, its_checks in earlier:
            if table_then is not None:
                change_rows, refusal = _judge_change(
                    suites, level, its_checks, table_then.to_pandas(), accepted, config, plots, draw_drift
                )
                rows += change_rows
                refusals.append(refusal)
        validation = Validation(
            accepted=result,
            quarantine=_quarantine(table, reasons),
            checks=table_from_rows(rows, CHECKS),
            refusal=next(filter(None, refusals), None),
        )
        counts = f"{len(table)} recordings, {int(kept.sum())} accepted, {len(reasons)} quarantined"
        suites.publish(docs, validation.checks, validation.quarantine, counts, plots)
    return validation


def refuse_unknown_collections(wanted: Sequence[str] | None, table: pa.Table) -> None:
    """Raise `DataRefused` naming one of ``split.collections`` of which ``table`` has no recording."""
    known = {name or "" for name in table.column("collection").to_pylist()}
    for name in wanted or ():
        if name not in known:
            there = ", ".join(sorted(known - {""})) or "no collections"
            raise DataRefused(f"split.collections names {name!r}, of which there is no recording: there are {there}")


def join_facts(recordings: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """One row a recording with its facts."""
    table = recordings.merge(facts, on="sha256", how="left", validate="many_to_one")
    table["deviation"] = (table["rms"] ** 2 - table["dc_offset"] ** 2).clip(lower=0) ** 0.5
    return table


def _with_copies(
    table: pd.DataFrame, reasons: Reasons, in_use: pd.Series, pairs: pd.DataFrame | None, before: pa.Table | None
) -> pd.DataFrame:
    """`mark_duplicates`, but for silent recordings: they are all alike, which says nothing of whose they are."""
    silent = pd.Series(
        [bool(SILENT & {name for name, _ in reasons.get(i, ())}) for i in table.index], index=table.index
    )
    heard = table.assign(samples_sha256=table["samples_sha256"].mask(silent, None))
    known = set(before.column("recording_id").to_pylist()) if before is not None else set()
    marked = mark_duplicates(heard, ~table.index.to_series().isin(list(reasons)), in_use, pairs, known)
    return marked.assign(samples_sha256=table["samples_sha256"])


def by_subject(accepted: pd.DataFrame) -> pd.DataFrame:
    """One row a known subject: ``recording_id`` (its name), ``labels`` (how many), ``share`` of the recordings."""
    known = accepted[accepted["subject"].notna()]
    subjects = known.groupby(known["source"] + "/" + known["subject"])
    table = pd.DataFrame({"labels": subjects["label"].nunique(), "share": subjects.size() / max(len(accepted), 1)})
    return table.rename_axis("recording_id").reset_index()


def by_recording(table: pd.DataFrame, results: list[Result]) -> tuple[Reasons, dict[Any, list[str]]]:
    """What failed by row label: critical checks (name, filled reason), and the names of warnings."""
    reasons: Reasons = {}
    warnings: dict[Any, list[str]] = {}
    for result in results:
        for index in result.failing:
            if result.check.severity == "warning":
                warnings.setdefault(index, []).append(result.check.name)
            else:
                reason = result.check.reason.format_map(table.loc[index].to_dict())
                reasons.setdefault(index, []).append((result.check.name, reason))
    return reasons, warnings


def _judge_recordings(
    suites: SuiteRunner, table: pd.DataFrame, config: ValidationConfig
) -> tuple[list[dict[str, object]], Reasons, dict[Any, list[str]]]:
    """Each recording by itself, by the bounds of its collection or else its source."""
    own = table["collection"].where(table["collection"].isin(config.overrides), table["source"])
    own = own.where(own.isin(config.overrides), "")
    known = {*table["collection"], *table["source"]}
    for name in config.overrides:
        if name not in known:
            there = ", ".join(sorted(known - {""}))
            raise DataRefused(
                f"validation.overrides names {name!r}, which is no source or collection: there are {there}"
            )
    rows: list[dict[str, object]] = []
    reasons: Reasons = {}
    warnings: dict[Any, list[str]] = {}
    for number, (name, group) in enumerate(table.groupby(own)):
        results = suites.run(
            f"recordings {number or ''}".strip(), group, recording_checks(config.bounds_of(name), config.classes)
        )
        failed, warned = by_recording(group, results)
        reasons |= failed
        warnings |= warned
        rows += [r.row(f"recording {name}".strip(), _template(r)) for r in results]
    return rows, reasons, warnings


def _judge_subjects(suites: SuiteRunner, accepted: pd.DataFrame, config: ValidationConfig) -> list[dict[str, object]]:
    subjects = by_subject(accepted)
    if subjects.empty:
        return []
    rows = []
    for result in suites.run("subjects", subjects, subject_checks(config)):
        named = ", ".join(subjects.loc[result.failing[:3], "recording_id"])
        rows.append(result.row("subject", f"{named}: {_template(result)}" if named else ""))
    return rows


def _judge_table(
    suites: SuiteRunner, table: pd.DataFrame, reasons: Reasons, in_use: pd.Series, config: ValidationConfig
) -> tuple[list[dict[str, object]], str | None]:
    classes = sorted(config.classes or table.loc[in_use, "label"].dropna().unique())
    judged = _judged(table, reasons, in_use)
    results = suites.run("table", judged, table_checks(config, classes))
    return _stops(results, "table", _told(table, judged, reasons, config, classes))


def _judge_change(
    suites: SuiteRunner, level: str, checks: list[Check], before: pd.DataFrame, accepted: pd.DataFrame,
    config: ValidationConfig, plots: dict[str, bytes], draw_drift: DrawDrift | None,
) -> tuple[list[dict[str, object]], str | None]:  # fmt: skip
    """``checks`` against what was accepted last time, or against the reference; the plot of it goes to ``plots``."""
    moved = column_drift(before, accepted)
    lost = lost_fraction(before, accepted)
    frame = moved.drop(columns="counts").rename(columns={"quantity": "recording_id"}).assign(lost_fraction=lost)
    results = suites.run(level, frame, checks)
    last = level == "change"
    drifted = moved[moved["drift"] > config.drift_warning].sort_values("drift", ascending=False)
    named = ", ".join(f"{row.quantity} {row.psi:.2f}" for row in drifted.itertuples())
    bound = config.max_drift if last else config.max_drift_since_reference
    since = "Since the recordings were last accepted" if last else "Since the reference"
    if draw_drift:
        plots[f"{level}.png"] = draw_drift(moved, bound, since)
    told = config.model_dump() | {"lost_fraction": lost, "before": len(before), "drifted": named}
    return _stops(results, level, told)


def _stops(results: list[Result], level: str, told: dict[str, Any]) -> tuple[list[dict[str, object]], str | None]:
    """Rows of schema CHECKS, and the sentence of the first failed critical check."""
    rows = [r.row(level, "" if r.passed else r.check.reason.format_map(told)) for r in results]
    stops = [r.check.reason.format_map(told) for r in results if not r.passed and r.check.severity == "critical"]
    return rows, stops[0] if stops else None


def _template(result: Result) -> str:
    """The check's reason with an ellipsis for what differs by row; nothing where no row fails."""
    return "" if result.passed else re.sub(r"\{.*?\}", "…", result.check.reason)


def _judged(table: pd.DataFrame, reasons: Reasons, in_use: pd.Series) -> pd.DataFrame:
    """The columns that the checks on the whole table look at."""
    kept = ~table.index.isin(list(reasons))
    usable = kept & table["label"].notna() & in_use
    return pd.DataFrame(
        {
            "recording_id": table["recording_id"],
            "has_file": table["missing"].isna().astype(float),
            "kept": kept.astype(float),
            "usable": usable.astype(float),
            "usable_label": table["label"].where(usable),
        }
    )


def _told(
    table: pd.DataFrame, judged: pd.DataFrame, reasons: Reasons, config: ValidationConfig, classes: list[str]
) -> dict[str, Any]:
    """The values that the table's reasons may name."""
    unjoined = table[judged["has_file"] == 0]
    labels = sorted(judged["usable_label"].dropna().unique())
    told = [reason for failed in reasons.values() for _, reason in failed]
    return config.model_dump() | {
        "found": len(judged),
        "unjoined": len(unjoined),
        "let_them_pass": _let_pass(len(unjoined), len(judged)),
        "first_unjoined": ", ".join(unjoined["recording_id"].head(3)) or "none",
        "first_missing": next(iter(unjoined["missing"]), "none"),
        "quarantined": len(reasons),
        "usable": int(judged["usable"].sum()),
        "labels": ", ".join(labels) or "none",
        "absent_labels": ", ".join(c for c in classes if c not in labels),
        "commonest_reason": max(told, key=told.count) if told else "none",
    }


def _let_pass(unjoined: int, of: int) -> str:
    """How so many recordings without a file can be left out; where most have none, the names are at fault."""
    if 2 * unjoined > of:
        return ""
    enough = unjoined * 100 // max(of, 1) / 100 + 0.01
    return f", or let them pass with --set validation.max_unjoined_fraction={enough:g}"


def _quarantine(table: pd.DataFrame, reasons: Reasons) -> pa.Table:
    """Schema QUARANTINE: the first failed check's reason in full, and the names of the others."""
    order = sorted(reasons)
    sentences = []
    for index in order:
        (_, first), *others = reasons[index]
        sentences.append(first + (f" (also: {', '.join(name for name, _ in others)})" if others else ""))
    refused = table.loc[order].assign(check=[reasons[i][0][0] for i in order], reason=sentences)
    return pa.Table.from_pandas(refused[QUARANTINE.names], schema=QUARANTINE, preserve_index=False)
