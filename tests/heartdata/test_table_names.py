"""Tables that write names in another way than the disk, and folders whose sub-folders are no classes."""

from pathlib import Path

import pytest
from helpers import beats, write_wav

from heartdata.errors import SourceError
from heartdata.inventory import take_inventory
from heartdata.measure import MeasureConfig, measure_file
from heartdata.sources import TableSource
from heartdata.sources.base import Listing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("audio/one.wav", "audio/süß two.WAV", "p1/three.wav", "p1/rec.1.wav", "p2/three.wav", "p2/rec.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def listed(folder: Path, *names: str) -> Listing:
    text = "path,label\n" + "".join(f"{name},a\n" for name in names)
    (folder / "table.csv").write_text(text)
    return TableSource(data=folder / "table.csv").listing(folder)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("audio/one", "audio/one.wav"),
        ("audio/One.WAV", "audio/one.wav"),
        (r".\Audio\ONE", "audio/one.wav"),
        ("one.wav", "audio/one.wav"),
        ("SÜSS TWO", "audio/süß two.WAV"),
        ("rec.1", "p1/rec.1.wav"),
        ("rec", "p2/rec.flac"),
        ("p2/three", "p2/three.wav"),
    ],
)
def test_names_without_suffix_or_folder_or_in_other_cases_are_found_and_noted(folder: Path, name: str, file: str):
    listing = listed(folder, name)
    (row,) = listing.recordings
    assert (row.path, row.missing) == (folder / file, None)
    assert f"1 files were found under another name than the table's: {name} as {file}, ..." in listing.notes


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("three", "three may mean 2 files, such as p1/three.wav and p2/three.wav"),
        ("p3/three.wav", "there is no file {folder}/p3/three.wav"),
        ("audio/one.flac", "there is no file {folder}/audio/one.flac"),
        ("/elsewhere/one.wav", "there is no file /elsewhere/one.wav"),
        (r"C:\Ann\one.wav", r"C:\Ann\one.wav is a place on a Windows computer, while paths should begin at {folder}"),
    ],
)
def test_names_that_mean_no_file_for_certain_are_missing(folder: Path, name: str, said: str):
    (row,) = listed(folder, name).recordings
    assert (row.path, row.missing) == (None, said.format(folder=folder))


def test_names_as_they_are_on_the_disk_are_not_noted(folder: Path):
    assert not any("another name" in note for note in listed(folder, "audio/one.wav", r"p1\three.wav").notes)


def test_recordings_of_kinds_that_cannot_be_read_are_rows_with_an_error(tmp_path: Path):
    write_wav(tmp_path / "a" / "one.wav", beats())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    table, _ = take_inventory(TableSource(data=tmp_path), tmp_path)
    _, two = table.to_pylist()
    assert two["recording_id"] == "b/two.m4a"
    assert "cannot be decoded" in str(measure_file(two["uri"], two["sha256"], MeasureConfig())["error"])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Train/normal/1.wav", "test/normal/1.wav"], "are parts, no classes: Train, test. Say where the labels stand"),
        (["training-a/1.wav", "validation/1.wav"], "as the data set cinc2016 does: use --source cinc2016"),
        (["set_a/1.wav", "set_b/1.wav"], "use --source pascal"),
        (
            [f"P{i}/{label}/{i}.wav" for i in range(12) for label in ("normal", "murmur")],
            "the 12 sub-folders of .* the same few names, murmur, normal. If those are subjects",
        ),
        (["training_data/1.wav"], "use --source circor2022"),
        (["all/normal/1.wav", "all/murmur/1.wav"], "holds one folder, all: give that with --data .*/all, or a table"),
    ],
)
def test_sub_folders_that_are_no_classes(tmp_path: Path, names: list[str], said: str):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SourceError, match=said):
        TableSource(data=tmp_path).check()


@pytest.mark.parametrize("name", ["all.zip", "table.csv.GZ"])
def test_archives_are_to_be_unpacked(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"PK\3\4")
    with pytest.raises(SourceError, match="is an archive, .*: unpack it and give the table or folder in it"):
        TableSource(data=tmp_path / name).check()
