"""Facts of sounds with known results, and their reuse from earlier tables."""

from pathlib import Path

import numpy as np
import pytest
from helpers import REAL, beats, fake_ffmpeg, needs_pascal, tone, write_wav

from heartdata.audio import measurements
from heartdata.audio.measurements import (
    MeasureConfig,
    load_if_intact,
    measure_file,
    measure_files,
    measure_recordings,
)
from heartdata.dataset.inventory import take_inventory
from heartdata.errors import HeartbeatError
from heartdata.sources import TableSource
from heartdata.storage.schemas import FACTS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Store, sha256_file


def facts_of(path: Path) -> dict:
    return measure_file(str(path), sha256_file(path), MeasureConfig())


def test_facts_of_a_tone(tmp_path: Path):
    row = facts_of(write_wav(tmp_path / "tone.wav", tone(100, level=0.5), subtype="FLOAT"))
    expected = {"duration_s": 3, "peak": 0.5, "rms": np.sqrt(1 / 8), "dc_offset": 0, "missing_fraction": 0,
                "silent_fraction": 0}  # fmt: skip
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert row["error"] is None


@pytest.mark.parametrize(
    ("sound", "fact", "expected"),
    [
        (np.clip(10 * tone(100), -1, 1), "clipped_fraction", pytest.approx(0.9, abs=0.1)),
        (np.append(tone(100, 1.0), np.zeros(4000)), "silent_fraction", pytest.approx(0.5)),
        (0.3 + 0.1 * tone(100), "dc_offset", pytest.approx(0.3, abs=1e-3)),
    ],
)
def test_clipping_silence_and_offset(sound: np.ndarray, fact: str, expected: float, tmp_path: Path):
    assert facts_of(write_wav(tmp_path / "a.wav", sound))[fact] == expected


def test_a_sample_that_is_not_a_number_is_reported(tmp_path: Path):
    sound = tone(100)
    sound[17] = np.nan
    row = facts_of(write_wav(tmp_path / "nan.wav", sound, subtype="FLOAT"))
    assert row["finite"] is False
    assert "peak" not in row


def test_same_samples_in_another_container_have_one_hash(tmp_path: Path):
    samples = (10_000 * tone(100)).astype(np.int16)
    wav, flac = (facts_of(write_wav(tmp_path / name, samples)) for name in ("a.wav", "a.flac"))
    other = facts_of(write_wav(tmp_path / "b.wav", tone(101)))
    assert wav["sha256"] != flac["sha256"]
    assert wav["samples_sha256"] == flac["samples_sha256"] != other["samples_sha256"]


@needs_pascal
def test_the_silent_pascal_file_is_silent():
    row = facts_of(REAL / "pascal" / "set_a" / "Aunlabelledtest__201106120928.wav")
    assert row["peak"] == pytest.approx(2.7e-4, rel=0.05)


def test_only_new_recordings_are_measured(store: Store, tmp_path: Path, monkeypatch):
    paths = [write_wav(tmp_path / f"{i}.wav", beats(60 + i, 2.0, seed=i)) for i in range(4)]
    recordings = tuple(sorted((sha256_file(path), str(path)) for path in paths))
    before = measure_recordings(Shard(5, recordings[:3]), MeasureConfig(), store)
    measured = []
    monkeypatch.setattr(
        measurements, "measure_file", lambda uri, *rest: measured.append(uri) or measure_file(uri, *rest)
    )
    grown = measure_recordings(Shard(5, recordings), MeasureConfig(), store)
    assert measured == [recordings[3][1]]
    assert grown == measure_recordings(Shard(5, recordings), MeasureConfig(), Store(tmp_path / "other").open())
    measured.clear()
    for name in (before.name, grown.name):
        store.local(name).write_bytes(b"damaged")
    measure_recordings(Shard(5, recordings), MeasureConfig(silence_rms=0.01), store)
    measure_recordings(Shard(5, recordings), MeasureConfig(), store)
    assert len(measured) == 8


@pytest.mark.parametrize("name", ["choose", "resample", "periodicity", "quality", "fingerprint"])
def test_whatever_measuring_raises_is_a_row(tmp_path: Path, monkeypatch, name: str):
    def fail(*args: object) -> None:
        raise ArithmeticError("x")

    monkeypatch.setattr(measurements, name, fail)
    row = facts_of(write_wav(tmp_path / "a.wav", beats()))
    assert row["error"] == "cannot be measured (ArithmeticError: x): export it again, or remove it"


def test_what_waited_for_ffmpeg_is_measured_again_once_it_is_installed(store: Store, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(2000))
    paths = [tmp_path / "a.m4a", write_wav(tmp_path / "b.wav", beats())]
    shard = Shard(5, tuple(sorted((sha256_file(path), str(path)) for path in paths)))
    measure_recordings(shard, MeasureConfig(), store)
    assert load_if_intact(shard, MeasureConfig(), store) is not None
    fake_ffmpeg(tmp_path / "bin")
    assert load_if_intact(shard, MeasureConfig(), store) is None
    assert len(measurements.load_known_facts(shard, MeasureConfig(), store)) == 1
    measure_recordings(shard, MeasureConfig(), store)
    assert load_if_intact(shard, MeasureConfig(), store) is not None
    facts = store.read_frame(load_if_intact(shard, MeasureConfig(), store), FACTS)
    assert facts["error"].isna().all()
    assert facts["format"].str.startswith("FFMPEG").sum() == 1


def test_intact_facts_are_loaded_and_damaged_ones_are_not(store: Store, tmp_path: Path):
    paths = [write_wav(tmp_path / f"{i}.wav", beats(60 + i)) for i in range(3)]
    shard = Shard(3, tuple(sorted((sha256_file(p), str(p)) for p in paths)))
    assert load_if_intact(shard, MeasureConfig(), store) is None
    facts = measure_recordings(shard, MeasureConfig(), store)
    assert load_if_intact(shard, MeasureConfig(), store) == facts
    assert load_if_intact(Shard(3, shard.recordings[:2]), MeasureConfig(), store) is None
    content = bytearray(store.local(facts.name).read_bytes())
    content[60] ^= 1  # in a page
    store.local(facts.name).write_bytes(bytes(content))
    assert load_if_intact(shard, MeasureConfig(), store) is None


def test_a_file_that_was_deleted_since_the_inventory_is_named(tmp_path: Path):
    write_wav(tmp_path / "a.wav", beats())
    (tmp_path / "t.csv").write_text("path,label\na.wav,normal\n")
    table, _ = take_inventory(TableSource(data=tmp_path / "t.csv"), tmp_path)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(HeartbeatError, match=r"a\.wav cannot be read"):
        measure_files(table)
