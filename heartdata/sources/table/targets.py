"""Labels from columns of zeros and ones, or of probabilities: one column against the rest, or the one that is largest."""

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from heartdata.errors import SourceError
from heartdata.sources.table.columns import YES_OR_NO, normal_name
from heartdata.sources.text import enumerated, quoted, shortened

ARGMAX = "argmax"
NONE = "none of these"  # the label of a row that is 0 in every column
LABEL = "source.target"  # the column of labels that is added

Value = Callable[[str], str | None]  # a cell as text, None where it counts as empty


def with_target(
    path: Path, table: pd.DataFrame, target: str | Sequence[str], roles: Collection[str], value: Value
) -> tuple[pd.DataFrame, list[str]]:
    """``table`` with a column LABEL, and notes. ``target``: one column, several, or ARGMAX for all that may be classes.

    Labels of one column are its name, and ``not`` and its name. Of several, the name of the largest; a row of several ones,
    or of several largest, is unlabelled, and a row of zeros is NONE. ``roles``: columns that are no classes. Raises
    `SourceError`.
    """
    if target == ARGMAX and ARGMAX not in table.columns:
        names = _classes(path, table.drop(columns=list(roles)), value)
    else:
        names = [_column(path, table, name) for name in ([target] if isinstance(target, str) else target)]
    numbers = pd.DataFrame({name: _numbers(table[name], value) for name in names}, index=table.index)
    for name in names:
        if (wrong := ~numbers[name].between(0, 1) & table[name].map(value).notna()).any():
            cell = table[name][wrong].iloc[0]
            raise SourceError(
                f"{path} has {quoted(cell)} in the column {quoted(name)}, where source.target needs numbers from 0 to 1: correct it, or "
                "name other columns"
            )
    if len(names) > 1:
        return _largest(table, numbers)
    name = names[0]
    if not numbers[name].dropna().isin((0, 1)).all():
        raise SourceError(
            f"the column {quoted(name)} of {path} holds other numbers than 0 and 1, so it is no label: name all columns of "
            f"probabilities, as in --set 'source.target=[{name}, ...]'"
        )
    labels = numbers[name].map({1: name, 0: f"not {name}"}).fillna("")
    return table.assign(**{LABEL: labels}), _empty(int((labels == "").sum()), labels, f"the column {quoted(name)}")


def _largest(table: pd.DataFrame, numbers: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    largest = numbers.max(axis="columns")
    count = numbers.eq(largest, axis="index").sum(axis="columns")
    chosen = np.nan_to_num(numbers.to_numpy(), nan=-1.0).argmax(axis=1)
    labels = pd.Series(numbers.columns.to_numpy()[chosen], index=table.index)
    is_none, is_tied = largest == 0, (largest > 0) & (count > 1)
    labels = labels.mask(is_none, NONE).mask(is_tied | largest.isna(), "")
    notes = [
        f"The label is the largest of the columns {enumerated(list(map(shortened, numbers.columns)))} (source.target)"
    ]
    if is_tied.any():
        notes.append(
            f"{is_tied.sum()} of {len(table)} rows have several largest values, such as several ones, among them: they are "
            "unlabelled; to use them, choose one column against the rest with --set source.target=COLUMN"
        )
    if is_none.any():
        notes.append(f"{is_none.sum()} of {len(table)} rows are 0 in all of them: their label is {NONE!r}")
    notes += _empty(int(largest.isna().sum()), labels, "all of them")
    return table.assign(**{LABEL: labels}), notes


def _empty(count: int, labels: pd.Series, where: str) -> list[str]:
    """A note on rows without a value, which may mean that the finding is absent."""
    if not count:
        return []
    return [
        f"{count} of {len(labels)} rows are empty in {where}, and are unlabelled: write 0 where that means that the finding is "
        "absent"
    ]


def _classes(path: Path, table: pd.DataFrame, value: Value) -> list[str]:
    """The columns of classes: all from 0 to 1 if every row of them sums to 1, else those of zeros and ones, if several."""
    numbers = {name: _numbers(table[name], value) for name in table.columns}
    shares = {
        name: cells
        for name, cells in numbers.items()
        if cells.dropna().between(0, 1).all()
        and cells.notna().any()
        and cells.count() == table[name].map(value).count()
    }
    sums = pd.DataFrame(shares, index=table.index).dropna(how="all").sum(axis="columns")
    hard = [name for name, cells in shares.items() if set(cells.dropna()) == {0, 1}]
    for names in (list(shares) if np.allclose(sums, 1, atol=0.02) else [], hard, list(shares)):
        if len(names) > 1:
            return names
    raise SourceError(
        f"{path} has not several columns of zeros and ones for source.target={ARGMAX}: name the columns of the classes, as in "
        "--set 'source.target=[AS, MR]'"
    )


def _column(path: Path, table: pd.DataFrame, wanted: str) -> str:
    by_name = {normal_name(name): name for name in reversed(table.columns)}
    if wanted in table.columns:
        return wanted
    if normal_name(wanted) not in by_name:
        raise SourceError(
            f"{path} has no column {quoted(wanted)}, which source.target names: choose among {enumerated(list(map(shortened, table.columns)))}, or {ARGMAX} "
            "for the column that is 1"
        )
    return by_name[normal_name(wanted)]


def _numbers(cells: pd.Series, value: Value) -> pd.Series:
    """Each cell as a number, NaN where it is none."""
    texts = cells.map(value)
    return pd.to_numeric(texts.map(lambda text: _number_text(text), na_action="ignore"), errors="coerce")


def _number_text(text: str) -> str:
    return re.sub(r"^(\d+),(\d+)$", r"\1.\2", YES_OR_NO.get(text.casefold(), text))
