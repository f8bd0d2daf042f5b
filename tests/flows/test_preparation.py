"""Preparation survives: kills at random moments, two runs at once, dead workers, reading that fails for a while."""

import itertools
import json
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
from helpers import tiny
from test_survival import contents
from zygote import Zygote, has_ended, wait

import heartdata.dataset.spectrogram_shards
import tasks.engine.fan_out
import tasks.spectrograms
from flows.pipeline import prepare
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.config import EngineConfig, RunConfig
from heartdata.dataset.spectrogram_shards import RenderedShard, render_shard
from heartdata.errors import BadAudio
from heartdata.sources.demo import DemoSource
from heartdata.storage.schemas import RECORDINGS, SPECTROGRAMS, SPLITS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Store, table_from_rows
from tasks.inventory import inventory

ENDS_S = 120


@pytest.fixture(scope="module")
def zygote(prefect_server, tmp_path_factory) -> Iterator[Zygote]:
    with Zygote(tmp_path_factory.mktemp("zygote") / "log.txt") as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(prefect_server, tmp_path_factory) -> dict[str, str]:
    """What an undisturbed preparation leaves in its store, by the threads of this process."""
    store = tmp_path_factory.mktemp("undisturbed")
    prepare(tiny(store, engine__name="threads"))
    return contents(store)


def count(store: Path) -> int:
    return sum(len(names) for *_, names in os.walk(store))


def finished(store: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in store.glob("spectrograms/*/*.npy") if p.with_suffix(".parquet").is_file()}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_as_if_undisturbed(zygote: Zygote, undisturbed, tmp_path: Path, kills: int):
    """Each round: killed once, when the store holds a drawn number of files; then run to its end in the same store."""
    draw, full, killed_at_work = random.Random(0), 0, 0
    for number in range(kills + 1):
        store = tmp_path / str(number)
        config = tiny(store)
        if number:
            pid, files = zygote.start(config), draw.randrange(full)
            while not has_ended(pid) and count(store) < files:
                time.sleep(0.002)
            if not wait(pid, draw.uniform(0, 0.1)):
                killed_at_work += 1
                os.kill(pid, signal.SIGKILL)
                assert wait(pid, ENDS_S)
        before = finished(store)
        assert wait(zygote.start(config), ENDS_S)
        full = full or count(store)
        assert contents(store) == undisturbed, zygote.log.read_text()[-2000:]
        assert {p: p.stat().st_mtime_ns for p in before} == before
    assert killed_at_work > kills / 2


def test_two_runs_at_once_over_one_store(zygote: Zygote, undisturbed, tmp_path: Path):
    runs = [zygote.start(tiny(tmp_path / "out")) for _ in range(2)]
    assert all(wait(pid, ENDS_S) for pid in runs)
    assert contents(tmp_path / "out") == undisturbed, zygote.log.read_text()[-2000:]
    assert not list((tmp_path / "out").rglob(".*.tmp"))


def dies_once(shard: Shard, config: SpectrogramConfig, store: Store) -> RenderedShard:
    """The worker of the first shard is killed in the middle of it."""
    mark = store.workpath("killed")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with store.workpath("rendered").open("a") as file:
        file.write(f"{shard.number}\n")
    return render_shard(shard, config, store)


def test_a_killed_worker_costs_its_shard_only(prefect_server, undisturbed, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tasks.engine.fan_out, "FEW", 0)
    monkeypatch.setattr(tasks.spectrograms, "render_shard", dies_once)
    prepare(tiny(tmp_path / "out", engine__name="processes", engine__workers=2))
    rendered = Counter((tmp_path / "out" / "rendered").read_text().split())
    assert (tmp_path / "out" / "killed").exists()
    assert set(rendered.values()) == {1}  # the dead one's shard got so far once, at the second try
    assert contents(tmp_path / "out") == undisturbed


def not_here(*args: object) -> None:
    raise AssertionError("rendered in the process that runs the flow")


