"""Pruning removes shards that no kept manifest refers to, and nothing when a manifest cannot be read."""

import time
from pathlib import Path

import pytest
from helpers import beats, write_wav

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.dataset.prune import RECENT_S, plan_prune
from heartdata.dataset.spectrogram_shards import render_shard
from heartdata.errors import StoreError
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store, sha256_file, table_from_rows


def night(store: Store, tmp_path: Path, number: int) -> tuple[Artifact, str]:
    """A manifest with a shard of its own; returns it and the shard's name."""
    path = write_wav(tmp_path / f"{number}.wav", beats(60 + number, 1.0))
    shard = render_shard(Shard(0, ((sha256_file(path), str(path)),)), SpectrogramConfig(), store)
    rows = [{**row, "recording_id": f"r{number}"} for row in shard.index.to_pylist()]
    time.sleep(0.01)  # so that one is newer
    return store.write_table("manifest", table_from_rows(rows, MANIFEST), MANIFEST), shard.name


def test_shards_that_no_kept_manifest_needs_are_removed_unless_recent(store: Store, tmp_path: Path):
    nights = [night(store, tmp_path, number) for number in range(4)]
    assert plan_prune(store, keep=1).remove == ()
    plan = plan_prune(store, keep=1, versions=[nights[0][0].digest], now_s=time.time() + RECENT_S + 60)
    unused = {nights[1][1], nights[2][1]}
    assert {e.name for e in plan.remove} == unused | {name.replace(".npy", ".parquet") for name in unused}
    assert set(plan.kept_manifests) == {nights[0][0].name, nights[3][0].name}
    assert (plan.kept_shards, plan.size_bytes) == (2, sum(store.local(e.name).stat().st_size for e in plan.remove))


def test_unfinished_files_of_killed_runs_are_removed(store: Store, tmp_path: Path):
    _, name = night(store, tmp_path, 0)
    unfinished = store.workpath(name).with_name(".torn.tmp")
    unfinished.write_bytes(b"x")
    (entry,) = plan_prune(store, keep=1, now_s=time.time() + RECENT_S + 60).remove
    assert store.workpath(entry.name) == unfinished


def test_a_manifest_that_cannot_be_read_stops_pruning(store: Store, tmp_path: Path):
    artifact, _ = night(store, tmp_path, 0)
    store.workpath(artifact.name).write_bytes(b"damaged")
    with pytest.raises(StoreError, match="unknown which shards it needs"):
        plan_prune(store, keep=1)
