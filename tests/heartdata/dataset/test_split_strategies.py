"""Each split strategy: known results, what is refused, and no leak on random tables."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from heartdata.checks.groups import subject_units
from heartdata.dataset.inventory import take_inventory
from heartdata.dataset.manifest import build_manifest
from heartdata.dataset.split_strategies import _iterative, by_hash, natural_key
from heartdata.dataset.splits import (
    LABELS_REQUIRED,
    REQUIRED,
    USED_BY,
    SplitConfig,
    Strategy,
    assign_splits,
    split_groups,
)
from heartdata.errors import DataRefused
from heartdata.sources import TableSource
from heartdata.storage.schemas import ACCEPTED, RECORDINGS, SPECTROGRAMS
from heartdata.storage.store import table_from_rows


def recordings(rows: list[dict[str, Any]]) -> pa.Table:
    """A table of schema ACCEPTED; absent values are filled in."""
    full = [{"sha256": f"sha {row['recording_id']}", "source": "t", "collection": "c"} | row for row in rows]
    return pa.Table.from_pylist(full, schema=ACCEPTED)


def clips(count: int, labels: str = "ab", **more: Any) -> list[dict[str, Any]]:
    """Recordings without subjects, numbered from 1 within each label."""
    return [
        {"recording_id": f"{label}/{i}.wav", "label": label} | more for label in labels for i in range(1, count + 1)
    ]


def accepted(subjects: dict[str, str], each: int = 3) -> pa.Table:
    """``each`` recordings per subject; ``subjects`` maps name to label."""
    return recordings([
        {"recording_id": f"{s}-{i}", "label": label, "subject": s} for s, label in subjects.items() for i in range(each)
    ])  # fmt: skip


MANY = {f"s{i:02d}": "ab"[i % 2] for i in range(40)}


def parts_of(table: pa.Table, **config: Any) -> dict[str, str]:
    rows = assign_splits(table, SplitConfig(**config))
    return dict(zip(rows["recording_id"].to_pylist(), rows["part"].to_pylist(), strict=True))


def in_part(parts: dict[str, str], part: str, label: str = "a") -> list[str]:
    return sorted((name for name, value in parts.items() if value == part and name[0] == label), key=natural_key)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"fold": 1}, "split.fold has no effect with split.strategy=subject, only with k_fold"),
     ({"strategy": "k_fold"}, "needs split.folds and split.fold"),
     ({"strategy": "k_fold", "folds": 5}, "needs split.fold"),
     ({"strategy": "k_fold", "folds": 5, "fold": 5}, "with 5 folds it is at most 4"),
     ({"strategy": "k_fold", "folds": 5, "fold": 0, "test_fraction": 0.3}, "test_fraction has no effect"),
     ({"strategy": "leave_one_source_out"}, "needs split.held_out"),
     ({"strategy": "leave_one_source_out", "held_out": "a", "gap": 1}, "gap has no effect"),
     ({"strategy": "column"}, "needs split.column"),
     ({"strategy": "blocks", "seed": 3}, "seed has no effect"),
     ({"strategy": "blocks", "unlabelled": True}, "unlabelled has no effect"),
     ({"strategy": "hash", "attempts": 3}, "attempts has no effect"),
     ({"strategy": "hash", "column": "part"}, "column has no effect"),
     ({"strategy": "random"}, "strategy")],
)  # fmt: skip
def test_settings_without_effect_are_refused_and_required_ones_are_named(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        SplitConfig(**settings)


def test_the_tables_of_strategies_are_complete():
    assert (
        set(LABELS_REQUIRED)
        == set(get_args(Strategy))
        >= {s for users in USED_BY.values() for s in users} | set(REQUIRED)
    )


def test_k_fold_tests_every_recording_once_in_even_folds():
    runs = [assign_splits(accepted(MANY), SplitConfig(strategy="k_fold", folds=5, fold=i)) for i in range(5)]
    folds = runs[0].to_pandas()
    assert folds.groupby(["fold", "label"])["group"].nunique().tolist() == [4] * 10
    assert folds.groupby("group")["fold"].nunique().max() == 1
    for number, run in enumerate(runs):
        assert run["fold"] == runs[0]["fold"]
        assert ((run.to_pandas()["part"] == "test") == (folds["fold"] == number)).all()
        of_a = run.to_pandas().query("label == 'a'")
        assert of_a.groupby("part")["group"].nunique().to_dict() == {"train": 13, "valid": 3, "test": 4}
    assert assign_splits(accepted(MANY), SplitConfig())["fold"].null_count == 120
    with pytest.raises(DataRefused, match="20 subject.s.; 21 are needed, one in each fold.*lower split.folds"):
        assign_splits(accepted(MANY), SplitConfig(strategy="k_fold", folds=21, fold=0))


def test_the_manifest_keeps_the_folds():
    table = accepted(MANY)
    splits = assign_splits(table, SplitConfig(strategy="k_fold", folds=5, fold=2))
    index = [
        {"sha256": s, "shard": "x", "shard_sha256": "y", "start": 0, "frames": 1} for s in table["sha256"].to_pylist()
    ]
    manifest = build_manifest(table, splits, table_from_rows(index, SPECTROGRAMS))
    assert manifest["fold"].to_pylist() == splits["fold"].to_pylist()
    assert set(manifest["fold"].to_pylist()) == {0, 1, 2, 3, 4}


def test_leave_one_source_out_holds_out_a_source_or_a_collection():
    def both(unit: str) -> pa.Table:
        return recordings([row | {"recording_id": row["recording_id"] + unit_name, unit: unit_name}
                           for unit_name in ("x", "y") for row in clips(20)])  # fmt: skip

    config = {"strategy": "leave_one_source_out", "held_out": "y"}
    for unit in ("source", "collection"):
        parts = parts_of(both(unit), **config)
        assert {name for name, part in parts.items() if part == "test"} == {n for n in parts if n.endswith("y")}
        assert len(in_part(parts, "valid")) == len(in_part(parts, "valid", "b")) == 4
    with pytest.raises(
        DataRefused, match="split.held_out='z' is not a source or collection in use: set it to one of x, y"
    ):
        parts_of(both("collection"), strategy="leave_one_source_out", held_out="z")
    with pytest.raises(DataRefused, match="of one source and one collection, 'c'"):
        parts_of(recordings(clips(9)), **config)


def test_groups_partly_in_the_held_out_source_are_only_tested():
    rows = [row | {"recording_id": row["recording_id"] + c, "collection": c, "subject": f"{c}{row['recording_id']}"}
            for c in "xy" for row in clips(9)]  # fmt: skip
    held_out = {"strategy": "leave_one_source_out", "held_out": "y"}
    every = parts_of(recordings(rows), **held_out)
    for common in ({"subject": "Anna"}, {"near_group": "n1"}):
        shared = [row | (common if row["recording_id"].startswith("a/1") else {}) for row in rows]
        parts = parts_of(recordings(shared), **held_out)
        assert in_part(parts, "test") == in_part(every, "test")
        assert set(every) - set(parts) == {"a/1.wavx"}
    one_sided = [row for row in rows if row["collection"] == "y" or row["label"] == "a"]
    with pytest.raises(DataRefused, match="leaves train without the label 'b': hold out another"):
        parts_of(recordings(one_sided), **held_out)


def test_blocks_are_contiguous_in_natural_order():
    parts = parts_of(recordings(clips(20)), strategy="blocks")
    for label in "ab":
        names = [[f"{label}/{i}.wav" for i in numbers] for numbers in (range(1, 13), range(13, 17), range(17, 21))]
        assert [in_part(parts, part, label) for part in ("train", "valid", "test")] == names


def test_blocks_leave_a_gap_on_each_border():
    parts = parts_of(recordings(clips(24)), strategy="blocks", gap=2)
    assert len(in_part(parts, "train")) == 12
    assert in_part(parts, "valid") == [f"a/{i}.wav" for i in range(15, 19)]
    assert in_part(parts, "test") == [f"a/{i}.wav" for i in range(21, 25)]
    with pytest.raises(
        DataRefused, match="leaves valid without the label 'a': add recordings with that label, lower split.gap"
    ):
        parts_of(recordings(clips(24)), strategy="blocks", gap=11)


def test_blocks_keep_near_duplicates_in_one_part_and_refuse_subjects():
    rows = clips(20)
    for row in rows[14:18]:  # a/15 .. a/18: two in valid, two in test
        row["near_group"] = "n"
    parts = parts_of(recordings(rows), strategy="blocks")
    assert in_part(parts, "valid") == ["a/13.wav", "a/14.wav"]
    assert in_part(parts, "test") == [f"a/{i}.wav" for i in range(17, 21)]
    with pytest.raises(DataRefused, match="for recordings without subjects: use split.strategy=subject"):
        parts_of(recordings(clips(20, subject="Anna")), strategy="blocks")


def with_column(words: dict[str, str]) -> pa.Table:
    """Recordings whose source has a column Set."""
    rows = [{"recording_id": name, "extra": json.dumps({"Set": word, "age": 9})} for name, word in words.items()]
    return pa.Table.from_pylist(rows, schema=RECORDINGS)


def test_the_parts_of_the_users_own_column_are_used():
    words = ["Training", "train", " dev ", "val", "TEST", "testing"]
    ids = [row["recording_id"] for row in clips(12)]
    listed = with_column({name: words[i % 6] for i, name in enumerate(ids)})
    table = assign_splits(recordings(clips(12)), SplitConfig(strategy="column", column="Set"), listed).to_pandas()
    assert (
        table.set_index("recording_id")["part"][ids].tolist()
        == ["train", "train", "valid", "valid", "test", "test"] * 4
    )


def test_without_valid_in_the_column_it_is_taken_from_train():
    rows = [row | {"subject": f"s{i // 2}"} for i, row in enumerate(clips(40))]
    listed = with_column({row["recording_id"]: "test" if i % 4 < 2 else "train" for i, row in enumerate(rows)})
    found = assign_splits(recordings(rows), SplitConfig(strategy="column", column="Set"), listed).to_pandas()
    assert found.groupby("part").size().to_dict() == {"train": 32, "valid": 8, "test": 40}
    assert found.groupby("group")["part"].nunique().max() == 1


def test_an_unusable_column_is_refused():
    rows = [row | {"subject": row["recording_id"]} for row in clips(6)]
    words = {row["recording_id"]: ["train", "valid", "test"][i % 3] for i, row in enumerate(rows)}

    def refused(message: str, column: str = "Set", rows: list = rows, **changed: str) -> None:
        changed = {name.replace("_", "/") + ".wav": word for name, word in changed.items()}
        config = SplitConfig(strategy="column", column=column)
        with pytest.raises(DataRefused, match=message):
            assign_splits(recordings(rows), config, with_column(words | changed))

    refused("has 'tset' for the recording 'b/2.wav' .1 such in all.: write one of train", b_2="tset")
    refused("no recording has a column 'fold'.*: Set, age", column="fold")
    one_subject = [row | {"subject": "Anna"} for row in rows]
    refused("would be in test and in train and in valid by the column 'Set'", rows=one_subject)
    refused("leaves train without the label 'b': correct the column", b_1="test", b_4="test")
    refused("leaves test with 1 label.s., which is too few", b_3="train", b_6="train")


RANK = {"train": 0, "valid": 1, "test": 2}


def test_hash_is_stable_across_versions_and_fractions_hold_in_expectation():
    people = accepted({f"s{i}": "ab"[i % 2] for i in range(2000)}, each=1)
    parts = parts_of(people, strategy="hash", test_fraction=0.3, valid_fraction=0.1)
    shares = pd.Series(parts).value_counts(normalize=True)
    assert shares[["test", "valid"]].tolist() == pytest.approx([0.3, 0.1], abs=0.03)
    assert [parts[f"s{i}-0"] for i in range(7)] == ["test", "train", "test", "train", "train", "train", "train"]
    assert parts != parts_of(people, strategy="hash", test_fraction=0.3, valid_fraction=0.1, seed=1)


def test_hash_moves_nobody_when_recordings_are_added_removed_or_reordered():
    rng = np.random.default_rng(0)
    table = accepted({f"s{i}": "ab"[i % 2] for i in range(300)}, each=2)
    for seed in range(5):
        samples = [table.take(rng.permutation(600)[: rng.integers(300, 601)]) for _ in range(3)]
        before, *others = (parts_of(sample, strategy="hash", seed=seed) for sample in samples)
        assert all(before[name] == after[name] for after in others for name in before.keys() & after.keys())


def test_hash_moves_no_subject_out_of_the_test_part_when_it_is_spelled_differently(tmp_path: Path):
    def night(rows: list[str]) -> dict[str, str]:
        (tmp_path / "t.csv").write_text("\n".join(["file,label,subject", *rows]))
        for row in rows:
            (tmp_path / row.partition(",")[0]).write_text(row)
        listed, _ = take_inventory(TableSource(data=tmp_path / "t.csv"), tmp_path)
        table = pa.Table.from_pandas(listed.to_pandas().reindex(columns=ACCEPTED.names), schema=ACCEPTED)
        return dict(
            assign_splits(table, SplitConfig(strategy="hash"), listed).to_pandas()[["recording_id", "part"]].values
        )

    def rows(number: int, subject: str, label: str | None = None) -> list[str]:
        return [f"{i}-{number}.wav,{'ab'[i % 2] if label is None else label},{subject.format(i)}" for i in range(60)]

    first, later = rows(0, "P{}"), [*rows(0, "P{}"), *rows(1, "p{}"), *rows(2, "p{}")]
    parts = [night(first), night(later), night([*first, *rows(3, "p{}", "") * 2]), night([*later, *rows(4, "P{}") * 4])]
    for before, after in pairwise(parts[i] for i in (0, 1, 3)):
        assert all(RANK[after[name]] >= RANK[part] for name, part in before.items())
    assert parts[1] == {name: parts[3][name] for name in parts[1]}
    assert {name: parts[1][name] for name in parts[0]} == parts[2]
    assert list(parts[0].values()).count("test") < [parts[1][name] for name in parts[0]].count("test")


def test_hash_near_duplicates_move_subjects_into_the_test_part_and_never_out_of_it():
    rng = np.random.default_rng(2)
    frame, moved = accepted({f"s{i}": "ab"[i % 2] for i in range(200)}, each=1).to_pandas(), 0

    def ranks(rows: pd.DataFrame, **columns: pd.Series) -> pd.Series:
        rows = rows.assign(**{"unit": subject_units(rows), "group": split_groups(rows), **columns})
        parts = by_hash(rows, (0.6, 0.2, 0.2), 0)
        assert parts.groupby(rows["group"]).nunique().max() == 1
        return parts.map(RANK)

    for _ in range(20):
        near = [f'["n{rng.integers(60)}"]' if rng.random() < 0.5 else None for _ in range(len(frame))]
        later = frame.assign(near_group=near)
        known = later.sample(frac=0.5, random_state=rng)
        alone, first, second = ranks(later, group=subject_units(later)), ranks(known), ranks(later)
        assert (second >= alone).all()
        assert (second.loc[known.index] >= first).all()
        moved += int((second.loc[known.index] > first).sum())
    assert moved


def test_hash_refuses_a_class_without_test():
    with pytest.raises(
        DataRefused, match="leaves t.* without the label 'c': use split.strategy=subject, another split.seed, or more"
    ):
        parts_of(accepted({**MANY, "c0": "c"}), strategy="hash")


SETTINGS: dict[str, dict[str, Any]] = {
    "subject": {"attempts": 2},
    "k_fold": {"folds": 4, "fold": 1, "attempts": 2},
    "leave_one_source_out": {"held_out": "y", "attempts": 2},
    "blocks": {"gap": 1},
    "column": {"column": "Set", "attempts": 2},
    "hash": {},
}


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_no_strategy_leaks(strategy: str):
    """Random tables are split without a group in two parts and with all labels in train; some are refused."""
    rng, accepted_tables = np.random.default_rng(7), 0
    for _ in range(15):
        people, far = int(rng.integers(30, 80)), rng.random() < 0.7
        person = rng.integers(0, people, 200)
        side = person % 2
        frame = pd.DataFrame({
            "subject": [f"p{p}" if rng.random() < 0.9 and strategy != "blocks" else None for p in person],
            "collection": np.where(side, "y", "x"),
            "near_group": [f'["n{rng.integers(40) * 2 + s * far}"]' if rng.random() < 0.1 else None for s in side],
            "label": ["abc"[rng.integers(3)] for _ in side],
            "recording_id": [f"r{i}" for i in rng.permutation(200)],
        }).astype(object)  # fmt: skip
        frame = frame.where(frame.notna(), None)
        words = frame.set_index("recording_id")["collection"].map({"x": "train", "y": "test"}).to_dict()
        config = SplitConfig(strategy=strategy, **SETTINGS[strategy])
        try:
            table = assign_splits(recordings(frame.to_dict("records")), config, with_column(words)).to_pandas()
        except DataRefused:
            continue
        accepted_tables += 1
        table = table.merge(frame.drop(columns="label"), on="recording_id")
        for column in ("group", "subject", "near_group", "sha256"):
            assert table.groupby(column)["part"].nunique().le(1).all()
        assert set(table.loc[table["part"] == "train", "label"]) == {"a", "b", "c"}
        assert set(table["part"]) == {"train", "valid", "test"}
    assert accepted_tables >= 5


def test_trials_run_together_equal_trials_run_alone():
    held = np.random.default_rng(0).poisson(0.6, (60, 3)) + np.eye(3, dtype=int)[np.arange(60) % 3]
    fractions = np.array([0.6, 0.2, 0.2])
    seeds = [0, 1000, 2000]
    together = _iterative(held, fractions, seeds)
    assert np.array_equal(together, np.concatenate([_iterative(held, fractions, [seed]) for seed in seeds]))
