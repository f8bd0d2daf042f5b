"""Near-duplicates: altered copies found, other hearts and other beats of one heart not; clusters and what is kept."""

import io

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers import REAL, needs_pascal

from heartdata.audio.decode import decode, resample
from heartdata.audio.fingerprint import HOP_S, RATE_HZ, fingerprint
from heartdata.audio.synthesis import RATE_HZ as MADE_HZ
from heartdata.audio.synthesis import Heart, synthesize
from heartdata.checks.duplicates import mark_duplicates
from heartdata.checks.near_duplicates import code_agreement, envelope_similarity, near_duplicates


def heart(seed: int, rate_bpm: float = 72, kind: str = "normal") -> Heart:
    drawn = Heart.draw(kind, np.random.default_rng(seed))
    return Heart(**{**drawn.__dict__, "rate_bpm": rate_bpm})


def recorded(seed: int, of: Heart | None = None, duration_s: float = 8.0) -> np.ndarray:
    """A made sound at 4 kHz: another ``seed`` is another recording, of the heart ``of`` or of one of its own."""
    return synthesize(of or heart(seed), duration_s, 0, np.random.default_rng(1000 + seed)).samples


def table(**sounds: np.ndarray) -> pd.DataFrame:
    prints = [fingerprint(resample(np.asarray(s, np.float32), MADE_HZ, RATE_HZ)) for s in sounds.values()]
    return pd.DataFrame({"sha256": list(sounds), "fingerprint": prints})


def pairs(facts: pd.DataFrame) -> set[tuple[str, str]]:
    found = near_duplicates(facts, 0.98)
    return set(zip(found["sha256_a"], found["sha256_b"], strict=True))


def through(form: str, subtype: str, sound: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, resample(sound, MADE_HZ, 8000), 8000, format=form, subtype=subtype)
    return resample(decode(file.getvalue()).mono, 8000, MADE_HZ)


ALTERED = {
    "mp3": lambda x: through("MP3", "MPEG_LAYER_III", x),
    "ogg": lambda x: through("OGG", "VORBIS", x),
    "8 bits": lambda x: np.round(127 * x) / 127,
    "1 kHz": lambda x: resample(resample(x, MADE_HZ, 1000), 1000, MADE_HZ),
    "softer": lambda x: 0.03 * x,
    "cut": lambda x: x[2711:-6113],
    "late": lambda x: np.concatenate([1e-3 * np.random.default_rng(0).normal(size=4321), x]),
    "noise": lambda x: x + 0.1 * x.std() * np.random.default_rng(0).normal(size=len(x)),
    "cut mp3": lambda x: 0.2 * through("MP3", "MPEG_LAYER_III", x[5003:]),
}


@pytest.mark.parametrize("change", ALTERED)
def test_an_altered_copy_is_found_among_others(change: str):
    sounds = {f"{seed}": recorded(seed) for seed in range(8)}
    copies = {f"{seed}x": ALTERED[change](sounds[f"{seed}"]) for seed in range(4)}
    assert pairs(table(**sounds, **copies)) == {(f"{seed}", f"{seed}x") for seed in range(4)}


def test_noisy_copies_are_found_among_thousands_as_among_few():
    rng = np.random.default_rng(0)
    sounds = {f"{seed}": recorded(seed) for seed in range(24)}
    few = table(**sounds, **{f"{n}x": x + 0.3 * x.std() * rng.normal(size=len(x)) for n, x in sounds.items()})
    names = [f"other{i}" for i in range(2000)]
    others = pd.DataFrame({"sha256": names, "fingerprint": [rng.bytes(2000) for _ in names]})
    assert pairs(pd.concat([few, others])) == pairs(few)
    assert len(pairs(few)) >= 20


def test_hearts_of_one_rate_and_recordings_of_one_heart_are_told_apart():
    same_rate = {f"rate{seed}": recorded(seed) for seed in range(30)}
    one = heart(99, kind="murmur")
    same_heart = {f"heart{seed}": recorded(500 + seed, one) for seed in range(30)}
    assert pairs(table(**same_rate, **same_heart)) == set()


def test_the_order_does_not_matter_and_what_says_nothing_is_left_out():
    sound = recorded(1)
    facts = table(a=sound, b=sound[4000:], c=recorded(2), silent=np.zeros(8000), short=sound[:1000])
    facts = pd.concat([facts, pd.DataFrame({"sha256": ["none"], "fingerprint": [None]})])
    found = near_duplicates(facts, 0.98)
    assert found.equals(near_duplicates(facts[::-1], 0.98))
    assert [tuple(row) for row in found[["sha256_a", "sha256_b"]].to_numpy()] == [("a", "b")]
    assert found["similarity"][0] > 0.98
    assert near_duplicates(facts[:0], 0.98).empty


def test_silence_in_common_makes_no_pair():
    padded = {f"{seed}": np.concatenate([np.zeros(24000), recorded(seed, duration_s=2.0)]) for seed in range(4)}
    assert pairs(table(**padded)) == set()


