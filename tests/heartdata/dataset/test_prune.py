"""Pruning keeps what is referred to, whatever its age, and what is young; a manifest that cannot be read stops it."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import beats, write_wav

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.dataset.prune import (
    DAY_S,
    CachedResult,
    Needed,
    Plan,
    RetentionConfig,
    files_in,
    live_results,
    plan_files,
)
from heartdata.dataset.spectrogram_shards import index_name, render_shard
from heartdata.errors import StoreError
from heartdata.storage.schemas import FACTS, MANIFEST, RECORDINGS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store, sha256_file, table_from_rows

NOW_S = 2e9
LEAST = RetentionConfig(versions=1, data_sets=1, days=2)
NONE = Needed()


def night(store: Store, tmp_path: Path, number: int) -> tuple[Artifact, str]:
    """A manifest with a shard of its own; returns it and the shard's name."""
    path = write_wav(tmp_path / f"{number}.wav", beats(60 + number, 1.0))
    shard = render_shard(Shard(0, ((sha256_file(path), str(path)),)), SpectrogramConfig(), store)
    rows = [{**row, "recording_id": f"r{number}"} for row in shard.index.to_pylist()]
    time.sleep(0.01)  # so that one is newer
    return store.write_table("manifest", table_from_rows(rows, MANIFEST), MANIFEST), shard.name


def put(store: Store, *names: str, days: float = 100, content: bytes = b"x") -> None:
    """Files that were written so many days ago."""
    for name in names:
        with store.writing(name) as file:
            file.write(content)
        os.utime(store.workpath(name), (NOW_S - days * DAY_S,) * 2)


def used(name: str, *files: str, days: float = 0) -> CachedResult:
    return CachedResult(name, NOW_S - days * DAY_S, 10, frozenset(files))


def planned(store: Store, *results: CachedResult, needed: Needed = NONE, now_s: float = NOW_S) -> Plan:
    return plan_files(store, store.entries(""), results, needed, LEAST, now_s)


def removed(plan: Plan) -> set[str]:
    return {entry.name for entry in plan.files}


def test_shards_that_no_kept_manifest_needs_are_removed_unless_recent(store: Store, tmp_path: Path):
    nights = [night(store, tmp_path, number) for number in range(4)]
    now_s, needed = time.time(), Needed(frozenset([nights[0][0].name]))
    assert removed(planned(store, needed=needed, now_s=now_s)) == set()
    plan = planned(store, needed=needed, now_s=now_s + DAY_S + 60)
    unused = {nights[1][1], nights[2][1]}
    assert removed(plan) == unused | {name.replace(".npy", ".parquet") for name in unused}
    assert set(plan.kept_manifests) == {nights[0][0].name, nights[3][0].name}
    assert plan.kept_shards == 2


def test_a_manifest_that_was_used_last_counts_as_newest(store: Store, tmp_path: Path):
    (first, _), _ = night(store, tmp_path, 0), night(store, tmp_path, 1)
    assert planned(store, used("manifest", first.name)).kept_manifests == (first.name,)


def test_unfinished_files_of_killed_runs_are_removed(store: Store):
    put(store, "spectrograms/v/.torn.tmp", "models/.torn.tmp", days=1.1)
    put(store, "models/.young.tmp", days=0.9)
    assert removed(planned(store)) == {"spectrograms/v/.torn.tmp", "models/.torn.tmp"}


def test_files_stay_while_a_result_that_was_used_lately_names_them(store: Store):
    put(store, "splits/a.parquet", "splits/b.parquet", "data-docs/a/index.html", "data-docs/b/static/x.css")
    put(store, "models/a.safetensors", "models/b.safetensors", "models/b.json", "report/b.html")
    put(store, "splits/young.parquet", days=1)
    lately, old = used("split-v1-a", "splits/a.parquet", "data-docs/a"), used("split-v1-b", "splits/b.parquet", days=3)
    plan = planned(store, lately, old, used("train-v1-a", "models/a.safetensors", days=1))
    assert removed(plan) == {
        "splits/b.parquet",
        "data-docs/b/static/x.css",
        "models/b.safetensors",
        "report/b.html",
    }
    assert plan.results == (old,)


def test_after_a_long_pause_what_the_last_run_used_stays(store: Store):
    put(store, "splits/a.parquet", "splits/b.parquet")
    results = used("split-v1-a", "splits/a.parquet", days=50), used("split-v1-b", "splits/b.parquet", days=60)
    assert removed(planned(store, *results)) == {"splits/b.parquet"}


def test_what_a_kept_version_needs_stays_whatever_its_age(store: Store):
    needed = Needed(frozenset(["models/a.safetensors", "initial/a.safetensors", "scores/v1-a"]))
    put(store, *needed.files - {"scores/v1-a"}, "scores/v1-a/1.parquet", "models/history/a.parquet")
    put(store, "initial/b.safetensors", "scores/v1-b/1.parquet")
    old = used("train-v1-a", "models/a.safetensors", "models/history/a.parquet", days=90)
    plan = planned(store, used("x"), old, needed=needed)
    assert removed(plan) == {"initial/b.safetensors", "scores/v1-b/1.parquet"}
    assert plan.results == ()


