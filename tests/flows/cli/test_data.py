"""`heartbeat data`: a made PhysioNet on a local server, Kaggle's client made of a script, the quick look."""

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import beats, write_wav

from flows.cli.data import check_space
from flows.cli.main import main
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.dataset.spectrogram_shards import render_shard
from heartdata.errors import HeartbeatError
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.shards import Shard
from heartdata.storage.store import Store, sha256_file, table_from_rows

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def heartbeat(monkeypatch, capsys):
    """Run the command in this process; gives the exit status and what stood on stderr and stdout, each on one line."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["heartbeat", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, err, out

    return run


class Mirror:
    """A folder served as PhysioNet serves a version's files; ``asked`` is what was asked for."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "challenge-2016" / "1.0.0"
        self.asked: list[str] = []
        self.url = ""
        for part in ("training-a", "training-b", "validation"):
            for name in ("x1.wav", "x2.wav"):
                write_wav(self.folder / part / name, beats(duration_s=1))
            (self.folder / part / "REFERENCE.csv").write_text("x1,1\nx2,-1\n")
        for name in ("RECORDS", "LICENSE.txt", "training.zip", "training-b/RECORDS"):
            (self.folder / name).write_text(name)
        for letter in "cdef":
            (self.folder / f"training-{letter}").mkdir()
            (self.folder / f"training-{letter}" / "REFERENCE.csv").write_text("")
        (self.folder / "annotations/updated").mkdir(parents=True)
        for name in ("Online_Appendix_training_set.csv", "Online_Appendix_test_set.csv", "updated/README"):
            (self.folder / "annotations" / name).write_text(name)
        self.list()

    def list(self, more: str = "") -> None:
        """Write the list of checksums as PhysioNet does, at the version's root."""
        files = [p for p in sorted(self.folder.rglob("*")) if p.is_file() and p.name != "SHA256SUMS.txt"]
        lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.relative_to(self.folder)}\n" for p in files]
        (self.folder / "SHA256SUMS.txt").write_text("".join(lines) + more)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch) -> Iterator[Mirror]:
    made = Mirror(tmp_path / "mirror")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            made.asked.append(self.path.removeprefix("/challenge-2016/1.0.0/"))

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "mirror"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HEARTBEAT_PHYSIONET_URL", made.url)
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    server.shutdown()
    server.server_close()


def names_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_fetch_the_whole_set_and_again(mirror: Mirror, heartbeat, tmp_path: Path):
    to = tmp_path / "my data"
    status, told, shown = heartbeat("data", "fetch", "cinc2016", "--to", to)
    assert (status, told) == (0, "")
    assert "14 files fetched, 0 were there already" in shown
    assert f"heartbeat run --source cinc2016 --data '{to}/cinc2016'" in shown
    everything = names_in(mirror.folder)
    left_out = [
        "annotations/Online_Appendix_test_set.csv", "annotations/updated/README", "training.zip",
        "validation/REFERENCE.csv", "validation/x1.wav", "validation/x2.wav",
    ]  # fmt: skip
    assert names_in(to / "cinc2016") == [name for name in everything if name not in left_out]
    assert (to / "cinc2016/training-b/x1.wav").read_bytes() == (mirror.folder / "training-b/x1.wav").read_bytes()
    mirror.asked.clear()
    assert "0 files fetched, 14 were there already" in heartbeat("data", "fetch", "cinc2016", "--to", to)[2]
    assert mirror.asked == ["SHA256SUMS.txt"]
    (to / "cinc2016/training-a/x2.wav").write_bytes(b"damaged")
    mirror.asked.clear()
    assert "1 files fetched, 13 were there" in heartbeat("data", "fetch", "cinc2016", "--to", to)[2]
    assert mirror.asked == ["SHA256SUMS.txt", "training-a/x2.wav"]


def test_fetch_parts_and_list_says_how_much_is_here(mirror: Mirror, heartbeat, tmp_path: Path):
    def marks() -> list[str]:
        shown = heartbeat("data", "list", "--data-folder", tmp_path)[2]
        return [line.split(maxsplit=1)[1].strip() for line in shown.splitlines() if line.startswith("fetched")]

    assert marks() == ["no", "no", "no"]
    assert heartbeat("data", "fetch", "cinc2016", "--to", tmp_path, "--only", "training-b")[0] == 0
    assert names_in(tmp_path / "cinc2016") == [
        "LICENSE.txt", "RECORDS", "SHA256SUMS.txt", "annotations/Online_Appendix_training_set.csv",
        *(f"training-b/{name}" for name in ("RECORDS", "REFERENCE.csv", "x1.wav", "x2.wav")),
    ]  # fmt: skip
    assert marks() == ["no", "7 of 14 files", "no"]
    heartbeat("data", "fetch", "cinc2016", "--to", tmp_path, "--base-url", mirror.url + "/")
    assert marks() == ["no", "yes", "no"]


