"""The split into training, validation and test: no subject, and no near-duplicates, are in more than one part."""

import json
from typing import Literal

import pandas as pd
import pyarrow as pa
from pydantic import Field, model_validator

from heartdata.checks.groups import connected_groups, subject_units
from heartdata.checks.validation import refuse_unknown_collections
from heartdata.dataset import split_strategies as strategies
from heartdata.dataset.split_strategies import PARTS, UNLABELLED
from heartdata.errors import DataRefused, LeakError
from heartdata.settings import Settings
from heartdata.storage.schemas import SPLITS, SUBJECT_AS_WRITTEN
from heartdata.storage.store import table_from_frame

Strategy = Literal["subject", "k_fold", "leave_one_source_out", "blocks", "column", "hash"]

# The strategies on which a setting has an effect, and the settings that a strategy requires.
USED_BY = {
    "test_fraction": ("subject", "blocks", "hash"),
    "seed": ("subject", "k_fold", "leave_one_source_out", "column", "hash"),
    "attempts": ("subject", "k_fold", "leave_one_source_out", "column"),
    "folds": ("k_fold",),
    "fold": ("k_fold",),
    "held_out": ("leave_one_source_out",),
    "gap": ("blocks",),
    "column": ("column",),
    "unlabelled": ("subject", "k_fold", "leave_one_source_out", "hash"),
}
REDRAWN = ("subject", "k_fold", "blocks")  # new recordings may move others out of the test part
REQUIRED = {"k_fold": ("folds", "fold"), "leave_one_source_out": ("held_out",), "column": ("column",)}

# The parts that must have every label, and what to do when one has not.
LABELS_REQUIRED = {
    "subject": (PARTS, "add subjects with that label"),
    "k_fold": (PARTS, "add subjects with that label, or lower split.folds"),
    "leave_one_source_out": (("train", "valid"), "hold out another, or remove the label from the table"),
    "blocks": (PARTS, "add recordings with that label, lower split.gap, or use split.strategy=subject"),
    "column": (("train",), "correct the column, or remove the label from the table"),
    "hash": (("train", "test"), "use split.strategy=subject, another split.seed, or more subjects"),
}


class SplitConfig(Settings):
    """How accepted, labelled recordings are split."""

    strategy: Strategy = Field(
        default="subject", description="how recordings are split into train, valid and test; see docs/splits.md"
    )
    test_fraction: float = Field(default=0.2, gt=0, le=0.5, description="share of all recordings in the test part")
    valid_fraction: float = Field(
        default=0.2,
        gt=0,
        le=0.5,
        description="share of all recordings in the valid part; of those not in test where test_fraction has no effect",
    )
    seed: int = Field(default=0, ge=0, description="random seed; another one makes another split")
    attempts: int = Field(
        default=10, ge=1, le=1000, description="splits tried; the one with the most even classes is used"
    )
    collections: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="the only collections used; null: all"
    )
    folds: int | None = Field(default=None, ge=2, le=1000, description="strategy k_fold: how many folds")
    fold: int | None = Field(default=None, ge=0, description="strategy k_fold: the test fold, from 0")
    held_out: str | None = Field(
        default=None, description="strategy leave_one_source_out: the source or collection in the test part"
    )
    gap: int = Field(default=0, ge=0, description="strategy blocks: recordings left out at each border of two parts")
    column: str | None = Field(
        default=None, min_length=1, description="strategy column: the column of the source's table that names the part"
    )
    unlabelled: bool = Field(
        default=False,
        exclude_if=lambda kept: not kept,  # left out of the digest when off, so old cache keys stay valid
        description="keep recordings without a label, which training.contrast learns from",
    )

    @model_validator(mode="after")
    def _check_fractions(self) -> "SplitConfig":
        if self.test_fraction + self.valid_fraction > 0.9:
            raise ValueError("test_fraction + valid_fraction must leave at least .1 to train on")
        return self

    @model_validator(mode="after")
    def _check_strategy(self) -> "SplitConfig":
        for name, users in USED_BY.items():
            if self.strategy not in users and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"split.{name} has no effect with split.strategy={self.strategy}, only with {', '.join(users)}"
                )
        absent = [name for name in REQUIRED.get(self.strategy, ()) if getattr(self, name) is None]
        if absent:
            raise ValueError(f"split.strategy={self.strategy} needs split.{' and split.'.join(absent)}")
        if self.fold is not None and self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"split.fold counts from 0: with {self.folds} folds it is at most {self.folds - 1}")
        return self

    @property
    def redraws_test(self) -> bool:
        """Whether recordings of the test part may be in another part once there are more recordings."""
        return self.strategy in REDRAWN

    @property
    def fractions(self) -> tuple[float, float, float]:
        """The wanted share of each of PARTS."""
        return 1 - self.test_fraction - self.valid_fraction, self.valid_fraction, self.test_fraction


def assign_splits(
    accepted: pa.Table, config: SplitConfig = SplitConfig(), recordings: pa.Table | None = None
) -> pa.Table:
    """Split recordings into train, valid and test (schema SPLITS), so that no subject is in two of them; deterministic.

    ``accepted`` has schema ACCEPTED; rows without a label, or outside ``config.collections``, are left out.
    ``recordings`` (schema RECORDINGS, also the refused ones) say which collections exist and, for ``hash``, under which
    other spellings subjects occur; ``column`` requires them. With ``config.unlabelled``, recordings without a label that
    have no connection to valid and test are the part `UNLABELLED`; the others are split as without them. Raises
    `DataRefused` when a part lacks a label it must have, `LeakError` if a group were in two parts.
    """
    refuse_unknown_collections(config.collections, accepted if recordings is None else recordings)
    table = in_use(accepted, config)
    table["unit"] = subject_units(table)
    table["group"] = split_groups(table)
    _refuse_if_too_few(table, config)
    if config.strategy == "column":
        if recordings is None:
            raise ValueError("split.strategy=column needs the table of recordings")
        extra = recordings.select(["recording_id", "extra"]).to_pandas()
        table = table.merge(extra, on="recording_id", how="left", validate="one_to_one")
    spellings = _spellings(recordings) if recordings is not None and config.strategy == "hash" else {}
    table["fold"] = _folds(table, config)
    table["part"] = _parts(table, config, spellings)
    unlabelled = _trainable_unlabelled(accepted, table, config, spellings) if config.unlabelled else None
    table = table[table["part"].notna()].reset_index(drop=True)
    _refuse_incomplete(table, config)
    if unlabelled is not None:
        table = pd.concat([table, unlabelled]).sort_values("recording_id", ignore_index=True)
    check_no_leak(table)
    return table_from_frame(table, SPLITS)


def in_use(accepted: pa.Table, config: SplitConfig) -> pd.DataFrame:
    """The rows that are labelled and in ``config.collections``, sorted by id."""
    table = _of_collections(accepted, config)
    return table[table["label"].notna()].reset_index(drop=True)


def _of_collections(accepted: pa.Table, config: SplitConfig) -> pd.DataFrame:
    table = accepted.to_pandas().sort_values("recording_id", ignore_index=True)
    if config.collections is not None:
        table = table[table["collection"].isin(config.collections)].reset_index(drop=True)
    return table


def _spellings(recordings: pa.Table) -> dict[str, set[str]]:
    """Units of which a row spells the subject differently, to what they would be called by those spellings."""
    table = recordings.select(["source", "subject", "extra"]).to_pandas()
    table = table[table["extra"].str.contains(f'"{SUBJECT_AS_WRITTEN}"', regex=False, na=False)]
    spellings: dict[str, set[str]] = {}
    for source, subject, extra in table.itertuples(index=False):
        spellings.setdefault(f"{source}/{subject}", set()).add(f"{source}/{json.loads(extra)[SUBJECT_AS_WRITTEN]}")
    return spellings


def _trainable_unlabelled(
    accepted: pa.Table, split: pd.DataFrame, config: SplitConfig, spellings: dict[str, set[str]]
) -> pd.DataFrame:
    """The unlabelled recordings that can be trained on beside ``split``: none of a group in valid or test."""
    table = _of_collections(accepted, config)
    table = table.merge(split[["recording_id", "part"]], on="recording_id", how="left", validate="one_to_one")
    table["unit"], table["group"] = subject_units(table), split_groups(table)
    labelled = table["label"].notna()
    barred = set(table.loc[labelled & (table["part"] != "train"), "group"])
    if config.strategy == "hash":  # some will be in valid or test once they have a label
        parts = strategies.by_hash(table, config.fractions, config.seed, spellings)
        barred |= set(table.loc[parts != "train", "group"])
    if config.held_out is not None:
        barred |= set(table.loc[strategies.is_held_out(table, config.held_out), "group"])
    table = table[~labelled & ~table["group"].isin(barred)]
    return table.assign(part=UNLABELLED, fold=None)


