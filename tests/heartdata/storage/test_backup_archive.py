"""A backup's archive is whole or not there; a damaged, foreign, newer or malicious one is refused in a sentence."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from heartdata.errors import HeartbeatError
from heartdata.storage.backup_archive import ABOUT, SUMS, open_archive, write_archive

LARGE = os.urandom(1_200_000)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "small").write_bytes(b"a table")
    for name in ("weights", "same weights"):
        (tmp_path / name).write_bytes(LARGE)
    with write_archive(tmp_path / "backup.tar", {"store": "/old"}) as writer:
        for name in ("small", "weights", "same weights"):
            writer.add(f"work/{name}", tmp_path / name)
    return tmp_path / "backup.tar"


def unpacked(archive: Path, folder: Path) -> dict[str, bytes]:
    with open_archive(archive) as opened:
        opened.unpack(folder, lambda size: None)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_archived_comes_back(archive: Path, tmp_path: Path):
    files = {"work/small": b"a table", "work/weights": LARGE, "work/same weights": LARGE}
    assert unpacked(archive, tmp_path / "new") == files
    assert archive.stat().st_mode & 0o077 == 0


def test_the_same_weights_are_held_once(archive: Path, tmp_path: Path):
    assert archive.stat().st_size < 1.5 * len(LARGE)
    unpacked(archive, tmp_path / "new")
    one, other = (tmp_path / "new/work" / name for name in ("weights", "same weights"))
    assert one.stat().st_ino == other.stat().st_ino


def test_an_interrupted_archive_does_not_appear(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), write_archive(tmp_path / "backup.tar", {}):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_flipped_byte_is_noticed(archive: Path, tmp_path: Path, place: float):
    content = bytearray(archive.read_bytes())
    content[int(place * len(content))] ^= 1
    archive.write_bytes(content)
    with pytest.raises(HeartbeatError, match=r"backup.tar is damaged.*: take another copy"):
        unpacked(archive, tmp_path / "new")


@pytest.mark.parametrize("kept", [100, 600, 5_000, 1_000_000, 1_203_500, 1_203_800])
def test_a_shortened_archive_is_refused_before_anything_is_unpacked(archive: Path, tmp_path: Path, kept: int):
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(HeartbeatError, match=r"is damaged, or no backup|is not a backup"):
        unpacked(archive, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def write_tar(path: Path, members: dict[str, bytes], links: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in list(members.items())[:-1]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for link in links:
            archive.addfile(link)
        name, content = list(members.items())[-1]
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return path


def planted(path: Path, name: str, content: bytes = b"x", links: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    """An archive whose list of sums fits what it holds."""
    about = json.dumps({"format": 1}).encode()
    digests = {ABOUT: about, name: content, **{link.name: content for link in links}}
    sums = "".join(f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in digests.items())
    return write_tar(path, {ABOUT: about, name: content, SUMS: sums.encode()}, links)


def test_nothing_is_unpacked_outside_the_folder(tmp_path: Path):
    for name in ("../outside", "/tmp/outside-of-heartbeat", "work/../../outside"):
        with pytest.raises(HeartbeatError, match="was not written by `heartbeat backup`|is damaged"):
            unpacked(planted(tmp_path / "bad.tar", name), tmp_path / "new")
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/outside-of-heartbeat").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_out_of_the_folder_are_refused(tmp_path: Path, kind: bytes):
    (tmp_path / "secret").write_bytes(b"x")
    link = tarfile.TarInfo("work/link")
    link.type, link.linkname = kind, "../secret" if kind == tarfile.LNKTYPE else "../../secret"
    with pytest.raises(HeartbeatError):
        unpacked(planted(tmp_path / "bad.tar", "work/file", links=(link,)), tmp_path / "new")
    assert not (tmp_path / "new/work/link").exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [({"readme.txt": b"hello"}, "is not a backup of heartbeat"),
     ({ABOUT: b"no JSON"}, "is not a backup of heartbeat"),
     ({ABOUT: b'{"format": 2, "heartbeat": "9.0"}', SUMS: b""}, "of format 2, written by heartbeat 9.0; .* reads format 1"),
     ({ABOUT: b'{"format": 1}', "extra": b"", SUMS: b""}, "its list of files does not fit")],
)  # fmt: skip
def test_other_archives_are_refused(tmp_path: Path, members: dict[str, bytes], message: str):
    with pytest.raises(HeartbeatError, match=message):
        unpacked(write_tar(tmp_path / "other.tar", members), tmp_path / "new")


def test_what_is_no_tar_is_refused(tmp_path: Path):
    (tmp_path / "photo.tar").write_bytes(b"\x89PNG" * 1000)
    with pytest.raises(HeartbeatError, match="photo.tar is damaged, or no backup"):
        unpacked(tmp_path / "photo.tar", tmp_path / "new")


@pytest.mark.parametrize("name", ["a\u2028b", "a\x0bb", "a\x85b", "a\rb", "ä b"])
def test_any_name_that_is_text_comes_back(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"1")
    with write_archive(tmp_path / "b.tar", {}) as archive:
        archive.add(f"work/{name}", tmp_path / name)
    assert unpacked(tmp_path / "b.tar", tmp_path / "new")[f"work/{name}"] == b"1"


@pytest.mark.parametrize("name", ["a\nb", "a\udcff"])
def test_names_that_the_list_of_files_cannot_hold_are_refused(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"1")
    message = r"a\\.* cannot be in a backup, by its name: rename"
    with pytest.raises(HeartbeatError, match=message), write_archive(tmp_path / "b.tar", {}) as archive:
        archive.add(f"work/{name}", tmp_path / name)
    assert not (tmp_path / "b.tar").exists()
