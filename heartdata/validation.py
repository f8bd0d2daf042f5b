"""Running the suite: Great Expectations over the joined table, quarantine with reasons, Data Docs."""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from heartdata.data_docs import publish
from heartdata.errors import DataRefused
from heartdata.schemas import ACCEPTED, CHECKS, QUARANTINE
from heartdata.store import table_from_rows
from heartdata.suite import Check, ValidationConfig, copy_checks, recording_checks, table_checks


@dataclass(frozen=True)
class Validation:
    """What came of a validation. ``refusal``: why nothing may be trained on this table, or None."""

    accepted: pa.Table
    quarantine: pa.Table
    checks: pa.Table
    refusal: str | None

    def raise_if_refused(self) -> None:
        """Raise `DataRefused` with the sentence of the first failed check on the table."""
        if self.refusal:
            raise DataRefused(self.refusal)


def join_facts(recordings: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """One row a recording with its facts."""
    table = recordings.merge(facts, on="sha256", how="left", validate="many_to_one")
    table["deviation"] = (table["rms"] ** 2 - table["dc_offset"] ** 2).clip(lower=0) ** 0.5
    return table


def mark_copies(table: pd.DataFrame, sound: pd.Series, in_use: pd.Series) -> pd.DataFrame:
    """``table`` (rows of `join_facts`) with what other recordings of the same samples say.

    ``other_labels``: the labels that the same sound has elsewhere. ``duplicate_of``: the recording that is kept of
    several: one that passed its own checks (``sound``) before others, one that may be trained on (``in_use``) and a
    labelled one before others, then the first by id. Both masks are indexed as ``table``.
    """
    table = table.assign(duplicate_of=None, other_labels=None)
    ranked = table.assign(unsound=~sound, unused=~in_use, unlabelled=table["label"].isna())
    ranked = ranked.sort_values(["unsound", "unused", "unlabelled", "recording_id"])
    same_sound = ranked[ranked["samples_sha256"].notna() & ranked["samples_sha256"].duplicated(keep=False)]
    for _, copies in same_sound.groupby("samples_sha256"):
        labels = sorted(copies["label"].dropna().unique())
        if len(labels) > 1:
            for index, label in copies["label"].items():
                table.at[index, "other_labels"] = ", ".join(x for x in labels if x != label)
        else:
            kept, *others = copies.index
            table.loc[others, "duplicate_of"] = table.at[kept, "recording_id"]
    return table


def validate(
    recordings: pa.Table,
    facts: pa.Table,
    config: ValidationConfig,
    docs: Path,
    collections: Sequence[str] | None = None,
) -> Validation:
    """Judge every recording and then the table; Data Docs are written to the folder ``docs``.

    Takes tables of schemas RECORDINGS and FACTS. Every recording ends in exactly one of accepted and quarantine.
    ``collections``: those that will be trained on (None: all); the checks on the table look at their labels only.
    """
    table = join_facts(recordings.to_pandas(), facts.to_pandas())
    in_use = table["collection"].isin(collections) if collections is not None else pd.Series(True, index=table.index)
    with _Suites() as suites:
        results = suites.run("recordings", table, recording_checks(config))
        reasons, warnings = _by_recording(table, results)
        table = mark_copies(table, ~table.index.isin(list(reasons)), in_use)
        copies = suites.run("copies", table, copy_checks())
        for index, failed in _by_recording(table, copies)[0].items():
            reasons.setdefault(index, []).extend(failed)
        results += copies
        judged = _judged(table, reasons, in_use)
        classes = sorted(config.classes or table.loc[in_use, "label"].dropna().unique())
        table_results = suites.run("table", judged, table_checks(config, classes))
        told = _told(judged, reasons, config, classes)
        rows = [r.row("recording", None) for r in results] + [r.row("table", told) for r in table_results]
        refused = table.loc[sorted(reasons)].assign(
            check=[reasons[i][0][0] for i in sorted(reasons)], reason=[_sentence(reasons[i]) for i in sorted(reasons)]
        )
        kept = judged["kept"].astype(bool)
        accepted = table[kept].assign(warnings=[", ".join(warnings.get(i, [])) for i in table.index[kept]])
        validation = Validation(
            accepted=pa.Table.from_pandas(accepted[ACCEPTED.names], schema=ACCEPTED, preserve_index=False),
            quarantine=pa.Table.from_pandas(refused[QUARANTINE.names], schema=QUARANTINE, preserve_index=False),
            checks=table_from_rows(rows, CHECKS),
            refusal=next((r.check.reason.format_map(told) for r in table_results if not r.passed), None),
        )
        suites.publish(docs, validation.checks, validation.quarantine)
    return validation


@dataclass(frozen=True)
class _Result:
    check: Check
    passed: bool
    failing: list[Any]  # row labels of the frame
    observed: str

    def row(self, level: str, told: dict[str, Any] | None) -> dict[str, object]:
        """A row of schema CHECKS; the reason of a check on recordings keeps an ellipsis for what differs by row."""
        if told is None:
            reason = re.sub(r"\{.*?\}", "…", self.check.reason)
        else:
            reason = "" if self.passed else self.check.reason.format_map(told)
        return {
            "check": self.check.name,
            "level": level,
            "severity": self.check.severity,
            "passed": self.passed,
            "failing": len(self.failing),
            "observed": self.observed,
            "reason": reason,
        }


class _Suites:
    """A Great Expectations context in a temporary folder, so that two runs never share one."""

    def __enter__(self) -> "_Suites":
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self.folder = Path(tempfile.mkdtemp(prefix="heartbeat-gx-"))
        self.context: Any = gx.get_context(mode="file", project_root_dir=self.folder)
        self.context.variables.progress_bars = ProgressBarsConfig(globally=False)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, name: str, frame: pd.DataFrame, checks: list[Check]) -> list[_Result]:
        """Run the checks over ``frame`` (its column recording_id names the failing rows)."""
        import great_expectations as gx
        import great_expectations.expectations as gxe

        expectations = [
            getattr(gxe, c.expectation)(
                **c.bounds,
                severity=c.severity,
                meta={"check": c.name, "reason": c.reason},
            )
            for c in checks
        ]
        asset = self.context.data_sources.add_or_update_pandas(name).add_dataframe_asset(name)
        definition = gx.ValidationDefinition(
            name=name,
            data=asset.add_batch_definition_whole_dataframe("all"),
            suite=self.context.suites.add_or_update(gx.ExpectationSuite(name, expectations=expectations)),
        )
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[self.context.validation_definitions.add_or_update(definition)],
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": ["recording_id"],
            },
        )
        outcome = self.context.checkpoints.add_or_update(checkpoint).run(batch_parameters={"dataframe": frame})
        (validated,) = outcome.run_results.values()
        by_name = {r.expectation_config.meta["check"]: r for r in validated.results}
        index_of = pd.Series(frame.index, index=frame["recording_id"])
        return [self._result(c, by_name[c.name], index_of) for c in checks]

    @staticmethod
    def _result(check: Check, result: Any, index_of: pd.Series) -> _Result:
        if result.exception_info.get("raised_exception"):
            raise RuntimeError(f"check {check.name} could not be run: {result.exception_info['exception_message']}")
        failing = [index_of[str(row["recording_id"])] for row in result.result.get("unexpected_index_list") or []]
        return _Result(
            check,
            bool(result.success),
            failing,
            str(result.result.get("observed_value", "")),
        )

    def publish(self, docs: Path, checks: pa.Table, quarantine: pa.Table) -> None:
        """Build Data Docs and move them, readable offline, to ``docs``."""
        self.context.build_data_docs()
        publish(self.folder / "gx" / "uncommitted" / "data_docs" / "local_site", docs, checks, quarantine)


def _by_recording(
    table: pd.DataFrame, results: list[_Result]
) -> tuple[dict[int, list[tuple[str, str]]], dict[int, list[str]]]:
    """Row label to its failed critical checks (name, filled reason), and to the names of its failed warnings."""
    reasons: dict[int, list[tuple[str, str]]] = {}
    warnings: dict[int, list[str]] = {}
    for result in results:
        for index in result.failing:
            if result.check.severity == "warning":
                warnings.setdefault(index, []).append(result.check.name)
            else:
                reason = result.check.reason.format_map(table.loc[index].to_dict())
                reasons.setdefault(index, []).append((result.check.name, reason))
    return reasons, warnings


def _judged(table: pd.DataFrame, reasons: dict[int, list[tuple[str, str]]], in_use: pd.Series) -> pd.DataFrame:
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
    judged: pd.DataFrame,
    reasons: dict[int, list[tuple[str, str]]],
    config: ValidationConfig,
    classes: list[str],
) -> dict[str, Any]:
    """The values that the table's reasons may name."""
    unjoined = judged.loc[judged["has_file"] == 0, "recording_id"]
    labels = sorted(judged["usable_label"].dropna().unique())
    told = [reason for failed in reasons.values() for _, reason in failed]
    return config.model_dump() | {
        "found": len(judged),
        "unjoined": len(unjoined),
        "first_unjoined": ", ".join(unjoined.head(3)) or "none",
        "quarantined": len(reasons),
        "usable": int(judged["usable"].sum()),
        "labels": ", ".join(labels) or "none",
        "absent_labels": ", ".join(c for c in classes if c not in labels),
        "commonest_reason": max(told, key=told.count) if told else "none",
    }


def _sentence(failed: list[tuple[str, str]]) -> str:
    """The first failed check's reason in full, and the names of the others."""
    others = [name for name, _ in failed[1:]]
    return failed[0][1] + (f" (also: {', '.join(others)})" if others else "")
