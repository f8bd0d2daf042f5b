"""Tables that write names in another way than the disk, and folders whose sub-folders are no classes."""

import os
import re
from pathlib import Path

import pytest
from helpers import beats, write_wav

from heartdata.audio.measurements import MeasureConfig, measure_file
from heartdata.dataset.inventory import take_inventory
from heartdata.errors import SourceError
from heartdata.sources import Cinc2016Source, TableSource
from heartdata.sources.base import SourceListing, check_source
from heartdata.sources.table.columns import USUAL_NAMES
from heartdata.storage.schemas import PART_NAMES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("audio/one.wav", "audio/süß two.WAV", "p1/three.wav", "p1/rec.1.wav", "p2/three.wav", "p2/rec.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def listed(folder: Path, *names: str) -> SourceListing:
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
        (r"C:\Ann\one.wav", r"C:\Ann\one.wav is a path of a Windows computer, while paths should begin at {folder}"),
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
        (
            ["Train/normal/1.wav", "test/normal/1.wav"],
            r"2 sub-folders of .* \(Train, test\) are named like parts of a split",
        ),
        (["training-a/1.wav", "validation/1.wav"], "as the data set cinc2016 does: use --source cinc2016"),
        (["set_a/1.wav", "set_b/1.wav"], "use --source pascal"),
        (["Atraining_normal/1.wav", "Bunlabelledtest/1.wav", "Btraining_noisymurmur/1.wav"], "use --source pascal"),
        (
            [f"P{i}/{label}/{i}.wav" for i in range(12) for label in ("normal", "murmur")],
            r"the 12 sub-folders of .* \(P0, P1, P10, P11, ...\) hold folders of the same names \(murmur, normal\), which",
        ),
        (
            [f"Fall {i}/{take}.wav" for i in range(6) for take in range(3)],
            r"the 6 sub-folders of .* \(Fall 0, Fall 1, Fall 2, Fall 3, ...\) are numbered, as subjects are",
        ),
        (["training_data/1.wav"], "use --source circor2022"),
        (["all/normal/1.wav", "all/murmur/1.wav"], "holds one folder, all: use --data .*/all, or a table"),
    ],
)
def test_sub_folders_that_are_no_classes(tmp_path: Path, names: list[str], said: str):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SourceError, match=said):
        TableSource(data=tmp_path).check()


def made(folder: Path, *names: str) -> TableSource:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return TableSource(data=folder)


def test_a_few_numbered_folders_may_be_classes_and_more_are_when_it_is_said(tmp_path: Path):
    few = made(tmp_path / "few", *(f"{i}/a.wav" for i in range(5)))
    assert {row.label for row in few.listing(tmp_path).recordings} == set("01234")
    made(tmp_path / "many", *(f"{i}/a.wav" for i in range(8)))
    with pytest.raises(SourceError, match="are numbered") as refused:
        TableSource(data=tmp_path / "many").check()
    (pattern,) = re.findall(r"say so with --set 'source.pattern=([^']+)'", str(refused.value))
    rows = TableSource(data=tmp_path / "many", pattern=pattern).listing(tmp_path).recordings
    assert {row.label for row in rows} == set("01234567")


def test_folders_called_by_a_usual_finding_are_the_classes_whatever_recurs_inside(tmp_path: Path):
    source = made(tmp_path, *(f"{folder}/{site}/1.wav" for folder in ("Normal", "AS") for site in ("AV", "MV")))
    assert {row.label for row in source.listing(tmp_path).recordings} == {"Normal", "AS"}


@pytest.mark.parametrize("outer", [("siteA", "siteB", "siteC"), ("p1", "p2"), tuple(f"p{i}" for i in range(8))])
def test_folders_inside_that_recur_may_be_the_labels_as_each_of_the_patterns_that_are_offered_says(
    tmp_path: Path, outer: tuple[str, ...]
):
    labels = ("normal", "murmur")
    source = made(tmp_path, *(f"{folder}/{label}/{i}.wav" for folder in outer for label in labels for i in range(2)))
    with pytest.raises(SourceError, match=r"hold folders of the same names \(murmur, normal\)") as refused:
        source.check()
    classes, subjects, collections, _, _ = re.findall("'source.pattern=([^']+)'", str(refused.value))
    for pattern, role in ((subjects, "subject"), (collections, "collection")):
        listing = TableSource(data=tmp_path, pattern=pattern).listing(tmp_path)
        told = {(row.label, getattr(row, role)) for row in listing.recordings}
        assert told == {(label, folder) for label in labels for folder in outer}
        assert not any("(?P<label>[^/]+)" in note for note in listing.notes)  # no advice against what was said
    rows = TableSource(data=tmp_path, pattern=classes).listing(tmp_path).recordings
    assert {row.label for row in rows} == set(outer)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (("train", "validation", "unseen"), ("normal", "murmur")),
        (("training", "eval"), ("normal", "murmur")),
        (("Fold1", "fold_2", "fold 3"), ("",)),
        (("test", "holdout"), ("normal", "murmur")),
        (("dev", "holdout"), ("normal",)),
        (("train", "test", "unlabelled"), ("",)),
    ],
)
def test_parts_of_a_split_are_no_classes(tmp_path: Path, outer: tuple[str, ...], inner: tuple[str, ...]):
    source = made(
        tmp_path, *(str(Path(part, label, f"{i}.wav")) for part in outer for label in inner for i in range(2))
    )
    with pytest.raises(SourceError, match="are named like parts of a split") as refused:
        source.check()
    kept = {folder.casefold() for folder in outer if folder != "unlabelled"} <= PART_NAMES.keys()
    assert ("split.column=part" in str(refused.value)) == kept  # other words, the split does not understand
    if inner != ("",):
        (pattern,) = re.findall(r"'source.pattern=([^']+<part>[^']+)'", str(refused.value))
        rows = TableSource(data=tmp_path, pattern=pattern).listing(tmp_path).recordings
        assert {(row.extra["part"], row.label) for row in rows} == {(part, label) for part in outer for label in inner}


