"""`heartbeat data`: a fake PhysioNet on a local server, a script as Kaggle's client, inspecting and pruning."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers import beats, http_server, write_wav

from flows.cli.fetch import check_space
from heartdata.errors import HeartbeatError
from heartdata.sources.base import find_files

PROJECT = Path(__file__).parents[3]


class Mirror:
    """A folder served as PhysioNet serves a version's files; ``requests`` are the paths that were requested."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "challenge-2016" / "1.0.0"
        self.requests: list[str] = []
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
    mirror = Mirror(tmp_path / "mirror")

    def response(path: str) -> bytes | None:
        file = tmp_path / "mirror" / path.removeprefix("/")
        mirror.requests.append(path.removeprefix("/challenge-2016/1.0.0/"))
        return file.read_bytes() if file.is_file() else None

    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http_server(response) as mirror.url:
        monkeypatch.setenv("HEARTBEAT_PHYSIONET_URL", mirror.url)
        yield mirror


def names_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_fetch_downloads_a_set_and_then_only_what_is_missing_or_damaged(mirror: Mirror, heartbeat, tmp_path: Path):
    to = tmp_path / "my data"
    status, err, out = heartbeat("data", "fetch", "cinc2016", "--to", to)
    assert (status, err) == (0, "")
    assert "14 files fetched, 0 already present" in out
    assert f"heartbeat run --source cinc2016 --data '{to}/cinc2016'" in out
    everything = names_in(mirror.folder)
    left_out = [
        "annotations/Online_Appendix_test_set.csv", "annotations/updated/README", "training.zip",
        "validation/REFERENCE.csv", "validation/x1.wav", "validation/x2.wav",
    ]  # fmt: skip
    assert names_in(to / "cinc2016") == [name for name in everything if name not in left_out]
    assert (to / "cinc2016/training-b/x1.wav").read_bytes() == (mirror.folder / "training-b/x1.wav").read_bytes()
    mirror.requests.clear()
    assert "0 files fetched, 14 already present" in heartbeat("data", "fetch", "cinc2016", "--to", to)[2]
    assert mirror.requests == ["SHA256SUMS.txt"]
    (to / "cinc2016/training-a/x2.wav").write_bytes(b"damaged")
    mirror.requests.clear()
    assert "1 files fetched, 13 already" in heartbeat("data", "fetch", "cinc2016", "--to", to)[2]
    assert mirror.requests == ["SHA256SUMS.txt", "training-a/x2.wav"]


def test_list_shows_how_much_of_a_set_is_downloaded(mirror: Mirror, heartbeat, tmp_path: Path):
    def marks() -> list[str]:
        out = heartbeat("data", "list", "--data-folder", tmp_path)[2]
        return [line.split(maxsplit=1)[1].strip() for line in out.splitlines() if line.startswith("fetched")]

    assert marks() == ["no", "no", "no"]
    assert heartbeat("data", "fetch", "cinc2016", "--to", tmp_path, "--only", "training-b")[0] == 0
    assert names_in(tmp_path / "cinc2016") == [
        "LICENSE.txt", "RECORDS", "SHA256SUMS.txt", "annotations/Online_Appendix_training_set.csv",
        *(f"training-b/{name}" for name in ("RECORDS", "REFERENCE.csv", "x1.wav", "x2.wav")),
    ]  # fmt: skip
    assert marks() == ["no", "7 of 14 files", "no"]
    heartbeat("data", "fetch", "cinc2016", "--to", tmp_path, "--base-url", mirror.url + "/")
    assert marks() == ["no", "yes", "no"]


def test_a_failed_fetch_is_reported_in_one_sentence(mirror: Mirror, heartbeat, tmp_path: Path):
    def message(*arguments: object) -> str:
        status, err, _ = heartbeat("data", "fetch", *arguments, "--to", tmp_path / "to")
        assert status == 2
        assert len(err.strip().splitlines()) == 1
        return err

    assert "no data set 'cinc': choose one of pascal, cinc2016, circor2022" in message("cinc")
    unknown_folder = message("cinc2016", "--only", "training-z")
    assert "names no folder 'training-z': choose one of annotations, training-a," in unknown_folder
    assert "1.0.3/SHA256SUMS.txt cannot be downloaded (the server answered 404)" in message("circor2022")
    for path in ("../evil", "/etc/evil"):
        mirror.list(more=f"{'0' * 64} {path}\n")
        assert f"names '{path}', which leads out of the folder" in message("cinc2016")
    assert not (tmp_path / "to").exists()
    mirror.list()
    (mirror.folder / "training-a/x1.wav").write_bytes(b"tampered")
    assert f"training-a/x1.wav from {mirror.url}/challenge-2016/1.0.0/training-a/x1.wav has" in message("cinc2016")
    assert "training-a/x1.wav" not in names_in(tmp_path / "to/cinc2016")
    assert len(names_in(tmp_path / "to/cinc2016")) == 14  # the others, and the list


