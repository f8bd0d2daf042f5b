"""Splits by subject: no leak, every class in every part, deterministic; unlabelled recordings; leaks are refused."""

import json

import pandas as pd
import pyarrow as pa
import pytest

from heartdata.checks.duplicates import mark_duplicates
from heartdata.dataset.splits import SplitConfig, assign_splits, check_no_leak, split_groups, subjects_that_changed_part
from heartdata.errors import DataRefused, LeakError
from heartdata.storage.schemas import ACCEPTED
from heartdata.storage.shards import into_shards, shard_count


def accepted(subjects: dict[str, str], each: int = 3, known: bool = True) -> pa.Table:
    """``each`` recordings per subject; ``subjects`` maps name to label."""
    rows = [
        {"recording_id": f"{s}-{i}", "sha256": f"{s}{i}", "source": "t", "collection": "c", "label": label or None,
         "subject": s if known else None}
        for s, label in subjects.items() for i in range(each)
    ]  # fmt: skip
    frame = pd.DataFrame(rows).reindex(columns=ACCEPTED.names)
    return pa.Table.from_pandas(frame, schema=ACCEPTED, preserve_index=False)


MANY = {f"s{i:02d}": "ab"[i % 2] for i in range(40)}


def split(subjects: dict[str, str], **settings: float) -> pd.DataFrame:
    return assign_splits(accepted(subjects), SplitConfig(**settings)).to_pandas()


def test_no_subject_is_in_two_parts_and_fractions_are_kept():
    table = split(MANY)
    assert table.groupby("group")["part"].nunique().max() == 1
    assert table.groupby("part").size().to_dict() == {"train": 72, "valid": 24, "test": 24}
    assert table.groupby(["part", "label"]).size().to_dict()[("test", "a")] == 12


def test_the_split_depends_on_the_seed_and_not_on_the_order():
    table = accepted(MANY)
    reverse = table.take(list(range(table.num_rows))[::-1])
    assert assign_splits(table, SplitConfig()).equals(assign_splits(reverse, SplitConfig()))
    assert not assign_splits(table, SplitConfig()).equals(assign_splits(table, SplitConfig(seed=1)))


def test_unlabelled_and_other_collections_are_left_out():
    table = assign_splits(accepted({**MANY, "unknown": ""}), SplitConfig(collections=("c",)))
    assert table.num_rows == 120
    with pytest.raises(DataRefused, match="names 'C', of which there is no recording; existing collections: c"):
        assign_splits(accepted(MANY), SplitConfig(collections=("c", "C")))


def test_a_collection_of_quarantined_recordings_is_not_unknown():
    refused = [{"recording_id": "r", "sha256": "r", "source": "t", "collection": "d", "label": "a", "subject": None}]
    listed = pa.Table.from_pylist([*accepted(MANY).select(list(refused[0])).to_pylist(), *refused])
    assert assign_splits(accepted(MANY), SplitConfig(collections=("c", "d")), listed).num_rows == 120
    with pytest.raises(DataRefused, match=r"in split.collections = \('d',\)"):
        assign_splits(accepted(MANY), SplitConfig(collections=("d",)), listed)


def with_rows(table: pa.Table, *rows: dict) -> pa.Table:
    added = pd.DataFrame(rows).reindex(columns=ACCEPTED.names).assign(source="t")
    return pa.concat_tables([table, pa.Table.from_pandas(added, schema=ACCEPTED, preserve_index=False)])


def new(recording_id: str, subject: str, **values: str) -> dict[str, str]:
    """An unlabelled recording."""
    return {"recording_id": recording_id, "sha256": recording_id, "collection": "c", "subject": subject, **values}


def unlabelled(table: pd.DataFrame) -> set[str]:
    return set(table.loc[table["part"] == "unlabelled", "recording_id"])


