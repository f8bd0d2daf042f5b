"""What came of a study, as one page of Markdown for people and for `docs/results/`."""

import json
import math
import shlex
from collections.abc import Sequence

import pandas as pd

from heartdata.config import RunConfig
from heartdata.markdown import code, plain, table
from heartdata.scoring.metrics import metric_label
from heartdata.settings import flat
from heartdata.studies.config import study_config
from heartdata.studies.protocols import Study
from heartdata.studies.scores import NETWORK

FIRST = ("macro_f1", "balanced_accuracy", "auroc")
NOT_TYPED = {"store", "engine", "registry"}  # change no figure


def study_page(
    study: Study, run: RunConfig, values: pd.DataFrame, plots: Sequence[str] = (), warning: str = "",
    weights: str = "",
) -> str:  # fmt: skip
    """``compute_metrics``: rows of schema STUDY_FIGURES; ``plots``: names of PNGs that lie beside the page; ``warning``: of
    what the weights started from; ``weights``: their sha256, where there are any.
    """
    started = f" The networks start from {code(run.training.init)}, weights `{weights[:12]}`." if weights else ""
    sections = [f"# {study.title}", f"Made by {code(f'heartbeat study {study.name}{_typed(study, run)}')}.{started}"]
    repeated = len(study.seeds)
    held_out = study.protocol == "leave_one_out"
    held = "each database held out in turn" if held_out else f"{study.folds} folds"
    sections.append(
        f"{held.capitalize()}, {repeated} seed{'s' * (repeated > 1)}. Values are means over seeds ± their deviation; in "
        "brackets 95 % intervals by bootstrap over subjects (recordings where no subject is known). `resnet34` answers "
        "by the most probable class, the row below it by the class at the operating point. Temperature, operating point "
        "and the bound of unsure answers are fitted to each fold's own validation part, as `heartbeat run` fits them; "
        f"the operating point is to better {_bettered(run)}. The last column is the paired difference: its interval is "
        "over the same draws of subjects for both models, and one that holds 0 tells neither from the other."
    )
    if study.level == "subject":
        rule = {"mean": "mean", "max": "highest"}[run.evaluation.subject_rule]
        sections.append(
            f"Patients are answered and scored: the probability of a class is the {rule} of a patient's recordings, "
            "scaled to sum 1."
        )
    if warning:
        sections.append(f"**{plain(warning)}.**")
    if study.reference_score is not None:
        sections.append(f"Reference: {plain(reference(study))}.")
    if study.note:
        sections.append(study.note)
    for arm in study.arms:
        shown = values[values["arm"] == arm]
        if len(study.arms) > 1:
            sections.append(f"## {arm[0].upper()}{arm[1:]}")
        first = headline_metrics(study)
        sections.append(table(metric_rows(shown, first, study.metric)))
        rest = metric_rows(shown, [m for m in dict.fromkeys(shown["metric"]) if m not in first])
        sections.append("<details><summary>All metrics</summary>\n\n" + table(rest) + "\n\n</details>")
    sections += [f"![{name.replace('_', ' ')}]({name}.png)" for name in plots]
    return "\n\n".join(sections) + "\n"


def _typed(study: Study, run: RunConfig) -> str:
    """The options that give these values: the seeds, and every setting that is not the study's own."""
    ours = flat(run.model_dump(mode="json", exclude=NOT_TYPED))
    usual = flat(study_config(study.name, ours["source.data"]).run.model_dump(mode="json", exclude=NOT_TYPED))
    changed = {key: value for key, value in ours.items() if key not in usual or usual[key] != value}
    told = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in changed.items()]
    return f" --data FOLDER --seeds {len(study.seeds)}" + "".join(f" --set {shlex.quote(text)}" for text in told)


def headline_metrics(study: Study) -> list[str]:
    """The metrics that a reader looks for first."""
    return list(dict.fromkeys([study.metric, *FIRST]))


def reference(study: Study) -> str:
    """The study's reference score and whose it is."""
    return f"{metric_label(study.metric)} {study.reference_score:{_form(study.reference_score)}}, {study.citation}"


def _bettered(run: RunConfig) -> str:
    chosen = run.decision.operating_point
    return "nothing (it is the most probable class)" if chosen == "none" else f"`{chosen}`"


def metric_rows(values: pd.DataFrame, metrics: Sequence[str], compared_by: str = "") -> list[dict[str, str]]:
    """One row a model, one column a metric, of rows of schema STUDY_FIGURES of one arm.

    ``compared_by``: a metric, by which a last column says how much better or worse the network is.
    """
    cells = {(row.model, row.metric): _cell(row) for row in values.itertuples()}
    models = dict.fromkeys(values["model"])
    rows = [{"model": model, **{metric_label(m): cells.get((model, m), "") for m in metrics}} for model in models]
    if compared_by:
        of_metric = values[values["metric"] == compared_by]
        less = {row.model: _difference(row) for row in of_metric.itertuples() if row.model != NETWORK}
        rows = [row | {f"{metric_label(compared_by)}, {NETWORK} less this": less.get(row["model"], "")} for row in rows]
    return rows


def _cell(row) -> str:  # type: ignore[no-untyped-def]
    if not math.isfinite(row.value):  # a ratio of nothings, or of something and nothing
        return ""
    form = _form(row.value)
    spread = "" if row.sd is None or math.isnan(row.sd) else f" ± {row.sd:{form}}"
    return f"{row.value:{form}}{spread}{_interval(row.low, row.high, form)}"


def _difference(row) -> str:  # type: ignore[no-untyped-def]
    if not math.isfinite(row.difference):
        return ""
    form = _form(row.value)
    return f"{row.difference:+{form}}{_interval(row.difference_low, row.difference_high, '+' + form, always_to=True)}"


def _interval(low: float, high: float, form: str, always_to: bool = False) -> str:
    to = " to " if low < 0 or always_to else "-"  # not "-0.5--0.1"
    return "" if math.isnan(low) else f" ({low:{form}}{to}{high:{form}})"


def _form(value: float | None) -> str:
    """Of a cost, or of a share."""
    return ",.0f" if value is not None and value >= 1000 else ".3f"