def split_groups(table: pd.DataFrame) -> pd.Series:
    """What is never split: the unit, or the units connected by a common ``near_group``, named by the first of them."""
    unit = subject_units(table)
    if "near_group" not in table or table["near_group"].isna().all():
        return unit
    groups = connected_groups(unit, table["near_group"])
    return unit.map({name: min(group) for group in groups for name in group})


def check_no_leak(table: pd.DataFrame) -> None:
    """Raise `LeakError` naming a group or a file content that is in two parts (columns group, sha256, part)."""
    trained = table["part"].replace(UNLABELLED, "train")
    for unit in ("group", "sha256"):
        parts = trained.groupby(table[unit]).nunique()
        leaked = parts.index[parts > 1]
        if len(leaked):
            raise LeakError(
                f"{len(leaked)} of {len(parts)} values of {unit} are in two parts of the split, the first being "
                f"{leaked[0]!r}: scores would be too high"
            )


def subjects_that_changed_part(before: pd.DataFrame, now: pd.DataFrame) -> tuple[int, int]:
    """How many groups of ``now`` have recordings that entered the test part since ``before``, and that left it.

    Both have columns sha256, group and part; recordings that are in only one of them do not count.
    """
    both = now.merge(before[["sha256", "part"]], on="sha256", suffixes=("", "_before"))
    tested, was = both["part"] == "test", both["part_before"] == "test"
    return both.loc[tested & ~was, "group"].nunique(), both.loc[~tested & was, "group"].nunique()


def _folds(table: pd.DataFrame, config: SplitConfig) -> pd.Series:
    """The fold of each row, the same whichever is tested; null unless the strategy is ``k_fold``."""
    if config.folds is None:
        return pd.Series(None, index=table.index, dtype="Int64")
    shares = [1 / config.folds] * config.folds
    return strategies.stratified(table, shares, config.seed, config.attempts).astype("Int64")


def _parts(table: pd.DataFrame, config: SplitConfig, spellings: dict[str, set[str]]) -> pd.Series:
    """The part of each row; null for rows that the strategy leaves out."""
    match config.strategy:
        case "subject":
            return strategies.by_subject(table, config.fractions, config.seed, config.attempts)
        case "blocks":
            return strategies.by_blocks(table, config.fractions, config.gap)
        case "hash":
            return strategies.by_hash(table, config.fractions, config.seed, spellings)
        case "k_fold":
            is_test = table["fold"] == config.fold
        case "leave_one_source_out":
            is_test = strategies.is_held_out(table, str(config.held_out))
            shared = ~is_test & table["group"].isin(table.loc[is_test, "group"])  # tested, so not trained on
            table, is_test = table[~shared], is_test[~shared]
        case "column":
            parts = strategies.by_column(table, str(config.column))
            if (parts == "valid").any():
                return parts
            is_test = parts == "test"
    return strategies.with_valid(table, is_test, config.valid_fraction, config.seed, config.attempts)


def _refuse_if_too_few(table: pd.DataFrame, config: SplitConfig) -> None:
    if table.empty:
        raise DataRefused(f"no accepted recording is labelled and in split.collections = {config.collections}")
    subjects = table.groupby("label")["group"].nunique()
    if len(subjects) < 2:
        raise DataRefused(f"a classifier needs at least two labels; these recordings have only {subjects.index[0]!r}")
    if config.strategy not in ("subject", "k_fold"):
        return
    rare, needed = subjects.idxmin(), max(len(PARTS), config.folds or 0)
    if subjects[rare] < needed:
        why = "one in each fold" if needed > len(PARTS) else "one each to train, validate and test"
        raise DataRefused(
            f"the label {rare!r} has {subjects[rare]} subject(s); {needed} are needed, {why}: "
            "record more, or remove the label from the table" + (", or lower split.folds" if config.folds else "")
        )


def _refuse_incomplete(table: pd.DataFrame, config: SplitConfig) -> None:
    """Refuse a split with a part that lacks a required label, or that has too few labels to be scored."""
    required, remedy = LABELS_REQUIRED[config.strategy]
    present = pd.crosstab(table["label"], table["part"]).reindex(columns=PARTS, fill_value=0) > 0
    for part in PARTS:
        absent = present.index[~present[part]]
        if part in required and len(absent):
            raise DataRefused(
                f"split.strategy={config.strategy} leaves {part} without the label {absent[0]!r}: {remedy}"
            )
        if present[part].sum() < (2 if part == "test" else 1):
            raise DataRefused(
                f"split.strategy={config.strategy} leaves {part} with {present[part].sum()} label(s), which is too few "
                f"to score a model: {remedy}"
            )
