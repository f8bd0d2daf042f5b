"""The results of a study as one page of Markdown, for readers and for `docs/results/`."""

import json
import math
import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd

from heartdata.config import RunConfig
from heartdata.markdown import code, escape, markdown_table
from heartdata.scoring.challenges import LOWER_IS_BETTER
from heartdata.scoring.model_names import NETWORK
from heartdata.scoring.text import metric_label, with_bounds
from heartdata.settings import flatten
from heartdata.studies.config import study_config
from heartdata.studies.facts import Measured, StudyRecord, commit_text, scored_text, versions_text
from heartdata.studies.learning_curve import curve_sections
from heartdata.studies.protocols import Study, study_named

HEADLINE = ("macro_f1", "balanced_accuracy", "auroc")
CURVE_PLOT = "learning_curve"  # shown with the curve
NOT_SHOWN = {"store", "engine", "registry"}  # settings that change no result


def study_page(record: StudyRecord, plots: bool = True) -> str:
    """The page of a recorded study, with the ``plots`` that are beside it."""
    facts, metrics, study = record.facts, record.metrics, record.facts.study
    weights = f", weights `{facts.weights[:12]}`" if facts.weights else ""
    started = f" The networks start from {code(facts.init)}{weights}." if weights else ""
    sections = [f"# {study.title}", f"Made by {code(facts.command)}.{started}"]
    labels, collections = (
        ", ".join(f"{escape(name)} {count}" for name, count in counts.items())
        for counts in (facts.labels, facts.collections)
    )
    sections.append(f"Scored: {scored_text(facts)} ({labels})" + (f", of {collections}." if collections else "."))
    seeds = f"{len(study.seeds)} seed{'s' * (len(study.seeds) > 1)}"
    folds = "Each collection held out in turn" if study.protocol == "leave_one_out" else f"{study.folds} folds"
    chosen = facts.operating_point
    goal = "is the most probable class" if chosen == "none" else f"optimises `{chosen}`"
    sections.append(
        f"{folds}, {seeds}. Values are means over seeds ± their standard deviation, with 95 % bootstrap intervals over "
        f"subjects in brackets (over recordings where no subject is known). `{NETWORK}` predicts the most probable class, "
        "the row below it the class at the operating point. Temperature, operating point and confidence threshold "
        "are fitted to each fold's own validation part, as `heartbeat run` fits them; the operating point "
        f"{goal}. The last column is the paired difference on the same resamples of subjects; where its interval "
        "contains 0, neither model is shown to be better."
    )
    if study.metric in LOWER_IS_BETTER:
        sections.append(
            f"Of {metric_label(study.metric)}, lower is better: a difference below 0 is in {NETWORK}'s favour."
        )
    if study.level == "subject":
        rule = {"mean": "mean", "max": "highest"}[facts.subject_rule]
        sections.append(
            f"Patients are scored, not recordings: the probability of a class is the {rule} over a patient's "
            "recordings, scaled to sum 1."
        )
    if facts.warning:
        sections.append(f"**{escape(facts.warning)}.**")
    if reference_text := reference(study):
        sections.append(f"Reference: {escape(reference_text)}.")
    if study.note:
        sections.append(study.note)
    if record.curve is not None and record.extrapolation is not None:
        sections += curve_sections(record.curve, record.extrapolation, study, CURVE_PLOT if plots else "")
    headline = headline_metrics(study)
    for arm in study.arms:
        shown = metrics[metrics["arm"] == arm]
        if len(study.arms) > 1:
            sections.append(f"## {arm[0].upper()}{arm[1:]}")
        sections.append(markdown_table(metric_rows(shown, headline, study.metric)))
        by_fold = [m for m in shown["metric"].unique() if m.startswith(f"{study.metric} ")]
        if by_fold:
            sections.append(markdown_table(metric_rows(shown, by_fold)))
        rest = metric_rows(shown, [m for m in shown["metric"].unique() if m not in (*headline, *by_fold)])
        sections.append("<details><summary>All metrics</summary>\n\n" + markdown_table(rest) + "\n\n</details>")
    sections += [
        f"![{name.replace('_', ' ')}]({name}.png)" for name in (facts.plots if plots else ()) if name != CURVE_PLOT
    ]
    sections += ["## Where, when and by which code", *_measured(facts.measured, facts.recordings_sha256)]
    return "\n\n".join(sections) + "\n"


def _measured(measured: Measured, recordings_sha256: str) -> list[str]:
    lines = [f"Recorded {measured.recorded_at}", f"Code: commit {commit_text(measured)}"]
    lines += (
        [f"Recordings: `{recordings_sha256[:12]}`, the sha256 of the sorted list of theirs"]
        if recordings_sha256
        else []
    )
    lines += [f"Machine: {escape(measured.machine)}"] if measured.machine else []
    lines += [f"Trained on: {escape('; '.join(measured.trained_on))}"] if measured.trained_on else []
    lines += [f"Versions: {escape(versions_text(measured))}"] if measured.versions else []
    return ["\n".join(f"- {line}" for line in lines)]


def command_of(study: Study, run: RunConfig) -> str:
    """The command that gives these results: the seeds, and every setting that differs from the study's own."""
    settings = flatten(run.model_dump(mode="json", exclude=NOT_SHOWN))
    source, own_source = run.source.name, study_named(study.name).source
    sources = {"source": run.source.model_dump(mode="json")} if source == "mix" else {}  # of a --config file
    default = study_config(study.name, settings.get("source.data"), changes=sources, source=source)
    own = flatten(default.run.model_dump(mode="json", exclude=NOT_SHOWN))
    changed = {key: value for key, value in settings.items() if key not in own or own[key] != value}
    pairs = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changed.items()]
    named = f" --source {source}" if source != own_source else ""
    named += " --config FILE" if sources else ""
    named += " --data FOLDER" if "source.data" in settings else ""
    changes = "".join(f" --set {shlex.quote(pair)}" for pair in pairs)
    return f"heartbeat study {study.name}{named} --seeds {len(study.seeds)}{changes}"


def headline_metrics(study: Study) -> list[str]:
    """The metrics that a reader looks for first."""
    return list(dict.fromkeys([study.metric, *HEADLINE]))


def reference(study: Study) -> str:
    """The study's reference score and its source; empty where it has none."""
    if study.reference_score is None:
        return ""
    return f"{metric_label(study.metric)} {with_bounds(study.reference_score)}, {study.citation}"


def metric_rows(metrics: pd.DataFrame, names: Sequence[str], compared_by: str = "") -> list[dict[str, str]]:
    """One row per model, one column per metric of ``names``, from rows of schema STUDY_METRICS of one arm.

    ``compared_by``: a metric, for which a last column shows how much higher the network's value is.
    """
    cells = {(row.model, row.metric): row for row in metrics.itertuples()}
    rows = []
    for model in metrics["model"].unique():
        row = {"model": model} | {metric_label(m): _cell(cells.get((model, m))) for m in names}
        if compared_by:
            difference = "" if model == NETWORK else _difference(cells.get((model, compared_by)))
            row[f"{metric_label(compared_by)}, {NETWORK} minus this"] = difference
        rows.append(row)
    return rows


def _cell(row: Any) -> str:
    if row is None or not math.isfinite(row.value):  # a ratio with 0 below the line
        return ""
    return with_bounds(row.value, row.low, row.high, row.sd)


def _difference(row: Any) -> str:
    if row is None or not math.isfinite(row.difference):
        return ""
    bounds = row.difference, row.difference_low, row.difference_high
    return with_bounds(*bounds, scale=row.value, sign="+")
