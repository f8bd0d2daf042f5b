"""Where a shard's work is done: processes for much, this one for little."""

import os

from heartdata.storage.shards import Shard
from tasks.engine.fan_out import FEW, compute, news
from tasks.engine.workers import Workers


def where(shard: Shard) -> int:
    return os.getpid()


def test_a_shard_with_few_new_recordings_starts_no_process():
    shard = Shard(3, (), of=32)
    with Workers():
        assert compute(0, where, shard) == compute(FEW // 32, where, shard) == os.getpid()
        assert compute(FEW // 32 + 1, where, shard) != os.getpid()
    assert compute(10 * FEW, where, shard) == os.getpid()  # the engine's threads compute


def test_nothing_new_is_said_when_it_is_known():
    assert news(0, 59, 0, 4) == "0 distinct files"
    assert news(20, 59, 1, 4) == "20 distinct files; 1 of 4 shards were new"
    assert news(59, 59, 0, 4) == "59 distinct files; nothing new"