def test_what_cannot_be_fetched_is_told_in_a_sentence(mirror: Mirror, heartbeat, tmp_path: Path):
    def told(*arguments: object) -> str:
        status, told, _ = heartbeat("data", "fetch", *arguments, "--to", tmp_path / "to")
        assert status == 2
        assert len(told.strip().splitlines()) == 1
        return told

    assert "no data set 'cinc': choose one of pascal, cinc2016, circor2022" in told("cinc")
    assert "names no folder 'training-z': choose one of annotations, training-a," in told(
        "cinc2016", "--only", "training-z"
    )
    assert "circor-heart-sound/1.0.3/SHA256SUMS.txt cannot be downloaded (the server answered 404)" in told(
        "circor2022"
    )
    mirror.list(more=f"{'0' * 64} ../evil\n")
    assert "names '../evil', which leads out of the folder" in told("cinc2016")
    mirror.list(more=f"{'0' * 64} /etc/evil\n")
    assert "names '/etc/evil', which leads out of the folder" in told("cinc2016")
    assert not (tmp_path / "to").exists()
    mirror.list()
    (mirror.folder / "training-a/x1.wav").write_bytes(b"tampered")
    assert f"training-a/x1.wav from {mirror.url}/challenge-2016/1.0.0/training-a/x1.wav has" in told("cinc2016")
    assert "training-a/x1.wav" not in names_in(tmp_path / "to/cinc2016")
    assert len(names_in(tmp_path / "to/cinc2016")) == 14  # the others came, and the list


def test_space(tmp_path: Path, monkeypatch):
    check_space(tmp_path / "not" / "there", 1)
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(HeartbeatError, match=r"about 3.0 GB are needed and .* has 2.0 GB free: .*--to"):
        check_space(tmp_path / "not" / "there", 3e9)


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch):
    """Put a client on the path that copies ``zip`` to where it was told to, or fails when there is none."""
    archive = tmp_path / "offered.zip"
    client = tmp_path / "bin" / "kaggle"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\ncp "{archive}" "$6/heartbeat-sounds.zip"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    return archive


def test_pascal_comes_by_kaggles_client(kaggle: Path, heartbeat, tmp_path: Path):
    with zipfile.ZipFile(kaggle, "w") as archive:
        for name in ("set_a.csv", "set_b.csv", "set_a/a.wav", "set_b/b.wav"):
            archive.writestr(name, name)
    to = tmp_path / "to"
    assert "Fetched and unpacked" in heartbeat("data", "fetch", "pascal", "--to", to)[2]
    assert names_in(to) == [f"pascal/{name}" for name in ("set_a.csv", "set_a/a.wav", "set_b.csv", "set_b/b.wav")]
    assert "nothing was fetched" in heartbeat("data", "fetch", "pascal", "--to", to)[2]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"datasets download -d kinguistics/heartbeat-sounds -p {to}/.pascal.part"]


@pytest.mark.parametrize("name", ["../evil.wav", "/tmp/evil.wav"])
def test_an_archive_that_leads_outside_is_refused(name: str, kaggle: Path, heartbeat, tmp_path: Path):
    with zipfile.ZipFile(kaggle, "w") as archive:
        archive.writestr(name, "evil")
    status, told, _ = heartbeat("data", "fetch", "pascal", "--to", tmp_path / "to")
    assert status == 2
    assert name in told
    assert names_in(tmp_path / "to") == []


