"""Which file a row of a table means, and which audio files are in a folder."""

import os
from pathlib import Path

import pytest
from builders import listed, touch, write

from heartdata.dataset.inventory import take_inventory
from heartdata.errors import SourceError
from heartdata.sources import Cinc2016Source, SourceListing, TableSource
from heartdata.sources.base import audio_files, check_source


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    names = ("audio/one.wav", "audio/süß two.WAV", "p1/three.wav", "p1/rec.1.wav", "p2/three.wav", "p2/rec.flac")
    return touch(tmp_path, *names)


def listed_paths(folder: Path, *paths: str) -> SourceListing:
    return listed(folder, "path,label\n" + "".join(f"{path},a\n" for path in paths))


@pytest.mark.parametrize(
    ("name", "file"),
    [("audio/one", "audio/one.wav"), ("audio/One.WAV", "audio/one.wav"), (r".\Audio\ONE", "audio/one.wav"),
     ("one.wav", "audio/one.wav"), ("SÜSS TWO", "audio/süß two.WAV"), ("rec.1", "p1/rec.1.wav"), ("rec", "p2/rec.flac"),
     ("p2/three", "p2/three.wav")],
)  # fmt: skip
def test_names_without_suffix_or_folder_or_in_other_cases_are_found_and_noted(deep: Path, name: str, file: str):
    listing = listed_paths(deep, name)
    (row,) = listing.recordings
    assert (row.path, row.missing) == (deep / file, None)
    how = "in sub-folders" if name == "one.wav" else "under another name than the table's"
    assert f"1 file was found {how}: {name} as {file}" in listing.notes


def test_names_as_they_are_on_the_disk_are_not_noted(deep: Path):
    assert not any("another name" in note for note in listed_paths(deep, "audio/one.wav", r"p1\three.wav").notes)


@pytest.mark.parametrize(
    ("name", "message"),
    [("three", "three may mean 2 files, such as p1/three.wav and p2/three.wav"),
     ("p3/three.wav", "there is no file {folder}/p3/three.wav"),
     ("audio/one.flac", "there is no file {folder}/audio/one.flac"),
     ("/elsewhere/one.wav", "there is no file /elsewhere/one.wav"),
     (r"C:\Ann\one.wav", r"C:\Ann\one.wav is a path of a Windows computer, while paths should begin at {folder}"),
     ("a" * 5000, "the path cannot be read"), ("a\0b.wav", "there is no file"), ("audio", "there is no file"),
     ("audio/one.wav/x", "there is no file")],
)  # fmt: skip
def test_names_that_mean_no_single_file_are_missing(deep: Path, name: str, message: str):
    (row, other) = listed_paths(deep, name, "audio/one.wav").recordings
    assert (row.path, other.missing) == (None, None)
    assert row.missing.startswith(message.format(folder=deep))
    assert take_inventory(TableSource(data=deep / "table.csv"), deep)[0].num_rows == 2


def test_paths_of_another_system(folder: Path):
    write(folder / "audio\\one.wav")
    rows = listed_paths(folder, "audio\\one.wav", "audio\\three.wav", "audio\\four.wav").recordings
    assert [r.path for r in rows] == [folder / "audio\\one.wav", folder / "audio" / "three.wav", None]
    assert [r.recording_id for r in rows] == ["audio/one.wav", "audio/three.wav", "audio/four.wav"]
    assert rows[2].missing == f"there is no file {folder}/audio/four.wav"


def test_ids_whatever_the_spelling_of_a_path_and_the_order_of_rows(folder: Path):
    lines = ["./audio/one.wav,b,7", "audio//one.wav,a,8", "audio\\x\\..\\one.wav,a,7", "absent.wav,a,7", ",a,7"]
    for order in (lines, lines[::-1]):
        listing = listed(folder, "\n".join(["path,label,subject", *order]))
        assert {r.recording_id: (r.label, r.subject) for r in listing.recordings} == {
            "audio/one.wav": ("a", "7"), "audio/one.wav#2": ("a", "8"), "audio/one.wav#3": ("b", "7"),
            "absent.wav": ("a", "7"), "(no path)": ("a", "7"),
        }  # fmt: skip
        missing = {r.recording_id: r.missing for r in listing.recordings}
        assert missing["absent.wav"] == f"there is no file {folder}/absent.wav"
        assert missing["(no path)"] == "the table gives no path"


def test_formats_that_cannot_be_decoded_are_listed_for_the_quarantine(tmp_path: Path):
    rows = TableSource(data=touch(tmp_path, "a/one.wav", "b/two.m4a", "b/notes.txt")).listing(tmp_path).recordings
    assert [row.recording_id for row in rows] == ["a/one.wav", "b/two.m4a"]


