"""Near-duplicates: altered copies are found, other recordings of one heart are not; which of several copies is kept."""

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers import REAL, needs_pascal

from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import HOP_S, RATE_HZ, fingerprint
from heartdata.audio.synthesis import RATE_HZ as SYNTH_HZ
from heartdata.audio.synthesis import Heart, synthesize
from heartdata.checks.alignment import code_agreement, envelope_similarity
from heartdata.checks.duplicates import mark_duplicates
from heartdata.checks.near_duplicates import PARTNERS, near_duplicates


def heart(seed: int, kind: str = "normal") -> Heart:
    return dataclasses.replace(Heart.draw(kind, np.random.default_rng(seed)), rate_bpm=72)


def recorded(seed: int, of: Heart | None = None, duration_s: float = 8.0) -> np.ndarray:
    """A synthetic recording at 4 kHz: another ``seed`` is another recording, of the heart ``of`` or of its own."""
    return synthesize(of or heart(seed), duration_s, 0, np.random.default_rng(1000 + seed)).samples


def table(**sounds: np.ndarray) -> pd.DataFrame:
    prints = [fingerprint(resample(np.asarray(s, np.float32), SYNTH_HZ, RATE_HZ)) for s in sounds.values()]
    return pd.DataFrame({"sha256": list(sounds), "fingerprint": prints})


def pairs(facts: pd.DataFrame) -> set[tuple[str, str]]:
    return set(near_duplicates(facts, 0.98).pairs[["sha256_a", "sha256_b"]].itertuples(index=False, name=None))


def through(form: str, subtype: str, sound: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, resample(sound, SYNTH_HZ, 8000), 8000, format=form, subtype=subtype)
    return resample(decode(file.getvalue()).mono, 8000, SYNTH_HZ)


ALTERED = {
    "mp3": lambda x: through("MP3", "MPEG_LAYER_III", x),
    "ogg": lambda x: through("OGG", "VORBIS", x),
    "8 bits": lambda x: np.round(127 * x) / 127,
    "1 kHz": lambda x: resample(resample(x, SYNTH_HZ, 1000), 1000, SYNTH_HZ),
    "softer": lambda x: 0.03 * x,
    "cut": lambda x: x[2711:-6113],
    "late": lambda x: np.concatenate([1e-3 * np.random.default_rng(0).normal(size=4321), x]),
    "noise": lambda x: x + 0.1 * x.std() * np.random.default_rng(0).normal(size=len(x)),
    "cut mp3": lambda x: 0.2 * through("MP3", "MPEG_LAYER_III", x[5003:]),
}


@pytest.fixture(scope="module")
def sounds() -> dict[str, np.ndarray]:
    return {f"{seed}": recorded(seed) for seed in range(24)}


@pytest.mark.parametrize("change", ALTERED)
def test_an_altered_copy_is_found_among_others(sounds: dict[str, np.ndarray], change: str):
    originals = {f"{i}": sounds[f"{i}"] for i in range(8)}
    copies = {f"{i}x": ALTERED[change](sounds[f"{i}"]) for i in range(4)}
    assert pairs(table(**originals, **copies)) == {(f"{i}", f"{i}x") for i in range(4)}


def test_noisy_copies_are_found_among_thousands_as_among_few(sounds: dict[str, np.ndarray]):
    rng = np.random.default_rng(0)
    few = table(**sounds, **{f"{n}x": x + 0.3 * x.std() * rng.normal(size=len(x)) for n, x in sounds.items()})
    names = [f"other{i}" for i in range(2000)]
    others = pd.DataFrame({"sha256": names, "fingerprint": [rng.bytes(2000) for _ in names]})
    assert pairs(pd.concat([few, others])) == pairs(few)
    assert len(pairs(few)) >= 20


@pytest.mark.parametrize(("recordings", "duration_s"), [(30, 8.0), (3, 125.0)])
def test_hearts_of_one_rate_and_recordings_of_one_heart_are_no_pairs(recordings: int, duration_s: float):
    one = heart(99, kind="murmur")
    same_rate = {f"rate{i}": recorded(i, duration_s=duration_s) for i in range(recordings)}
    same_heart = {f"heart{i}": recorded(500 + i, one, duration_s) for i in range(recordings)}
    assert pairs(table(**same_rate, **same_heart)) == set()


def test_order_does_not_matter_and_silent_or_short_recordings_are_ignored():
    sound = recorded(1)
    facts = table(a=sound, b=sound[4000:], c=recorded(2), silent=np.zeros(8000), short=sound[:1000])
    facts = pd.concat([facts, pd.DataFrame({"sha256": ["none"], "fingerprint": [None]})])
    found = near_duplicates(facts, 0.98).pairs
    assert found.equals(near_duplicates(facts[::-1], 0.98).pairs)
    assert found[["sha256_a", "sha256_b"]].to_numpy().tolist() == [["a", "b"]]
    assert found["similarity"][0] > 0.98
    assert near_duplicates(facts[:0], 0.98).pairs.empty


