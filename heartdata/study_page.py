"""What came of a study, as one page of Markdown for people and for `docs/results/`."""

import math
from collections.abc import Sequence

import pandas as pd

from heartdata.config import RunConfig
from heartdata.markdown import table
from heartdata.scores import in_words
from heartdata.studies import Study

FIRST = ("macro_f1", "balanced_accuracy", "auroc")


def study_page(study: Study, run: RunConfig, figures: pd.DataFrame, pictures: Sequence[str] = ()) -> str:
    """``figures``: rows of schema STUDY_FIGURES; ``pictures``: names of PNGs that lie beside the page."""
    sections = [f"# {study.title}", f"Made by `heartbeat study {study.name}{_typed(study, run)}`."]
    repeated = len(study.seeds)
    held = "each database held out in turn" if study.protocol == "leave_one_out" else f"{study.folds} folds"
    sections.append(
        f"{held.capitalize()}, {repeated} seed{'s' * (repeated > 1)}. Values are means over seeds ± their deviation; in "
        "brackets 95 % intervals by bootstrap over subjects (recordings where no subject is known). Temperature, "
        "operating point and the bound of unsure answers are fitted to the answers in the other folds."
    )
    if study.beat is not None:
        sections.append(f"Prior best under such a protocol: {in_words(study.metric)} {study.beat:.3f}.")
    if study.note:
        sections.append(study.note)
    for arm in study.arms:
        shown = figures[figures["arm"] == arm]
        if len(study.arms) > 1:
            sections.append(f"## {arm[0].upper()}{arm[1:]}")
        first = first_metrics(study)
        sections.append(table(figure_rows(shown, first)))
        rest = figure_rows(shown, [m for m in dict.fromkeys(shown["metric"]) if m not in first])
        sections.append("<details><summary>All metrics</summary>\n\n" + table(rest) + "\n\n</details>")
    sections += [f"![{name.replace('_', ' ')}]({name}.png)" for name in pictures]
    return "\n\n".join(sections) + "\n"


def _typed(study: Study, run: RunConfig) -> str:
    seeds = f" --seeds {len(study.seeds)}"
    return f" --data FOLDER{seeds} --set training.init={run.training.init}"


def first_metrics(study: Study) -> list[str]:
    """The metrics that a reader looks for first."""
    return list(dict.fromkeys([study.metric, *FIRST]))


def figure_rows(figures: pd.DataFrame, metrics: Sequence[str]) -> list[dict[str, str]]:
    """One row a model, one column a metric, of rows of schema STUDY_FIGURES of one arm."""
    cells = {(row.model, row.metric): _cell(row) for row in figures.itertuples()}
    models = dict.fromkeys(figures["model"])
    return [{"model": model, **{in_words(m): cells.get((model, m), "") for m in metrics}} for model in models]


def _cell(row) -> str:  # type: ignore[no-untyped-def]
    if math.isnan(row.value):
        return ""
    spread = "" if row.sd is None or math.isnan(row.sd) else f" ± {row.sd:.3f}"
    interval = "" if math.isnan(row.low) else f" ({row.low:.3f}-{row.high:.3f})"
    return f"{row.value:.3f}{spread}{interval}"
