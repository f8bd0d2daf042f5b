"""Train, validation and test parts by subject: one group (a subject) never stands on two sides."""

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field, model_validator

from heartdata.errors import DataRefused, LeakError
from heartdata.schemas import SPLITS
from heartdata.settings import Settings

VERSION = "2"  # raise when the same input is split in another way
PARTS = ("train", "valid", "test")


class SplitConfig(Settings):
    """How accepted, labelled recordings are parted."""

    test_fraction: float = Field(default=0.2, gt=0, le=0.5)
    valid_fraction: float = Field(default=0.2, gt=0, le=0.5, description="of all recordings, as test_fraction")
    seed: int = Field(default=0, ge=0)
    attempts: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="seeds tried; the one with the most even classes is taken",
    )
    collections: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="train on these only; null: on all"
    )

    @model_validator(mode="after")
    def _something_to_train_on(self) -> "SplitConfig":
        if self.test_fraction + self.valid_fraction > 0.9:
            raise ValueError("test_fraction + valid_fraction must leave at least .1 to train on")
        return self

    @property
    def fractions(self) -> tuple[float, float, float]:
        """The wanted share of each of PARTS."""
        return 1 - self.test_fraction - self.valid_fraction, self.valid_fraction, self.test_fraction


def assign_parts(accepted: pa.Table, config: SplitConfig) -> pa.Table:
    """One row (schema SPLITS) a recording that is labelled and in ``config.collections``.

    Grouped by subject, stratified by label, the same for the same seed. Raises `DataRefused` when a class has too
    few subjects to stand in every part, `LeakError` if a group stood in two parts.
    """
    table = accepted.to_pandas()
    table = table[table["label"].notna()].sort_values("recording_id", ignore_index=True)
    if config.collections is not None:
        table = table[table["collection"].isin(config.collections)].reset_index(drop=True)
    table["group"] = groups(table)
    _refuse_if_too_few(table, config)
    counts = pd.crosstab(table["group"], table["label"])
    candidates = [_parts(counts, config, config.seed + 1000 * i) for i in range(config.attempts)]
    best = min(candidates, key=lambda parts: _unevenness(counts, parts, config))
    table["part"] = table["group"].map(dict(zip(counts.index, np.array(PARTS)[best], strict=True)))
    check_no_leak(table)
    absent = [
        (part, label) for part in PARTS for label in table["label"].unique()
        if not ((table["part"] == part) & (table["label"] == label)).any()
    ]  # fmt: skip
    if absent:
        raise DataRefused(f"no split was found with {absent[0][1]!r} in {absent[0][0]}: add subjects with that label")
    return pa.Table.from_pandas(table[SPLITS.names], schema=SPLITS, preserve_index=False)


def groups(table: pd.DataFrame) -> pd.Series:
    """The unit that is never parted: the subject within its source, or the recording itself where none is known."""
    return table["source"] + "/" + table["subject"].where(table["subject"].notna(), "recording " + table["sha256"])


def check_no_leak(table: pd.DataFrame) -> None:
    """Raise `LeakError` naming a group that stands in two parts, or a content that does (columns group, sha256, part)."""
    for unit in ("group", "sha256"):
        parts = table.groupby(unit)["part"].nunique()
        leaked = parts.index[parts > 1]
        if len(leaked):
            raise LeakError(
                f"{len(leaked)} of {len(parts)} values of {unit} stand in two parts of the split, "
                f"the first being {leaked[0]!r}: scores would be too high"
            )


def _refuse_if_too_few(table: pd.DataFrame, config: SplitConfig) -> None:
    if table.empty:
        raise DataRefused(f"no accepted recording is labelled and in split.collections = {config.collections}")
    subjects = table.groupby("label")["group"].nunique()
    if len(subjects) < 2:
        raise DataRefused(f"a classifier needs at least two labels; these recordings have only {subjects.index[0]!r}")
    rare = subjects.idxmin()
    if subjects[rare] < len(PARTS):
        raise DataRefused(
            f"the label {rare!r} has {subjects[rare]} subject(s); 3 are needed, one each to train, validate and test: "
            "record more, or leave the label out of the table"
        )


def _parts(counts: pd.DataFrame, config: SplitConfig, seed: int) -> np.ndarray:
    """Part (0, 1, 2 as in PARTS) of each group, by iterative stratification; ``counts``: recordings, groups x classes.

    Groups of the class that fewest have come first, large ones before small ones; each goes to the part that has the
    least of the share of that class that it should get. So a class with three groups stands in all three parts.
    After Sechidis, Tsoumakas and Vlahavas 2011, On the stratification of multi-label data, ECML PKDD.
    """
    held = counts.to_numpy()
    having = (held > 0).sum(axis=0)
    rarest = np.where(held > 0, having, len(held) + 1).argmin(axis=1)
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(held)), -held.sum(axis=1), having[rarest]))
    wanted = np.outer(config.fractions, held.sum(axis=0))
    placed, part_of = np.zeros_like(wanted), np.empty(len(held), dtype=int)
    lots = rng.random((len(held), len(PARTS)))
    for group in order:
        filled = placed[:, rarest[group]] / wanted[:, rarest[group]]
        room = (wanted - placed).sum(axis=1)
        part_of[group] = np.lexsort((lots[group], -room, filled))[0]
        placed[part_of[group]] += held[group]
    return part_of


def _unevenness(counts: pd.DataFrame, parts: np.ndarray, config: SplitConfig) -> float:
    """How far the parts' shares of each class are from the wanted ones; a class absent from a part outweighs all."""
    held = counts.to_numpy()
    shares = np.stack([held[parts == number].sum(axis=0) for number in range(len(PARTS))]) / held.sum(axis=0)
    return 1e3 * (shares == 0).sum() + np.abs(shares - np.array(config.fractions)[:, None]).sum()