def test_an_archive_that_is_a_bomb_is_refused(kaggle: Path, heartbeat, tmp_path: Path):
    with zipfile.ZipFile(kaggle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set_a/bomb.wav", bytes(20_000_000))
    status, told, _ = heartbeat("data", "fetch", "pascal", "--to", tmp_path / "to")
    assert status == 2
    assert "zip bomb" in told
    assert names_in(tmp_path / "to") == []


def test_kaggle_without_client_or_token(kaggle: Path, heartbeat, tmp_path: Path, monkeypatch):
    status, told, _ = heartbeat("data", "fetch", "pascal", "--to", tmp_path)
    assert status == 2
    assert "Kaggle's client could not fetch kinguistics/heartbeat-sounds" in told
    monkeypatch.setenv("PATH", str(tmp_path))
    status, told, _ = heartbeat("data", "fetch", "pascal", "--to", tmp_path)
    assert status == 2
    assert "pip install kaggle" in told
    assert "--source pascal --data ZIP" in told
    assert "leave --only" in heartbeat("data", "fetch", "pascal", "--only", "set_a")[1]


def test_inspect(heartbeat, tmp_path: Path):
    for number in range(3):
        write_wav(tmp_path / f"$a_{number}$ é.wav", beats(seed=number))
    rows = "".join(f"$a_{number}$ é.wav,no[rm]al $x$\n" for number in range(3))
    (tmp_path / "t.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    out = tmp_path / "out"
    status, told, shown = heartbeat("data", "inspect", "--source", "table", "--data", tmp_path / "t.csv", "--out", out)
    assert (status, told) == (0, "")
    assert "no[rm]al $x$" in shown
    assert "no subject column" in shown
    assert names_in(out) == ["class_01_no_rm_al_x.png", "durations.png", "rates.png"]
    assert all(str(out / name) in shown for name in names_in(out))


def test_inspect_tells_what_is_wrong_in_a_sentence(heartbeat, tmp_path: Path):
    (tmp_path / "in_the_way").write_text("")
    for arguments, said in [
        (("--source", "table", "--data", tmp_path / "absent.csv"), "absent.csv does not exist"),
        (("--source", "nowhere"), "there is no source 'nowhere'"),
        (("--set", "measure.clip=1"), "unknown configuration key 'measure.clip'"),
        (("--out", tmp_path / "in_the_way" / "out"), "reading or writing failed"),
    ]:
        status, told, _ = heartbeat("data", "inspect", *arguments)
        assert status == 2
        assert said in told


def test_nothing_heavy_behind_the_commands():
    heavy = "('torch', 'prefect', 'mlflow', 'sklearn', 'great_expectations')"
    code = f"import sys, heartdata.reports.inspect_plots, heartdata.reports.inspect, heartdata.dataset.inventory, heartdata.sources.download, flows.cli.data\nprint([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_prune_shows_first_and_removes_only_when_told(heartbeat, tmp_path: Path):
    store = Store(tmp_path / "out").open()
    for minutes, number in enumerate((1, 2)):
        path = write_wav(tmp_path / f"{number}.wav", beats(60 + number, 1.0))
        made = render_shard(Shard(0, ((sha256_file(path), str(path)),)), SpectrogramConfig(), store)
        rows = [{**row, "recording_id": str(number)} for row in made.index.to_pylist()]
        manifest = store.write_table("manifest", table_from_rows(rows, MANIFEST), MANIFEST)
        for file in (store.workpath(manifest.name), *store.workpath(made.name).parent.iterdir()):
            os.utime(file, (1e9 + 60 * minutes,) * 2)
    shards = sorted(store.workpath(made.name).parent.glob("*.npy"))
    shown = heartbeat("data", "prune", "--store", store.root, "--keep", 1)
    assert shown[0] == 0
    assert "2 files of" in shown[2]
    assert "would be removed" in shown[2]
    assert all(shard.exists() for shard in shards)
    assert "removed" in heartbeat("data", "prune", "--store", store.root, "--keep", 1, "--yes")[2]
    assert [shard for shard in shards if shard.exists()] == [store.workpath(made.name)]
    assert "Nothing to remove" in heartbeat("data", "prune", "--store", store.root, "--keep", 1)[2]
    status, told, _ = heartbeat("data", "prune", "--store", tmp_path / "nowhere")
    assert status != 0
    assert "there is no store" in told


def test_a_place_of_nobody_is_told_in_a_sentence(heartbeat, tmp_path: Path):
    for label in "ab":
        write_wav(tmp_path / label / "1.wav", beats())
    for arguments in (("inspect", "--source", "table", "--data", tmp_path, "--out"), ("fetch", "cinc2016", "--to")):
        status, told, _ = heartbeat("data", *arguments, "~nosuchuser/x")
        assert status != 0
        assert "names a user whom this machine does not know" in told
