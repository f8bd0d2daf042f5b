"""Pruning: what a kept manifest needs stays, whatever else; nothing goes on a guess."""

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
    """One manifest over one shard of its own; returns it and the shard's name."""
    path = write_wav(tmp_path / f"{number}.wav", beats(60 + number, 1.0))
    made = render_shard(Shard(0, ((sha256_file(path), str(path)),)), SpectrogramConfig(), store)
    rows = [{**row, "recording_id": f"r{number}"} for row in made.index.to_pylist()]
    time.sleep(0.01)  # so that one is newer
    return store.write_table("manifest", table_from_rows(rows, MANIFEST), MANIFEST), made.name


def test_only_what_no_kept_manifest_needs_goes(store: Store, tmp_path: Path):
    nights = [night(store, tmp_path, number) for number in range(4)]
    later_s = time.time() + RECENT_S + 60
    plan = plan_prune(store, keep=1, versions=[nights[0][0].digest], now_s=later_s)
    gone = {nights[1][1], nights[2][1]}
    assert {e.name for e in plan.remove} == gone | {name.replace(".npy", ".parquet") for name in gone}
    assert set(plan.kept_manifests) == {nights[0][0].name, nights[3][0].name}
    assert (plan.kept_shards, plan.size_bytes) == (2, sum(store.local(e.name).stat().st_size for e in plan.remove))


def test_what_is_young_stays(store: Store, tmp_path: Path):
    for number in range(3):
        night(store, tmp_path, number)
    assert plan_prune(store, keep=1).remove == ()


def test_what_a_killed_run_left_goes(store: Store, tmp_path: Path):
    _, name = night(store, tmp_path, 0)
    torn = store.workpath(name).with_name(".torn.tmp")
    torn.write_bytes(b"x")
    (entry,) = plan_prune(store, keep=1, now_s=time.time() + RECENT_S + 60).remove
    assert store.workpath(entry.name) == torn


def test_a_manifest_that_cannot_be_read_stops_it(store: Store, tmp_path: Path):
    artifact, _ = night(store, tmp_path, 0)
    store.workpath(artifact.name).write_bytes(b"damaged")
    with pytest.raises(StoreError, match="not known which shards it needs"):
        plan_prune(store, keep=1)
