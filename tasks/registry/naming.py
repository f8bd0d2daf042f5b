"""Names and values that MLflow accepts."""

import itertools
import re
from posixpath import normpath
from typing import TypeVar

T = TypeVar("T")
NAME_LENGTH = 240  # MLflow keeps 250 characters; the rest is for a number


def metric_name(text: str) -> str:
    """``text`` with underscores for characters that MLflow does not allow."""
    name = re.sub(r"[^\w.: /-]", "_", text)[:NAME_LENGTH]
    return name if normpath(name) == name else name.replace("/", "_")


def allowed_names(values: dict[str, T]) -> dict[str, T]:
    """``values`` under names that MLflow allows; names that would then be the same are numbered."""
    renamed: dict[str, T] = {}
    for text, value in values.items():
        name = metric_name(text)
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        renamed[next(n for n in names if n not in renamed)] = value
    return renamed


def without_nan(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics that are numbers: MLflow keeps no others."""
    return {name: float(value) for name, value in metrics.items() if value == value}
