"""How scores are written for people: the names of metrics, and values with their bounds."""

import math

METRIC_NAMES = {
    "macro_f1": "macro-F1", "auroc": "AUROC", "macc": "MAcc", "brier": "Brier", "ece_10_bins": "ECE (10 bins)"
}  # fmt: skip


def metric_label(metric: str) -> str:
    """The display name of a metric, which may be followed by a blank and its subset, such as ``macc training-a``."""
    name, _, subset = metric.partition(" ")
    of_recordings = name.removesuffix("_by_subject")
    label = METRIC_NAMES.get(of_recordings, of_recordings.replace("_", " "))
    return f"{label}{' by subject' if of_recordings != name else ''} {subset}".strip()


def with_bounds(
    value: float, low: float = math.nan, high: float = math.nan, sd: float | None = None, *,
    scale: float | None = None, sign: str = "",
) -> str:  # fmt: skip
    """A metric, its standard deviation and its interval, without decimals where ``scale`` (or it) is a cost."""
    form = sign + (",.0f" if (value if scale is None else scale) >= 1000 else ".3f")
    spread = "" if sd is None or math.isnan(sd) else f" ± {sd:{form}}"
    to = " to " if sign or low < 0 else "-"  # not "-0.5--0.1"
    return f"{value:{form}}{spread}" + ("" if math.isnan(low) else f" ({low:{form}}{to}{high:{form}})")
