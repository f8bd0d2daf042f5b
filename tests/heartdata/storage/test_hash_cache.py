"""A file is hashed again exactly when it may have changed."""

import os
from pathlib import Path

import pytest

from heartdata.storage import hash_cache as module
from heartdata.storage.hash_cache import HashCache
from heartdata.storage.store import sha256_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """Three files, all of them settled."""
    monkeypatch.setattr(module, "SETTLED_NS", -1)
    for name in "abc":
        (tmp_path / name).write_text(f"sound {name}")
    return tmp_path


def look(folder: Path) -> tuple[dict[str, str], int]:
    seen = HashCache(folder / "seen.parquet")
    found = {name: seen.sha256(folder / name)[0] for name in "abc" if (folder / name).exists()}
    seen.save()
    assert seen.hashed + seen.believed == len(found)
    return found, seen.hashed


def test_nothing_changed_hashes_nothing(folder: Path):
    first, hashed = look(folder)
    assert hashed == 3
    assert look(folder) == (first, 0)


def test_a_changed_file_of_equal_size_and_time_is_noticed(folder: Path):
    before, _ = look(folder)
    times = (folder / "b").stat()
    (folder / "b").write_text("SOUND b")
    os.utime(folder / "b", ns=(times.st_atime_ns, times.st_mtime_ns))
    after, hashed = look(folder)
    assert hashed == 1
    assert after == {**before, "b": sha256_file(folder / "b")}
    assert after["b"] != before["b"]


def test_a_replaced_file_is_noticed(folder: Path):
    before, _ = look(folder)
    (folder / "new").write_text("SOUND c")
    (folder / "new").replace(folder / "c")
    after, hashed = look(folder)
    assert (hashed, after["c"] != before["c"]) == (1, True)


def test_a_file_changed_a_moment_ago_is_not_believed(folder: Path, monkeypatch):
    monkeypatch.setattr(module, "SETTLED_NS", 60_000_000_000)
    look(folder)
    assert look(folder)[1] == 3


@pytest.mark.parametrize("damage", [b"", b"no table", None])
def test_a_damaged_memory_costs_hashing_only(folder: Path, damage: bytes | None):
    first, _ = look(folder)
    memory = folder / "seen.parquet"
    memory.write_bytes(memory.read_bytes()[:-20] if damage is None else damage)
    assert look(folder) == (first, 3)
