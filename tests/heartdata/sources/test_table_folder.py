"""A folder instead of a table: sub-folders that are classes, others that may not be, and patterns."""

import re
from pathlib import Path

import pytest
from builders import by_id, listed, touch, write

from heartdata.config_file import build_config
from heartdata.errors import ConfigError, SourceError
from heartdata.sources import SourceRecording, TableSource
from heartdata.storage.schemas import PART_NAMES


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    names = ("normal/a_1.wav", "normal/deep/a_2.wav", "Murmur x/b-1.wav", "unlabelled/c_1.wav", ".trash/d_1.wav")
    return touch(tmp_path, *names)


def rows_of(folder: Path, **settings) -> list[SourceRecording]:
    return list(TableSource(data=folder, **settings).listing(folder).recordings)


def labels_of(folder: Path, **settings) -> set[str | None]:
    return {row.label for row in rows_of(folder, **settings)}


def refused(folder: Path, message: str) -> str:
    """The whole message of the fault that the check finds, which matches ``message``."""
    with pytest.raises(SourceError, match=message) as error:
        TableSource(data=folder).check()
    return str(error.value)


def patterns_in(text: str) -> list[str]:
    """The patterns that a message or note advises."""
    return re.findall("source.pattern=([^']+)'", text)


def test_a_sub_folder_for_each_class(classes: Path):
    labels = {
        "Murmur x/b-1.wav": "Murmur x", "normal/a_1.wav": "normal", "normal/deep/a_2.wav": "normal",
        "unlabelled/c_1.wav": None,
    }  # fmt: skip
    listing = TableSource(data=classes).listing(classes)
    assert {r.recording_id: r.label for r in listing.recordings} == labels
    assert all(row.path == classes / row.recording_id for row in listing.recordings)
    by_folder, unlabelled, subjects = listing.notes
    assert by_folder == f"Labels are the names of the sub-folders of {classes}: Murmur x, normal"
    assert unlabelled.startswith("1 recordings are in no sub-folder of a class, and are unlabelled: unlabelled/c_1.wav")
    assert subjects.startswith("The subjects of the recordings are unknown: every recording counts as a subject")
    touch(classes, "e.wav", "ages.csv")
    listing = TableSource(data=classes).listing(classes)
    assert {r.recording_id: r.label for r in listing.recordings} == {**labels, "e.wav": None}
    assert listing.notes[1] == f"{classes}/ages.csv was not read: if it holds the labels, give it with --data"
    assert listing.notes[2].startswith("2 recordings are in no sub-folder of a class, and are unlabelled: e.wav")


def test_a_folder_without_labels(folder: Path):
    ways = r"; or put the recordings of each class into a sub-folder with its name; or say .* --set 'source.pattern="
    message = " is a folder without one sub-folder of recordings for each class: "
    refused(folder, f"{folder}{message}make a table with a row per recording, .* and give it with --data{ways}")
    touch(folder, "t.xlsx", "~$t.xlsx")
    refused(folder, f"{message}give the table of their labels with --data {folder}/t.xlsx{ways}")
    touch(folder, "a.jsonl")
    refused(
        folder, f"{message}give the table of their labels with --data {folder}/t.xlsx or --data {folder}/a.jsonl{ways}"
    )
    write(folder / "u.csv", "path,label\n")
    refused(folder, f"{message}give the table of their labels with --data {folder}/u.csv{ways}")
    (folder / "none").mkdir()
    refused(folder / "none", "none is a folder without recordings: make a table")
    with pytest.raises(SourceError, match="is a folder: give the table itself with --data, or leave out source.folder"):
        TableSource(data=folder, columns={"label": "x"}).check()


def test_a_pattern_for_the_paths_in_a_folder(classes: Path):
    pattern = r"(?P<site>[^/]+)/(.*/)?(?P<label>[ab])_(?P<subject>\d)(?P<take>\w)?"
    listing = TableSource(data=classes, pattern=pattern).listing(classes)
    nothing = (None, None, None, {})
    assert {name: (r.label, r.subject, r.site, r.extra) for name, r in by_id(listing).items()} == {
        "Murmur x/b-1.wav": nothing, "normal/a_1.wav": ("a", "1", "normal", {}),
        "normal/deep/a_2.wav": ("a", "2", "normal", {}), "unlabelled/c_1.wav": nothing,
    }  # fmt: skip
    (note,) = listing.notes
    assert note.startswith("2 of 4 paths do not match source.pattern")
    assert rows_of(classes, pattern=r".*/(?P<label>.)(?P<take>.*)")[0].extra == {"take": "-1"}
    with pytest.raises(SourceError, match=r"matches none of 4 paths, such as 'Murmur x/b-1': it must match the whole"):
        TableSource(data=classes, pattern="(?P<label>[abc])").check()


