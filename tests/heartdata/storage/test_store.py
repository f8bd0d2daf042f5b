"""The store, in a folder and behind a URI: atomic writes, names by content, schemas, damage, working folders."""

import errno
import pickle
import re
import shutil
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pytest
from fsspec.registry import _registry as registry

from heartdata.errors import StoreError
from heartdata.storage.remote import Remote, file_system
from heartdata.storage.schemas import RECORDINGS
from heartdata.storage.store import Artifact, Store, atomic_write, content_digest, is_store, mark_output, sha256_file

SCHEMA = pa.schema([pa.field("uri", pa.string(), metadata={"digested": "no"}), ("x", pa.int64())])


def table(uri: str, x: int | None) -> pa.Table:
    return pa.Table.from_pylist([{"uri": uri, "x": x}], schema=SCHEMA)


def test_digest_depends_on_values_but_not_on_uris():
    assert content_digest(table("/here", 1)) == content_digest(table("/there", 1))
    assert len({content_digest(table("/here", x)) for x in (1, 2, None)}) == 3


def test_only_an_empty_folder_is_marked_as_output(tmp_path: Path):
    (tmp_path / "data.wav").touch()
    for folder in (tmp_path, tmp_path / "new"):
        mark_output(folder)
    assert (is_store(tmp_path), is_store(tmp_path / "new")) == (False, True)


def test_the_same_content_has_the_same_name(store: Store):
    one, two = (store.write_table("stage", table("/a", 5), SCHEMA, {"n": 1}) for _ in range(2))
    assert one == two
    assert store.read_table(one, SCHEMA).to_pylist() == [{"uri": "/a", "x": 5}]
    assert [p.name for p in store.local("stage").iterdir()] == [Path(one.name).name]


def test_schema_is_checked_on_write_and_read(store: Store):
    with pytest.raises(StoreError, match=r"columns missing \['x'\]"):
        store.write_table("s", pa.table({"uri": ["a"]}), SCHEMA)
    with pytest.raises(StoreError, match="does not fit its schema"):
        store.write_table("s", pa.table({"uri": ["a"], "x": ["no number"]}), SCHEMA)
    with pytest.raises(StoreError, match="columns missing"):
        store.read_table(store.write_table("s", table("/a", 1), SCHEMA), RECORDINGS)


def interrupted_write(file: BinaryIO) -> None:
    file.write(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("before", [{}, {"file": b"old"}])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, before: dict[str, bytes]):
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "file") as file:
        interrupted_write(file)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped"])
def test_damaged_tables_and_files_are_not_intact(store: Store, harm: str):
    array = np.arange(20, dtype=np.float16)
    artifacts = [
        store.write_table("t", table("/a", 1), SCHEMA),
        Artifact(name="a.npy", digest=store.write_array("a.npy", array), rows=1),
        store.write_bytes("b", ".png", b"plot"),
    ]
    for artifact in artifacts:
        assert store.intact(artifact)
        path = store.local(artifact.name)
        content = bytearray(path.read_bytes())
        at = content.index(b"/a") if path.suffix == ".parquet" else len(content) - 3  # "/a" is not digested
        content[at] ^= 1
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(content if harm == "flipped" else content[:at])
        assert not store.intact(artifact)


def test_a_failure_to_read_is_raised_and_not_taken_for_damage(store: Store, monkeypatch):
    artifact = store.write_table("t", table("/a", 1), SCHEMA)

    def fails(path: Path) -> pa.Table:
        raise OSError(errno.EIO, "network drive")

    monkeypatch.setattr("heartdata.storage.store.read_parquet", fails)
    with pytest.raises(OSError, match="network drive"):
        store.intact(artifact)


def test_arrays_are_read_without_pickle(store: Store):
    digest = store.write_array("x/a.npy", np.eye(3))
    assert digest == sha256_file(store.local("x/a.npy"))
    assert np.array_equal(np.load(store.local("x/a.npy"), allow_pickle=False), np.eye(3))
    with pytest.raises(ValueError, match="[Oo]bject"):
        store.write_array("x/o.npy", np.array([{}]))


@pytest.mark.parametrize(("name", "character"), [("st?x", "?"), ("50%20off", "%20"), ("a%2Fb/deeper", "%2F")])
def test_a_path_that_would_be_read_as_a_uri_is_refused(name: str, character: str, tmp_path: Path):
    with pytest.raises(StoreError, match=re.escape(f"has a {character!r}")):
        Store(tmp_path / name).open()
    assert list(tmp_path.iterdir()) == []
    assert Store(tmp_path / "50% off #1 ü").open().root.is_dir()


def test_store_under_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write to the output folder"):
        Store(tmp_path / "file" / "out").open()


@pytest.fixture
def remote(tmp_path: Path, monkeypatch) -> Store:
    """An empty store behind a URI."""
    monkeypatch.setenv("HEARTBEAT_WORK", str(tmp_path / "work"))
    return Store(f"memory://{tmp_path.name}/store").open()


@pytest.fixture(params=["folder", "memory"])
def any_store(request, store: Store, remote: Store) -> Store:
    return store if request.param == "folder" else remote


def test_files_can_be_written_read_listed_and_removed(any_store: Store):
    before_s = time.time() - 1
    artifact = any_store.write_table("t", table("/a", 5), SCHEMA)
    digest = any_store.write_array("x/y/a.npy", np.eye(3))
    with any_store.writing("x/b.bin") as file:
        file.write(b"....body")
        file.seek(0)
        file.write(b"head")
        file.seek(0)
        assert file.read() == b"headbody"
    assert any_store.read_table(artifact, SCHEMA).to_pylist() == [{"uri": "/a", "x": 5}]
    assert digest == sha256_file(any_store.local("x/y/a.npy"))
    assert any_store.local("x/b.bin").read_bytes() == b"headbody"
    entries = any_store.entries("x")
    assert [(e.name, e.size_bytes) for e in entries] == [("x/b.bin", 8), ("x/y/a.npy", 200)]
    assert all(before_s <= e.modified_s <= time.time() + 1 for e in entries)
    any_store.remove("x/b.bin", before_s - 100)
    assert any_store.exists("x/b.bin")  # it was written since
    for _ in range(2):
        any_store.remove("x/b.bin", entries[0].modified_s)
    assert [any_store.exists(name) for name in ("x/b.bin", "x/y/a.npy", "x")] == [False, True, False]
    assert any_store.entries("nothing") == []


def test_an_interrupted_write_leaves_nothing(any_store: Store):
    with pytest.raises(KeyboardInterrupt), any_store.writing("x/a.bin") as file:
        interrupted_write(file)
    assert not any_store.exists("x/a.bin")
    assert any_store.entries("x") == []
    assert not list(any_store.root.rglob("*.bin*"))


@pytest.mark.parametrize("copies", ["kept", "lost"])
@pytest.mark.parametrize("harm", ["gone", "cut", "flipped"])
def test_damage_to_a_remote_object_is_noticed_with_and_without_a_local_copy(remote: Store, harm: str, copies: str):
    artifact = remote.write_bytes("b", ".png", b"plot")
    files, path = file_system(remote.address(artifact.name))
    assert remote.intact(artifact)
    if copies == "lost":
        shutil.rmtree(remote.root)
        assert remote.intact(artifact)
    if harm == "gone":
        files.rm_file(path)
    else:
        files.pipe_file(path, {"cut": b"plo", "flipped": b"Plot"}[harm])
    assert not remote.intact(artifact)
    assert remote.write_bytes("b", ".png", b"plot") == artifact
    assert remote.intact(artifact)
    assert remote.local(artifact.name).read_bytes() == b"plot"


def test_a_damaged_copy_is_downloaded_again(remote: Store):
    artifact = remote.write_bytes("b", ".png", b"plot")
    remote.local(artifact.name).write_bytes(b"Plot")
    assert remote.intact(artifact)
    assert remote.local(artifact.name).read_bytes() == b"plot"
    remote.local(artifact.name).write_bytes(b"plo")
    assert remote.local(artifact.name).read_bytes() == b"plot"


def test_an_object_is_downloaded_once(remote: Store, monkeypatch):
    artifact = remote.write_bytes("b", ".png", b"plot")
    shutil.rmtree(remote.root)
    downloads = []
    get = Remote.get
    monkeypatch.setattr(Remote, "get", lambda *args: downloads.append(args[1]) or get(*args))
    paths = {remote.local(artifact.name) for _ in range(3)}
    assert (downloads, len(paths)) == ([artifact.name], 1)
    with pytest.raises(FileNotFoundError):
        remote.local("b/absent.png")


def test_a_store_is_pickled_as_its_uri(any_store: Store):
    pickled = pickle.dumps(any_store)
    assert len(pickled) < 300
    assert (pickle.loads(pickled).uri, pickle.loads(pickled).root) == (any_store.uri, any_store.root)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("nonsense://a/b", "Protocol not known: nonsense.*give a folder or a URI such as s3://bucket/name"),
        ("s3:/bucket/x", "a URI has two slashes"),
        ("s3://", "a URI has two slashes"),
        ("s3://user:secret@bucket/x", "give credentials in the environment"),
        ("s3:/user:secret@bucket/x", "give credentials in the environment"),
        ("s3://user%3Asecret@bucket/x", "give credentials in the environment"),
        ("s3://bucket/x?token=secret", "give credentials in the environment"),
    ],
)
def test_what_is_not_a_store_is_refused_without_showing_passwords(uri: str, message: str, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HEARTBEAT_WORK", str(tmp_path))
    with pytest.raises(StoreError, match=message) as error:
        Store(uri).open()
    assert "secret" not in str(error.value)


def test_a_missing_library_is_named_with_the_command_that_installs_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HEARTBEAT_WORK", str(tmp_path))
    monkeypatch.setitem(sys.modules, "s3fs", None)  # importing it fails
    monkeypatch.delitem(registry, "s3", raising=False)
    with pytest.raises(StoreError, match=r"pip install 'heartbeat\[s3\]'"):
        Store("s3://without-library/x").open()


def test_a_damaged_file_is_not_read(store: Store):
    weights = store.write_bytes("models", ".safetensors", b"weights")
    assert store.verified(weights).read_bytes() == b"weights"
    store.local(weights.name).write_bytes(b"weighty")
    with pytest.raises(StoreError, match=f"{weights.name} is damaged or gone: run again"):
        store.verified(weights)