def test_dask_makes_the_same_bytes(prefect_server, undisturbed, tmp_path: Path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(heartdata.dataset.spectrogram_shards, "read_bytes", not_here)
    local = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with patch.dict(os.environ), distributed.LocalCluster(**local) as cluster:  # it leaves OMP_NUM_THREADS there
        prepare(tiny(tmp_path / "out", engine__name="dask", engine__address=cluster.scheduler_address))
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_a_local_dask_cluster_leaves_training_its_threads(prefect_server, undisturbed, tmp_path: Path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    prepare(tiny(tmp_path / "out", engine__name="dask", engine__workers=1))
    assert "OMP_NUM_THREADS" not in os.environ
    assert contents(tmp_path / "out") == undisturbed


def test_reading_that_fails_for_a_while_is_tried_again(prefect_server, undisturbed, tmp_path: Path, monkeypatch):
    tries, read = itertools.count(), heartdata.dataset.spectrogram_shards.read_bytes

    def shaky(uri: str, sha256: str) -> bytes:
        if next(tries) < 1:
            raise OSError(5, "Input/output error", uri)
        return read(uri, sha256)

    monkeypatch.setattr(heartdata.dataset.spectrogram_shards, "read_bytes", shaky)
    prepare(tiny(tmp_path / "out", engine__name="threads"))
    assert contents(tmp_path / "out") == undisturbed


def test_bad_audio_is_never_tried_again(prefect_server, tmp_path: Path, monkeypatch):
    tries = Counter()

    def bad(uri: str, sha256: str) -> bytes:
        tries[uri] += 1
        raise BadAudio("torn")

    monkeypatch.setattr(heartdata.dataset.spectrogram_shards, "read_bytes", bad)
    with pytest.raises(BadAudio, match="torn"):
        prepare(tiny(tmp_path / "out", engine__name="threads"))
    assert set(tries.values()) == {1}


LARGE = SpectrogramConfig(mel_bands=64, hop_s=0.016)  # eight of them do not fit on the disk, four do


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_leaves_nothing_torn(tmp_path: Path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        recordings = _recordings(tmp_path / "x")
        store, shard = Store(small / "out").open(), Shard(0, tuple(sorted(recordings)))
        with pytest.raises(OSError, match="No space left"):
            render_shard(shard, LARGE, store)
        assert store.entries("spectrograms") == []
        half = Shard(0, shard.recordings[:4])
        assert render_shard(half, LARGE, store).rendered == 4
    finally:
        subprocess.run(["umount", small], check=True)


def _recordings(folder: Path) -> list[tuple[str, str]]:
    from helpers import beats, write_wav

    from heartdata.storage.store import sha256_file

    paths = [write_wav(folder / f"{i}.wav", beats(60 + i, seed=i)) for i in range(8)]
    return [(sha256_file(path), str(path)) for path in paths]


def test_configuration_travels_as_json():
    config = tiny(Path("out"), engine__name="threads")
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert json.loads(config.model_dump_json())["engine"]["name"] == "threads"


def test_what_stands_in_any_fold_is_rendered(prefect_server, tmp_path: Path):
    store = Store(str(tmp_path / "out")).open()
    recordings = inventory.fn(DemoSource(subjects_per_class=3, sites=1, plant_faults=False), store)
    sounds = store.read_frame(recordings, RECORDINGS)["sha256"].to_list()
    folds = []
    for left_out in sounds[:2]:  # as who stands on both sides of a database that is held out
        rows = [dict.fromkeys(SPLITS.names) | {"sha256": sha256} for sha256 in sounds if sha256 != left_out]
        folds.append(store.write_table("splits", table_from_rows(rows, SPLITS), SPLITS))
    made = tasks.spectrograms.spectrograms(recordings, folds, SpectrogramConfig(), EngineConfig(name="threads"), store)
    assert set(store.read_frame(made, SPECTROGRAMS)["sha256"]) == set(sounds)
