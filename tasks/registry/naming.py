"""Names and values that MLflow accepts."""

import itertools
import re
from posixpath import normpath
from typing import TypeVar

T = TypeVar("T")


NAME_LENGTH = 240  # of what MLflow keeps 250 characters of


def metric_name(text: str) -> str:
    """``text`` with underscores for what MLflow allows in no name."""
    name = re.sub(r"[^\w.: /-]", "_", text)[:NAME_LENGTH]
    return name if normpath(name) == name else name.replace("/", "_")


def allowed_names(values: dict[str, T]) -> dict[str, T]:
    """``values`` under names that MLflow allows; a name that another has already is numbered."""
    found: dict[str, T] = {}
    for text, value in values.items():
        name = metric_name(text)
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        found[next(n for n in names if n not in found)] = value
    return found


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """Those that are numbers: MLflow keeps no others."""
    return {name: float(value) for name, value in metrics.items() if value == value}
