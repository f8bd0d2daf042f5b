"""The store: atomic, named by content, checked against schemas."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from heartdata.errors import StoreError
from heartdata.schemas import RECORDINGS
from heartdata.store import Artifact, Store, atomic_write, content_digest, sha256_file

SCHEMA = pa.schema([pa.field("uri", pa.string(), metadata={"digested": "no"}), ("x", pa.int64())])


def table(uri: str, x: int | None) -> pa.Table:
    return pa.Table.from_pylist([{"uri": uri, "x": x}], schema=SCHEMA)


def test_digest_sees_values_but_not_places():
    assert content_digest(table("/here", 1)) == content_digest(table("/there", 1))
    assert len({content_digest(table("/here", x)) for x in (1, 2, None)}) == 3


def test_same_content_same_name_and_read_back(store: Store):
    one, two = (store.write_table("stage", table("/a", 5), SCHEMA, {"n": 1}) for _ in range(2))
    assert one == two
    assert store.read_table(one, SCHEMA).to_pylist() == [{"uri": "/a", "x": 5}]
    assert [p.name for p in store.path("stage").iterdir()] == [Path(one.name).name]


def test_schema_is_checked_on_write_and_read(store: Store):
    with pytest.raises(StoreError, match=r"columns missing \['x'\]"):
        store.write_table("s", pa.table({"uri": ["a"]}), SCHEMA)
    with pytest.raises(StoreError, match="does not fit its schema"):
        store.write_table("s", pa.table({"uri": ["a"], "x": ["no number"]}), SCHEMA)
    with pytest.raises(StoreError, match="columns missing"):
        store.read_table(store.write_table("s", table("/a", 1), SCHEMA), RECORDINGS)


def fail_half_way(target: Path) -> None:
    with atomic_write(target) as file:
        file.write(b"half")
        raise RuntimeError


@pytest.mark.parametrize("before", [{}, {"file": b"old"}])
def test_failed_write_leaves_what_was_there(tmp_path: Path, before: dict[str, bytes]):
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RuntimeError):
        fail_half_way(tmp_path / "file")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped"])
def test_damaged_tables_and_files_are_not_intact(store: Store, harm: str):
    array = np.arange(20, dtype=np.float16)
    artifacts = [
        store.write_table("t", table("/a", 1), SCHEMA),
        Artifact(name="a.npy", digest=store.write_array("a.npy", array), rows=1),
        store.write_bytes("b", ".png", b"picture"),
    ]
    for artifact in artifacts:
        assert store.intact(artifact)
        path = store.path(artifact.name)
        content = bytearray(path.read_bytes())
        at = content.index(b"/a") if path.suffix == ".parquet" else len(content) - 3  # "/a" stands in no digest
        content[at] ^= 1
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(content if harm == "flipped" else content[:at])
        assert not store.intact(artifact)


def test_arrays_are_read_without_pickle(store: Store):
    digest = store.write_array("x/a.npy", np.eye(3))
    assert digest == sha256_file(store.path("x/a.npy"))
    assert np.array_equal(np.load(store.path("x/a.npy"), allow_pickle=False), np.eye(3))
    with pytest.raises(ValueError, match="[Oo]bject"):
        store.write_array("x/o.npy", np.array([{}]))


def test_store_under_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write to the output folder"):
        Store(tmp_path / "file" / "out").open()