def test_a_pattern_for_roles_that_no_column_has(folder: Path):
    text = "path,label,site\naudio\\one.wav,a,AV\naudio/three.wav,b,\n"
    listing = listed(folder, text, pattern=r"(?P<site>\w+)/(?P<subject>o)(?P<rest>.*)")
    assert [(r.label, r.subject, r.site, r.extra) for r in listing.recordings] == [
        ("a", "o", "AV", {"rest": "ne"}), ("b", None, None, {})
    ]  # fmt: skip
    assert listing.notes[0].startswith("1 of 2 paths do not match source.pattern")
    rows = listed(folder, "path,age\naudio/one.wav,4\n", pattern=r"audio/(?P<label>.).*").recordings
    assert [(r.label, r.extra) for r in rows] == [("o", {"age": "4"})]


@pytest.mark.parametrize(
    ("data", "pattern", "message"),
    [("/x", "(", "source.pattern = '(': this is not a regular expression (missing )"),
     ("/x", "(?P<subject>.*)", "source.pattern = '(?P<subject>.*)': add a group (?P<label>...) for"),
     ("/x.csv", "(?P<age>.*)", "add a group (?P<NAME>...), where NAME is one of label, subject, site, collection")],
)  # fmt: skip
def test_a_pattern_without_the_needed_group_is_refused(data: str, pattern: str, message: str):
    with pytest.raises(ConfigError) as error:
        build_config("table", data, changes={"source.pattern": pattern})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["Train/normal/1.wav", "test/normal/1.wav"], r"2 sub-folders of .* \(Train, test\) are named like parts of a split"),
     (["training-a/1.wav", "validation/1.wav"], "as the data set cinc2016 does: use --source cinc2016"),
     (["set_a/1.wav", "set_b/1.wav"], "use --source pascal"),
     (["Atraining_normal/1.wav", "Bunlabelledtest/1.wav", "Btraining_noisymurmur/1.wav"], "use --source pascal"),
     (["training_data/1.wav"], "use --source circor2022"),
     ([f"P{i}/{label}/{i}.wav" for i in range(12) for label in ("normal", "murmur")],
      r"the 12 sub-folders of .* \(P0, P1, P10, P11, ...\) hold folders of the same names \(murmur, normal\), which"),
     ([f"Fall {i}/1.wav" for i in range(6)],
      r"the 6 sub-folders of .* \(Fall 0, Fall 1, Fall 2, Fall 3, ...\) are numbered, as subjects are"),
     (["all/normal/1.wav", "all/murmur/1.wav"], "holds one folder, all: use --data .*/all, or a table")],
)  # fmt: skip
def test_sub_folders_that_may_not_be_classes(tmp_path: Path, names: list[str], message: str):
    refused(touch(tmp_path, *names), message)


@pytest.mark.parametrize(
    ("names", "labels"),
    [([f"{i}/a.wav" for i in range(5)], set("01234")),  # too few numbers to be subjects
     ([f"{folder}/{site}/1.wav" for folder in ("Normal", "AS") for site in ("AV", "MV")], {"Normal", "AS"}),
     (["normal/train/1.wav", "normal/test/2.wav", "murmur/train/3.wav", "murmur/test/4.wav", "_old/notes.txt",
       ".git/config", "docs/read.me"], {"normal", "murmur"}),
     (["normal/ann/1.wav", "normal/bob/2.wav", "murmur/ann/3.wav", "test/4.wav"], {"normal", "murmur", "test"}),
     (["normal/1.wav", "murmur/2.wav", "Bunlabelledtest/3.wav"], {"normal", "murmur", None})],
)  # fmt: skip
def test_sub_folders_that_are_classes(tmp_path: Path, names: list[str], labels: set[str | None]):
    assert labels_of(touch(tmp_path, *names)) == labels


def test_numbered_folders_are_classes_when_the_advised_pattern_says_so(tmp_path: Path):
    touch(tmp_path, *(f"{i}/a.wav" for i in range(8)))
    classes, *_ = patterns_in(refused(tmp_path, "are numbered"))
    assert labels_of(tmp_path, pattern=classes) == set("01234567")


