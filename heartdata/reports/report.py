"""The report of a run as one self-contained page: the decision, the data, the scores, and recordings to listen to."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from heartdata.reports import summary as tables
from heartdata.reports.clips import MOST_GAIN_DB, Clip
from heartdata.reports.listening import Chapter
from heartdata.reports.plots import AT_POINT, MOST_PROBABLE
from heartdata.reports.study_plots import plot_coverage_risk, plot_reliability
from heartdata.scoring.calibration import (
    Calibration,
    confidence_of,
    coverage_risk,
    reliability_bins,
)
from heartdata.scoring.confusion import class_numbers, confusion_counts
from heartdata.scoring.metrics import confidence_metrics
from heartdata.scoring.promotion import Decision
from heartdata.scoring.slices import LEAST_SUBJECTS, MOST_VALUES
from heartdata.scoring.text import metric_label, with_bounds

BINS, FEW = 10, 10  # of the reliability diagram; predictions in one, whose accuracy is mostly chance
MOST_CLASSES = 20  # in a confusion matrix; of more, the commonest mistakes are listed
MOST_PAIRS = 20
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Run:
    """What a report shows. The frames have the schemas of `heartdata.storage.schemas`; ``slices``: rows of SLICES.

    ``slices_left_out``: how many values of each attribute are not in them. ``compared_by``: the metric that decides. ``provenance``: what the model was made from, by name; ``commands``: what repeats it, by purpose; ``settings``: as text.
    """

    model: str
    version: int
    source: str
    usage: str
    decision: Decision | None
    recordings: pd.DataFrame
    accepted: pd.DataFrame
    quarantine: pd.DataFrame
    manifest: pd.DataFrame
    metrics: pd.DataFrame
    predictions: pd.DataFrame
    per_class: Mapping[str, Mapping[str, float]]
    classes: list[str]
    calibration: Calibration
    slices: pd.DataFrame | None
    slices_left_out: Mapping[str, int]
    compared_by: str
    notes: Sequence[str]
    provenance: Mapping[str, str]
    commands: Mapping[str, str]
    settings: str


def report_page(run: Run, chapters: Sequence[Chapter]) -> str:
    """The report as HTML that needs no other file and no network."""
    page = _environment().get_template("report.html")
    counts = {
        row["label"]: row
        for row in tables.recordings_by_class(run.recordings, run.accepted, run.quarantine, run.manifest)
    }
    return page.render(
        run=run,
        chapters=chapters,
        style=Markup((FOLDER / "report.css").read_text()),
        counts=counts["all"],
        by_class=list(counts.values()),
        decision=run.decision and tables.decision_sentence(run.decision),
        by_part=tables.subjects_by_part(run.manifest),
        subjects=run.manifest["group"].nunique(),
        scores=_scores(run.metrics),
        slices=[] if run.slices is None else _slices(run.slices, run.compared_by),
        least_subjects=LEAST_SUBJECTS,
        most_values=MOST_VALUES,
        compared_by=metric_label(run.compared_by),
        per_class=[{"label": name, **row, "recordings": int(row["recordings"])} for name, row in run.per_class.items()],
        **_confusion(run.predictions, run.classes),
        **_calibration(run),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_visible,
    )  # fmt: skip
    environment.filters |= {
        "data_uri": data_uri,
        "percent": lambda share: f"{100 * share:.4g}%",
        "number": _number,
        "number_or_count": lambda value: str(value) if isinstance(value, int) else _number(value),
        "clip": _clip,
    }
    return environment


def _visible(value: Any) -> Any:
    """Text with control characters, and those that change the direction of others, as escapes; None as nothing."""
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in value)


def _number(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.3f}"


def _clip(clip: Clip) -> str:
    """Which seconds of a recording a clip is, and how much louder."""
    if clip.gain_db > MOST_GAIN_DB - 0.5:
        return f"{_seconds(clip)}, silent or almost silent"
    return f"{_seconds(clip)}, {abs(clip.gain_db):.0f} dB {'louder' if clip.gain_db >= 0 else 'softer'}"


def _seconds(clip: Clip) -> str:
    if clip.duration_s >= 0.999 * clip.of_s:
        return f"All of its {clip.of_s:.1f} s"
    return f"Seconds {clip.start_s:.1f} to {clip.start_s + clip.duration_s:.1f} of {clip.of_s:.1f}"


def data_uri(content: bytes, kind: str) -> str:
    """``content`` of a MIME type as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _range(row: Mapping[str, Any]) -> dict[str, Any]:
    """A value in 0-1 and its interval, as a plot of dots and whiskers needs them, and as text."""
    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    if not np.isfinite(value):
        return {"text": "–", "at": None, "low": None}
    bounds = (float(np.clip(low, 0, 1)), float(np.clip(high, 0, 1))) if np.isfinite([low, high]).all() else (None, None)
    return {
        "text": with_bounds(value, low, high),
        "at": float(np.clip(value, 0, 1)),
        "low": bounds[0],
        "high": bounds[1],
    }


