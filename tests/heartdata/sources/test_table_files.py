"""Which file a row of a table means, and which audio files are in a folder."""

import os
from pathlib import Path

import pytest
from builders import listed, touch, write

from heartdata.dataset.inventory import take_inventory
from heartdata.errors import SourceError
from heartdata.sources import Cinc2016Source, SourceListing, TableSource
from heartdata.sources.base import audio_files, check_source
from heartdata.sources.table import file_lookup
from heartdata.sources.table.cells import folded
from heartdata.storage.store import Store

QUOTES = '"'


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
     ("p2/three", "p2/three.wav"), ('"""audio/One.wav"""', "audio/one.wav")],
)  # fmt: skip
def test_names_without_suffix_or_folder_or_in_other_cases_are_found_and_noted(deep: Path, name: str, file: str):
    listing = listed_paths(deep, name)
    (row,) = listing.recordings
    assert (row.path, row.missing) == (deep / file, None)
    how = "in sub-folders" if name == "one.wav" else "under another name than the table's"
    assert f"1 file was found {how}: {name.strip(QUOTES)} as {file}" in listing.notes


def test_a_store_below_the_folder_of_a_table_is_none_of_its_files(deep: Path):
    touch(Store(deep / "out").open().root, "made/four.wav", "data-docs/font.otf")
    notes = listed_paths(deep, *(path.relative_to(deep).as_posix() for path in audio_files(deep))).notes
    assert not [note for note in notes if "out" in note.casefold()]


def test_names_as_they_are_on_the_disk_are_not_noted(deep: Path):
    assert not any("another name" in note for note in listed_paths(deep, "audio/one.wav", r"p1\three.wav").notes)


@pytest.mark.parametrize(
    ("name", "message"),
    [("three", "three may mean 2 files, such as p1/three.wav and p2/three.wav"),
     ("p3/three.wav", "there is no file {folder}/p3/three.wav"),
     ("audio/one.flac", "there is no file {folder}/audio/one.flac"),
     ("/elsewhere/one.wav", "there is no file /elsewhere/one.wav"),
     (r"C:\Ann\one.wav", r"C:\Ann\one.wav is a path of a Windows computer, while paths should begin at {folder}"),
     ("a" * 5000, "the path cannot be read"), ("a\0b.wav", "there is no file"), ("audio", "{folder}/audio is a folder"),
     ("audio/one.wav/x", "there is no file")],
)  # fmt: skip
def test_names_that_mean_no_single_file_are_missing(deep: Path, name: str, message: str):
    (row, other) = listed_paths(deep, name, "audio/one.wav").recordings
    assert (row.path, other.missing) == (None, None)
    assert row.missing.startswith(message.format(folder=deep))
    assert take_inventory(TableSource(data=deep / "table.csv"), deep)[0].num_rows == 2


@pytest.mark.parametrize(
    ("name", "file"),
    [("/content/drive/My Drive/p2/three.wav", "p2/three.wav"), (r"C:\Users\Ann\P1\Three.wav", "p1/three.wav"),
     ("/x/rec.1", "p1/rec.1.wav"), (r"\\server\share\one.wav", "audio/one.wav"), ("D:/audio/one", "audio/one.wav"),
     ("../input/set/audio/one.wav", "audio/one.wav"), ("set/p1/three.wav", "p1/three.wav"), ("~/one.wav", "audio/one.wav"),
     ("~nobody-of-that-name/p2/three", "p2/three.wav"), ("file:///other/s%C3%BC%C3%9F%20two.WAV", "audio/süß two.WAV"),
     ("file:///C:/Ann/one.wav", "audio/one.wav")],
)  # fmt: skip
def test_paths_of_another_machine_are_found_by_their_longest_end(deep: Path, name: str, file: str):
    for folder in (None, deep):
        table = write(deep / "table.csv", f"path,label\n{name},a\n")
        listing = TableSource(data=table, folder=folder).listing(deep)
        (row,) = listing.recordings
        assert (row.path, row.missing) == (deep / file, None)
        (note,) = [note for note in listing.notes if note.startswith("1 file was found by the end of their paths: ")]
        assert note.endswith(f" as {file}")


@pytest.mark.parametrize(
    "form", ["{}/audio/s%C3%BC%C3%9F%20two.WAV", "FILE://localhost{}/audio/süß two.WAV", "file:{}/audio/süß%20two.WAV"]
)
def test_file_uris_are_paths(deep: Path, form: str):
    name = form.format(f"file://{deep}" if form[0] == "{" else deep)
    (row,) = listed_paths(deep, name).recordings
    assert (row.path, row.recording_id) == (deep / "audio" / "süß two.WAV", f"{deep}/audio/süß two.WAV")


def test_the_users_home_is_known(deep: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(deep))
    listing = listed_paths(deep, "~/p2/three.wav")
    assert (listing.recordings[0].path, listing.notes[0].startswith("The table has")) == (deep / "p2/three.wav", True)