def test_fingerprint_shape_and_its_comparison():
    sound = resample(recorded(3), MADE_HZ, RATE_HZ)
    codes, envelope = np.frombuffer(fingerprint(sound), np.uint8).reshape(2, -1)
    assert len(codes) == pytest.approx(8.0 / HOP_S, abs=8)
    assert envelope.max() == 255
    assert code_agreement(codes, codes, 0) == (1.0, np.count_nonzero(codes))
    assert code_agreement(codes, ~codes, 0)[0] == -1
    assert abs(code_agreement(codes, codes, 171)[0]) < 0.3
    assert code_agreement(codes, codes, len(codes) + 5)[1] == 0
    assert envelope_similarity(envelope, envelope[50:], 50) == pytest.approx(1, abs=0.01)


def test_many_copies_of_one_sound_make_one_cluster():
    sound = recorded(4)
    copies = {f"{i:02d}": sound[i * 101 :] for i in range(40)}
    facts = table(**copies)
    rows = pd.DataFrame({"recording_id": facts["sha256"], "sha256": facts["sha256"], "samples_sha256": facts["sha256"]})
    yes = pd.Series(True, index=rows.index)
    marked = mark_duplicates(rows.assign(label="x", source="s", subject=None), yes, yes, near_duplicates(facts, 0.98))
    assert marked["near_duplicate_of"].notna().sum() == 39
    assert marked["near_duplicate_of"].dropna().str.startswith("00 (").all()


def rows(labels: list[str | None]) -> pd.DataFrame:
    names = list("abcd")[: len(labels)]
    plain = {"recording_id": names, "sha256": names, "samples_sha256": names, "label": labels}
    return pd.DataFrame(plain).assign(source="s", subject=None)


CHAIN = pd.DataFrame([("a", "b", 0.99), ("b", "c", 0.985)], columns=["sha256_a", "sha256_b", "similarity"])


def test_a_chain_keeps_one_whatever_the_order():
    for t in (rows(["x", "x", None, "y"]), rows(["x", "x", None, "y"])[::-1]):
        yes = pd.Series(True, index=t.index)
        marked = mark_duplicates(t, yes, yes, CHAIN).set_index("recording_id")["near_duplicate_of"]
        assert marked["b"] == "a (similarity 0.990)"
        assert marked["c"] == "a (by way of b, similarity 0.985)"
        assert marked[["a", "d"]].isna().all()


def test_subjects_with_a_sound_in_common_are_tied():
    t = rows(["x"] * 4).assign(subject=["p", "q", None, "p"])
    more = pd.DataFrame({"recording_id": list("efg"), "sha256": list("efg"), "samples_sha256": list("efg"), "label": "x",
                         "source": "s", "subject": ["q", "r", "r"]})  # fmt: skip
    t = pd.concat([t, more], ignore_index=True)
    yes = pd.Series(True, index=t.index)
    groups = mark_duplicates(t, yes, yes, CHAIN).set_index("recording_id")["near_group"]
    assert (
        groups[list("abcde")].tolist() == ['["s/p", "s/q", "s/recording c"]'] * 5
    )  # a, b and c are one sound; d is of a's subject, e of b's
    assert groups[["f", "g"]].isna().all()
    same_person = mark_duplicates(t.assign(subject="p"), yes, yes, CHAIN)["near_group"]
    assert same_person.isna().all()


def test_two_labels_in_a_chain_refuse_all_of_it():
    t = rows(["x", None, "y", "y"])
    yes = pd.Series(True, index=t.index)
    marked = mark_duplicates(t, yes, yes, CHAIN).set_index("recording_id")
    assert marked["other_labels"].to_dict() == {"a": "y", "b": "x, y", "c": "x", "d": None}
    assert marked.loc["b", "same_sound"] == "nearly the same sound (a, similarity 0.990)"
    assert marked.loc["a", "same_sound"] == "nearly the same sound (by way of b, similarity 0.990)"
    assert marked["near_duplicate_of"].isna().all()


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


MINUTE = 60 * MADE_HZ


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: np.concatenate([recorded(41, duration_s=60.0), x[MINUTE:]]),
        lambda x: np.concatenate([recorded(41, duration_s=110.0), x[110 * MADE_HZ :]]),
        lambda x: x[75 * MADE_HZ + 1234 : 90 * MADE_HZ],
        lambda x: through("MP3", "MPEG_LAYER_III", x[80 * MADE_HZ :]),
    ],
    ids=["another first minute", "the last 40 s in common", "cut out of the second minute", "mp3 of the later part"],
)
def test_what_two_recordings_share_after_their_first_minute_is_found(long: np.ndarray, copy):
    others = {f"{seed}": recorded(seed, duration_s=80.0) for seed in range(3)}
    assert pairs(table(**others, long=long, other=copy(long))) == {("long", "other")}


def test_long_recordings_of_one_heart_are_told_apart():
    one = heart(99, kind="murmur")
    assert pairs(table(**{f"{seed}": recorded(600 + seed, one, duration_s=150.0) for seed in range(6)})) == set()
