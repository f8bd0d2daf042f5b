"""Great Expectations, driven by the checks of `heartdata.checks.suite`: one context a validation, results by check, Data Docs."""

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
    """What came of a check. ``failing``: row labels of the frame that was checked; ``observed``: of a whole column."""

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
    """What a check asks for, in a few words."""
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
        """Run the checks over ``frame``; its column recording_id, unique, names the failing rows.

        It is made the index: what Great Expectations looks up of each failing row by a column, it copies many times.
        Names and labels go in escaped, as its pages put them into HTML as they are.
        """
        import great_expectations as gx
        import great_expectations.expectations as gxe

        expectations = [
            getattr(gxe, c.expectation)(
                **_escaped_bounds(c.bounds), severity=c.severity, meta={"check": c.name, "reason": c.reason}
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
        shown = frame.assign(**{name: _escaped(frame[name]) for name in columns})
        named = shown.set_index("recording_id", drop=False).rename_axis(None)
        outcome = self.context.checkpoints.add_or_update(checkpoint).run(batch_parameters={"dataframe": named})
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


def _escaped(column: pd.Series) -> pd.Series:
    """The column with its texts as HTML shows them; itself where nothing changes."""
    if is_numeric_dtype(column) or not column.astype("string").str.contains(r"[<>&\"']").any():
        return column
    return column.map(lambda value: html.escape(value) if isinstance(value, str) else value)


def _escaped_bounds(bounds: Mapping[str, Any]) -> dict[str, Any]:
    if "value_set" not in bounds:
        return dict(bounds)
    return {**bounds, "value_set": [html.escape(v) if isinstance(v, str) else v for v in bounds["value_set"]]}


def _result(check: Check, result: Any, index_of: Mapping[str, Any]) -> Result:
    if result.exception_info.get("raised_exception"):
        raise RuntimeError(f"check {check.name} could not be run: {result.exception_info['exception_message']}")
    failing = [index_of[name] for name in result.result.get("unexpected_index_list") or []]
    observed = result.result.get("observed_value", "")
    told = (
        f"{observed:.4g}"
        if isinstance(observed, (int, float))
        else ""
        if observed is None
        else html.unescape(str(observed))
    )
    return Result(check, bool(result.success), failing, told)
