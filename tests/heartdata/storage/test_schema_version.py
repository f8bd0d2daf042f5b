"""A store says the version of its layout: a newer one is refused, in a folder and in a bucket, by whatever opens it."""

import json
from pathlib import Path

import pytest

from heartdata.errors import StoreError
from heartdata.storage.schema_version import MARKER, SCHEMA_VERSION, WITHOUT_VERSION
from heartdata.storage.store import Store, is_store


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}/marked"


def mark(place: str, content: bytes) -> None:
    with Store(place).writing(".heartbeat") as file:
        file.write(content)


def test_a_new_store_says_its_version(place: str):
    store = Store(place).open()
    assert store.local(".heartbeat").read_bytes() == MARKER
    assert json.loads(MARKER) == {"schema": SCHEMA_VERSION}
    store.check_version()


@pytest.mark.parametrize("content", [*WITHOUT_VERSION, MARKER])
def test_stores_from_before_it_was_recorded_are_read(place: str, content: bytes):
    mark(place, content)
    Store(place).open().check_version()
    assert Store(place).local(".heartbeat").read_bytes() == content


@pytest.mark.parametrize("refused", [Store.open, Store.check_version])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"schema": 99}', "of a newer heartbeat .schema 99; this one knows 1.: install that version"),
     (b"something else", "heartbeat should say a store's version and does not"),
     (b'{"schema": "1"}', "should say a store's version")],
)  # fmt: skip
def test_newer_stores_and_other_files_are_refused_and_stay(place: str, content: bytes, message: str, refused):
    mark(place, content)
    with pytest.raises(StoreError, match=message):
        refused(Store(place))
    assert Store(place).local(".heartbeat").read_bytes() == content


def test_asking_for_the_version_makes_no_store(tmp_path: Path):
    Store(tmp_path / "none").check_version()
    assert not is_store(tmp_path / "none")
