"""No recording that weights were trained on is used to test them."""

import pandas as pd
import pyarrow as pa
import pytest
from helpers import beats

from heartdata.audio.decode import resample
from heartdata.audio.fingerprint import RATE_HZ, fingerprint
from heartdata.dataset.provenance import refuse_if_trained_on, sounds_trained_on, upgrade_schema
from heartdata.errors import DataRefused


def sounds(**seeds: int) -> pd.DataFrame:
    """Facts of made recordings: names to seeds."""
    rows = []
    for name, seed in seeds.items():
        samples = resample(beats(60 + 3 * seed, 12.0, seed=seed), 4000, RATE_HZ)
        rows.append({"sha256": name, "samples_sha256": f"samples {seed}", "fingerprint": fingerprint(samples)})
    return pd.DataFrame(rows)


def manifest(subject: str | None = None, source: str = "table", **parts: str) -> pd.DataFrame:
    common = {"subject": subject, "source": source}
    rows = [{"recording_id": f"{name}.wav", "sha256": name, "part": part, **common} for name, part in parts.items()]
    return pd.DataFrame(rows)


def test_what_was_trained_and_validated_on_is_heard_and_what_its_weights_came_from():
    before = sounds_trained_on(manifest(old="train"), sounds(old=9), None)
    table = sounds_trained_on(manifest(a="train", b="valid", c="test"), sounds(a=1, b=2, c=3), before)
    assert table["sha256"].to_pylist() == ["a", "b", "old"]


def test_what_was_trained_on_without_a_label_is_heard():
    facts = sounds(a=1, b=2)
    before = sounds_trained_on(manifest(a="train", b="unlabelled"), facts, None)
    with pytest.raises(DataRefused, match=r"'b.wav'"):
        refuse_if_trained_on(manifest(a="train", b="test"), facts, before, "models:/x@champion", 0.98)


def test_a_subject_is_the_same_alone_and_in_a_mix():
    facts = sounds(a=1, b=2)
    before = sounds_trained_on(manifest(a="train", subject="7", source="table"), facts, None)
    for source in ("table", "table-2"):
        with pytest.raises(DataRefused, match=r"'b.wav'.* give them names of their own"):
            refuse_if_trained_on(
                manifest(b="test", subject="7", source=source), facts, before, "models:/x@champion", 0.98
            )
    refuse_if_trained_on(manifest(b="test", subject="7", source="pascal"), facts, before, "models:/x@champion", 0.98)
    made = sounds_trained_on(manifest(a="train", subject="7", source="demo-1"), facts, None)
    refuse_if_trained_on(manifest(b="test", subject="7", source="demo-1"), facts, made, "models:/x@champion", 0.98)


def test_a_test_recording_that_was_heard_is_refused():
    facts = sounds(a=1, b=2)
    before = sounds_trained_on(manifest(a="train", b="test"), facts, None)
    refuse_if_trained_on(manifest(a="train", b="test"), facts, before, "models:/x@champion", 0.98)
    with pytest.raises(DataRefused, match=r"models:/x@champion were trained on 1 of the 1 recordings .* 'a.wav'"):
        refuse_if_trained_on(manifest(a="test", b="train"), facts, before, "models:/x@champion", 0.98)


def test_another_coding_or_cut_of_a_heard_sound_is_refused():
    samples = resample(beats(72, 14.0, seed=5), 4000, RATE_HZ)
    heard = pd.DataFrame([{"sha256": "whole", "samples_sha256": "s", "fingerprint": fingerprint(samples)}])
    cut = pd.DataFrame([{"sha256": "cut", "samples_sha256": "t", "fingerprint": fingerprint(0.5 * samples[3000:])}])
    before = sounds_trained_on(manifest(whole="train"), heard, None)
    with pytest.raises(DataRefused, match=r"'cut.wav'"):
        refuse_if_trained_on(manifest(cut="test"), cut, before, "models:/x@champion", 0.98)
    same = cut.assign(samples_sha256="s", fingerprint=None)
    with pytest.raises(DataRefused, match=r"'cut.wav'"):
        refuse_if_trained_on(manifest(cut="test"), same, before, "models:/x@champion", 0.98)


def test_nothing_heard_before_refuses_nothing():
    facts = sounds(a=1)
    refuse_if_trained_on(manifest(a="test"), facts, sounds_trained_on(manifest(a="test"), facts, None), "x", 0.98)
    assert isinstance(sounds_trained_on(manifest(a="test"), facts, None), pa.Table)


def test_another_recording_of_a_heard_subject_is_refused():
    facts = sounds(a=1, b=2)
    before = sounds_trained_on(manifest(subject="7", a="train"), facts, None)
    assert before["subject"].to_pylist() == ["table/7"]
    with pytest.raises(DataRefused, match=r"or other recordings of their subjects, the first being 'b.wav'"):
        refuse_if_trained_on(manifest(subject="7", b="test"), facts, before, "x", 0.98)
    refuse_if_trained_on(manifest(subject="8", b="test"), facts, before, "x", 0.98)
    refuse_if_trained_on(manifest(subject="7", source="other", b="test"), facts, before, "x", 0.98)
    refuse_if_trained_on(
        manifest(b="test"), facts, sounds_trained_on(manifest(a="train"), facts, None), "x", 0.98
    )  # nobody is known
    made = sounds_trained_on(manifest(subject="7", source="demo", a="train"), facts, None)
    refuse_if_trained_on(manifest(subject="7", source="demo", b="test"), facts, made, "x", 0.98)


def test_a_subject_that_is_no_longer_told_is_not_forgotten():
    facts = sounds(a=1, b=2)
    first = sounds_trained_on(manifest(subject="7", a="train"), facts, None)
    assert sounds_trained_on(manifest(a="train"), facts, first)["subject"].to_pylist() == ["table/7"]
    assert sounds_trained_on(manifest(subject="7", a="train"), facts, first).num_rows == 1
    both = sounds_trained_on(manifest(subject="8", a="train"), facts, first)
    assert both.select(["sha256", "subject"]).to_pylist() == [
        {"sha256": "a", "subject": "table/7"},
        {"sha256": "a", "subject": "table/8"},
    ]
    for subject in "78":
        with pytest.raises(DataRefused, match=r"'b.wav'"):
            refuse_if_trained_on(manifest(subject=subject, b="test"), facts, both, "x", 0.98)


def test_what_an_earlier_version_registered_can_be_read():
    table = sounds_trained_on(manifest(a="train"), sounds(a=1), None)
    assert upgrade_schema(table.drop_columns("subject")).equals(table)
    assert upgrade_schema(table) is table