def _scores(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """One group a metric: a row of each model, and its difference to the first one."""
    groups = []
    for metric, rows in metrics.groupby("metric", sort=False):
        name = str(metric).removesuffix("_by_subject")
        of_models = [
            {"name": row["model"], **_range(row), "difference": _difference(row) if number else ""}
            for number, row in enumerate(rows.to_dict("records"))
        ]
        groups.append({"metric": metric_label(name), "rows": of_models, "by_subject": name != metric})
    return groups


def _difference(row: Mapping[str, Any]) -> str:
    bounds = [row[name] for name in ("difference", "difference_low", "difference_high")]
    return with_bounds(*bounds, sign="+") if np.isfinite(bounds[0]) else "–"


def _slices(slices: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
    """One group an attribute: a row of each of its values."""
    return [
        {
            "metric": str(attribute).replace("_", " "),
            "rows": [{"name": row["slice"], **_range(row), **_counts(row)} for row in rows.to_dict("records")],
        }
        for attribute, rows in slices[slices["metric"] == metric].groupby("attribute", sort=False)
    ]


def _counts(row: Mapping[str, Any]) -> dict[str, int]:
    return {"recordings": int(row["recordings"]), "subjects": int(row["subjects"])}


def _confusion(predictions: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """The counts as a matrix or, of many classes, the commonest mistakes."""
    truth, predicted = class_numbers(predictions["label"], classes), class_numbers(predictions["prediction"], classes)
    (counts,) = confusion_counts(truth, predicted, len(classes)).astype(int)
    if len(classes) <= MOST_CLASSES:
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        cells = [
            [{"count": int(n), "share": float(s)} for n, s in zip(*both, strict=True)]
            for both in zip(counts, shares, strict=True)
        ]
        return {"confusion": list(zip(classes, cells, strict=True)), "pairs": []}
    wrong = counts * (1 - np.eye(len(classes), dtype=int))
    order = [np.unravel_index(at, wrong.shape) for at in np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]]
    pairs = [
        {"label": classes[a], "predicted": classes[b], "recordings": int(wrong[a, b])} for a, b in order if wrong[a, b]
    ]
    return {"confusion": [], "pairs": pairs}


def _calibration(run: Run) -> dict[str, Any]:
    """Reliability and coverage-risk of the predictions as they are served, as PNGs and in words."""
    probabilities = run.predictions[[f"p_{name}" for name in run.classes]].to_numpy(float)
    confidence = confidence_of(run.predictions["prediction"], probabilities, run.classes)
    correct = (run.predictions["label"] == run.predictions["prediction"]).to_numpy()
    measured = confidence_metrics(run.predictions, run.classes, run.calibration.unsure_below)
    coverage, risk, error = (measured[name] for name in ("coverage", "risk", "ece_10_bins"))
    at_point = len(set(run.calibration.class_weights or ())) > 1
    rule = AT_POINT if at_point else MOST_PROBABLE
    bins = reliability_bins(confidence, correct, BINS)
    return {
        "at_point": at_point,
        "ece": error,
        "bins": [row for row in bins.to_dict("records") if row["count"]],
        "few": FEW,
        "coverage": coverage,
        "risk": risk,
        "reliability": plot_reliability(bins, error, "", rule),
        "coverage_risk": plot_coverage_risk(coverage_risk(confidence, correct), "", rule, (coverage, risk)),
    }