def test_a_full_disk_is_refused_before_downloading(tmp_path: Path, monkeypatch):
    check_space(tmp_path / "not" / "there", 1)
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(HeartbeatError, match=r"about 3.0 GB are needed and .* has 2.0 GB free: .*--to"):
        check_space(tmp_path / "not" / "there", 3e9)


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch):
    """A client on the path that copies the returned archive to its -p folder, or fails if there is no archive."""
    archive = tmp_path / "offered.zip"
    client = tmp_path / "bin" / "kaggle"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/calls"\ncp "{archive}" "$6/heartbeat-sounds.zip"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}{os.pathsep}{os.environ['PATH']}")
    return archive


def test_pascal_is_fetched_with_kaggles_client(kaggle: Path, heartbeat, tmp_path: Path):
    with zipfile.ZipFile(kaggle, "w") as archive:
        for name in ("set_a.csv", "set_b.csv", "set_a/a.wav", "set_b/b.wav"):
            archive.writestr(name, name)
    to = tmp_path / "to"
    assert "Fetched and unpacked" in heartbeat("data", "fetch", "pascal", "--to", to)[2]
    assert names_in(to) == [f"pascal/{name}" for name in ("set_a.csv", "set_a/a.wav", "set_b.csv", "set_b/b.wav")]
    assert "nothing was fetched" in heartbeat("data", "fetch", "pascal", "--to", to)[2]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"datasets download -d kinguistics/heartbeat-sounds -p {to}/.pascal.part"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("../evil.wav", b"evil", "../evil.wav"), ("/tmp/evil.wav", b"evil", "/tmp/evil.wav"),
     ("set_a/bomb.wav", bytes(20_000_000), "zip bomb")],
    ids=["parent", "root", "bomb"],
)  # fmt: skip
def test_a_malicious_archive_is_refused(name, content, message, kaggle: Path, heartbeat, tmp_path: Path):
    with zipfile.ZipFile(kaggle, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    status, err, _ = heartbeat("data", "fetch", "pascal", "--to", tmp_path / "to")
    assert status == 2
    assert message in err
    assert names_in(tmp_path / "to") == []


def test_a_missing_kaggle_client_or_token_is_explained(kaggle: Path, heartbeat, tmp_path: Path, monkeypatch):
    status, err, _ = heartbeat("data", "fetch", "pascal", "--to", tmp_path)
    assert status == 2
    assert "Kaggle's client could not fetch kinguistics/heartbeat-sounds" in err
    monkeypatch.setenv("PATH", str(tmp_path))
    status, err, _ = heartbeat("data", "fetch", "pascal", "--to", tmp_path)
    assert status == 2
    assert "pip install kaggle" in err
    assert "--source pascal --data ZIP" in err
    assert "leave out --only" in heartbeat("data", "fetch", "pascal", "--only", "set_a")[1]


def test_inspect_measures_and_draws_each_class(heartbeat, tmp_path: Path):
    for number in range(3):
        write_wav(tmp_path / f"$a_{number}$ é.wav", beats(50 + 25 * number, seed=number))
    rows = "".join(f"$a_{number}$ é.wav,no[rm]al $x$\n" for number in range(3))
    (tmp_path / "t.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    plots = tmp_path / "plots"
    table = ("--source", "table", "--data", tmp_path / "t.csv")
    status, err, out = heartbeat("data", "inspect", *table, "--out", plots)
    assert (status, err) == (4, "")
    assert "no[rm]al $x$" in out
    assert "no subject column" in out
    assert "`heartbeat run` would refuse these: only 3 labelled recordings are left to train on" in out
    files = sorted(path.name for path in plots.iterdir() if path.is_file() and path.name[0] != ".")
    assert files == ["class_01_no_rm_al_x.png", "durations.png", "quarantine.csv", "rates.png"]
    assert all(str(plots / name) in out for name in (*files, "data-docs/index.html"))
    assert find_files(tmp_path).others == [tmp_path / "t.csv"]  # not the plots


def test_inspect_refuses_what_a_run_refuses(heartbeat, tmp_path: Path):
    write_wav(tmp_path / "loud/long.wav", beats(duration_s=9))
    write_wav(tmp_path / "loud/copy.wav", beats(duration_s=9))
    write_wav(tmp_path / "quiet/short.wav", beats(duration_s=3, seed=1))
    rows = "".join(f"{name},{name.split('/')[0]},1\n" for name in ("loud/long.wav", "loud/copy.wav", "quiet/short.wav"))
    (tmp_path / "t.csv").write_text(f"path,label,subject\n{rows}")
    plots = tmp_path / "plots"
    arguments = ("data", "inspect", "--source", "table", "--data", tmp_path / "t.csv", "--out", plots)
    status, err, out = heartbeat(*arguments, "--set", "validation.overrides={table: {min_duration_s: 5}}")
    assert (status, err) == (4, "")
    refused = pd.read_csv(plots / "quarantine.csv")
    assert refused[["recording_id", "check", "label"]].to_numpy().tolist() == [
        ["loud/long.wav", "duplicate", "loud"],
        ["quiet/short.wav", "too_short", "quiet"],
    ]
    assert refused["path"].tolist() == [str(tmp_path / "loud/long.wav"), str(tmp_path / "quiet/short.wav")]
    assert "only 3.00 s long" in refused["reason"][1]
    assert "quiet/short.wav  too_short" in out
    assert "Quarantined: 2" in out


def test_inspect_warns_as_a_run_does_that_copies_are_not_looked_for(heartbeat, tmp_path: Path):
    for name in ("normal/a", "normal/b", "murmur/c", "murmur/d"):
        write_wav(tmp_path / "data" / f"{name}.wav", beats(seed=ord(name[-1])))
    off = ("--set", "validation.near_duplicates=off", "--out", str(tmp_path / "out"))
    status, _, out = heartbeat("data", "inspect", "--source", "table", "--data", tmp_path / "data", *off)
    assert status == 4
    assert "4 recordings have no subject: copies of one may be in training and test" in " ".join(out.split())


def test_inspect_draws_nothing_where_no_file_can_be_read(heartbeat, tmp_path: Path):
    (tmp_path / "t.csv").write_text("path,label\na.wav,x\nb.wav,y\n")
    plots = tmp_path / "plots"
    status, err, out = heartbeat("data", "inspect", "--source", "table", "--data", tmp_path / "t.csv", "--out", plots)
    assert status == 2
    assert err.startswith(
        f"heartbeat: none of the 2 recordings can be read; for example a.wav: there is no file {tmp_path}"
    )
    assert len(err.strip().splitlines()) == 1
    assert "Quarantined: 2" in out
    assert not list(plots.glob("*.png"))


def test_inspect_reports_wrong_input_in_one_sentence(heartbeat, tmp_path: Path):
    (tmp_path / "in_the_way").write_text("")
    for arguments, message in [
        (("--source", "table", "--data", tmp_path / "absent.csv"), "absent.csv does not exist"),
        (("--source", "nowhere"), "there is no source 'nowhere'"),
        (("--set", "measure.clip=1"), "unknown configuration key 'measure.clip'"),
        (("--out", tmp_path / "in_the_way" / "out"), "reading or writing failed"),
    ]:
        status, err, _ = heartbeat("data", "inspect", *arguments)
        assert status == 2
        assert message in err


def test_the_data_commands_load_nothing_heavy():
    heavy = "('torch', 'prefect', 'mlflow', 'sklearn', 'great_expectations')"
    code = f"import sys, heartdata.reports.inspect_plots, heartdata.reports.inspect, heartdata.dataset.inventory, flows.cli.fetch, flows.cli.inspect\nprint([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert ran.stdout.strip() == "[]", ran.stderr


def test_the_home_of_an_unknown_user_is_refused(heartbeat, tmp_path: Path):
    for label in "ab":
        write_wav(tmp_path / label / "1.wav", beats())
    for arguments in (("inspect", "--source", "table", "--data", tmp_path, "--out"), ("fetch", "cinc2016", "--to")):
        status, err, _ = heartbeat("data", *arguments, "~nosuchuser/x")
        assert status != 0
        assert "names an unknown user" in err
