"""The model card: what a model is for, what it was trained and tested on, how well it does, and its limits."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from heartdata.config import RunConfig
from heartdata.markdown import escape, markdown_table
from heartdata.reports.summary import FEW_SUBJECTS, subjects_by_part
from heartdata.scoring.model_names import NETWORK
from heartdata.scoring.text import metric_label, with_bounds
from heartdata.serving.model_config import ModelConfig
from heartdata.sources import MixSource
from heartdata.sources.catalogue import DATA_SETS

MOST_ROWS = 40  # of a table
CUT = "\n\nThe rest is in the artifact `model_card.md` of the run."


@dataclass(frozen=True)
class CardInputs:
    """What a card is made from.

    ``recordings``, ``manifest``, ``metrics`` and ``slices`` have the schemas RECORDINGS, MANIFEST, METRICS and SLICES;
    ``accepted``: how many recordings passed the checks; ``per_class`` and ``confidence``: as evaluated; ``usage``: the
    caveat in a sentence; ``identity``: versions and digests by name.
    """

    config: RunConfig
    model: ModelConfig
    recordings: pd.DataFrame
    accepted: int
    manifest: pd.DataFrame
    metrics: pd.DataFrame
    slices: pd.DataFrame
    per_class: Mapping[str, Mapping[str, float]]
    confidence: Mapping[str, float]
    usage: str
    identity: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def model_card(inputs: CardInputs, template: str) -> str:
    """The card in Markdown, from a Jinja template; whatever comes from the data is escaped.

    Mitchell et al., Model cards for model reporting, FAT* 2019; Collins et al., TRIPOD+AI, BMJ 2024;385:e078378.
    """
    environment = Environment(
        finalize=lambda value: value if isinstance(value, Markup) else escape(value),
        autoescape=False,  # finalize escapes for Markdown
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.from_string(template).render(_context(inputs))


def headline(inputs: CardInputs) -> str:
    """What the model does and how well, in one sentence of plain text."""
    macro_f1 = score(inputs.metrics, "macro_f1")
    return f"Classifies heart-sound recordings as {_either(inputs.model.classes)}: macro-F1 {macro_f1} on held-out subjects."


def description(card: str, length: int) -> str:
    """The card without its title; of one longer than ``length`` characters its first sections, and where the rest is."""
    text = card.partition("\n")[2].lstrip()
    if len(text) <= length:
        return text
    whole = text[: length - len(CUT)]
    return whole[: max(whole.rfind("\n## "), 0)].rstrip() + CUT


def score(metrics: pd.DataFrame, metric: str) -> str:
    """The network's value of a metric with its interval, from rows of schema METRICS."""
    return _bounded(metrics[(metrics["model"] == NETWORK) & (metrics["metric"] == metric)].iloc[0])


def _context(inputs: CardInputs) -> dict[str, Any]:
    config, model, manifest = inputs.config, inputs.model, inputs.manifest
    test, listed = manifest[manifest["part"] == "test"], inputs.recordings
    calibration, confidence = model.calibration, inputs.confidence
    excluded = int(listed["excluded"].notna().sum())
    weights = calibration.class_weights or (1.0,) * len(model.classes)
    spectrogram = model.spectrogram
    return {
        "name": config.registry.model_name,
        "headline": headline(inputs),
        "usage": inputs.usage,
        "classes": _either(model.classes),
        "limits": list(_limits(inputs)),
        "subjects_tested": test["group"].nunique(),
        "recordings_tested": len(test),
        "scores": _table(_scores(inputs.metrics)),
        "per_class": _table(
            {"label": label} | {n: str(int(v)) if n == "recordings" else f"{v:.2f}" for n, v in row.items()}
            for label, row in inputs.per_class.items()
        ),
        "slices": _table(_slices(inputs.slices)) if len(inputs.slices) else None,
        "temperature": f"{calibration.temperature:.2f}",
        "weights": ", ".join(f"{c} {w:.2f}" for c, w in zip(model.classes, weights, strict=True)),
        "unsure_below": calibration.unsure_below and f"{calibration.unsure_below:.3f}",
        "ece": _number(confidence.get("ece_10_bins")),
        "brier": _number(confidence.get("brier")),
        "coverage": _share(confidence.get("coverage")),
        "risk": _share(confidence.get("risk")),
        "found": len(listed),
        "excluded": excluded,
        "refused": len(listed) - inputs.accepted - excluded,
        "corrected": int(listed["extra"].fillna("").str.contains('"corrected": ', regex=False).sum()),
        "used": len(manifest),
        "data": _table(_data(manifest)),
        "licences": list(_licences(config)),
        "parts": _table(subjects_by_part(manifest)),
        "strategy": config.split.strategy,
        "seed": config.split.seed,
        "near_duplicates": config.validation.near_duplicates != "off",
        "networks": "One resnet34" if model.members == 1 else f"{model.members} resnet34 networks, averaged",
        "init": {"random": "random weights", "imagenet": "weights trained on ImageNet"}.get(model.init, model.init),
        "spectrogram": f"{spectrogram.mel_bands} bands, {spectrogram.low_hz:g} to {spectrogram.high_hz:g} Hz, windows of "
        f"{model.width} columns",
        "identity": _table({"what": name, "value": value} for name, value in inputs.identity.items()),
    }


