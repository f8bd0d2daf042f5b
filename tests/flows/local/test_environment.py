"""Folders of libraries and children's Python, whoever the user is."""

import getpass
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.local import environment
from flows.local.environment import CACHES, writable_caches


@pytest.fixture
def no_variables(monkeypatch):
    for name in (*CACHES, "XDG_CACHE_HOME", "HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.parametrize("home", ["/proc", "/dev/null", None], ids=str)
def test_caches_are_below_the_store_where_the_home_cannot_be_written(
    home: str | None, no_variables, tmp_path: Path, monkeypatch
):
    if home is None:
        monkeypatch.setattr(environment, "user_cache_path", lambda: Path("~/.cache"))
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/chosen")
    writable_caches(tmp_path)
    assert os.environ["NUMBA_CACHE_DIR"] == "/chosen"
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "matplotlib")
    assert os.environ["HOME"] == (home or str(tmp_path))


def test_caches_stay_where_they_are_usually(no_variables, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    writable_caches(tmp_path / "store")
    assert not set(CACHES) & os.environ.keys()


def test_a_user_without_a_name_gets_one(no_variables, tmp_path: Path, monkeypatch):
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("pwd.getpwuid", unknown)
    writable_caches(tmp_path)
    assert getpass.getuser() == f"uid-{os.getuid()}"


def test_without_a_store_the_caches_are_removed_at_exit(tmp_path: Path):
    code = "import os; from flows.local.environment import writable_caches as w; w(); print(os.environ['MPLCONFIGDIR'])"
    unset = {name: value for name, value in os.environ.items() if name not in (*CACHES, "XDG_CACHE_HOME")}
    made = subprocess.run(
        [sys.executable, "-c", code], env={**unset, "HOME": "/proc", "TMPDIR": str(tmp_path)}, capture_output=True,
        text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert Path(made).parent.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_children_do_not_import_from_the_current_folder(tmp_path: Path):
    (tmp_path / "signal.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    code = (
        "import subprocess, sys; from heartdata.storage.store import Store; from multiprocessing import get_context\n"
        "from flows.local.environment import prepare_environment; prepare_environment(Store(sys.argv[1]).open())\n"
        "assert get_context('forkserver').Pool(1).apply(abs, (-1,)) == 1\n"
        "subprocess.run([sys.executable, '-c', 'import signal'], check=True)"
    )
    outside = [sys.executable, "-P", "-c", code, str(tmp_path / "store")]
    run = subprocess.run(outside, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_prefect_starts_no_server_by_itself(tmp_path: Path):
    code = (
        "import sys; from heartdata.storage.store import Store\n"
        "from flows.local.environment import prepare_environment; prepare_environment(Store(sys.argv[1]).open())\n"
        "from prefect.settings import get_current_settings as current; print(current().server.ephemeral.enabled)"
    )
    (tmp_path / "prefect").mkdir()
    profile = 'active = "mine"\n[profiles.mine]\nPREFECT_SERVER_ALLOW_EPHEMERAL_MODE = "true"\n'
    (tmp_path / "prefect/profiles.toml").write_text(profile, encoding="utf-8")
    unset = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=unset, capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr
