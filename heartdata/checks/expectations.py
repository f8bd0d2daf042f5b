"""Runs the checks of `heartdata.checks.suite` on Great Expectations: results by check, and Data Docs."""

import html
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pandas.api.types import is_numeric_dtype

from heartdata.checks.data_docs import publish
from heartdata.checks.suite import Check


@dataclass(frozen=True)
class Result:
    """The result of a check. ``failing``: labels of the rows that fail; ``observed``: the value, of a check on a column."""

    check: Check
    passed: bool
    failing: list[Any]
    observed: str

    def row(self, level: str, reason: str) -> dict[str, object]:
        """A row of schema CHECKS."""
        return {
            "check": self.check.name,
            "level": level,
            "severity": self.check.severity,
            "passed": self.passed,
            "failing": len(self.failing),
            "wanted": wanted(self.check.bounds),
            "observed": self.observed,
            "reason": reason,
        }


def wanted(bounds: Mapping[str, Any]) -> str:
    """The requirement of a check, for people."""
    column, least, most = bounds["column"], bounds.get("min_value"), bounds.get("max_value")
    if "value_set" in bounds:
        return f"{column} in: {', '.join(map(str, bounds['value_set']))}"
    if least is None and most is None:
        return f"no {column}"
    low, high = ("" if least is None else f"{least:g} <= "), ("" if most is None else f" <= {most:g}")
    return f"{low}{column}{high}"


class SuiteRunner:
    """A Great Expectations context in a temporary folder, so that two runs never share one."""

    def __enter__(self) -> "SuiteRunner":
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig

        self.folder = Path(tempfile.mkdtemp(prefix="heartbeat-gx-"))
        self.context: Any = gx.get_context(mode="file", project_root_dir=self.folder)
        self.context.variables.progress_bars = ProgressBarsConfig(globally=False)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, name: str, frame: pd.DataFrame, checks: list[Check]) -> list[Result]:
        """Run the checks over ``frame``, whose column recording_id is unique.

        That column is made the index, as Great Expectations is slow where it looks failing rows up by a column. Strings
        are passed escaped, as its pages put them into HTML as they are.
        """
        import great_expectations as gx
        import great_expectations.expectations as gxe

        expectations = [
            getattr(gxe, c.expectation)(
                **_escaped(c.bounds), severity=c.severity, meta={"check": c.name, "reason": c.reason}
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
            result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
        )
        columns = {"recording_id", *(c.bounds["column"] for c in checks)}
        shown = frame.assign(**{column: _escaped_column(frame[column]) for column in columns})
        indexed = shown.set_index("recording_id", drop=False).rename_axis(None)
        outcome = self.context.checkpoints.add_or_update(checkpoint).run(batch_parameters={"dataframe": indexed})
        (validated,) = outcome.run_results.values()
        by_name = {r.expectation_config.meta["check"]: r for r in validated.results}
        index_of = dict(zip(shown["recording_id"], frame.index, strict=True))
        return [_result(c, by_name[c.name], index_of) for c in checks]

    def publish(
        self, docs: Path, checks: pa.Table, quarantine: pa.Table, counts: str, plots: Mapping[str, bytes]
    ) -> None:
        """Build Data Docs and move them, readable offline, to ``docs``."""
        self.context.build_data_docs()
        site = self.folder / "gx" / "uncommitted" / "data_docs" / "local_site"
        publish(site, docs, checks, quarantine, counts, plots)


def _escaped(value: Any) -> Any:
    """``value`` with every string in it escaped for HTML."""
    if isinstance(value, Mapping):
        return {key: _escaped(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_escaped(v) for v in value]
    return html.escape(value) if isinstance(value, str) else value


def _escaped_column(column: pd.Series) -> pd.Series:
    if is_numeric_dtype(column) or not column.astype("string").str.contains(r"[<>&\"']").any():
        return column  # a map over a million rows would take seconds
    return column.map(_escaped)


def _result(check: Check, result: Any, index_of: Mapping[str, Any]) -> Result:
    if result.exception_info.get("raised_exception"):
        raise RuntimeError(f"check {check.name} could not be run: {result.exception_info['exception_message']}")
    failing = [index_of[name] for name in result.result.get("unexpected_index_list") or []]
    value = result.result.get("observed_value")
    value = f"{value:.4g}" if isinstance(value, int | float) else value
    observed = "" if value is None else html.unescape(str(value))
    return Result(check, bool(result.success), failing, observed)