def test_common_silence_makes_no_pair():
    padded = {f"{seed}": np.concatenate([np.zeros(24000), recorded(seed, duration_s=2.0)]) for seed in range(4)}
    assert pairs(table(**padded)) == set()


def test_codes_and_envelopes_compare_as_documented():
    sound = resample(recorded(3), SYNTH_HZ, RATE_HZ)
    codes, envelope = np.frombuffer(fingerprint(sound), np.uint8).reshape(2, -1)
    assert len(codes) == pytest.approx(8.0 / HOP_S, abs=8)
    assert envelope.max() == 255
    assert code_agreement(codes, codes) == (1.0, np.count_nonzero(codes))
    assert code_agreement(codes, ~codes)[0] == -1
    assert abs(code_agreement(codes[171:], codes[:-171])[0]) < 0.3
    assert code_agreement(codes[:0], codes[:0])[1] == 0
    assert envelope_similarity(envelope, envelope) == pytest.approx(1, abs=0.01)


def mark(rows: pd.DataFrame, found: pd.DataFrame, **options) -> pd.DataFrame:
    every = pd.Series(True, index=rows.index)
    return mark_duplicates(rows, every, every, found, **options).set_index("recording_id")


def rows(labels: list[str | None], names: str = "abcdefg", **columns: list) -> pd.DataFrame:
    ids = list(names[: len(labels)])
    frame = pd.DataFrame({"recording_id": ids, "sha256": ids, "samples_sha256": ids, "label": labels})
    return frame.assign(**{"source": "s", "subject": None, "duration_s": 5.0, **columns})


def linked(*links: tuple[str, str, float], confirmed: bool = True) -> pd.DataFrame:
    return pd.DataFrame(links, columns=["sha256_a", "sha256_b", "similarity"]).assign(confirmed=confirmed, alike=True)


CHAIN = linked(("a", "b", 0.99), ("b", "c", 0.985))


def test_of_many_copies_the_longest_is_kept():
    sound = recorded(4)
    names = "abcdefghijklmnopqrstuvwxyz"
    cuts = {name: sound[i * 101 :] for i, name in enumerate(names[::-1])}
    durations = [len(cuts[name]) / SYNTH_HZ for name in names]
    found = near_duplicates(table(**cuts), 0.98).pairs.assign(confirmed=True, alike=True)
    kept_instead = mark(rows(["x"] * 26, names, duration_s=durations), found)["near_duplicate_of"]
    assert kept_instead.isna().sum() == 1
    assert kept_instead.dropna().str.startswith("z (").all()


def test_of_a_chain_only_direct_near_duplicates_of_a_kept_recording_are_refused():
    for table in (rows(["x", "x", None, "y"]), rows(["x", "x", None, "y"])[::-1]):
        marked = mark(table, CHAIN)
        assert marked["near_duplicate_of"].dropna().to_dict() == {"b": "a (similarity 0.990)"}
        assert marked.loc[["a", "b", "c"], "near_group"].nunique() == 1


@pytest.mark.parametrize(
    ("durations", "kept_before", "kept"),
    [([5, 5, 5], (), "a"), ([5, 17, 5], (), "b"), ([5, 5, 5], ("c",), "c"), ([5.4, 5.2, 5], ("c",), "c"),
     ([5, 5.6, 5], ("c",), "b"), ([5, np.nan, 4], (), "a")],
)  # fmt: skip
def test_the_longest_is_kept_unless_one_kept_before_is_about_as_long(durations: list, kept_before: tuple, kept: str):
    triangle = linked(("a", "b", 0.99), ("b", "c", 0.985), ("a", "c", 0.99))
    marked = mark(rows(["x"] * 3, duration_s=durations), triangle, kept_before=kept_before)["near_duplicate_of"]
    assert marked.index[marked.isna()].tolist() == [kept]
    assert marked.dropna().str.startswith(kept).all()


def test_a_recording_that_failed_its_own_checks_is_not_kept_instead_of_another():
    every = pd.Series(True, index=range(3))
    passed = pd.Series([False, True, True])
    marked = mark_duplicates(rows(["x"] * 3, duration_s=[9, 5, 5]), passed, every, CHAIN)
    assert marked["near_duplicate_of"].to_list() == ["b (similarity 0.990)", None, "b (similarity 0.985)"]
    assert mark_duplicates(rows(["x"] * 3), ~every, every, CHAIN)["near_duplicate_of"].isna().all()


def test_grouped_near_duplicates_are_kept_but_neither_copies_nor_conflicts():
    table = rows(["x", "x", "x", "x", "y"], samples_sha256=["a", "b", "c", "b", "e"])
    marked = mark(table, linked(("a", "b", 0.99), ("b", "c", 0.985), ("c", "e", 0.98)), refuse_near=False)
    assert marked["near_duplicate_of"].isna().all()
    assert marked["duplicate_of"].dropna().to_dict() == {"d": "b"}
    assert marked["other_labels"].dropna().to_dict() == {"c": "y", "e": "x"}
    assert marked["near_group"].nunique() == 1
    assert marked["near_group"].notna().all()


def test_what_the_waveform_does_not_confirm_is_kept_together_only():
    unconfirmed = linked(("a", "b", 0.99), ("b", "c", 0.985), confirmed=False)
    marked = mark(rows(["x", "x", "y"]), unconfirmed)
    assert marked[["other_labels", "near_duplicate_of"]].isna().all(axis=None)
    assert marked["near_group"].nunique() == 1


def test_subjects_with_a_sound_in_common_are_one_near_group():
    table = rows(["x"] * 7, subject=["p", "q", None, "p", "q", "r", "r"])
    groups = mark(table, CHAIN)["near_group"]  # a, b and c are one sound; d is of a's subject, e of b's
    assert groups[list("abcde")].tolist() == ['["s/p", "s/q", "s/recording c"]'] * 5
    assert groups[["f", "g"]].isna().all()
    assert mark(table.assign(subject="p"), CHAIN)["near_group"].isna().all()


def test_only_direct_near_duplicates_have_conflicting_labels():
    marked = mark(rows(["x", None, "y", "y"]), CHAIN)
    assert marked["other_labels"].isna().all()
    marked = mark(rows(["x", "x", "y", "z"]), pd.concat([CHAIN, linked(("b", "d", 0.99))]))
    assert marked["other_labels"].dropna().to_dict() == {"b": "y, z", "c": "x", "d": "x"}
    assert marked.loc["b", "same_sound"] == "nearly the same sound (d, similarity 0.990)"
    assert marked.loc["c", "same_sound"] == "nearly the same sound (b, similarity 0.985)"
    assert marked["near_duplicate_of"].isna().all()  # b is refused, so a is not a near-duplicate of a kept one


@needs_pascal
def test_the_known_pairs_of_pascal_are_found():
    names = ["murmur__201104021355", "extrahls__201104021355", "murmur__201108222226", "murmur__201108222235"]
    paths = [REAL / "pascal" / "set_a" / f"{name}.wav" for name in names]
    others = sorted((REAL / "pascal" / "set_b").glob("normal__*.wav"))[:20]
    sounds = {p.stem: decode(p.read_bytes()) for p in [*paths, *others]}
    prints = [fingerprint(resample(a.mono, a.rate_hz, RATE_HZ)) for a in sounds.values()]
    found = pairs(pd.DataFrame({"sha256": list(sounds), "fingerprint": prints}))
    assert {p for p in found if set(p) & set(names)} == {(names[1], names[0]), (names[2], names[3])}


@pytest.fixture(scope="module")
def long() -> np.ndarray:
    return recorded(40, duration_s=150.0)


MINUTE = 60 * SYNTH_HZ


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: np.concatenate([recorded(41, duration_s=60.0), x[MINUTE:]]),
        lambda x: np.concatenate([recorded(41, duration_s=110.0), x[110 * SYNTH_HZ :]]),
        lambda x: x[75 * SYNTH_HZ + 1234 : 90 * SYNTH_HZ],
        lambda x: through("MP3", "MPEG_LAYER_III", x[80 * SYNTH_HZ :]),
    ],
    ids=["another first minute", "the last 40 s in common", "cut out of the second minute", "mp3 of the later part"],
)
def test_what_recordings_share_after_their_first_minute_is_found(long: np.ndarray, copy):
    others = {f"{seed}": recorded(seed, duration_s=80.0) for seed in range(3)}
    assert pairs(table(**others, long=long, other=copy(long))) == {("long", "other")}


def test_of_more_copies_than_pairs_are_kept_of_one_is_kept():
    names = [f"{number:03d}" for number in range(PARTNERS + 20)]
    rows = pd.DataFrame({
        "recording_id": names, "sha256": names, "samples_sha256": names, "source": "s", "subject": names, "label": "normal",
        "duration_s": [10.0] * (len(names) - 1) + [20.0],
    })  # fmt: skip
    known = [(a, b) for number, b in enumerate(names) for a in names[: min(number, PARTNERS)]]
    near = pd.DataFrame(known, columns=["sha256_a", "sha256_b"]).assign(similarity=0.99, confirmed=True, alike=True)
    every = pd.Series(True, index=rows.index)
    marked = mark_duplicates(rows, every, every, near)
    assert marked.loc[marked["near_duplicate_of"].isna(), "recording_id"].tolist() == names[-1:]
    assert marked["near_duplicate_of"].dropna().str.startswith(names[-1]).all()
