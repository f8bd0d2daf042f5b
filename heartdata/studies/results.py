"""One page of the results of all studies that were run."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from heartdata.markdown import code, escape, table_of_markdown
from heartdata.scoring.challenges import LOWER_IS_BETTER
from heartdata.scoring.model_names import METADATA_ONLY, NETWORK, SIMPLE_FEATURES
from heartdata.scoring.text import metric_label, with_bounds
from heartdata.studies.facts import StudyRecord, commit_text, differs_from_protocol, scored_text, versions_text
from heartdata.studies.learning_curve import gain_sentences
from heartdata.studies.protocols import STUDIES
from heartdata.studies.scores import AT_POINT

CHANGED = " (changed)"
MODELS = {
    NETWORK: NETWORK,
    AT_POINT: "at its operating point",
    SIMPLE_FEATURES: SIMPLE_FEATURES,
    METADATA_ONLY: METADATA_ONLY,
}


def results_page(records: Sequence[StudyRecord], command: str, method: str = "", changes: str = "") -> str:
    """Every study with its metric and 95 % interval, and where, when and by which code it was measured.

    ``command`` makes the page; ``method`` and ``changes``: paths of a page on how studies are measured, and of one that says
    why figures changed.
    """
    how = f" How they are measured: [studies]({method})." if method else ""
    sections = [
        "# Results",
        f"Made by {code(command)} from the tables of the studies in the store.{how}",
        "Values are means over seeds ± their standard deviation, with 95 % bootstrap intervals over subjects (over "
        "recordings where none is named) in brackets. "
        f"`{NETWORK}` predicts its most probable class. A reference is a published value under a protocol of its own; each "
        "study's page names it.",
        table_of_markdown(
            [
                {key: escape(text) for key, text in row.items()}
                | {"study": _link(record) + CHANGED * differs_from_protocol(record.facts)}
                for record in records
                for row in result_rows(record)
            ]
        ),
    ]
    costs = [r.facts.study.name for r in records if r.facts.study.metric in LOWER_IS_BETTER]
    if costs:
        sections.append(f"Of {', '.join(f'`{name}`' for name in costs)} the metric is a cost: lower is better.")
    if any(map(differs_from_protocol, (record.facts for record in records))):
        sections.append(
            "Changed: run with another source, other settings or another number of seeds than the study's own, see its command below."
        )
    for record in records:
        if record.extrapolation is not None:
            sentences = gain_sentences(record.extrapolation, record.facts.study.metric)
            sections.append(f"{_link(record)}: {escape(' '.join(sentences))}")
    absent = [name for name in STUDIES if name not in {r.facts.study.name for r in records}]
    if absent:
        sections.append(f"Not measured here: {', '.join(f'`{name}`' for name in absent)}.")
    if changes:
        sections.append(f"Which figures changed since they were last measured, and why: [changes]({changes}).")
    sections += [
        "## Where, when and by which code",
        table_of_markdown([measured_row(record) for record in records]),
        "Commit and date are those of the record. What a study took from the cache may be older: it was computed from the same "
        "recordings and settings by the same version of its stage (`tasks/engine/versions.py`).",
    ]
    return "\n\n".join(sections) + "\n"


def result_rows(record: StudyRecord) -> list[dict[str, str]]:
    """A row an arm; of a learning curve, the one with all training subjects."""
    study, metrics = record.facts.study, record.metrics
    of_metric = metrics[metrics["metric"] == study.metric]
    arms = study.arms[-1:] if study.is_learning_curve else study.arms
    rows = []
    for arm in arms:
        values = {row.model: row for row in of_metric[of_metric["arm"] == arm].itertuples()}
        shown = {label: _cell(values.get(model)) for model, label in MODELS.items()}
        reference = "" if study.reference_score is None else with_bounds(study.reference_score)
        name = study.name + CHANGED * differs_from_protocol(record.facts)
        named = {"study": name, "arm": arm if len(study.arms) > 1 else ""}
        scored = {"scored": scored_text(record.facts), "metric": metric_label(study.metric)}
        rows.append(named | scored | shown | {"reference": reference})
    return rows


def _cell(row: Any) -> str:
    return "" if row is None or pd.isna(row.value) else with_bounds(row.value, row.low, row.high, row.sd)


def _link(record: StudyRecord) -> str:
    name = record.facts.study.name
    return f"[`{name}`]({name}/README.md)"


def measured_row(record: StudyRecord) -> dict[str, str]:
    """Where, when and by which code one study was measured."""
    measured = record.facts.measured
    return {
        "study": _link(record),
        "command": code(record.facts.command),
        "recorded": measured.recorded_at,
        "commit": commit_text(measured),
        "machine": escape(measured.machine),
        "trained on": escape("; ".join(measured.trained_on)),
        "versions": escape(versions_text(measured)),
    }
