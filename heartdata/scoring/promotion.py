"""Whether a challenger replaces the champion: gates with a value and a bound each, and the reason in one sentence."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from heartdata.settings import Settings

Outcome = Literal["promoted", "kept", "cannot decide"]


class PromotionConfig(Settings):
    """When a challenger becomes the champion."""

    metric: Literal["macro_f1", "balanced_accuracy", "accuracy", "auroc"] = Field(
        default="macro_f1", description="the metric that models are compared by"
    )
    level: float = Field(default=0.95, gt=0.5, lt=1, description="one-sided confidence of each comparison")
    min_difference: float = Field(
        default=0.0, ge=-1, le=1, description="the challenger less the champion must be above this, at that level"
    )
    min_subjects: int = Field(default=20, ge=2, description="held-out subjects that neither model was trained on")


class Gate(BaseModel):
    """One condition of a promotion; ``value`` and ``bound`` are None where they could not be computed."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float | None
    bound: float | None
    passed: bool
    detail: str = ""


class Decision(BaseModel):
    """The outcome for one challenger, why, and each gate. ``champion``: the version it was compared with."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    reason: str
    gates: tuple[Gate, ...] = ()
    challenger: int | None = None
    champion: int | None = None
    subjects: int = 0
    recordings: int = 0
