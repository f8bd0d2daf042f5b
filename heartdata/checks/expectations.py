"""Runs the checks of `heartdata.checks.suite` on Great Expectations: results by check, and Data Docs."""

import html
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
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
    """A Great Expectations context of its own, so that two runs never share one."""

    def __enter__(self) -> "SuiteRunner":
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations as gx
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        self.folder = Path(tempfile.mkdtemp(prefix="heartbeat-gx-"))
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(self.folder)}
        index = {"class_name": "DefaultSiteIndexBuilder"}
        config = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            data_docs_sites={
                "heartbeat": {"class_name": "SiteBuilder", "store_backend": backend, "site_index_builder": index}
            },
            progress_bars=ProgressBarsConfig(globally=False),
        )
        self.context: Any = gx.get_context(mode="ephemeral", project_config=config)
        self.source = self.context.data_sources.add_pandas("heartbeat")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, name: str, frame: pd.DataFrame, checks: list[Check], known: pd.Series | None = None) -> list[Result]:
        """Run the checks over ``frame``, whose column recording_id is unique.

        ``known``: the checks that a row failed when it was judged before, comma separated; null for rows to judge. The
        result is that of all rows. recording_id is made the index, as Great Expectations is slow where it looks failing
        rows up by a column. Strings are passed escaped, as its pages put them into HTML as they are.
        """
        import great_expectations as gx
        import great_expectations.expectations as gxe

        expectations = [
            getattr(gxe, c.expectation)(
                **_escaped(c.bounds), severity=c.severity, meta={"check": c.name, "reason": c.reason}
            )
            for c in checks
        ]
        columns = list(dict.fromkeys(["recording_id", *(c.bounds["column"] for c in checks)]))
        shown = frame[columns].apply(_escaped_column)
        indexed = shown.set_index("recording_id", drop=False).rename_axis(None)
        batch = self.source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        new = indexed if known is None else indexed[known.isna().to_numpy()]
        validated = batch.get_batch({"dataframe": new}).validate(
            gx.ExpectationSuite(name, expectations=expectations),
            result_format={"result_format": "COMPLETE", "return_unexpected_index_query": False},
        )
        by_name = {_check_name(r): r for r in validated.results}
        if known is not None:
            _add_known(validated, indexed, pd.Series(known.to_numpy(), indexed.index))
        self._keep(name, validated)
        index_of = dict(zip(shown["recording_id"], frame.index, strict=True))
        return [_result(c, by_name[c.name], index_of) for c in checks]

    def _keep(self, name: str, validated: Any) -> None:
        """Let a result appear in Data Docs."""
        from great_expectations.core.run_identifier import RunIdentifier
        from great_expectations.data_context.types.resource_identifiers import (
            ExpectationSuiteIdentifier,
            ValidationResultIdentifier,
        )

        key = ValidationResultIdentifier(ExpectationSuiteIdentifier(name), RunIdentifier(run_name=name), name)
        self.context.validation_results_store.set(key, validated)

    def publish(
        self, docs: Path, checks: pa.Table, quarantine: pa.Table, warned: Sequence[Mapping[str, object]], counts: str,
        plots: Mapping[str, bytes],
    ) -> None:  # fmt: skip
        """Build Data Docs and move them, readable offline, to ``docs``."""
        self.context.build_data_docs()
        publish(self.folder, docs, checks, quarantine, warned, counts, plots)


def _check_name(result: Any) -> str:
    return result.expectation_config.meta["check"]


def _add_known(validated: Any, rows: pd.DataFrame, known: pd.Series) -> None:
    """Complete Great Expectations' result over some of ``rows`` by the others, of which the checks failed are ``known``.

    Both are indexed by recording_id. The fields are those that Great Expectations gives in the format COMPLETE.
    """
    failed = known.dropna().str.split(", ").explode()
    others = failed.groupby(failed).groups
    for result in validated.results:
        outcome, check = result.result, _check_name(result)
        failing = [*(outcome.get("unexpected_index_list") or []), *others.get(check, ())]
        column = rows[result.expectation_config.kwargs["column"]]
        missing, count = int(column.isna().sum()), len(rows)
        values = column.loc[failing].tolist()
        result.success = not failing
        outcome.update({
            "element_count": count,
            "missing_count": missing,
            "missing_percent": 100 * missing / max(count, 1),
            "unexpected_count": len(failing),
            "unexpected_percent": 100 * len(failing) / max(count - missing, 1),
            "unexpected_percent_total": 100 * len(failing) / max(count, 1),
            "unexpected_percent_nonmissing": 100 * len(failing) / max(count - missing, 1),
            "unexpected_list": values,
            "unexpected_index_list": failing,
            "partial_unexpected_list": values[:20],
            "partial_unexpected_index_list": failing[:20],
            "partial_unexpected_counts": [],
        })  # fmt: skip
    count, passed = len(validated.results), sum(r.success for r in validated.results)
    validated.success = passed == count
    validated.statistics.update({
        "successful_expectations": passed,
        "unsuccessful_expectations": count - passed,
        "success_percent": 100 * passed / max(count, 1),
    })  # fmt: skip


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
