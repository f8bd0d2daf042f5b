"""Zip archives as data: unpacked once, and refused when they are unsafe or damaged."""

import shutil
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from heartdata.errors import SourceError, StoreError
from heartdata.sources import Cinc2016Source, PascalSource, archives
from heartdata.store import sha256_file


def made_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return path


def link(name: str, kind: int = stat.S_IFLNK) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (kind | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../a.wav", b"")], r"'\.\./a.wav' leads out of the archive"),
        ([("a/../../b.wav", b"")], "leads out of the archive"),
        ([("a\\..\\..\\b.wav", b"")], "leads out of the archive"),
        ([("/etc/passwd", b"")], "'/etc/passwd' has an absolute name"),
        ([("\\\\host\\a.wav", b"")], "has an absolute name"),
        ([("C:/a.wav", b"")], "has an absolute name"),
        ([("c:a.wav", b"")], "has an absolute name"),
        ([("a\\b.wav", b"")], "has a backslash"),
        ([("a//b.wav", b"")], "has an empty or too long part"),
        ([("./b.wav", b"")], "has an empty or too long part"),
        ([("ä" * 128, b"")], "has an empty or too long part"),
        ([(link("a.wav"), b"/etc/passwd")], "'a.wav' is a symbolic link"),
        ([(link("a.wav", stat.S_IFIFO), b"")], "is neither a file nor a folder"),
        ([("a/X.wav", b"1"), ("a/x.wav", b"2")], r"'a/x.wav' has the same name as 'a/X.wav'"),
        ([("a\u0308.wav", b"1"), ("ä.wav", b"2")], "has the same name"),
        ([("a", b"1"), ("a/", b"")], "has the same name"),
        ([("A", b"1"), ("a/b/c.wav", b"2")], "'a/b/c.wav' lies below 'A', which is no folder"),
        ([("bomb.wav", bytes(20_000_000))], "'bomb.wav' grows to more than 200 times"),
        ([(f"{n}.wav", bytes(5_100_000)) for n in range(2)], r"bad.zip grows to more than 200 times its packed size"),
    ],
)
def test_unsafe_zips_are_refused_before_anything_is_written(tmp_path: Path, members: list, message: str):
    data = made_zip(tmp_path / "bad.zip", ("REFERENCE.csv", b"a0001,1\n"), *members)
    source = Cinc2016Source(data=data)
    for refused in (source.check, lambda: source.listing(tmp_path / "made")):
        with pytest.raises(SourceError, match=message) as error:
            refused()
        assert str(data) in str(error.value)
    assert not any((tmp_path / "made").glob("*"))


def test_zips_beyond_a_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = made_zip(tmp_path / "z.zip", ("training-a/REFERENCE.csv", b"a0001,1\n"), ("training-a/b.wav", bytes(5000)))
    Cinc2016Source(data=data).check()
    with pytest.raises(SourceError, match=r"holds 0.0 GB, more than the 1e-06 GB that source.max_unpacked_gb allows"):
        Cinc2016Source(data=data, max_unpacked_gb=1e-6).check()
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    with pytest.raises(SourceError, match="has 2 members, more than 1: unpack it"):
        Cinc2016Source(data=data).check()
    monkeypatch.undo()
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: type("", (), {"free": 100}))
    with pytest.raises(StoreError, match="GB free: make room"):
        Cinc2016Source(data=data).listing(tmp_path / "made")


def test_what_is_written_counts_and_not_what_the_zip_says_of_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = made_zip(tmp_path / "z.zip", ("a.wav", bytes(20_000_000)))
    monkeypatch.setattr(archives, "_refuse_unsafe", lambda path, members, limit: None)
    with pytest.raises(SourceError, match="'a.wav' grows to more than 200 times"):
        archives.unpack(data, tmp_path / "made", 10**12)
    with pytest.raises(SourceError, match="grew beyond its own account at 'a.wav', more than the 0.001 GB"):
        archives.unpack(data, tmp_path / "made", 10**6)
    made_zip(data, *((f"{n}.wav", bytes(4_000_000)) for n in range(3)))
    with pytest.raises(SourceError, match=r"z.zip grows to more than 200 times its packed size"):
        archives.unpack(data, tmp_path / "made", 10**12)
    monkeypatch.undo()
    made_zip(data, *((f"{n}.wav", bytes(3_000_000)) for n in range(3)))  # 9 MB in all may grow as they like
    shutil.rmtree(archives.unpack(data, tmp_path / "made", 10**12))
    lying = bytearray(made_zip(tmp_path / "z.zip", ("a.wav", bytes(5000))).read_bytes())
    for header, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<I", lying, lying.index(header) + offset, 10)
    data.write_bytes(lying)
    with pytest.raises(SourceError, match="'a.wav' is damaged"):
        archives.unpack(data, tmp_path / "made", 10**6)
    assert list((tmp_path / "made").iterdir()) == []


def test_encrypted_and_damaged_zips_are_refused(tmp_path: Path):
    data = made_zip(tmp_path / "z.zip", ("a.wav", b"heart" * 100))
    whole = data.read_bytes()
    encrypted = bytearray(whole)
    for header, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(header) + offset] |= 1
    data.write_bytes(encrypted)
    with pytest.raises(SourceError, match="'a.wav' is encrypted"):
        Cinc2016Source(data=data).check()
    damaged = bytearray(whole)
    damaged[40] ^= 0xFF
    for content, message in ((whole[:-30], "neither a folder nor a zip archive"), (damaged, "'a.wav' is damaged")):
        data.write_bytes(content)
        with pytest.raises(SourceError, match=message):
            archives.unpack(data, tmp_path / "made", 10**6)
    data.write_bytes(b"no zip")
    with pytest.raises(SourceError, match=r"z.zip is neither a folder nor a zip archive that can be read"):
        PascalSource(data=data).check()


def test_a_zip_is_unpacked_once_for_the_same_content(tmp_path: Path):
    data = made_zip(tmp_path / "z.zip", ("a/", b""), ("a/b.wav", b"1"), ("c.wav", b"2"))
    first = archives.unpack(data, tmp_path / "made", 10**6)
    assert first == tmp_path / "made" / f"zip-{sha256_file(data)}"
    assert {p.relative_to(first).as_posix() for p in first.rglob("*.wav")} == {"a/b.wav", "c.wav"}
    (first / "mark").touch()
    data.rename(tmp_path / "other.zip")
    assert (archives.unpack(tmp_path / "other.zip", tmp_path / "made", 10**6) / "mark").exists()
    again = archives.unpack(made_zip(data, ("c.wav", b"3")), tmp_path / "made", 10**6)
    assert (again != first, [p.name for p in again.iterdir()]) == (True, ["c.wav"])
    assert not list((tmp_path / "made").glob(".unpacking-*"))


def test_a_torn_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = made_zip(tmp_path / "z.zip", ("REFERENCE.csv", b"a0001,1\n"), ("a0001.wav", b"1"))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "_write", full)
    with pytest.raises(OSError, match="No space"):
        Cinc2016Source(data=data).listing(tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []
    monkeypatch.undo()
    (row,) = Cinc2016Source(data=data).listing(tmp_path / "made").recordings
    assert (row.recording_id, row.path.read_bytes()) == ("training-a/a0001.wav", b"1")