@pytest.mark.parametrize("outer", [("siteA", "siteB", "siteC"), ("p1", "p2"), tuple(f"p{i}" for i in range(8))])
def test_recurring_inner_folders_are_what_the_advised_patterns_say(tmp_path: Path, outer: tuple[str, ...]):
    labels = ("normal", "murmur")
    touch(tmp_path, *(f"{folder}/{label}/{i}.wav" for folder in outer for label in labels for i in range(2)))
    message = refused(tmp_path, r"hold folders of the same names \(murmur, normal\)")
    classes, subjects, collections, _, _ = patterns_in(message)
    for pattern, role in ((subjects, "subject"), (collections, "collection")):
        listing = TableSource(data=tmp_path, pattern=pattern).listing(tmp_path)
        assert {(row.label, getattr(row, role)) for row in listing.recordings} == {
            (label, folder) for label in labels for folder in outer
        }
        assert not any("(?P<label>[^/]+)" in note for note in listing.notes)  # no advice against the choice
    assert labels_of(tmp_path, pattern=classes) == set(outer)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [(("train", "validation", "unseen"), ("normal", "murmur")), (("training", "eval"), ("normal", "murmur")),
     (("Fold1", "fold_2", "fold 3"), ("",)), (("test", "holdout"), ("normal", "murmur")),
     (("dev", "holdout"), ("normal",)), (("train", "test", "unlabelled"), ("",))],
)  # fmt: skip
def test_parts_of_a_split_are_no_classes(tmp_path: Path, outer: tuple[str, ...], inner: tuple[str, ...]):
    touch(tmp_path, *(str(Path(part, label, f"{i}.wav")) for part in outer for label in inner for i in range(2)))
    message = refused(tmp_path, "are named like parts of a split")
    is_known = {folder.casefold() for folder in outer if folder != "unlabelled"} <= PART_NAMES.keys()
    assert ("split.column=part" in message) == is_known  # the split understands no other words
    if inner != ("",):
        (pattern,) = [pattern for pattern in patterns_in(message) if "<part>" in pattern]
        assert {(row.extra["part"], row.label) for row in rows_of(tmp_path, pattern=pattern)} == {
            (part, label) for part in outer for label in inner
        }


def test_folders_are_no_classes_where_a_table_beside_them_has_the_labels(tmp_path: Path):
    touch(tmp_path, "clean/a1.wav", "clean/a2.wav", "noisy/b1.wav")
    table = write(tmp_path / "Details.csv", "fileName;age;diagnosis\na1;3;VSD\na2.wav;4;ASD\nb1;5;VSD\n")
    message = refused(tmp_path, f"Details.csv names 3 of its 3 recordings, .* use --data {table}")
    (pattern,) = patterns_in(message)
    assert labels_of(tmp_path, pattern=pattern) == {"clean", "noisy"}
    write(table, "fileName;age;diagnosis\nx1;3;VSD\n")  # names none of them
    assert labels_of(tmp_path) == {"clean", "noisy"}


def test_the_note_on_unknown_subjects_has_a_pattern_for_folders_of_subjects(tmp_path: Path):
    touch(tmp_path, *(f"{folder}/{i}.wav" for folder in ("normal/ann", "murmur/bob") for i in range(2)))
    (note,) = [n for n in TableSource(data=tmp_path).listing(tmp_path).notes if "subjects of the recordings are" in n]
    (pattern,) = patterns_in(note)
    assert {row.subject for row in rows_of(tmp_path, pattern=pattern)} == {"ann", "bob"}


def test_broken_links_in_a_folder_are_missing(tmp_path: Path):
    touch(tmp_path, "a/1.wav", "b/2.wav")
    (tmp_path / "a/2.wav").symlink_to(tmp_path / "nowhere.wav")
    rows = {row.recording_id: row for row in TableSource(data=tmp_path).listing(tmp_path).recordings}
    assert rows["a/1.wav"].path == tmp_path / "a/1.wav"
    assert (rows["a/2.wav"].path, rows["a/2.wav"].missing) == (None, f"{tmp_path}/a/2.wav is a broken link")


def test_tables_in_sub_folders_are_named_and_arrow_files_are_not_read(tmp_path: Path):
    touch(tmp_path, "train/1.wav", "train/metadata.csv", "saved/data.arrow", "saved/state.json", "clinic/beats.json")
    refused(tmp_path, "of their labels with --data .*train/metadata.csv or --data .*clinic/beats.json")
    write(tmp_path / "train/metadata.csv", "file,label\n1.wav,normal\n")
    refused(tmp_path, "of their labels with --data .*train/metadata.csv; or put")
    with pytest.raises(SourceError, match="saved holds Arrow files, .* save each as Parquet"):
        TableSource(data=tmp_path / "saved").check()
