"""Where a remote store keeps local files and copies of its objects."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from heartdata.errors import StoreError
from heartdata.storage import working_folder
from heartdata.storage.remote import StoredFile
from heartdata.storage.store import Store


@pytest.fixture
def home(monkeypatch, tmp_path: Path) -> Path:
    """An empty home with its own data and cache folders; HEARTBEAT_WORK is not set."""
    monkeypatch.delenv("HEARTBEAT_WORK", raising=False)
    monkeypatch.setattr(working_folder, "user_data_path", lambda name, appauthor: tmp_path / "data" / name)
    monkeypatch.setattr(working_folder, "user_cache_path", lambda name, appauthor: tmp_path / "cache" / name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_each_remote_store_has_its_own_working_folder(home: Path):
    roots = [Store(f"memory://{name}").root for name in ("a/b", "a-b", "a/b/")]
    assert roots[0] == roots[2] != roots[1]
    assert {root.parent for root in roots} == {home / "data" / "heartbeat"}
    assert Store(f"file://{home}/x").root == Store(home / "x").root == home / "x"


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has other folders")
def test_the_working_folder_is_in_the_users_data_folder(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("HEARTBEAT_WORK", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Store("memory://a/b").root.parent == tmp_path / "data" / "heartbeat"
    monkeypatch.setenv("HEARTBEAT_WORK", str(tmp_path / "work"))
    assert Store("memory://a/b").root.parent == tmp_path / "work"


def test_the_cache_folder_holds_only_copies_of_objects(home: Path):
    store = Store(f"memory://{home.name}/copies").open()
    with store.writing("x/a.bin") as file:
        file.write(b"content")
    copy = store.local("x/a.bin")
    assert copy.is_relative_to(home / "cache" / "heartbeat" / "objects")
    assert not [path for path in store.root.rglob("*") if path.is_file()]
    shutil.rmtree(home / "cache")
    assert store.local("x/a.bin").read_bytes() == b"content"


def old_working_folder(home: Path, uri: str) -> Path:
    """A working folder with a database, where version 0.1.0 kept it."""
    old = home / "cache" / "heartbeat" / Store(uri).root.name
    (old / "objects").mkdir(parents=True)
    (old / "mlflow.db").write_text("models")
    return old


def test_a_working_folder_in_the_cache_is_moved_and_its_old_paths_stay_valid(home: Path, caplog):
    old = old_working_folder(home, "memory://moved")
    store = Store("memory://moved")
    assert store.workpath("mlflow.db").read_text() == "models"
    assert store.root.parent == home / "data" / "heartbeat"
    assert (old / "mlflow.db").read_text() == "models"  # MLflow's records hold absolute paths
    assert f"moved from {old} to {store.root}" in caplog.text
    caplog.clear()
    assert Store("memory://moved").root == store.root
    assert caplog.text == ""


def test_a_missing_link_at_the_old_place_is_made_again(home: Path):
    old = old_working_folder(home, "memory://relinked")
    store = Store("memory://relinked")
    shutil.rmtree(home / "cache")
    assert Store("memory://relinked").root == store.root
    assert (old.is_symlink(), (old / "mlflow.db").read_text()) == (True, "models")


def test_a_move_that_was_killed_before_the_link_is_completed(home: Path, monkeypatch):
    old = old_working_folder(home, "memory://killed")
    with monkeypatch.context() as killed:
        killed.setattr(Path, "symlink_to", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Store("memory://killed")
    assert not old.exists()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))  # the marker knows the old place
    Store("memory://killed")
    assert (old / "mlflow.db").read_text() == "models"


def test_a_real_folder_at_the_old_place_is_refused(home: Path):
    old = old_working_folder(home, "memory://twice")
    new = Store("memory://twice").root
    old.unlink()
    (old / "mlflow-artifacts").mkdir(parents=True)
    with pytest.raises(StoreError, match=f"move the contents of {old} into {new}, then delete {old}"):
        Store("memory://twice")
    assert (old / "mlflow-artifacts").is_dir()


def test_a_link_that_cannot_be_made_again_is_refused(home: Path):
    old = old_working_folder(home, "memory://unlinkable")
    Store("memory://unlinkable")
    shutil.rmtree(home / "cache")
    (home / "cache").write_text("a file")
    with pytest.raises(StoreError, match=f"make {old.parent} writable"):
        Store("memory://unlinkable")


def test_a_new_working_folder_is_not_replaced_by_an_old_one(home: Path):
    old = old_working_folder(home, "memory://both")
    new = home / "data" / "heartbeat" / old.name
    new.mkdir(parents=True)
    (new / "mlflow.db").write_text("new models")
    assert Store("memory://both").workpath("mlflow.db").read_text() == "new models"
    assert not old.is_symlink()


def test_a_working_folder_that_cannot_be_moved_is_refused_with_the_command(home: Path, monkeypatch):
    old = old_working_folder(home, "memory://elsewhere")
    new = home / "data" / "heartbeat" / old.name
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    with pytest.raises(StoreError, match=f"mv '?{old}'? '?{new}'? && ln -s '?{new}'? '?{old}'?"):
        Store("memory://elsewhere")
    assert (old / "mlflow.db").is_file()


def test_what_a_killed_upload_left_goes_after_a_day_and_what_is_uploaded_meanwhile_stays(home: Path, monkeypatch):
    store = Store(f"memory://{home.name}/uploads").open()
    copies = store._copies
    for name, hours in (("old", 25), ("young", 23)):
        path = copies / f".unfinished-{name}" / "a.parquet"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        os.utime(path, (time.time() - hours * 3600,) * 2)
    listing = store._remote.entries

    def upload_after(prefix: str) -> list[StoredFile]:
        listed = listing(prefix)
        with store.writing("splits/new.parquet") as file:
            file.write(b"new")
        return listed

    monkeypatch.setattr(store._remote, "entries", upload_after)
    store.remove_old_copies()
    left = sorted(path.relative_to(copies).parts[0] for path in copies.rglob("*.parquet") if path.is_file())
    assert left == [".unfinished-young", "splits"]
