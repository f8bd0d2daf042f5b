"""Train, validation and test parts: one group (a subject, or near-duplicates) never stands on two sides."""

import json
from typing import Literal

import pandas as pd
import pyarrow as pa
from pydantic import Field, model_validator
from scipy.cluster.hierarchy import DisjointSet

from heartdata.checks.validation import refuse_unknown_collections
from heartdata.dataset import split_strategies as strategies
from heartdata.dataset.split_strategies import PARTS, UNLABELLED
from heartdata.errors import DataRefused, LeakError
from heartdata.settings import Settings
from heartdata.storage.schemas import SPLITS, SUBJECT_AS_WRITTEN

Strategy = Literal["subject", "k_fold", "leave_one_source_out", "blocks", "column", "hash"]

# Settings that only some strategies know, and those that a strategy cannot do without.
BELONGS = {
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
NEEDED = {"k_fold": ("folds", "fold"), "leave_one_source_out": ("held_out",), "column": ("column",)}

# The parts in which every label must stand, and what to do when one does not.
COMPLETE = {
    "subject": (PARTS, "add subjects with that label"),
    "k_fold": (PARTS, "add subjects with that label, or lower split.folds"),
    "leave_one_source_out": (("train", "valid"), "hold out another, or leave the label out of the table"),
    "blocks": (PARTS, "add recordings with that label, lower split.gap, or use split.strategy=subject"),
    "column": (("train",), "mend the column, or leave the label out of the table"),
    "hash": (("train", "test"), "use split.strategy=subject, another split.seed, or more subjects"),
}


class SplitConfig(Settings):
    """How accepted, labelled recordings are parted."""

    strategy: Strategy = Field(default="subject", description="see docs/splits.md")
    test_fraction: float = Field(default=0.2, gt=0, le=0.5)
    valid_fraction: float = Field(
        default=0.2,
        gt=0,
        le=0.5,
        description="of all recordings, as test_fraction; of those not in test where the strategy knows no fraction",
    )
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
    folds: int | None = Field(default=None, ge=2, le=1000, description="k_fold: how many")
    fold: int | None = Field(default=None, ge=0, description="k_fold: the one that is the test part, from 0")
    held_out: str | None = Field(default=None, description="leave_one_source_out: the source or collection")
    gap: int = Field(default=0, ge=0, description="blocks: recordings left out on each border")
    column: str | None = Field(default=None, min_length=1, description="column: its name in the source's table")
    unlabelled: bool = Field(
        default=False,
        exclude_if=lambda kept: not kept,  # splits of before it was there keep their names
        description="keep recordings without a label, which training.contrast learns from",
    )

    @model_validator(mode="after")
    def _something_to_train_on(self) -> "SplitConfig":
        if self.test_fraction + self.valid_fraction > 0.9:
            raise ValueError("test_fraction + valid_fraction must leave at least .1 to train on")
        return self

    @model_validator(mode="after")
    def _suits_the_strategy(self) -> "SplitConfig":
        for name, knowing in BELONGS.items():
            if self.strategy not in knowing and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"the strategy {self.strategy} knows no {name}, which is for: {', '.join(knowing)}")
        absent = [name for name in NEEDED.get(self.strategy, ()) if getattr(self, name) is None]
        if absent:
            raise ValueError(f"the strategy {self.strategy} needs split.{' and split.'.join(absent)}")
        if self.fold is not None and self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold counts from 0, so with {self.folds} folds it is at most {self.folds - 1}")
        return self

    @property
    def fractions(self) -> tuple[float, float, float]:
        """The wanted share of each of PARTS."""
        return 1 - self.test_fraction - self.valid_fraction, self.valid_fraction, self.test_fraction


def assign_splits(accepted: pa.Table, config: SplitConfig, recordings: pa.Table | None = None) -> pa.Table:
    """One row (schema SPLITS) a recording that is in use and that the strategy does not leave out.

    The same for the same seed. Where ``config.unlabelled``, those without a label that nothing ties to the parts valid and
    test follow as part `UNLABELLED`; they change nothing for the others. ``recordings`` (schema RECORDINGS), refused ones
    too, say which collections there are and, for ``hash``, how else subjects are spelled; the strategy ``column`` needs
    them. Raises `DataRefused` when a class cannot stand where it must, `LeakError` if a group
    stood in two parts.
    """
    refuse_unknown_collections(config.collections, accepted if recordings is None else recordings)
    table = in_use(accepted, config)
    table["unit"] = subject_units(table)
    table["group"] = split_groups(table)
    _refuse_if_too_few(table, config)
    if config.strategy == "column":
        if recordings is None:
            raise ValueError("the strategy column needs the table of recordings")
        extra = recordings.select(["recording_id", "extra"]).to_pandas()
        table = table.merge(extra, on="recording_id", how="left", validate="one_to_one")
    spellings = _spellings(recordings) if recordings is not None and config.strategy == "hash" else {}
    table["fold"] = _folds(table, config)
    table["part"] = _parts(table, config, spellings)
    loose = _trainable_unlabelled(accepted, table, config, spellings) if config.unlabelled else None
    table = table[table["part"].notna()].reset_index(drop=True)
    _refuse_incomplete(table, config)
    if loose is not None:
        table = pd.concat([table, loose]).sort_values("recording_id", ignore_index=True)
    check_no_leak(table)
    return pa.Table.from_pandas(table[SPLITS.names], schema=SPLITS, preserve_index=False)


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
    """The units whose subject is spelled in another way, too, to what they would be called by it."""
    table = recordings.select(["source", "subject", "extra"]).to_pandas()
    table = table[table["extra"].str.contains(f'"{SUBJECT_AS_WRITTEN}"', regex=False, na=False)]
    found: dict[str, set[str]] = {}
    for source, subject, extra in table.itertuples(index=False):
        found.setdefault(f"{source}/{subject}", set()).add(f"{source}/{json.loads(extra)[SUBJECT_AS_WRITTEN]}")
    return found


