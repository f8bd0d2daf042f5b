"""Inventory, measuring, rendering and the manifest, each by ``.fn``: no server, no flow."""

from pathlib import Path

import pytest
from helpers import DisplayLog, beats, write_wav

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.errors import SourceError
from heartdata.sources import DemoSource, TableSource
from heartdata.storage.schemas import ACCEPTED, FACTS, RECORDINGS, SPECTROGRAMS, SPLITS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Store, sha256_file, table_from_rows
from tasks.engine import progress
from tasks.inventory import inventory
from tasks.manifest import manifest
from tasks.measure import file_shards, measure_shard
from tasks.spectrograms import spectrogram_shard


def shard_of(*paths: Path) -> Shard:
    return Shard(0, tuple(sorted((sha256_file(p), str(p)) for p in paths)))


def test_inventory_counts_and_hashes(store: Store):
    artifact = inventory.fn(DemoSource(subjects_per_class=3, sites=1), store)
    rows = store.read_frame(artifact, RECORDINGS)
    assert artifact.counts["found"] == len(rows) == 4 * 3 + 8
    assert rows["sha256"].str.len().eq(64).all()
    assert sum(len(s.recordings) for s in file_shards(artifact, store)) == rows["sha256"].nunique() == len(rows) - 2


def test_notes_of_the_source_are_shown_at_once(store: Store, tmp_path: Path):
    write_wav(tmp_path / "a.wav", beats())
    (tmp_path / "t.csv").write_text("path,label\na.wav,normal\n")
    display = DisplayLog()
    progress.begin(display)
    artifact = inventory.fn(TableSource(data=tmp_path / "t.csv"), store)
    progress.begin()
    assert "has no subject column" in display.remarks[0]
    assert display.remarks == [text for name, text in artifact.counts.items() if name.startswith("note_")]
    assert "1 recordings, each its own subject" in display.said[0][2]


def test_measuring_keeps_undecodable_files_as_rows(store: Store, tmp_path: Path):
    good, bad = write_wav(tmp_path / "ü é.wav", beats()), tmp_path / "bad.wav"
    bad.write_text("no audio at all")
    artifact = measure_shard.fn(shard_of(good, bad), MeasureConfig(), store)
    assert not Path(artifact.name).is_absolute()
    rows = store.read_frame(artifact, FACTS).set_index("sha256")
    assert rows.loc[sha256_file(good), "duration_s"] == 5.0
    assert "cannot be decoded" in rows.loc[sha256_file(bad), "error"]


def test_a_missing_file_is_an_os_error_which_is_retried(store: Store, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        measure_shard.fn(Shard(0, (("00" * 32, str(tmp_path / "gone.wav")),)), MeasureConfig(), store)


def test_bad_audio_is_not_an_os_error(store: Store, tmp_path: Path):
    (tmp_path / "bad.wav").write_bytes(b"")
    with pytest.raises(SourceError, match="bad.wav: the file is empty"):
        spectrogram_shard.fn(shard_of(tmp_path / "bad.wav"), SpectrogramConfig(), store)


def test_a_spectrogram_shard_has_the_same_bytes_in_any_order_of_its_files(store: Store, tmp_path: Path):
    shard = shard_of(*(write_wav(tmp_path / f"{i}.wav", beats(60 + i, 3.0)) for i in range(3)))
    first = spectrogram_shard.fn(shard, SpectrogramConfig(), store)
    content = store.local(first.array.name).read_bytes()
    second = spectrogram_shard.fn(Shard(0, shard.recordings[::-1]), SpectrogramConfig(), store)
    assert store.local(second.array.name).read_bytes() == content
    index = store.read_frame(first.index, SPECTROGRAMS)
    assert index["frames"].tolist() == [94] * 3  # 3 s x 2000 Hz / 64 + 1
    assert index["start"].tolist() == [0, 94, 188]


def test_the_data_set_version_depends_on_the_spectrograms(store: Store):
    values = {"recording_id": "r", "sha256": "a", "group": "g", "part": "train", "shard": "s", "start": 0, "frames": 9}

    def version(shard_sha256: str) -> str:
        row = values | {"shard_sha256": shard_sha256}
        tables = {
            name: store.write_table(name, table_from_rows([{n: row.get(n) for n in schema.names}], schema), schema)
            for name, schema in {"accepted": ACCEPTED, "splits": SPLITS, "spectrograms": SPECTROGRAMS}.items()
        }
        return manifest.fn(**tables, store=store).digest

    assert version("one") == version("one") != version("other")