def _limits(inputs: CardInputs) -> Iterator[str]:
    """What the scores do not show; each a sentence."""
    manifest, source = inputs.manifest, inputs.config.source
    parts = source.sources if isinstance(source, MixSource) else (source,)
    if any(part.name == "demo" for part in parts):
        yield "Some or all recordings are synthetic: scores on them show that the pipeline works, and nothing about people."
    subjects = manifest.loc[manifest["part"] == "test", "group"].nunique()
    if subjects < FEW_SUBJECTS:
        yield f"Only {subjects} subject{' is' if subjects == 1 else 's are'} held out: the intervals are wide and may still be too narrow."
    if unknown := int(manifest["subject"].isna().sum()):
        yield (
            f"The subject of {unknown} of {len(manifest)} recordings is unknown, and each counts as its own: recordings of one person may be in "
            "training and test, and the scores too high."
        )
    yield "The scores hold for recordings made like those under Data; on others they are usually lower."
    yield "Labels are those of the source, whose errors count as errors of the model, or hide them."
    yield "Groups of people that are not under Slices were not looked at."
    yield from (f"{warning}." for warning in inputs.warnings)


def _bounded(row: Any) -> str:
    return "–" if math.isnan(row.value) else with_bounds(row.value, row.low, row.high)


def _scores(metrics: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One row a metric: each model's value with its interval."""
    for metric, rows in metrics.groupby("metric", sort=False):
        yield {"metric": metric_label(str(metric))} | {row.model: _bounded(row) for row in rows.itertuples()}


def _slices(slices: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One row a slice: its size, and each metric with its interval."""
    columns = ["attribute", "slice", "recordings", "subjects"]
    for values, rows in slices.groupby(columns, sort=False):
        scores = {metric_label(row.metric): _bounded(row) for row in rows.itertuples()}
        yield dict(zip(columns, values, strict=True)) | scores


def _data(manifest: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """One row a collection of a source: its size, and how it was recorded."""
    for (source, collection), rows in manifest.fillna({"collection": ""}).groupby(["source", "collection"]):
        yield {
            "source": source,
            "collection": collection or "–",
            "recordings": len(rows),
            "subjects": rows["group"].nunique(),
            "Hz": ", ".join(f"{rate:.0f}" for rate in sorted(rows["rate_hz"].dropna().unique())[:5]),
            "seconds (median)": f"{rows['duration_s'].median():.1f}",
            "sites": ", ".join(sorted(rows["site"].dropna().unique())[:8]) or "–",
            **{label: int((rows["label"] == label).sum()) for label in sorted(manifest["label"].dropna().unique())[:8]},
        }


def _licences(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Each source's licence, where the catalogue knows it."""
    source = config.source
    parts = source.sources if isinstance(source, MixSource) else (source,)
    for name in dict.fromkeys(part.name for part in parts):
        known = DATA_SETS.get(name)
        if known:
            yield known.title, f"{known.licence}, {known.page}"
        elif name == "demo":
            yield "the synthetic recordings", "none is needed, they are made by the program"
        else:
            yield f"the recordings of source {name}", "not known to the program; ask who owns them"


def _table(rows: Any) -> Markup:
    """A Markdown table of rows with, after the first row's, the same keys; of many, the first ones and how many follow."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    shown = markdown_table([{name: row.get(name, "") for name in names} for row in rows[:MOST_ROWS]])
    more = f"\n\nand {len(rows) - MOST_ROWS} more rows." if len(rows) > MOST_ROWS else ""
    return Markup(shown + more)  # markdown_table escapes


def _either(labels: tuple[str, ...]) -> str:
    *others, last = labels
    return f"{', '.join(others)} or {last}" if others else last


def _number(value: float | None) -> str:
    return "unknown" if value is None or value != value else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "an unknown share" if value is None or value != value else f"{value:.0%}"