@pytest.mark.parametrize("strategy", [{}, {"strategy": "k_fold", "folds": 4, "fold": 1}, {"strategy": "hash"}])
def test_unlabelled_recordings_are_kept_unless_connected_to_valid_or_test(strategy: dict):
    labelled = assign_splits(accepted(MANY), SplitConfig(**strategy)).to_pandas()
    subject_in = labelled.drop_duplicates("part").set_index("part")["group"].str.removeprefix("t/")
    frame = accepted(MANY).to_pandas()
    near = json.dumps(sorted([f"t/{subject_in['test']}", "t/new"]))
    frame.loc[frame["recording_id"] == f"{subject_in['test']}-0", "near_group"] = near
    table = pa.Table.from_pandas(frame, schema=ACCEPTED, preserve_index=False)
    added = [new(f"u-{part}", subject) for part, subject in subject_in.items()]
    added += [new("u-near", "new", near_group=near), new("u-other", "elsewhere", collection="d")]
    added += [new(f"u-{i}", f"p{i}") for i in range(30)]
    config = SplitConfig(**strategy, unlabelled=True, collections=("c",))
    result = assign_splits(with_rows(table, *added), config).to_pandas()
    kept = unlabelled(result)
    assert {"u-train", "u-valid", "u-test", "u-near", "u-other"} & kept == {"u-train"}
    assert (len(kept) == 31) == (config.strategy != "hash")  # by hash, some will be tested once they have a label
    others = result[result["part"] != "unlabelled"].reset_index(drop=True)
    pd.testing.assert_frame_equal(others, labelled, check_dtype=False)
    assert set(result.loc[result["recording_id"] == "u-train", "group"]) == {f"t/{subject_in['train']}"}


def test_by_hash_an_unlabelled_recording_is_kept_if_its_subject_will_be_in_train():
    rows = [new(f"u-{i}", f"p{i}") for i in range(30)]
    config = SplitConfig(strategy="hash", unlabelled=True)
    kept = unlabelled(assign_splits(with_rows(accepted(MANY), *rows), config).to_pandas())
    later = assign_splits(with_rows(accepted(MANY), *(row | {"label": "a"} for row in rows)), config).to_pandas()
    in_train = later.loc[later["part"] == "train", "recording_id"]
    assert kept == set(in_train[in_train.str.startswith("u-")])


@pytest.mark.parametrize("unit", ["source", "collection"])
def test_unlabelled_recordings_of_a_held_out_source_are_not_trained_on(unit: str):
    frame = with_rows(accepted(MANY), new("u-x", "x"), new("u-y", "y")).to_pandas().assign(source="s", collection="c")
    frame[unit] = ["y" if subject > "s19" and subject != "x" else "x" for subject in frame["subject"]]
    table = pa.Table.from_pandas(frame, schema=ACCEPTED, preserve_index=False)
    config = SplitConfig(strategy="leave_one_source_out", held_out="y", unlabelled=True)
    assert unlabelled(assign_splits(table, config).to_pandas()) == {"u-x"}


@pytest.mark.parametrize("part", ["valid", "test"])
def test_an_unlabelled_recording_of_a_group_in_valid_or_test_is_a_leak(part: str):
    rows = {"group": ["a", "a", "b"], "sha256": ["1", "2", "3"], "part": ["unlabelled", "train", part]}
    check_no_leak(pd.DataFrame(rows))
    with pytest.raises(LeakError, match="values of group are in two parts"):
        check_no_leak(pd.DataFrame({**rows, "group": ["b", "a", "b"]}))


def test_a_setting_that_is_off_is_left_out_of_the_digest():
    assert not {"unlabelled", "train_share"} & set(SplitConfig().model_dump())
    assert len({c.digest() for c in (SplitConfig(), SplitConfig(unlabelled=True), SplitConfig(train_share=0.5))}) == 3


def test_without_subjects_each_recording_is_a_group():
    table = assign_splits(accepted(MANY, known=False), SplitConfig())
    assert table.to_pandas()["group"].nunique() == 120


def shares(table: pd.DataFrame, label: str) -> dict[str, int]:
    return table[table["label"] == label].groupby("part")["group"].nunique().to_dict()


def test_a_rare_class_is_in_every_part_and_changes_no_other_class():
    table = split({**{f"a{i}": "a" for i in range(200)}, "b0": "b", "b1": "b", "b2": "b"})
    assert shares(table, "a") == {"train": 120, "valid": 40, "test": 40}
    assert shares(table, "b") == {"train": 1, "valid": 1, "test": 1}