def test_weights_of_removed_versions_go_with_the_results_that_name_them(store: Store):
    put(store, "models/a.safetensors", "plots/a.png", days=1.5)
    needed = Needed(removed_weights=frozenset(["models/a.safetensors"]))
    result = used("train-v1-a", "models/a.safetensors", "plots/a.png", days=1.1)
    plan = planned(store, result, needed=needed)
    assert removed(plan) == {"models/a.safetensors"}
    assert plan.results == (result,)
    in_progress = used("train-v1-a", "models/a.safetensors", "plots/a.png", days=0.9)
    plan = planned(store, in_progress, needed=needed)
    assert (removed(plan), plan.results) == (set(), ())


def test_shards_that_a_run_in_progress_uses_stay(store: Store, tmp_path: Path):
    nights = [night(store, tmp_path, number) for number in range(4)]
    long_ago = (time.time() - 2 * DAY_S,) * 2
    for entry in store.entries("spectrograms"):
        os.utime(store.workpath(entry.name), long_ago)
    path = tmp_path / "0.wav"
    render_shard(Shard(0, ((sha256_file(path), str(path)),)), SpectrogramConfig(), store)  # as it is
    listed = used("shard-v1-a", nights[1][1], index_name(nights[1][1])), used("manifest", nights[3][0].name)
    plan = planned(store, *(replace(result, used_s=time.time()) for result in listed), now_s=time.time())
    assert removed(plan) == {nights[2][1], index_name(nights[2][1])}


def test_a_result_that_was_rebuilt_keeps_the_records_before_it():
    first, second, last = (
        used("train-v1-a", "x", days=9),
        used("train-v1-a-rebuild1", days=9),
        used("train-v1-a-rebuild2"),
    )
    old = used("train-v1-b", days=9)
    assert live_results([first, second, last, old], {"x"}, NOW_S - DAY_S, set()) == {first.name, second.name, last.name}


def test_a_validation_is_not_kept_for_tables_that_it_compared_with():
    reference, docs = "accepted/champion.parquet", "data-docs/champion"
    of_champion = used("validate-v1-a", reference, docs, days=30)
    later = used("validate-v1-b", reference, "accepted/b.parquet", "data-docs/b", days=30)
    assert live_results([of_champion, later], set(), NOW_S - DAY_S, {reference, docs}) == {of_champion.name}


def test_what_was_accepted_last_and_its_facts_stay(store: Store):
    hashes = ["a" * 64, "b" * 64]
    listing = store.write_table("recordings", table_from_rows([{"sha256": hashes[0]}], RECORDINGS), RECORDINGS)
    os.utime(store.workpath(listing.name), (NOW_S - DAY_S,) * 2)
    facts = [Shard(int(h[:8], 16) % 16, ((h, ""),)).file("facts/v1-x", ".parquet") for h in hashes]
    for name in facts:
        store.write_table("facts", FACTS.empty_table(), FACTS, name=name)
        os.utime(store.workpath(name), (NOW_S - 9 * DAY_S,) * 2)
    put(
        store,
        "accepted/a.parquet",
        "accepted/b.parquet",
        "recordings/seen.parquet",
        "near-duplicates/v1/a.searched.parquet",
    )
    record = {
        "accepted": {"name": "accepted/a.parquet", "digest": "d", "rows": 1, "counts": {}},
        "data_docs": "data-docs/a",
    }
    put(store, "accepted/last-0.json", content=json.dumps(record).encode())
    put(store, "data-docs/a/index.html", "near-duplicates/v1/b.searched.parquet", "near-duplicates/v1/a.parquet")
    plan = planned(store, used("near-duplicates-v1-a", "near-duplicates/v1/a.parquet"))
    assert removed(plan) == {
        "accepted/b.parquet",
        facts[1],
        "data-docs/a/index.html",
        "near-duplicates/v1/b.searched.parquet",
    }


def test_what_is_not_a_stage_s_stays_and_logs_of_old_runs_go(store: Store):
    put(
        store,
        "latest/report.html",
        "made/demo/a.wav",
        "mlflow.db",
        "mlflow-artifacts/x/MLmodel",
        "results/other",
        "notes.txt",
    )
    put(store, "prefect/prefect.db", "logs/prefect-server.log", "logs/20260101-000000-17.log", "caches/numba/x.tmp")
    put(store, "logs/prefect-server.log.1", "logs/20260101-000000-17.log.1")
    put(store, "reproduce-abc/store/x", "progress/a.safetensors")
    put(store, "logs/20260101-000000-18.log", "progress/b.safetensors", days=1)
    assert removed(planned(store)) == {
        "logs/20260101-000000-17.log",
        "logs/20260101-000000-17.log.1",
        "reproduce-abc/store/x",
        "progress/a.safetensors",
    }


def test_a_manifest_that_cannot_be_read_stops_pruning(store: Store, tmp_path: Path):
    artifact, _ = night(store, tmp_path, 0)
    store.workpath(artifact.name).write_bytes(b"damaged")
    with pytest.raises(StoreError, match="unknown which files it needs"):
        planned(store)


def test_files_are_found_at_any_depth_of_a_record():
    artifact = {"name": "a", "digest": "d", "rows": 1}
    assert list(
        files_in({"plots": {"roc": artifact}, "members": [{"weights": {**artifact, "name": "b"}}], "name": "c"})
    ) == [
        "a",
        "b",
    ]
