"""The commit that results name is that of this code's own checkout."""

from pathlib import Path

import pytest
from git import Repo

from heartdata import machine


@pytest.fixture
def checkout(tmp_path: Path) -> Repo:
    repository = Repo.init(tmp_path / "checkout")
    file = tmp_path / "checkout" / "heartdata" / "code.py"
    file.parent.mkdir()
    file.write_text("x = 1\n")
    repository.index.add([file])
    repository.index.commit("one file")
    return repository


def test_the_commit_is_that_of_the_checkout(checkout: Repo, monkeypatch: pytest.MonkeyPatch):
    root = Path(checkout.working_dir)
    monkeypatch.setattr(machine, "PROJECT", root)
    assert machine.commit() == checkout.head.commit.hexsha
    assert not machine.is_changed(["heartdata"])
    (root / "heartdata" / "code.py").write_text("x = 2\n")
    assert machine.is_changed(["heartdata"])
    assert not machine.is_changed(["docs"])


def test_a_package_installed_below_another_repository_has_no_commit(checkout: Repo, monkeypatch: pytest.MonkeyPatch):
    installed = Path(checkout.working_dir) / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    monkeypatch.setattr(machine, "PROJECT", installed)
    assert machine.commit() == ""
    assert not machine.is_changed(["heartdata"])


def test_a_repository_without_a_commit_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Repo.init(tmp_path)
    monkeypatch.setattr(machine, "PROJECT", tmp_path)
    assert machine.commit() == ""


def test_a_checkout_that_git_cannot_read_has_no_changes_to_tell(checkout: Repo, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "PROJECT", Path(checkout.working_dir))
    (Path(checkout.git_dir) / "index").write_bytes(b"damaged")
    assert machine.commit() == checkout.head.commit.hexsha
    assert not machine.is_changed(["heartdata"])