def test_other_fractions_are_kept():
    table = split(MANY, test_fraction=0.4, valid_fraction=0.1)
    assert shares(table, "a") == shares(table, "b") == {"train": 10, "valid": 2, "test": 8}
    with pytest.raises(ValueError, match=r"must leave at least .1 to train on"):
        SplitConfig(test_fraction=0.5, valid_fraction=0.5)


def test_subjects_with_recordings_of_two_classes_stay_whole():
    two = accepted({f"s{i}": "a" for i in range(20)}).to_pandas()
    two["label"] = ["b" if i % 3 == 0 and i < 30 else "a" for i in range(len(two))]  # ten subjects with one b each
    table = assign_splits(pa.Table.from_pandas(two, schema=ACCEPTED, preserve_index=False), SplitConfig()).to_pandas()
    assert table.groupby("group")["part"].nunique().max() == 1
    assert shares(table, "b") == {"train": 6, "valid": 2, "test": 2}


def test_too_few_subjects_are_refused():
    with pytest.raises(DataRefused, match="the label 'b' has 2 subject"):
        split({**{f"a{i}": "a" for i in range(9)}, "b0": "b", "b1": "b"})
    with pytest.raises(DataRefused, match="only 'a'"):
        split({f"a{i}": "a" for i in range(9)})


@pytest.mark.parametrize("unit", ["group", "sha256"])
def test_a_leak_is_refused(unit: str):
    clean = pd.DataFrame({"group": ["x", "x", "y"], "sha256": ["1", "2", "3"], "part": ["train", "train", "test"]})
    check_no_leak(clean)
    leaked = clean.copy()
    leaked.loc[2, unit] = leaked.loc[0, unit]
    with pytest.raises(LeakError, match=f"values of {unit} are in two parts"):
        check_no_leak(leaked)


def test_shards_depend_on_content_alone():
    pairs = [(f"{i:064x}".replace("0" * 8, f"{i * 2654435761 % 2**32:08x}", 1), f"/here/{i}") for i in range(500)]
    shards = into_shards(pairs)
    assert len(shards) == shard_count(500) == 16
    assert sum(len(s.recordings) for s in shards) == 500
    moved = into_shards([(sha, uri.replace("here", "there")) for sha, uri in reversed(pairs)])
    assert [s.digest() for s in moved] == [s.digest() for s in shards]
    more = into_shards([*pairs, ("ffffffff" + "0" * 56, "/new")])
    assert sum(a.digest() != b.digest() for a, b in zip(shards, more, strict=True)) == 1


def test_one_content_in_two_places_is_one():
    (shard,) = into_shards([("a" * 64, "/z"), ("a" * 64, "/b")])
    assert shard.recordings == (("a" * 64, "/b"),)


def test_near_duplicates_connect_subjects():
    subjects = ["ann", "bob", "bob", None, "eve", None, "sam"]
    near = ["1", "1", "2", "2", None, None, "3"]
    table = pd.DataFrame({"source": "t", "sha256": list("0123456"), "subject": subjects, "near_group": near})
    assert split_groups(table).tolist() == ["t/ann"] * 4 + ["t/eve", "t/recording 5", "t/sam"]
    assert split_groups(table.drop(columns="near_group")).nunique() == 6


def test_subjects_that_entered_or_left_the_test_part_are_counted():
    before = pd.DataFrame({"sha256": list("123456"), "part": ["train", "train", "valid", "test", "test", "train"]})
    now = pd.DataFrame({
        "sha256": list("123457"),
        "group": ["ann", "ann", "bob", "eve", "sam", "new"],
        "part": ["test", "test", "train", "test", "train", "test"],
    })  # fmt: skip
    assert subjects_that_changed_part(before, now) == (1, 1)  # ann entered, sam left; new is in one table only
    assert subjects_that_changed_part(before, now[now["group"] == "eve"]) == (0, 0)


@pytest.mark.parametrize(
    ("settings", "redraws"),
    [
        ({"strategy": "subject"}, True),
        ({"strategy": "k_fold", "folds": 3, "fold": 0}, True),
        ({"strategy": "hash"}, False),
    ],
)
def test_only_some_strategies_keep_held_out_subjects_held_out(settings: dict, redraws: bool):
    more = MANY | {f"new{i:02d}": "ab"[i % 2] for i in range(40)}
    before, after = (
        set(table["group"][table["part"] == "test"]) for table in (split(MANY, **settings), split(more, **settings))
    )
    assert (not before <= after) == redraws
    assert SplitConfig(**settings).redraws_test == redraws


