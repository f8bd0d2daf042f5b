"""Spectrogram shards: only new recordings are rendered, the bytes depend on the recordings alone, damage is repaired."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from helpers import beats, write_wav

from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.dataset import spectrogram_shards as rendering
from heartdata.dataset.spectrogram_shards import count_missing, load_if_intact, render_shard
from heartdata.dataset.windows import Shards
from heartdata.errors import SourceError, StoreError
from heartdata.storage.shards import Shard, into_shards
from heartdata.storage.store import Store, sha256_file
from tasks.engine.workers import Workers

CONFIG = SpectrogramConfig()


def files(folder: Path, numbers: range) -> list[tuple[str, str]]:
    paths = [write_wav(folder / f"{i}.wav", beats(60 + i, 1.0 + i / 10, seed=i)) for i in numbers]
    return [(sha256_file(path), str(path)) for path in paths]


def shard_of(recordings: list[tuple[str, str]], number: int = 3, of: int = 16) -> Shard:
    return Shard(number, tuple(sorted(recordings)), of)


def array_of(shard: rendering.RenderedShard, store: Store) -> Path:
    return store.local(shard.name)


def test_each_recording_is_where_the_index_says(store: Store, tmp_path: Path):
    recordings = files(tmp_path, range(4))
    shard = render_shard(shard_of(recordings), CONFIG, store)
    array = np.load(array_of(shard, store), allow_pickle=False)
    assert (shard.rendered, shard.audio_s, array.dtype) == (4, pytest.approx(4.6), np.float16)
    rows = {row["sha256"]: row for row in shard.index.to_pylist()}
    for sha256, uri in recordings:
        row, (sound, rate_hz) = rows[sha256], soundfile.read(uri, dtype="float32")
        assert np.array_equal(array[row["start"] : row["start"] + row["frames"]], log_mel(sound, rate_hz, CONFIG))
    assert sum(row["frames"] for row in rows.values()) == len(array)


def test_the_channel_that_is_set_is_rendered_and_kept_apart(store: Store, tmp_path: Path):
    channels = np.stack([beats(60), beats(90, seed=1)], axis=1)
    path = write_wav(tmp_path / "a.wav", channels, subtype="FLOAT")
    shard = shard_of([(sha256_file(path), str(path))])
    arrays = {}
    for channel, mono in (("mix", channels.mean(axis=1)), (1, channels[:, 0]), (2, channels[:, 1])):
        arrays[channel] = np.load(array_of(render_shard(shard, CONFIG, store, channel), store))
        assert np.array_equal(arrays[channel], log_mel(mono, 4000, CONFIG))
    assert count_missing(shard, CONFIG, store, "first") == 1


def test_a_recording_that_cannot_be_rendered_is_named(store: Store, tmp_path: Path):
    (tmp_path / "a.wav").write_text("text")
    with pytest.raises(SourceError, match="a.wav: cannot be decoded"):
        render_shard(shard_of([(sha256_file(tmp_path / "a.wav"), str(tmp_path / "a.wav"))]), CONFIG, store)


def test_only_new_recordings_are_rendered_and_the_bytes_are_the_same(store: Store, tmp_path: Path):
    recordings = files(tmp_path, range(6))
    first, second = shard_of(recordings[:4]), shard_of(recordings[1:])
    assert (load_if_intact(first, CONFIG, store), count_missing(first, CONFIG, store)) == (None, 4)
    render_shard(first, CONFIG, store)
    assert (load_if_intact(second, CONFIG, store), count_missing(second, CONFIG, store)) == (None, 2)
    grown = render_shard(second, CONFIG, store)
    empty = Store(tmp_path / "other").open()
    whole = render_shard(second, CONFIG, empty)
    assert (grown.rendered, whole.rendered, whole.index) == (2, 5, grown.index)
    assert array_of(whole, empty).read_bytes() == array_of(grown, store).read_bytes()
    again = render_shard(second, CONFIG, store)
    assert (again.name, again.index, again.rendered) == (grown.name, grown.index, 0)
    assert render_shard(second, SpectrogramConfig(mel_bands=40), store).rendered == 5  # nothing of other settings


def test_when_the_number_of_shards_changes_spectrograms_are_reused(store: Store, tmp_path: Path):
    recordings = files(tmp_path, range(12))
    for shard in into_shards(recordings, 16):
        render_shard(shard, CONFIG, store)
    assert [render_shard(shard, CONFIG, store).rendered for shard in into_shards(recordings, 32)].count(0) > 1
    assert sum(render_shard(shard, CONFIG, store).rendered for shard in into_shards(recordings, 128)) == 0
    assert Shard(3, (), 32).related(3, 16)
    assert Shard(3, (), 16).related(19, 32)
    assert not Shard(3, (), 16).related(4, 16)


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "index gone", "index damaged"])
def test_a_damaged_shard_is_not_reused_but_rendered_again(store: Store, tmp_path: Path, damage: str):
    recordings = files(tmp_path, range(3))
    shard = render_shard(shard_of(recordings), CONFIG, store)
    path = array_of(shard, store)
    content = path.read_bytes()
    if damage == "flipped bit":
        path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    elif damage == "truncated":
        path.write_bytes(content[:-64])
    elif damage == "index gone":
        path.with_suffix(".parquet").unlink()
    else:
        path.with_suffix(".parquet").write_bytes(b"PAR1 nothing")
    assert load_if_intact(shard_of(recordings), CONFIG, store) is None
    grown = render_shard(shard_of(recordings + files(tmp_path, range(3, 4))), CONFIG, store)
    assert grown.rendered == 4
    assert render_shard(shard_of(recordings), CONFIG, store).rendered == 0  # reused from the grown one
    assert array_of(shard, store).read_bytes() == content


def test_a_damaged_shard_is_refused_when_opened(store: Store, tmp_path: Path):
    shard = render_shard(shard_of(files(tmp_path, range(3))), CONFIG, store)
    rows = shard.index.to_pandas()
    Shards(store).open(rows)
    longer = rows.assign(frames=rows["frames"] + 1)
    with pytest.raises(StoreError, match="shorter than its index says"):
        Shards(store).open(longer)
    with array_of(shard, store).open("r+b") as file:
        file.seek(3000)
        file.write(b"\xff\xff")
    with pytest.raises(StoreError, match="is damaged: run again"):
        Shards(store).open(rows)
    array_of(shard, store).unlink()
    with pytest.raises(StoreError, match="is missing: run again"):
        Shards(store).open(rows)


def test_an_array_of_another_type_is_refused(store: Store):
    digest = store.write_array("spectrograms/x.npy", np.zeros((4, 64), np.float32))
    rows = pd.DataFrame([{"shard": "spectrograms/x.npy", "shard_sha256": digest, "start": 0, "frames": 4}])
    with pytest.raises(StoreError, match="float32"):
        Shards(store).open(rows)


def test_a_recording_removed_or_replaced_during_the_run_is_named(store: Store, tmp_path: Path):
    removed, replaced = files(tmp_path, range(2))
    Path(removed[1]).unlink()
    with pytest.raises(SourceError, match=r"0\.wav was removed during the run"):
        render_shard(shard_of([removed]), CONFIG, store)
    write_wav(Path(replaced[1]), beats(99, 1.0))
    with pytest.raises(SourceError, match=r"1\.wav changed"):
        render_shard(shard_of([replaced]), CONFIG, store)
    assert not [e for e in store.entries("spectrograms") if not e.name.endswith(".tmp")]


def test_worker_processes_make_the_same_bytes_and_survive_each_other(store: Store, tmp_path: Path):
    shard = shard_of(files(tmp_path, range(3)))
    local = render_shard(shard, CONFIG, store)
    other = Store(tmp_path / "other").open()
    with Workers() as workers:
        with pytest.raises(ChildProcessError, match="worker process died"):
            workers.call(signal.raise_signal, signal.SIGKILL)
        remote = workers.call(render_shard, shard, CONFIG, other)
        with pytest.raises(SourceError, match="was removed"):
            workers.call(render_shard, Shard(0, (("00" * 32, str(tmp_path / "no.wav")),)), CONFIG, other)
    assert array_of(local, store).read_bytes() == array_of(remote, other).read_bytes()


def test_headers_are_read_by_one_thread_at_a_time(store: Store, tmp_path: Path, monkeypatch):
    """Python before 3.11.8 sometimes fails where two threads parse at once (gh-106905)."""
    shards = [shard_of(files(tmp_path / str(i), range(i, i + 1)), number=i) for i in range(4)]
    for shard in shards:
        render_shard(shard, CONFIG, store)
    load, one_at_a_time = np.load, threading.Lock()

    def slow_load(*args, **settings):
        assert one_at_a_time.acquire(blocking=False)
        time.sleep(0.02)
        one_at_a_time.release()
        return load(*args, **settings)

    monkeypatch.setattr(np, "load", slow_load)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda shard: load_if_intact(shard, CONFIG, store), shards))
