"""Each way to part recordings: known answers, what is refused, and no leak on random tables."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from heartdata.dataset.inventory import take_inventory
from heartdata.dataset.manifest import build_manifest
from heartdata.dataset.split_strategies import _iterative, by_hash, natural_key
from heartdata.dataset.splits import (
    BELONGS,
    COMPLETE,
    NEEDED,
    SplitConfig,
    Strategy,
    assign_splits,
    split_groups,
    subject_units,
)
from heartdata.errors import DataRefused
from heartdata.sources import TableSource
from heartdata.storage.schemas import ACCEPTED, RECORDINGS, SPECTROGRAMS
from heartdata.storage.store import table_from_rows


def recordings(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of schema ACCEPTED, and near_group where one is given; absent values are filled in."""
    full = [{"sha256": f"sha {row['recording_id']}", "source": "t", "collection": "c"} | row for row in rows]
    near = ["near_group"] if any("near_group" in row for row in rows) else []
    schema = ACCEPTED if not near or "near_group" in ACCEPTED.names else ACCEPTED.append(pa.field(*near, pa.string()))
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in full], schema=schema)


def clips(count: int, labels: str = "ab", **more: Any) -> list[dict[str, Any]]:
    """Recordings without subjects, numbered in sequence from 1 in each label."""
    return [
        {"recording_id": f"{label}/{i}.wav", "label": label} | more for label in labels for i in range(1, count + 1)
    ]


def accepted(subjects: dict[str, str], each: int = 3) -> pa.Table:
    """``each`` recordings a subject; ``subjects`` maps name to label."""
    return recordings([
        {"recording_id": f"{s}-{i}", "label": label, "subject": s} for s, label in subjects.items() for i in range(each)
    ])  # fmt: skip


MANY = {f"s{i:02d}": "ab"[i % 2] for i in range(40)}


def parts_of(table: pa.Table, **config: Any) -> dict[str, str]:
    rows = assign_splits(table, SplitConfig(**config))
    return dict(zip(rows["recording_id"].to_pylist(), rows["part"].to_pylist(), strict=True))


def subjects_of(table: pa.Table, label: str) -> dict[str, int]:
    rows = table.to_pandas()
    return rows[rows["label"] == label].groupby("part")["group"].nunique().to_dict()