@pytest.mark.parametrize("strategy", ["subject", "hash"])
def test_near_duplicates_without_subjects_that_are_kept_are_in_one_part(strategy: str):
    table = accepted(MANY, known=False).to_pandas().assign(samples_sha256=lambda rows: rows["sha256"], duration_s=5.0)
    chains = [(f"{s}{i}", f"{s}{i + 1}") for s in MANY for i in (0, 1)]
    pairs = pd.DataFrame(chains, columns=["sha256_a", "sha256_b"]).assign(similarity=0.99, confirmed=True, alike=True)
    every = pd.Series(True, index=table.index)
    marked = mark_duplicates(table, every, every, pairs, refuse_near=False)
    assert marked["near_duplicate_of"].isna().all()
    kept = pa.Table.from_pandas(marked[ACCEPTED.names], schema=ACCEPTED, preserve_index=False)
    splits = assign_splits(kept, SplitConfig(strategy=strategy)).to_pandas()
    assert len(splits) == 120
    assert splits["part"].groupby(splits["recording_id"].str[:3]).nunique().eq(1).all()


def trained(share: float, subjects: dict[str, str], **settings: float) -> pd.DataFrame:
    """The training rows of one of five folds where ``share`` of the training subjects is used."""
    k_fold = {"strategy": "k_fold", "folds": 5, "fold": 1, "train_share": share, **settings}
    return split(subjects, **k_fold).query("part == 'train'")


SKEWED = {f"s{i:03d}": "c" if i % 20 == 0 else "ab"[i % 2] for i in range(200)}  # 100 b, 90 a, 10 c
SHARES = (0.05, 0.125, 0.25, 0.5, 0.75, 1.0)


def test_fewer_training_subjects_are_among_more_and_the_other_parts_stay():
    groups = [set(trained(share, SKEWED)["group"]) for share in SHARES]
    assert all(few < many for few, many in zip(groups, groups[1:], strict=False))
    assert [len(g) for g in groups] == [round(share * 127) for share in SHARES]  # 200 less fold and validation
    k_fold = {"strategy": "k_fold", "folds": 5, "fold": 1}
    others = [split(SKEWED, **k_fold, train_share=share).query("part != 'train'") for share in (0.05, 1.0)]
    assert others[0].reset_index(drop=True).equals(others[1].reset_index(drop=True))
    assert set(trained(0.25, SKEWED, seed=1)["group"]) != groups[2]


def test_each_share_has_every_class_and_its_proportions():
    for share in SHARES[1:]:
        counts = trained(share, SKEWED).groupby("label")["group"].nunique()
        assert counts["a"] == pytest.approx(share * 58, abs=1.5)
        assert counts["b"] == pytest.approx(share * 64, abs=1.5)
        assert counts["c"] == pytest.approx(share * 6, abs=1.0)
        assert counts["c"] >= 1
    tiny = trained(0.01, SKEWED)
    assert sorted(tiny.groupby("group")["label"].first()) == ["a", "b", "c"]  # one of each, though a share of 1.28


def test_subjects_linked_by_near_duplicates_enter_a_share_together():
    table = accepted(MANY)
    pairs = [json.dumps([f"t/s{i:02d}", f"t/s{i + 2:02d}"]) for i in range(0, 40, 4)]
    subjects = table["subject"].to_pylist()
    near = [next((pair for pair in pairs if f'"t/{s}"' in pair), None) for s in subjects]
    table = table.set_column(table.schema.get_field_index("near_group"), "near_group", pa.array(near, pa.string()))
    rows = assign_splits(table, SplitConfig(train_share=0.5)).to_pandas().query("part == 'train'")
    names = set(rows["recording_id"].str.partition("-")[0])
    for pair in pairs:
        one, other = (name.removeprefix("t/") for name in json.loads(pair))
        assert (one in names) == (other in names)
    assert rows["group"].nunique() == round(0.5 * split_training_groups(table))


def split_training_groups(table: pa.Table) -> int:
    return assign_splits(table, SplitConfig()).to_pandas().query("part == 'train'")["group"].nunique()
