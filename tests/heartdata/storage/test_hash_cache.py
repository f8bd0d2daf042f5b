"""A file is hashed again exactly when it may have changed."""

import os
from pathlib import Path

import pytest

from heartdata.storage import hash_cache
from heartdata.storage.hash_cache import HashCache
from heartdata.storage.store import sha256_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Three files, none of them changed a moment ago."""
    monkeypatch.setattr(hash_cache, "SETTLED_NS", -1)
    for name in "abc":
        (tmp_path / name).write_text(f"sound {name}")
    return tmp_path


def hash_all(folder: Path) -> tuple[dict[str, str], int]:
    """The hashes of all files, and how many of them were computed."""
    cache = HashCache(folder / "seen.parquet")
    hashes = {name: cache.sha256(folder / name)[0] for name in "abc"}
    cache.save()
    assert cache.hashed + cache.hits == 3
    return hashes, cache.hashed


def test_unchanged_files_are_not_hashed_again(folder: Path):
    first, hashed = hash_all(folder)
    assert hashed == 3
    assert hash_all(folder) == (first, 0)


@pytest.mark.parametrize("replace", [False, True])
def test_a_changed_file_of_equal_size_and_time_is_noticed(folder: Path, replace: bool):
    before, _ = hash_all(folder)
    times = (folder / "b").stat()
    written = folder / ("new" if replace else "b")
    written.write_text("SOUND b")
    os.utime(written, ns=(times.st_atime_ns, times.st_mtime_ns))
    written.replace(folder / "b")
    after, hashed = hash_all(folder)
    assert hashed == 1
    assert after == {**before, "b": sha256_file(folder / "b")}
    assert after["b"] != before["b"]


def test_a_file_changed_a_moment_ago_is_hashed_again(folder: Path, monkeypatch):
    monkeypatch.setattr(hash_cache, "SETTLED_NS", 60_000_000_000)
    hash_all(folder)
    assert hash_all(folder)[1] == 3


@pytest.mark.parametrize("damaged", [lambda content: b"", lambda content: b"no table", lambda content: content[:-20]])
def test_a_damaged_cache_only_costs_hashing(folder: Path, damaged):
    first, _ = hash_all(folder)
    file = folder / "seen.parquet"
    file.write_bytes(damaged(file.read_bytes()))
    assert hash_all(folder) == (first, 3)
