"""Zip archives as data: unpacked once, and refused when they are unsafe or damaged."""

import errno
import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from heartdata.errors import SourceError, StoreError
from heartdata.sources import Cinc2016Source, Circor2022Source, PascalSource, archives
from heartdata.storage.store import sha256_file


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../a.wav", b"")], r"'\.\./a.wav' leads out of the archive"),
        ([("a/../../b.wav", b"")], "leads out of the archive"),
        ([("a\\..\\..\\b.wav", b"")], "leads out of the archive"),
        ([("/etc/passwd", b"")], "'/etc/passwd' leads out of the archive"),
        ([("\\\\host\\a.wav", b"")], "leads out of the archive"),
        ([("c:a.wav", b"")], "leads out of the archive"),
        ([(link("a.wav"), b"/etc/passwd")], "'a.wav' is a symbolic link"),
        ([("a/X.wav", b"1"), ("a/x.wav", b"2")], r"'a/X.wav' has the name of another"),
        ([("a.wav", b"1"), ("./a.wav", b"2")], "has the name of another"),
        ([("\u00e4.wav", b"1"), ("a\u0308.wav", b"2")], "has the name of another"),
        ([("\u00c4.wav", b"1"), ("a\u0308.wav", b"2")], "has the name of another"),
        ([(f"{n}.wav", bytes(5_100_000)) for n in range(2)], "unpacks to more than 200 times its size"),
    ],
)
def test_unsafe_zips_are_refused_before_anything_is_written(tmp_path: Path, members: list, message: str):
    data = zip_of(tmp_path / "bad.zip", ("REFERENCE.csv", b"a0001,1\n"), *members)
    source = Cinc2016Source(data=data)
    for step in (source.check, lambda: source.listing(tmp_path / "made")):
        with pytest.raises(SourceError, match=message) as error:
            step()
        assert str(data) in str(error.value)
    assert not any((tmp_path / "made").glob("*"))


@pytest.mark.parametrize(
    "members",
    [[("ä" * 128, b"")], [("a", b"1"), ("a/b.wav", b"2")], [("a/b.wav", b"2"), ("a", b"1")], [("a", b"1"), ("a/", b"")]],
)  # fmt: skip
def test_names_that_no_disk_can_hold_are_refused(tmp_path: Path, members: list):
    data = zip_of(tmp_path / "bad.zip", *members)
    with pytest.raises(SourceError, match=r"bad.zip is not a folder, and reading it as a zip archive failed"):
        archives.unpack(data, tmp_path / "made", 10**6)
    assert list((tmp_path / "made").iterdir()) == []


def test_zips_that_are_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    members = (("training-a/REFERENCE.csv", b"a0001,1\n"), ("training-a/b.wav", bytes(9_000_000)))
    data = zip_of(tmp_path / "z.zip", *members)
    Cinc2016Source(data=data).check()  # below 10 MB, any ratio is allowed
    with pytest.raises(SourceError, match=r"holds 0.0 GB, more than the 0.005 GB that source.max_unpacked_gb allows"):
        Cinc2016Source(data=data, max_unpacked_gb=0.005).check()
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: type("", (), {"free": 100}))
    with pytest.raises(StoreError, match="GB free: make room"):
        Cinc2016Source(data=data).listing(tmp_path / "made")


def test_zips_of_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = zip_of(tmp_path / "z.zip", ("a.wav", b""), ("b.wav", b""), ("c.wav", b""))
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(SourceError, match=r"z.zip holds 3 members, more than 2: unpack it yourself"):
        archives.unpack(data, tmp_path / "made", 10**6)


@pytest.mark.parametrize("source", [Cinc2016Source, Circor2022Source, PascalSource])
def test_an_empty_zip_is_refused_as_an_empty_folder_is(tmp_path: Path, source: type):
    data = zip_of(tmp_path / "z.zip")
    for step in (source(data=data).check, lambda: source(data=data).listing(tmp_path / "made")):
        with pytest.raises(SourceError, match="holds none of|does not exist: --data must be"):
            step()
    assert list(archives.unpack(data, tmp_path / "made", 10**6).iterdir()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_member_is_written_beyond_the_size_that_it_declares(tmp_path: Path, method: int):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", method) as archive:
        archive.writestr("a.wav", bytes(1_000_000))
    forged = bytearray((tmp_path / "z.zip").read_bytes())
    for header, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", forged, forged.index(header) + offset, 10)
    (tmp_path / "z.zip").write_bytes(forged)
    with pytest.raises(SourceError, match=r"z.zip .* failed .*CRC.* 'a.wav'"):
        archives.unpack(tmp_path / "z.zip", tmp_path / "made", 10**6)
    assert list((tmp_path / "made").iterdir()) == []


def test_encrypted_and_damaged_zips_are_refused(tmp_path: Path):
    data = zip_of(tmp_path / "z.zip", ("a.wav", b"heart" * 100))
    whole = data.read_bytes()
    encrypted = bytearray(whole)
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(header) + offset] |= 1
    data.write_bytes(encrypted)
    with pytest.raises(SourceError, match="'a.wav' is encrypted"):
        Cinc2016Source(data=data).check()
    damaged = bytearray(whole)
    damaged[40] ^= 0xFF
    for content in (whole[:-30], damaged, b"no zip"):
        data.write_bytes(content)
        with pytest.raises(SourceError, match=r"z.zip is not a folder, and reading it as a zip archive failed"):
            archives.unpack(data, tmp_path / "made", 10**6)


def test_a_zip_is_unpacked_once_for_the_same_content(tmp_path: Path):
    data = zip_of(tmp_path / "z.zip", ("a/", b""), ("a/b.wav", b"1"), ("c.wav", b"2"))
    first = archives.unpack(data, tmp_path / "made", 10**6)
    assert first == tmp_path / "made" / f"zip-{sha256_file(data)}"
    assert {p.relative_to(first).as_posix() for p in first.rglob("*.wav")} == {"a/b.wav", "c.wav"}
    (first / "mark").touch()
    data.rename(tmp_path / "other.zip")
    assert (archives.unpack(tmp_path / "other.zip", tmp_path / "made", 10**6) / "mark").exists()
    again = archives.unpack(zip_of(data, ("c.wav", b"3")), tmp_path / "made", 10**6)
    assert (again != first, [p.name for p in again.iterdir()]) == (True, ["c.wav"])
    assert not list((tmp_path / "made").glob(".unpacking-*"))


def test_an_interrupted_unpacking_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = zip_of(tmp_path / "z.zip", ("REFERENCE.csv", b"a0001,1\n"), ("a0001.wav", b"1"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        Cinc2016Source(data=data).listing(tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []
    monkeypatch.undo()
    (row,) = Cinc2016Source(data=data).listing(tmp_path / "made").recordings
    assert (row.recording_id, row.path.read_bytes()) == ("training-a/a0001.wav", b"1")
