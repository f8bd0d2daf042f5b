"""Train, validation and test parts by subject: one group (a subject) never stands on two sides."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from heartdata.errors import DataRefused, LeakError
from heartdata.schemas import SPLITS
from heartdata.settings import Settings

VERSION = "1"  # raise when the same input is split in another way
PARTS = ("train", "valid", "test")


class SplitConfig(Settings):
    """How accepted, labelled recordings are parted."""

    test_fraction: float = Field(default=0.2, gt=0, le=0.5)
    valid_fraction: float = Field(default=0.2, gt=0, le=0.5, description="of all recordings, as test_fraction")
    seed: int = Field(default=0, ge=0)
    attempts: int = Field(
        default=20,
        ge=1,
        description="seeds tried; the one with the most even classes is taken",
    )
    collections: tuple[str, ...] | None = Field(default=None, description="train on these only; null: on all")


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
    candidates = [_parts(table, config, config.seed + 1000 * i) for i in range(config.attempts)]
    table["part"] = min(candidates, key=lambda parts: _unevenness(table["label"], parts, config))
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


def _parts(table: pd.DataFrame, config: SplitConfig, seed: int) -> np.ndarray:
    """Part of each row, shape (n,): first the test groups are taken, then the validation groups of the rest."""
    parts = np.full(len(table), "train", dtype=object)
    parts[_one_fold(table, config.test_fraction, seed)] = "test"
    rest = np.flatnonzero(parts == "train")
    share = config.valid_fraction / (1 - config.test_fraction)
    parts[rest[_one_fold(table.iloc[rest], share, seed + 1)]] = "valid"
    return parts


def _one_fold(table: pd.DataFrame, fraction: float, seed: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold

    smallest = int(table.groupby("label")["group"].nunique().min())
    folds = StratifiedGroupKFold(max(2, min(round(1 / fraction), smallest)), shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # classes of few recordings are judged afterwards, by _unevenness
        warnings.simplefilter("ignore", UserWarning)
        _, fold = next(folds.split(table, table["label"], table["group"]))
    return fold


def _unevenness(labels: pd.Series, parts: np.ndarray, config: SplitConfig) -> float:
    """How far the parts' shares of each class are from the wanted ones; a class absent from a part outweighs all."""
    wanted = {"test": config.test_fraction, "valid": config.valid_fraction}
    wanted["train"] = 1 - sum(wanted.values())
    shares = pd.crosstab(labels, parts, normalize="index").reindex(columns=list(PARTS), fill_value=0.0)
    absent = int((shares == 0).to_numpy().sum())
    return 1e3 * absent + float((shares - pd.Series(wanted)).abs().to_numpy().sum())
