"""Preparation survives kills at random moments, concurrent runs, dead workers and transient read errors."""

import itertools
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from helpers import beats, tiny, write_wav
from test_survival import contents
from zygote import Zygote, has_ended, wait

import heartdata.dataset.spectrogram_shards
import tasks.engine.fan_out
import tasks.spectrograms
from flows.pipeline import prepare
from heartdata.audio.channels import Channel
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.config import EngineConfig
from heartdata.dataset.spectrogram_shards import RenderedShard, render_shard
from heartdata.errors import BadAudio, SourceError
from heartdata.sources.demo import DemoSource
from heartdata.storage.schemas import RECORDINGS, SPECTROGRAMS, SPLITS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Store, sha256_file, table_from_rows
from tasks.inventory import inventory

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def zygote(prefect_server, tmp_path_factory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote") / "log.txt") as zygote:
        yield zygote


@pytest.fixture(scope="module")
def undisturbed(prefect_server, tmp_path_factory) -> dict[str, str]:
    """The contents of the store after an undisturbed preparation with threads."""
    store = tmp_path_factory.mktemp("undisturbed")
    prepare(tiny(store, engine__name="threads"))
    return contents(store)


def count_files(store: Path) -> int:
    return sum(len(names) for *_, names in os.walk(store))


def finished(store: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in store.glob("spectrograms/*/*.npy") if p.with_suffix(".parquet").is_file()}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.unattended)])
def test_preparation_killed_at_random_moments_finishes_as_if_undisturbed(
    zygote: Zygote, undisturbed, tmp_path: Path, kills: int
):
    """Each round kills a run when its store holds a random number of files, then runs to the end in the same store."""
    rng, n_files, n_killed = random.Random(0), 0, 0
    for number in range(kills + 1):
        store = tmp_path / str(number)
        config = tiny(store)
        if number:
            pid, files = zygote.start(config), rng.randrange(n_files)
            while not has_ended(pid) and count_files(store) < files:
                time.sleep(0.002)
            if not wait(pid, rng.uniform(0, 0.1)):
                n_killed += 1
                os.kill(pid, signal.SIGKILL)
                assert wait(pid, TIMEOUT_S)
        before = finished(store)
        assert wait(zygote.start(config), TIMEOUT_S)
        n_files = n_files or count_files(store)
        assert contents(store) == undisturbed, zygote.log.read_text()[-2000:]
        assert {p: p.stat().st_mtime_ns for p in before} == before
    assert n_killed > kills / 2


def test_two_runs_at_once_over_one_store(zygote: Zygote, undisturbed, tmp_path: Path):
    runs = [zygote.start(tiny(tmp_path / "out")) for _ in range(2)]
    assert all(wait(pid, TIMEOUT_S) for pid in runs)
    assert contents(tmp_path / "out") == undisturbed, zygote.log.read_text()[-2000:]
    assert not list((tmp_path / "out").rglob(".*.tmp"))


def dies_once(shard: Shard, config: SpectrogramConfig, store: Store, channel: Channel) -> RenderedShard:
    """`render_shard`, except that the first worker is killed in the middle of its shard."""
    mark = store.workpath("killed")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with store.workpath("rendered").open("a") as file:
        file.write(f"{shard.number}\n")
    return render_shard(shard, config, store, channel)


def test_a_killed_worker_costs_only_its_shard(prefect_server, undisturbed, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tasks.engine.fan_out, "FEW", 0)
    monkeypatch.setattr(tasks.spectrograms, "render_shard", dies_once)
    prepare(tiny(tmp_path / "out", engine__name="processes", engine__workers=2))
    rendered = Counter((tmp_path / "out" / "rendered").read_text().split())
    assert (tmp_path / "out" / "killed").exists()
    assert set(rendered.values()) == {1}  # the killed worker's shard: at the second attempt
    assert contents(tmp_path / "out") == undisturbed


def fail(*args: object) -> None:
    raise AssertionError("rendered in the flow's own process")


def test_dask_writes_the_same_bytes(prefect_server, undisturbed, tmp_path: Path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(heartdata.dataset.spectrogram_shards, "read_bytes", fail)
    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with patch.dict(os.environ), distributed.LocalCluster(**local) as cluster:  # it sets OMP_NUM_THREADS
        prepare(tiny(tmp_path / "out", engine__name="dask", engine__address=cluster.scheduler_address))
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_a_local_dask_cluster_does_not_limit_the_threads_of_training(
    prefect_server, undisturbed, tmp_path: Path, monkeypatch
):
    pytest.importorskip("distributed")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    prepare(tiny(tmp_path / "out", engine__name="dask", engine__workers=1))
    assert "OMP_NUM_THREADS" not in os.environ
    assert contents(tmp_path / "out") == undisturbed


def test_a_transient_read_error_is_retried(prefect_server, undisturbed, tmp_path: Path, monkeypatch):
    attempts, read = itertools.count(), heartdata.dataset.spectrogram_shards.read_bytes

    def shaky(uri: str, sha256: str) -> bytes:
        if next(attempts) < 1:
            raise OSError(5, "Input/output error", uri)
        return read(uri, sha256)

    monkeypatch.setattr(heartdata.dataset.spectrogram_shards, "read_bytes", shaky)
    prepare(tiny(tmp_path / "out", engine__name="threads"))
    assert contents(tmp_path / "out") == undisturbed


def test_bad_audio_is_not_retried(prefect_server, tmp_path: Path, monkeypatch):
    attempts = Counter()

    def bad(uri: str, sha256: str) -> bytes:
        attempts[uri] += 1
        raise BadAudio("torn")

    monkeypatch.setattr(heartdata.dataset.spectrogram_shards, "read_bytes", bad)
    with pytest.raises(SourceError, match="wav: torn"):
        prepare(tiny(tmp_path / "out", engine__name="threads"))
    assert set(attempts.values()) == {1}


LARGE = SpectrogramConfig(mel_bands=64, hop_s=0.016)  # the disk has room for four spectrograms, not for eight


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_leaves_nothing_torn(tmp_path: Path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        paths = [write_wav(tmp_path / f"{i}.wav", beats(60 + i, seed=i)) for i in range(8)]
        recordings = sorted((sha256_file(path), str(path)) for path in paths)
        store, shard = Store(small / "out").open(), Shard(0, tuple(recordings))
        with pytest.raises(OSError, match="No space left"):
            render_shard(shard, LARGE, store)
        assert store.entries("spectrograms") == []
        half = Shard(0, shard.recordings[:4])
        assert render_shard(half, LARGE, store).rendered == 4
    finally:
        subprocess.run(["umount", small], check=True)


def test_recordings_of_any_fold_are_rendered(prefect_server, tmp_path: Path):
    store = Store(str(tmp_path / "out")).open()
    recordings = inventory.fn(DemoSource(subjects_per_class=3, sites=1, plant_faults=False), store)
    sha256s = store.read_frame(recordings, RECORDINGS)["sha256"].to_list()
    folds = []
    for left_out in sha256s[:2]:
        rows = [dict.fromkeys(SPLITS.names) | {"sha256": sha256} for sha256 in sha256s if sha256 != left_out]
        folds.append(store.write_table("splits", table_from_rows(rows, SPLITS), SPLITS))
    rendered = tasks.spectrograms.spectrograms(
        recordings, folds, SpectrogramConfig(), EngineConfig(name="threads"), store
    )
    assert set(store.read_frame(rendered, SPECTROGRAMS)["sha256"]) == set(sha256s)