def test_folders_that_may_be_classes_are_taken_so(tmp_path: Path):
    classes = made(tmp_path, "normal/train/1.wav", "normal/test/2.wav", "murmur/train/3.wav", "murmur/test/4.wav")
    for name in ("_old/notes.txt", ".git/config", "docs/read.me"):
        made(tmp_path, name)
    listing = classes.listing(tmp_path)
    assert {row.label for row in listing.recordings} == {"normal", "murmur"}
    one_in_common = made(tmp_path / "data", "normal/ann/1.wav", "normal/bob/2.wav", "murmur/ann/3.wav", "test/4.wav")
    assert {row.label for row in one_in_common.listing(tmp_path).recordings} == {"normal", "murmur", "test"}


@pytest.mark.parametrize("name", ["all.zip", "table.csv.GZ"])
def test_archives_are_to_be_unpacked(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"PK\3\4")
    with pytest.raises(SourceError, match="is an archive, .*: unpack it and give the table or folder in it"):
        TableSource(data=tmp_path / name).check()


def test_folders_of_recording_sets_are_no_classes_where_a_table_has_the_labels(tmp_path: Path):
    for name in ("clean/a1.wav", "clean/a2.wav", "noisy/b1.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    table = tmp_path / "Details.csv"
    table.write_text("fileName;age;diagnosis\na1;3;VSD\na2.wav;4;ASD\nb1;5;VSD\n")
    with pytest.raises(SourceError, match=f"Details.csv names 3 of its 3 recordings, .* use --data {table}"):
        TableSource(data=tmp_path).check()
    rows = TableSource(data=tmp_path, pattern="(?P<label>[^/]+)/.*").listing(tmp_path).recordings
    assert [row.label for row in rows] == ["clean", "clean", "noisy"]
    table.write_text("fileName;age;diagnosis\nx1;3;VSD\n")  # names none of them
    assert [row.label for row in TableSource(data=tmp_path).listing(tmp_path).recordings] == ["clean", "clean", "noisy"]


def test_folders_of_unlabelled_recordings_are_no_class(tmp_path: Path):
    for name in ("normal/1.wav", "murmur/2.wav", "Bunlabelledtest/3.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    rows = TableSource(data=tmp_path).listing(tmp_path).recordings
    assert {row.recording_id: row.label for row in rows} == {
        "normal/1.wav": "normal", "murmur/2.wav": "murmur", "Bunlabelledtest/3.wav": None,
    }  # fmt: skip


def test_how_to_name_the_subjects_is_noted(tmp_path: Path):
    source = made(tmp_path, *(f"{folder}/{i}.wav" for folder in ("normal/ann", "murmur/bob") for i in range(2)))
    (note,) = [n for n in source.listing(tmp_path).notes if "subjects of the recordings are unknown" in n]
    (pattern,) = re.findall("source.pattern=([^']+)'", note)
    rows = TableSource(data=tmp_path, pattern=pattern).listing(tmp_path).recordings
    assert {row.subject for row in rows} == {"ann", "bob"}


def test_a_folder_that_may_not_be_read_is_named_and_not_passed_over(tmp_path: Path, monkeypatch):
    for name in ("normal/1.wav", "murmur/2.wav", "lost+found/3.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    for name, look in (("scandir", os.scandir), ("listdir", os.listdir)):

        def closed(path, look=look):  # as root may read everything, permissions cannot be tried
            if Path(path).name in ("murmur", "lost+found"):
                raise PermissionError(13, "Permission denied", str(path))
            return look(path)

        monkeypatch.setattr(os, name, closed)
    with pytest.raises(
        SourceError, match="murmur cannot be read .Permission denied., so its content would be left out"
    ):
        TableSource(data=tmp_path).listing(tmp_path)
    with pytest.raises(SourceError, match="murmur cannot be read"):
        check_source(Cinc2016Source(data=tmp_path / "murmur"))


def test_a_broken_link_is_named(tmp_path: Path):
    for name in ("normal/1.wav", "murmur/2.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "normal" / "3.wav").symlink_to(tmp_path / "gone.wav")
    missing = [row.missing for row in TableSource(data=tmp_path).listing(tmp_path).recordings if row.missing]
    assert missing == [f"{tmp_path}/normal/3.wav is a broken link"]


def test_the_usual_column_names_are_in_the_docs():
    page = (Path(__file__).parents[3] / "docs" / "sources.md").read_text()
    for role, usual in USUAL_NAMES.items():
        assert f"| {role} | {', '.join(f'`{name}`' for name in usual)} |" in page