@pytest.mark.parametrize(
    ("names", "is_taken"),
    [(("/a/three.wav",), False),  # two files end so
     (("p3/one.wav",), False),  # a relative path of another patient
     (("/a/one.wav", "audio/one.wav"), False), (("/P2/one.wav", "/P1/one.wav"), False),
     (("/a/one.wav", r"\A\One.wav"), True)],
)  # fmt: skip
def test_a_similar_name_is_not_taken_where_it_may_mean_another_file(deep: Path, names: tuple[str, ...], is_taken: bool):
    first, *others = listed_paths(deep, *names).recordings
    assert first.path == (deep / "audio" / "one.wav" if is_taken else None)
    if others and not is_taken:
        assert first.missing == f"there is no file {names[0]}; audio/one.wav is the file of another row, too"


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("1", "001.wav"),
        ("1.wav", "001.wav"),
        ("1.mp3", None),
        ("2", None),
        ("1.0", "001.wav"),
        ("01", "001.wav"),
        ("7", None),
        ("12", "12.wav"),
    ],
)
def test_numbers_that_lost_their_zeros(tmp_path: Path, cell: str, file: str | None):
    touch(tmp_path, "001.wav", "a/007.wav", "b/07.wav", "a/x1.wav", "12.wav", "a/0012.wav")
    listing = listed(tmp_path, f"path,label\n{cell},a\n")
    assert listing.recordings[0].path == (tmp_path / file if file else None)
    assert (f"1 file was found by their number: {cell} as 001.wav" in listing.notes) == (file == "001.wav")


@pytest.mark.parametrize("place", ["links", "real"])
def test_paths_of_a_table_that_is_a_link_begin_at_the_link_or_at_its_target(tmp_path: Path, place: str):
    touch(tmp_path, "links/other.wav", f"{place}/audio/one.wav")
    write(tmp_path / "real" / "table.csv", "path,label\naudio/one,a\n")
    link = tmp_path / "links" / "now.csv"
    link.symlink_to("../real/table.csv")
    listing = TableSource(data=link).listing(tmp_path)
    assert listing.recordings[0].path == tmp_path / place / "audio" / "one.wav"
    assert listing.notes[0] == f"{link} is a link to {tmp_path}/real/table.csv: its paths begin at {tmp_path}/{place}"


def test_a_link_without_a_suffix(tmp_path: Path):
    touch(tmp_path, "one.wav")
    write(tmp_path / "table.jsonl", '{"path": "one", "label": "a"}')
    (tmp_path / "labels").symlink_to("table.jsonl")
    assert TableSource(data=tmp_path / "labels").listing(tmp_path).recordings[0].path == tmp_path / "one.wav"


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
    names = (
        "1.wav",
        "2.bin",
        "3.bin",
        "README.md",
        "LICENSE",
        "more.csv",
        "4.hea",
        "SHA256SUMS.txt",
        "own.yaml",
        "own.yml",
    )
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


@pytest.mark.parametrize(
    ("cell", "how"),
    [("\u202aaudio/one.wav", ""), ("\u200b{deep}/audio/one.wav", ""), ("\ufefffile://{deep}/audio/one.wav", ""),
     ("audio/\u200bone", "under another name"), ("\u202a/mnt/x/audio/one.wav", "by the end of their paths")],
)  # fmt: skip
def test_paths_with_invisible_characters_are_found_as_without(deep: Path, cell: str, how: str):
    listing = listed_paths(deep, cell.format(deep=deep))
    assert [row.path for row in listing.recordings] == [deep / "audio/one.wav"]
    found = [note for note in listing.notes if " found " in note]
    assert [how in note for note in found] == ([True] if how else [])


def test_paths_of_another_machine_to_many_files_of_one_name_take_linear_time(tmp_path: Path, monkeypatch):
    names = [f"p{number}/{valve}.wav" for number in range(100) for valve in ("AV", "MV")]
    folds = []
    monkeypatch.setattr(file_lookup, "folded", lambda text: folds.append(text) or folded(text))
    lookup = file_lookup.FileLookup(tmp_path, [tmp_path / name for name in names])
    found = lookup.find_all([f"/content/{name}" for name in names])
    assert [match.path for match in found.values()] == [tmp_path / name for name in names]
    assert len(folds) < 50 * len(names)


def test_the_end_of_a_files_path_and_several_files_in_a_cell(tmp_path: Path):
    touch(tmp_path, "audio/p1/AV.wav", "audio/p2/AV.wav", "audio/p2/MV.wav")
    one, two, both = listed_paths(tmp_path, "p1/AV.wav", "p2/AV.wav", "audio/p2/MV.wav;p1/AV.wav").recordings
    assert (one.path, two.path, both.path) == (tmp_path / "audio/p1/AV.wav", tmp_path / "audio/p2/AV.wav", None)
    (row,) = listed_paths(tmp_path, "audio/p2/MV.wav;audio/p1/AV.wav").recordings
    assert row.missing == "audio/p2/MV.wav;audio/p1/AV.wav names 2 files, while a cell can name one"


def test_data_and_folder_that_are_no_place(tmp_path: Path):
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    for data in (tmp_path / "loop.csv", Path("~nobody-of-that-name/t.csv")):
        with pytest.raises(SourceError, match=r"give the table or folder of recordings with --data"):
            TableSource(data=data).check()
    with pytest.raises(SourceError, match="nowhere does not exist: give the folder .* with source.folder"):
        TableSource(data=write(tmp_path / "t.csv", "path,label\n1,a\n"), folder=tmp_path / "nowhere").check()


@pytest.mark.parametrize("environment", [".venv", "my_env"])
def test_audio_of_a_python_environment_is_none_of_a_tables_files(tmp_path: Path, environment: str):
    names = (
        "1.wav",
        f"{environment}/pyvenv.cfg",
        f"{environment}/lib/python3.11/site-packages/scipy/io/tests/data/2.wav",
    )
    (touch(tmp_path, *names) / "t.csv").write_text("path,label\n1.wav,a\n2.wav,b\n")
    listing = TableSource(data=tmp_path / "t.csv").listing(tmp_path)
    assert [row.missing is None for row in listing.recordings] == [True, False]
    assert not [note for note in listing.notes if environment in note]