def in_part(parts: dict[str, str], part: str, label: str = "a") -> list[str]:
    return sorted((name for name, found in parts.items() if found == part and name[0] == label), key=natural_key)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"fold": 1}, "the strategy subject knows no fold, which is for: k_fold"),
     ({"strategy": "k_fold"}, "needs split.folds and split.fold"),
     ({"strategy": "k_fold", "folds": 5}, "needs split.fold"),
     ({"strategy": "k_fold", "folds": 5, "fold": 5}, "with 5 folds it is at most 4"),
     ({"strategy": "k_fold", "folds": 5, "fold": 0, "test_fraction": 0.3}, "k_fold knows no test_fraction"),
     ({"strategy": "leave_one_source_out"}, "needs split.held_out"),
     ({"strategy": "leave_one_source_out", "held_out": "a", "gap": 1}, "knows no gap"),
     ({"strategy": "column"}, "needs split.column"),
     ({"strategy": "blocks", "seed": 3}, "blocks knows no seed"),
     ({"strategy": "hash", "attempts": 3}, "hash knows no attempts"),
     ({"strategy": "hash", "column": "part"}, "hash knows no column"),
     ({"strategy": "random"}, "strategy")],
)  # fmt: skip
def test_settings_of_another_strategy_are_refused(settings: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        SplitConfig(**settings)


def test_every_strategy_is_known_to_every_table_and_survives_json():
    assert set(COMPLETE) == set(get_args(Strategy)) >= {s for known in BELONGS.values() for s in known} | set(NEEDED)
    config = SplitConfig(strategy="k_fold", folds=4, fold=3)
    assert SplitConfig.model_validate_json(config.model_dump_json()) == config


def test_k_fold_every_recording_is_tested_once_and_folds_are_even():
    runs = [assign_splits(accepted(MANY), SplitConfig(strategy="k_fold", folds=5, fold=i)) for i in range(5)]
    folds = runs[0].to_pandas()
    assert folds.groupby(["fold", "label"])["group"].nunique().tolist() == [4] * 10
    assert folds.groupby("group")["fold"].nunique().max() == 1
    for number, run in enumerate(runs):
        assert run["fold"] == runs[0]["fold"]
        assert ((run.to_pandas()["part"] == "test") == (folds["fold"] == number)).all()
        assert subjects_of(run, "a") == {"train": 13, "valid": 3, "test": 4}
    assert assign_splits(accepted(MANY), SplitConfig())["fold"].null_count == 120
    with pytest.raises(DataRefused, match="20 subject.s.; 21 are needed, one in each fold.*lower split.folds"):
        assign_splits(accepted(MANY), SplitConfig(strategy="k_fold", folds=21, fold=0))


def test_the_manifest_keeps_the_folds():
    table = accepted(MANY)
    splits = assign_splits(table, SplitConfig(strategy="k_fold", folds=5, fold=2))
    rendered = table_from_rows(
        [
            {"sha256": s, "shard": "x", "shard_sha256": "y", "start": 0, "frames": 1}
            for s in table["sha256"].to_pylist()
        ],
        SPECTROGRAMS,
    )
    made = build_manifest(table, splits, rendered)
    assert made["fold"].to_pylist() == splits["fold"].to_pylist()
    assert set(made["fold"].to_pylist()) == {0, 1, 2, 3, 4}


def test_leave_one_source_out_holds_out_a_source_or_a_collection():
    def both(unit: str) -> pa.Table:
        return recordings([row | {"recording_id": row["recording_id"] + unit_name, unit: unit_name}
                           for unit_name in ("x", "y") for row in clips(20)])  # fmt: skip

    config = {"strategy": "leave_one_source_out", "held_out": "y"}
    for unit in ("source", "collection"):
        parts = parts_of(both(unit), **config)
        assert {name for name, part in parts.items() if part == "test"} == {n for n in parts if n.endswith("y")}
        assert len(in_part(parts, "valid")) == len(in_part(parts, "valid", "b")) == 4
    with pytest.raises(DataRefused, match="no source or collection 'z' to hold out: set split.held_out to one of x, y"):
        parts_of(both("collection"), strategy="leave_one_source_out", held_out="z")
    with pytest.raises(DataRefused, match="of one source and one collection, 'c'"):
        parts_of(recordings(clips(9)), **config)


def test_who_stands_on_both_sides_of_what_is_held_out_is_tested_alone():
    rows = [row | {"recording_id": row["recording_id"] + c, "collection": c, "subject": f"{c}{row['recording_id']}"}
            for c in "xy" for row in clips(9)]  # fmt: skip
    held_out = {"strategy": "leave_one_source_out", "held_out": "y"}
    every = parts_of(recordings(rows), **held_out)
    for shared in ({"subject": "Anna"}, {"near_group": "n1"}):
        torn = [row | (shared if row["recording_id"].startswith("a/1") else {}) for row in rows]
        parts = parts_of(recordings(torn), **held_out)
        assert in_part(parts, "test") == in_part(every, "test")
        assert set(every) - set(parts) == {"a/1.wavx"}
    one_sided = [row for row in rows if row["collection"] == "y" or row["label"] == "a"]
    with pytest.raises(DataRefused, match="leaves no recording of the label 'b' to train: hold out another"):
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
    with pytest.raises(DataRefused, match="label 'a' to valid: add recordings with that label, lower split.gap"):
        parts_of(recordings(clips(24)), strategy="blocks", gap=11)


def test_blocks_keep_near_duplicates_on_one_side_and_refuse_subjects():
    rows = clips(20)
    for row in rows[14:18]:  # a/15 .. a/18: two in valid, two in test
        row["near_group"] = "n"
    parts = parts_of(recordings(rows), strategy="blocks")
    assert in_part(parts, "valid") == ["a/13.wav", "a/14.wav"]
    assert in_part(parts, "test") == [f"a/{i}.wav" for i in range(17, 21)]
    with pytest.raises(DataRefused, match="for recordings without subjects: use split.strategy=subject"):
        parts_of(recordings(clips(20, subject="Anna")), strategy="blocks")


def said_by(words: dict[str, str]) -> pa.Table:
    return table_from_rows(
        [{**dict.fromkeys(RECORDINGS.names), "recording_id": name, "extra": json.dumps({"Set": word, "age": 9})}
         for name, word in words.items()],
        RECORDINGS,
    )  # fmt: skip


def test_the_users_own_column_is_followed():
    words = ["Training", "train", " dev ", "val", "TEST", "testing"]
    listed = said_by({row["recording_id"]: words[i % 6] for i, row in enumerate(clips(12))})
    config = SplitConfig(strategy="column", column="Set")
    found = (
        assign_splits(recordings(clips(12)), config, listed)
        .to_pandas()
        .sort_values("recording_id", key=lambda ids: ids.map(natural_key))
    )
    assert found["part"].tolist() == ["train", "train", "valid", "valid", "test", "test"] * 4


def test_without_valid_in_the_column_groups_of_train_become_it():
    rows = [row | {"subject": f"s{i // 2}"} for i, row in enumerate(clips(40))]
    listed = said_by({row["recording_id"]: "test" if i % 4 < 2 else "train" for i, row in enumerate(rows)})
    found = assign_splits(recordings(rows), SplitConfig(strategy="column", column="Set"), listed).to_pandas()
    assert found.groupby("part").size().to_dict() == {"train": 32, "valid": 8, "test": 40}
    assert found.groupby("group")["part"].nunique().max() == 1


def test_a_column_that_cannot_be_followed_is_refused():
    rows = [row | {"subject": row["recording_id"]} for row in clips(6)]
    words = {row["recording_id"]: ["train", "valid", "test"][i % 3] for i, row in enumerate(rows)}
    config = SplitConfig(strategy="column", column="Set")
    with pytest.raises(DataRefused, match="says 'tset' of the recording 'b/2.wav' .1 such in all.: write one of train"):
        assign_splits(recordings(rows), config, said_by({**words, "b/2.wav": "tset"}))
    with pytest.raises(DataRefused, match="no recording has a column 'fold'.*: Set, age"):
        assign_splits(recordings(rows), SplitConfig(strategy="column", column="fold"), said_by(words))
    with pytest.raises(DataRefused, match="would stand in test and in train and in valid as the column 'Set' says"):
        assign_splits(recordings([row | {"subject": "Anna"} for row in rows]), config, said_by(words))
    with pytest.raises(DataRefused, match="leaves no recording of the label 'b' to train: mend the column"):
        assign_splits(recordings(rows), config, said_by({n: "test" if n[0] == "b" else w for n, w in words.items()}))
    with pytest.raises(DataRefused, match="leaves 1 label.s. to test, which is too few"):
        assign_splits(
            recordings(rows),
            config,
            said_by({n: "train" if n == "b/3.wav" or n == "b/6.wav" else w for n, w in words.items()}),
        )


def test_hash_is_what_it_was_and_shares_hold_in_expectation():
    people = accepted({f"s{i}": "ab"[i % 2] for i in range(2000)}, each=1)
    found = parts_of(people, strategy="hash", test_fraction=0.3, valid_fraction=0.1)
    assert pd.Series(found).value_counts(normalize=True)[["test", "valid"]].tolist() == pytest.approx(
        [0.3, 0.1], abs=0.03
    )
    assert [found[f"s{i}-0"] for i in range(7)] == ["test", "train", "test", "train", "train", "train", "train"]
    assert found != parts_of(people, strategy="hash", test_fraction=0.3, valid_fraction=0.1, seed=1)


def test_hash_moves_nobody_whatever_comes_goes_or_changes_place():
    rng = np.random.default_rng(0)
    for trial in range(20):
        everybody = accepted({f"s{i}": "ab"[i % 2] for i in range(300)}, each=2)
        config = {"strategy": "hash", "seed": trial}
        before, *others = (
            parts_of(everybody.take(rng.permutation(600)[: rng.integers(300, 601)]), **config) for _ in range(3)
        )
        for after in others:
            assert {n: p for n, p in after.items() if n in before} == {n: p for n, p in before.items() if n in after}


def test_hash_near_duplicates_draw_into_the_test_part_and_never_out_of_it():
    rng = np.random.default_rng(1)
    frame = accepted({f"s{i}": "ab"[i % 2] for i in range(200)}, each=1).to_pandas()
    rank = {"train": 0, "valid": 1, "test": 2}
    for _ in range(20):
        frame["near_group"] = [f'["n{rng.integers(60)}"]' if rng.random() < 0.5 else None for _ in range(len(frame))]
        rows = frame.assign(unit=subject_units(frame), group=split_groups(frame))
        alone = by_hash(rows.assign(group=rows["unit"]), (0.6, 0.2, 0.2), 0)
        tied = by_hash(rows, (0.6, 0.2, 0.2), 0)
        assert (tied.map(rank) >= alone.map(rank)).all()
        assert tied.groupby(rows["group"]).nunique().max() == 1


def test_hash_moves_nobody_out_of_the_test_part_who_is_spelled_in_another_way(tmp_path: Path):
    def night(rows: list[str]) -> dict[str, str]:
        (tmp_path / "t.csv").write_text("\n".join(["file,label,subject", *rows]))
        for row in rows:
            (tmp_path / row.partition(",")[0]).write_text(row)
        listed, _ = take_inventory(TableSource(data=tmp_path / "t.csv"), tmp_path)
        table = pa.Table.from_pandas(listed.to_pandas().reindex(columns=ACCEPTED.names), schema=ACCEPTED)
        parts = assign_splits(table, SplitConfig(strategy="hash"), listed).to_pandas()
        return dict(zip(parts["recording_id"], parts["part"], strict=True))

    def rows(number: int, subject: str, label: str | None = None) -> list[str]:
        return [f"{i}-{number}.wav,{'ab'[i % 2] if label is None else label},{subject.format(i)}" for i in range(60)]

    first, later = rows(0, "P{}"), [*rows(0, "P{}"), *rows(1, "p{}"), *rows(2, "p{}")]
    parts = [night(first), night(later), night([*first, *rows(3, "p{}", "") * 2]), night([*later, *rows(4, "P{}") * 4])]
    rank = {"train": 0, "valid": 1, "test": 2}
    for before, after in pairwise(parts[i] for i in (0, 1, 3)):
        assert all(rank[after[name]] >= rank[part] for name, part in before.items())
    assert parts[1] == {name: parts[3][name] for name in parts[1]}
    assert {name: parts[1][name] for name in parts[0]} == parts[2]
    assert list(parts[0].values()).count("test") < [parts[1][name] for name in parts[0]].count("test")


def test_hash_near_duplicates_of_a_later_night_draw_into_the_test_part_and_never_out_of_it():
    rng = np.random.default_rng(2)
    frame = accepted({f"s{i}": "ab"[i % 2] for i in range(200)}, each=1).to_pandas()
    rank, moved = {"train": 0, "valid": 1, "test": 2}, 0

    def night(rows: pd.DataFrame) -> pd.Series:
        tied = rows.assign(unit=subject_units(rows), group=split_groups(rows))
        return by_hash(tied, (0.6, 0.2, 0.2), 0).map(rank)

    for _ in range(20):
        tonight = [f'["n{rng.integers(60)}"]' if rng.random() < 0.5 else None for _ in range(len(frame))]
        later = frame.assign(near_group=tonight)
        known = later.sample(frac=0.5, random_state=rng)
        first, second = night(known), night(later).loc[known.index]
        assert (second >= first).all()
        moved += int((second > first).sum())
    assert moved


def test_hash_refuses_a_class_without_test():
    with pytest.raises(DataRefused, match="label 'c' to t.*use split.strategy=subject, another split.seed, or more"):
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
    """Random tables: what is parted has no group on two sides and all labels to train; some tables are refused."""
    rng, parted = np.random.default_rng(7), 0
    for _ in range(15):
        people, far = int(rng.integers(30, 80)), rng.random() < 0.7
        frame = pd.DataFrame({"person": rng.integers(0, people, 200)})
        side = frame["person"] % 2
        frame["subject"] = [f"p{p}" if rng.random() < 0.9 and strategy != "blocks" else None for p in frame["person"]]
        frame["collection"] = side.map({0: "x", 1: "y"})
        frame["near_group"] = [
            f'["n{rng.integers(40) * 2 + (s if far else 0)}"]' if rng.random() < 0.1 else None for s in side
        ]
        frame["label"] = ["abc"[rng.integers(3)] for _ in side]
        frame["recording_id"] = [f"r{i}" for i in rng.permutation(200)]
        listed = said_by(
            {row.recording_id: ("train", "test")[int(row.collection == "y")] for row in frame.itertuples()}
        )
        try:
            table = assign_splits(
                recordings(frame.astype(object).where(frame.notna(), None).to_dict("records")),
                SplitConfig(strategy=strategy, **SETTINGS[strategy]),
                listed,
            )
        except DataRefused:
            continue
        parted += 1
        found = table.to_pandas().merge(frame.drop(columns="label"), on="recording_id")
        for column in ("group", "subject", "near_group", "sha256"):
            assert found.groupby(column)["part"].nunique().le(1).all()
        assert set(found.loc[found["part"] == "train", "label"]) == {"a", "b", "c"}
        assert set(found["part"]) == {"train", "valid", "test"}
    assert parted >= 5


def test_trials_side_by_side_are_the_trials_alone():
    held = np.random.default_rng(0).poisson(0.6, (60, 3)) + np.eye(3, dtype=int)[np.arange(60) % 3]
    fractions = np.array([0.6, 0.2, 0.2])
    seeds = [0, 1000, 2000]
    together = _iterative(held, fractions, seeds)
    assert np.array_equal(together, np.concatenate([_iterative(held, fractions, [seed]) for seed in seeds]))