def test_files_that_are_no_audio_are_counted_in_one_note(tmp_path: Path):
    names = ("a/1.wav", "a/2.WAVE", "b/3.webm", "b/4.Mp4", "b/5.amr", "b/notes.txt", "b/x.docx", "b/y.docx", "b/noname",
             "b/.6.wav.icloud", "b/7.wav.crdownload", "b/.8.wav", "b/._1.wav", "a/.DS_Store", ".git/config")  # fmt: skip
    listing = TableSource(data=touch(tmp_path, *names)).listing(tmp_path)
    assert [row.recording_id for row in listing.recordings] == ["a/1.wav", "a/2.WAVE", "b/3.webm", "b/4.Mp4", "b/5.amr"]
    (note,) = [note for note in listing.notes if note.startswith("Left out")]
    assert note == (
        f"Left out below {tmp_path}, as no audio files by their names: 2 .docx, 1 .crdownload (unfinished: download them "
        "again), 1 .icloud (kept in a cloud drive: download them), 1 .txt, 1 hidden, 1 without suffix"
    )


def test_beside_a_table_only_unusual_files_are_counted(tmp_path: Path):
    names = ("1.wav", "2.bin", "3.bin", "README.md", "LICENSE", "more.csv", "4.hea", "SHA256SUMS.txt")
    (touch(tmp_path, *names) / "t.csv").write_text("path,label\n1.wav,a\n2.bin,b\n")
    notes = TableSource(data=tmp_path / "t.csv").listing(tmp_path).notes
    assert [note for note in notes if note.startswith("Left out")] == [
        f"Left out below {tmp_path}, as no audio files by their names: 1 .bin"
    ]


def test_linked_folders_are_entered_once(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    outside = touch(tmp_path_factory.mktemp("outside"), "deep/x.wav", ".hidden.wav")
    touch(folder, "audio/z/four.wav")
    (folder / "linked").symlink_to(outside)
    (folder / "again").symlink_to(folder / "audio" / "z")
    (outside / "deep" / "loop").symlink_to(outside)
    (outside / "up").symlink_to(folder)
    assert [path.relative_to(folder).as_posix() for path in audio_files(folder)] == [
        "audio/one.wav", "audio/süß two.wav", "audio/three.wav", "audio/z/four.wav", "linked/deep/x.wav"
    ]  # fmt: skip
    assert {row.label for row in TableSource(data=folder).listing(folder).recordings} == {"audio", "linked"}


def test_a_broken_link_is_named(tmp_path: Path):
    touch(tmp_path, "normal/1.wav", "murmur/2.wav")
    (tmp_path / "normal" / "3.wav").symlink_to(tmp_path / "gone.wav")
    missing = [row.missing for row in TableSource(data=tmp_path).listing(tmp_path).recordings if row.missing]
    assert missing == [f"{tmp_path}/normal/3.wav is a broken link"]


@pytest.mark.parametrize("name", [b"gr\xfcn.wav", b"gr\xfcn/1.wav"])
def test_a_name_that_is_not_utf_8_stops_the_run(folder: Path, name: bytes):
    path = folder / "audio" / os.fsdecode(name)
    try:
        write(path)
    except OSError:
        pytest.skip("this disk takes no such names")
    for step in (TableSource(data=folder).check, lambda: listed_paths(folder, "audio/one.wav")):
        with pytest.raises(SourceError, match="^the names of 1 of 4 audio files are not UTF-8, the first") as refused:
            step()
        assert repr(os.fsencode(path)) in str(refused.value)
    path.rename(folder / "audio" / "grün.wav")
    (folder / "audio" / os.fsdecode(b"n\xfctes.txt")).touch()
    assert len(audio_files(folder)) == 4


def test_a_folder_that_may_not_be_read_stops_the_run(tmp_path: Path, monkeypatch):
    touch(tmp_path, "normal/1.wav", "murmur/2.wav", "lost+found/3.wav")
    for name, original in (("scandir", os.scandir), ("listdir", os.listdir)):

        def closed(path, original=original):  # permissions would not keep root from reading
            if Path(path).name in ("murmur", "lost+found"):
                raise PermissionError(13, "Permission denied", str(path))
            return original(path)

        monkeypatch.setattr(os, name, closed)
    with pytest.raises(SourceError, match="murmur cannot be read .Permission denied., so its content would be left"):
        TableSource(data=tmp_path).listing(tmp_path)
    with pytest.raises(SourceError, match="murmur cannot be read"):
        check_source(Cinc2016Source(data=tmp_path / "murmur"))
