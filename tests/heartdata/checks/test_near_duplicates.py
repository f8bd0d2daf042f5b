"""The search for near-duplicates: its pairs are the same in any order of arrival, and copies of one sound stay cheap."""

import numpy as np
import pandas as pd
import pytest

from heartdata.checks import near_duplicates as module
from heartdata.checks.near_duplicates import PARTNERS, Search, near_duplicates, near_duplicates_between

FRAMES = 400


def prints(codes: list[np.ndarray]) -> pd.DataFrame:
    """Fingerprints of codes, under names in no order."""
    rng = np.random.default_rng(len(codes))
    names = [f"{number:04d}" for number in rng.permutation(len(codes))]
    envelopes = [rng.integers(0, 256, len(c), dtype=np.uint8) for c in codes]
    content = [c.astype(np.uint8).tobytes() + e.tobytes() for c, e in zip(codes, envelopes, strict=True)]
    return pd.DataFrame({"sha256": names, "fingerprint": content})


def altered(codes: np.ndarray, wrong: float, rng: np.random.Generator) -> np.ndarray:
    """A copy that begins elsewhere, with a share of ``wrong`` bits."""
    bits = np.packbits(rng.random((len(codes), 8)) < wrong, axis=1)[:, 0]
    return (codes ^ bits)[rng.integers(0, 60) :]


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_arrival_with_removals_gives_the_pairs_of_a_search_from_scratch(seed: int, monkeypatch):
    monkeypatch.setattr(module, "PARTNERS", 3)
    monkeypatch.setattr(module, "FIRST_BLOCK", 8)
    rng = np.random.default_rng(seed)
    originals = rng.integers(1, 256, (25, FRAMES), dtype=np.uint8)
    copies = [altered(originals[i // 3], 0.08, rng) for i in range(21)]
    clones = [altered(originals[24], 0.03, rng) for _ in range(9)]
    facts = prints([*originals, *copies, *clones])
    known: Search | None = None
    present = np.zeros(len(facts), bool)
    for _ in range(8):
        present |= rng.random(len(facts)) < 0.25
        present &= rng.random(len(facts)) > 0.1
        now = facts[present].sample(frac=1, random_state=seed)
        known, scratch = near_duplicates(now, 0.98, known), near_duplicates(now, 0.98)
        pd.testing.assert_frame_equal(known.pairs, scratch.pairs)
        pd.testing.assert_frame_equal(known.searched, scratch.searched)
        assert set(known.pairs["sha256_a"]) | set(known.pairs["sha256_b"]) <= set(now["sha256"])
    assert len(known.pairs) > 5


def test_only_what_is_new_is_compared(monkeypatch):
    facts = prints(list(np.random.default_rng(0).integers(1, 256, (20, FRAMES), dtype=np.uint8)))
    known = near_duplicates(facts[1:], 0.98)
    compared = []
    search = module._pairs
    monkeypatch.setattr(module, "_pairs", lambda f, new, *rest: compared.append(new.sum()) or search(f, new, *rest))
    near_duplicates(facts, 0.98, known)
    changed = facts[1:].assign(fingerprint=facts["fingerprint"].shift(-1))[:-1]
    near_duplicates(pd.concat([facts[1:3], changed[2:3]]), 0.98, known)
    assert compared == [1, 1]


def test_the_offset_is_where_the_second_begins_in_the_first():
    codes = np.random.default_rng(0).integers(1, 256, FRAMES, dtype=np.uint8)
    facts = prints([codes, codes[37:]])
    pairs = near_duplicates(facts, 0.98).pairs
    first_is_whole = facts["sha256"][0] < facts["sha256"][1]
    assert pairs["offset_frames"].tolist() == [37 if first_is_whole else -37]
    assert pairs["agreement"].tolist() == [1.0]


def test_pairs_between_two_sets_are_of_one_of_each():
    codes = np.random.default_rng(0).integers(1, 256, FRAMES, dtype=np.uint8)
    facts = prints([codes] * 4)
    first, second = facts[:2], facts[2:]
    pairs = near_duplicates_between(first, second, 0.98)
    assert len(pairs) == 4
    assert (pairs["sha256_a"].isin(first["sha256"]) != pairs["sha256_b"].isin(first["sha256"])).all()


@pytest.mark.parametrize("period", [1, 5, 11])
def test_a_tone_has_few_keys(period: int):
    from heartdata.checks import alignment

    tone = np.tile(np.random.default_rng(period).integers(1, 256, period, dtype=np.uint8), FRAMES)[:FRAMES]
    packed = alignment.Prints(np.concatenate([tone, tone]), np.zeros(1, np.int64), np.array([FRAMES]))
    assert len(alignment.Index(*alignment.index(packed, np.zeros(1, np.int64))).owner) <= alignment.REPEATS * period


def test_copies_of_one_sound_cost_linear_time(monkeypatch):
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 256, FRAMES, dtype=np.uint8)
    compared = []
    search = module._pairs
    monkeypatch.setattr(module, "FIRST_BLOCK", 64)
    monkeypatch.setattr(
        module,
        "_pairs",
        lambda f, block, others, *rest: compared.append(block.sum() * len(others)) or search(f, block, others, *rest),
    )
    found = near_duplicates(prints([altered(codes, 0.03, rng) for _ in range(600)]), 0.98).pairs
    assert sum(compared) < 100 * 600
    assert found["sha256_b"].value_counts().max() == PARTNERS
    assert found["sha256_b"].nunique() == 599


def test_crowds_that_lose_and_gain_recordings_of_low_sha256_have_the_pairs_of_a_search_from_scratch():
    rng = np.random.default_rng(1)
    originals = rng.integers(1, 256, (2, FRAMES), dtype=np.uint8)
    crowds = [altered(originals[i % 2], wrong, rng) for i in range(150) for wrong in [rng.choice([0.02, 0.1, 0.18])]]
    facts = prints([*crowds, *rng.integers(1, 256, (20, FRAMES), dtype=np.uint8)]).sort_values(
        "sha256", ignore_index=True
    )
    low = facts.index.to_numpy() < 50
    present = rng.random(len(facts)) < 0.7
    known: Search | None = None
    for night in range(6):
        present ^= low & (rng.random(len(facts)) < 0.2)
        now = facts[present].copy()
        if night % 2:  # two recordings change their sound
            now.iloc[[0, 60], 1] = now.iloc[[60, 0], 1].to_numpy()
        known, scratch = (
            near_duplicates(now.sample(frac=1, random_state=night), 0.98, known),
            near_duplicates(now, 0.98),
        )
        pd.testing.assert_frame_equal(known.pairs, scratch.pairs)
        assert known.pairs["sha256_b"].value_counts().max() == PARTNERS


def test_a_crowd_that_loses_a_recording_is_not_compared_all_with_all(monkeypatch):
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 256, FRAMES, dtype=np.uint8)
    facts = prints([altered(codes, 0.03, rng) for _ in range(300)]).sort_values("sha256", ignore_index=True)
    known = near_duplicates(facts, 0.98)
    compared = []
    search = module._pairs
    monkeypatch.setattr(
        module,
        "_pairs",
        lambda f, new, others, *rest: compared.append(new.sum() * len(others)) or search(f, new, others, *rest),
    )
    near_duplicates(facts[1:], 0.98, known)
    assert 0 < sum(compared) < 100 * 300
