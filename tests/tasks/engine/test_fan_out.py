"""Where a shard is computed: worker processes for many recordings, this one for few."""

import errno
import os

from heartdata.config import EngineConfig
from heartdata.storage.shards import Shard
from tasks.engine import progress
from tasks.engine.fan_out import FEW, compute, computing_in, detail
from tasks.engine.workers import Workers


def process_id(shard: Shard) -> int:
    return os.getpid()


def test_a_shard_with_few_new_recordings_starts_no_process():
    shard = Shard(3, (), of=32)
    with Workers():
        assert compute(0, process_id, shard) == compute(FEW // 32, process_id, shard) == os.getpid()
        assert compute(FEW // 32 + 1, process_id, shard) != os.getpid()
    assert compute(10 * FEW, process_id, shard) == os.getpid()  # the engine's threads compute


def test_nothing_new_is_said_once_it_is_certain():
    assert detail(0, 59, 0, 4) == "0 distinct files"
    assert detail(20, 59, 1, 4) == "20 distinct files; 1 of 4 shards were new"
    assert detail(59, 59, 0, 4) == "59 distinct files; nothing new"


def test_without_shared_memory_threads_compute_and_a_note_says_so(monkeypatch):
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("multiprocessing.synchronize._multiprocessing.SemLock", read_only)
    progress.clear_notes()
    for _ in range(2):
        with computing_in(EngineConfig(name="processes"), FEW + 1):
            assert compute(FEW + 1, process_id, Shard(0, (), of=1)) == os.getpid()
    (note,) = progress.notes()
    assert "/dev/shm: Read-only file system" in note