def _trainable_unlabelled(
    accepted: pa.Table, parted: pd.DataFrame, config: SplitConfig, spellings: dict[str, set[str]]
) -> pd.DataFrame:
    """The unlabelled recordings that can be trained on beside ``parted``: none of a group that is not trained on."""
    table = _of_collections(accepted, config)
    table = table.merge(parted[["recording_id", "part"]], on="recording_id", how="left", validate="one_to_one")
    table["unit"], table["whole"] = subject_units(table), split_groups(table)
    labelled = table["label"].notna()
    barred = set(table.loc[labelled & (table["part"] != "train"), "whole"])
    if config.strategy == "hash":  # as they will be once they have a label
        parts = strategies.by_hash(table.assign(group=table["whole"]), config.fractions, config.seed, spellings)
        barred |= set(table.loc[parts != "train", "whole"])
    if config.held_out is not None:
        barred |= set(table.loc[strategies.is_held_out(table, config.held_out), "whole"])
    loose = table[~labelled & ~table["whole"].isin(barred)]
    return loose.assign(part=UNLABELLED, group=loose["whole"], fold=None)


def subject_units(table: pd.DataFrame) -> pd.Series:
    """The subject within its source, or the recording itself where none is known."""
    return table["source"] + "/" + table["subject"].where(table["subject"].notna(), "recording " + table["sha256"])


def split_groups(table: pd.DataFrame) -> pd.Series:
    """What is never parted: the unit; units tied by a common ``near_group`` are one, named by the first of them."""
    unit = subject_units(table)
    if "near_group" not in table or table["near_group"].isna().all():
        return unit
    ties = DisjointSet(unit)
    for _, (first, *others) in unit.groupby(table["near_group"]):
        for other in others:
            ties.merge(first, other)
    return unit.map({name: min(subset) for subset in ties.subsets() for name in subset})


def check_no_leak(table: pd.DataFrame) -> None:
    """Raise `LeakError` naming a group that stands in two parts, or a content that does (columns group, sha256, part)."""
    trained = table["part"].replace(UNLABELLED, "train")
    for unit in ("group", "sha256"):
        parts = trained.groupby(table[unit]).nunique()
        leaked = parts.index[parts > 1]
        if len(leaked):
            raise LeakError(
                f"{len(leaked)} of {len(parts)} values of {unit} stand in two parts of the split, "
                f"the first being {leaked[0]!r}: scores would be too high"
            )


def subjects_that_changed_part(before: pd.DataFrame, now: pd.DataFrame) -> tuple[int, int]:
    """How many groups of ``now`` have recordings that came into the test part since ``before``, and that left it.

    Both have columns sha256, group and part; recordings that stand in one of them alone do not count.
    """
    both = now.merge(before[["sha256", "part"]], on="sha256", suffixes=("", "_before"))
    tested, was = both["part"] == "test", both["part_before"] == "test"
    return both.loc[tested & ~was, "group"].nunique(), both.loc[~tested & was, "group"].nunique()


def _folds(table: pd.DataFrame, config: SplitConfig) -> pd.Series:
    """The fold of each row, whichever is the test part; null unless the strategy is ``k_fold``."""
    if config.folds is None:
        return pd.Series(None, index=table.index, dtype="Int64")
    shares = [1 / config.folds] * config.folds
    return strategies.stratified(table, shares, config.seed, config.attempts).astype("Int64")


def _parts(table: pd.DataFrame, config: SplitConfig, spellings: dict[str, set[str]]) -> pd.Series:
    """The part of each row as the strategy has it."""
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
            torn = ~is_test & table["group"].isin(table.loc[is_test, "group"])  # tested, so not trained on
            table, is_test = table[~torn], is_test[~torn]
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
            "record more, or leave the label out of the table" + (", or lower split.folds" if config.folds else "")
        )


def _refuse_incomplete(table: pd.DataFrame, config: SplitConfig) -> None:
    """Refuse parts that cannot be trained on or scored: a label is absent, or too little is left."""
    wanted, remedy = COMPLETE[config.strategy]
    standing = pd.crosstab(table["label"], table["part"]).reindex(columns=PARTS, fill_value=0) > 0
    for part in PARTS:
        absent = standing.index[~standing[part]]
        if part in wanted and len(absent):
            raise DataRefused(
                f"the strategy {config.strategy} leaves no recording of the label {absent[0]!r} to {part}: {remedy}"
            )
        if standing[part].sum() < (2 if part == "test" else 1):
            raise DataRefused(
                f"the strategy {config.strategy} leaves {standing[part].sum()} label(s) to {part}, which is too few to "
                f"tell how good a model is: {remedy}"
            )
