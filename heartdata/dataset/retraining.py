"""When a model is trained again: at any change of the data set, or once enough recordings or subjects are new."""

import pandas as pd
from pydantic import Field

from heartdata.checks.groups import subject_units
from heartdata.settings import Settings


class RetrainConfig(Settings):
    """What must be new, since the last model with these settings, for another to be trained; by default any change."""

    min_new_recordings: int = Field(
        default=0, ge=0, description="recordings that are new or have another label; of fewer, none are trained on yet"
    )
    min_new_subjects: int = Field(
        default=0, ge=0, description="subjects that are new; with fewer, nothing is trained yet"
    )
    max_age_days: float | None = Field(
        default=None,
        gt=0,
        description="if the last model is older, whatever is new is trained on; null: never for its age",
    )

    @property
    def waits(self) -> bool:
        """Whether a change of the data set may have to wait."""
        return self.min_new_recordings > 0 or self.min_new_subjects > 0


def count_new(earlier: pd.DataFrame, manifest: pd.DataFrame) -> tuple[int, int]:
    """How many recordings of ``manifest`` (schema MANIFEST) are new or have another label than ``earlier``, and how many
    subjects are new. A recording of an unknown subject counts as a subject.
    """
    recordings = set(zip(earlier["sha256"], earlier["label"].fillna(""), strict=True))
    new = [row not in recordings for row in zip(manifest["sha256"], manifest["label"].fillna(""), strict=True)]
    return sum(new), len({*subject_units(manifest)} - {*subject_units(earlier)})
