"""CinC 2016 as people have it: without tables, or as the archives that it is published in."""

import zipfile
from pathlib import Path

import pytest

from heartdata.errors import SourceError
from heartdata.sources import Cinc2016Source


def written(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def packed(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return target


def test_labels_of_the_headers_where_there_is_no_table(tmp_path: Path):
    database = tmp_path / "cinc" / "training-e"
    for name, comment in (("e00001", "# Abnormal\n"), ("e00002", "# MVP\n"), ("e00003", "# Normal \n"), ("e00004", "")):
        written(database / f"{name}.wav")
        written(database / f"{name}.hea", f"{name} 1 2000 16000\n{name}.wav 16+44 1 16 0 0 0 0 PCG\n{comment}")
    with pytest.raises(SourceError, match="training-e holds no REFERENCE.csv: complete the download"):
        Cinc2016Source(data=tmp_path / "cinc").check()
    written(database / "RECORDS", "e00001\ne00002\ne00003\ne00004\n")
    for data in (tmp_path / "cinc", database, packed(database, tmp_path / "e.zip")):
        Cinc2016Source(data=data).check()
        listing = Cinc2016Source(data=data).listing(tmp_path / "made")
        labels = {row.recording_id.removeprefix("training-e/"): row.label for row in listing.recordings}
        assert labels == {"e00001.wav": "abnormal", "e00002.wav": None, "e00003.wav": "normal", "e00004.wav": None}
        assert "holds no REFERENCE.csv: the labels of 2 recordings are those of the .hea files" in listing.notes[0]
        assert listing.notes[1].startswith("2 recordings in training-e are in no row of its REFERENCE.csv; kept as")


def test_folder_of_zips_is_to_be_unpacked(tmp_path: Path):
    written(tmp_path / "all" / "training.zip")
    written(tmp_path / "all" / "validation.zip")
    for data in (tmp_path / "all", packed(tmp_path / "all", tmp_path / "all.zip")):
        with pytest.raises(SourceError, match="nor a REFERENCE.csv: unpack training.zip, validation.zip there"):
            Cinc2016Source(data=data).check()


def test_databases_are_found_beside_a_table_in_their_root(tmp_path: Path):
    for database, name in (("training-a", "a0001"), ("training-e", "e00001"), ("validation", "a0001")):
        written(tmp_path / database / f"{name}.wav")
        written(tmp_path / database / "REFERENCE.csv", f"{name},1\n")
    written(tmp_path / "REFERENCE-SQI.csv", "a0001,1,1\ne00001,1,1\n")
    listing = Cinc2016Source(data=tmp_path).listing(tmp_path / "made")
    assert {row.recording_id: row.collection for row in listing.recordings} == {
        "training-a/a0001.wav": "training-a",
        "training-e/e00001.wav": "training-e",
        "validation/a0001.wav": "validation",
    }


def database(folder: Path, *names: str, table: str = "REFERENCE.csv") -> None:
    """Recordings of these names, and a table that calls the first abnormal and the others normal."""
    for name in names:
        written(folder / f"{name}.wav")
    written(folder / table, "".join(f"{name},{-1 if i else 1}\n" for i, name in enumerate(names)))


def listed(data: Path) -> dict[str, tuple[str | None, str | None, str]]:
    """Label, subject and collection by id; the same is asked of the check."""
    source = Cinc2016Source(data=data)
    source.check()
    rows = source.listing(data.parent / "made").recordings
    assert all(row.missing is None for row in rows)
    return {row.recording_id: (row.label, row.subject, row.collection) for row in rows}


def notes(data: Path) -> list[str]:
    """All but the one on subjects that are not known."""
    return [n for n in Cinc2016Source(data=data).listing(data.parent).notes if not n.startswith("The subjects of")]


def test_databases_of_other_names_and_spellings(tmp_path: Path):
    root = tmp_path / "all"
    database(root / "training-a", "a0001", "a0002")
    database(root / "Training-B", "b0001", table="Reference.CSV")
    database(root / "training-g", "g0001", table="reference-sqi.csv")
    database(root / "more" / "clinic1", "x0001")
    database(root / "Validation", "a0001")
    written(root / "Annotations" / "training-a" / "REFERENCE.csv", "a0001,1\n")
    (root / "latest").symlink_to(root / "training-a")
    expected = {
        "clinic1/x0001.wav": ("abnormal", None, "clinic1"),
        "training-a/a0001.wav": ("abnormal", None, "training-a"),
        "training-a/a0002.wav": ("normal", None, "training-a"),
        "training-b/b0001.wav": ("abnormal", None, "training-b"),
        "training-g/g0001.wav": (None, None, "training-g"),
        "validation/a0001.wav": ("abnormal", None, "validation"),
    }
    assert listed(root) == expected
    assert notes(root) == []
    chosen = Cinc2016Source(data=root, databases=("TRAINING-b", "clinic1")).listing(tmp_path).recordings
    assert [row.recording_id for row in chosen] == ["training-b/b0001.wav", "clinic1/x0001.wav"]
    (root / "Training-B" / "Reference.CSV").unlink()
    with pytest.raises(SourceError, match=r"Training-B holds no REFERENCE.csv: complete the download of training-b"):
        Cinc2016Source(data=root).check()


def test_one_database_of_another_name(tmp_path: Path):
    database(tmp_path / "clinic1", "c1_x1", "c1_x2")
    database(tmp_path / "clinic1" / "old", "c1_x3")
    (tmp_path / "clinic1" / "old" / "c1_x3.wav").unlink()  # a table without recordings is no database
    expected = {"clinic1/c1_x1.wav": ("abnormal", None, "clinic1"), "clinic1/c1_x2.wav": ("normal", None, "clinic1")}
    flat = tmp_path / "flat"
    database(flat, "c1_x1", "c1_x2")
    for data in (tmp_path / "clinic1", packed(flat, tmp_path / "clinic1.zip")):
        assert listed(data) == expected
    database(tmp_path / "mine", "B0001", "b0002")
    assert {collection for _, _, collection in listed(tmp_path / "mine").values()} == {"training-b"}


def test_recordings_that_are_not_read_are_noted(tmp_path: Path):
    root = tmp_path / "all"
    database(root / "training-a", "a0001")
    written(root / "labels" / "REFERENCE.csv", "a0001,1\n")
    written(root / "clinic2" / "deep" / "y0001.WAV")
    written(root / "z0001.wav")
    assert set(listed(root)) == {"training-a/a0001.wav"}
    (note,) = notes(root)
    assert note.startswith(
        f"The recordings in {root}, {root}/clinic2 are not read: a database is a folder with a REFER"
    )


@pytest.mark.parametrize(
    "text",
    ["a0001;1\na0002;-1\n", "record,label\na0001,1\na0002,-1\n", "\ufeffName;Class (-1/1)\r\n\r\na0001; 1\na0002;-1"],
)
def test_tables_with_semicolons_or_a_header(tmp_path: Path, text: str):
    root = tmp_path / "all"
    database(root / "training-a", "a0001", "a0002")
    written(root / "training-a" / "REFERENCE.csv", text)
    assert {name: label for name, (label, _, _) in listed(root).items()} == {
        "training-a/a0001.wav": "abnormal",
        "training-a/a0002.wav": "normal",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("record;label\na0001;2\n", "line 2: '2' is none of the values"),
        ("a0001,abnormal\na0002,-1\n", "line 1: 'abnormal' is none of the values"),
        ("record,label\nrecord,label\n", "line 2: 'label' is none of the values"),
        ("record,label\na0001,1,1\n", "line 2 has 3 cells"),
        ("record\na0001\n", "line 1 has 1 cells"),
        ("record;label\na/1;1\n", "line 2: 'a/1' is not a recording's name"),
    ],
)
def test_tables_that_are_broken_all_the_same(tmp_path: Path, text: str, message: str):
    database(tmp_path / "training-a", "a0001", "a0002")
    written(tmp_path / "training-a" / "REFERENCE.csv", text)
    with pytest.raises(SourceError, match=f"training-a/REFERENCE.csv: {message}"):
        Cinc2016Source(data=tmp_path).listing(tmp_path)


def test_both_of_two_tables_that_differ_in_case_are_read(tmp_path: Path):
    database(tmp_path / "training-a", "a0001", "a0002")
    written(tmp_path / "training-a" / "reference.csv", "a0002,1\n")
    if len(list((tmp_path / "training-a").glob("*.csv"))) == 1:
        pytest.skip("this disk does not tell letter cases apart")
    with pytest.raises(SourceError, match="training-a/reference.csv: line 1 gives a0002 a second label"):
        Cinc2016Source(data=tmp_path).listing(tmp_path)


APPENDIX = "Challenge record name,Database,Original record name,Subject ID,# Raw record\n"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("annotations", APPENDIX + "b0001,training-b,S3f1.e4k,3,\nb0002,training-b,S3f2.e4k,3,\n"),
        ("training/Annotations", APPENDIX + "B0001 ,training-b,S3f1.e4k,3.0,\nb0002.wav,Training-B,S3f2.e4k,3,\n"),
        ("annotations", APPENDIX.replace(",", ";") + "b0001;training-b;S3f1.e4k;3,0;\nb0002;training-b;S3f2.e4k;;\n"),
    ],
)
def test_the_appendix_is_found_above_and_read_in_other_spellings(tmp_path: Path, place: str, text: str):
    root = tmp_path / "all"
    database(root / "training" / "training-b", "b0001", "b0002")
    written(root / place / "Online_Appendix_training_set.csv", text)
    assert {subject for _, subject, _ in listed(root).values()} == {"b3"}
    assert notes(root) == []


def test_the_appendix_beside_one_database(tmp_path: Path):
    database(tmp_path / "training-b", "b0001")
    written(tmp_path / "annotations" / "online appendix_training set.csv", APPENDIX + "b0001,training-b,,3,\n")
    assert listed(tmp_path / "training-b") == {"training-b/b0001.wav": ("abnormal", "b3", "training-b")}


def test_an_appendix_that_tells_of_no_recording_is_noted(tmp_path: Path):
    root = tmp_path / "all"
    for name, recording in (("training-b", "b0001"), ("training-d", "d0001"), ("validation", "b0001")):
        database(root / name, recording)
    appendix = root / "annotations" / "Online_Appendix_training_set.csv"
    written(appendix, APPENDIX + "d0001,training-d,x,,\nb 1,training-b,S3f1.e4k,3,\n")
    assert notes(root) == [
        f"{appendix} has none of the 1 recordings in training-b: if it should, compare its column "
        "'Challenge record name' with the files' names"
    ]


def test_subjects_of_another_database_are_not_those_of_the_challenge(tmp_path: Path):
    root = tmp_path / "all"
    database(root / "training-b", "b0001")
    database(root / "lab", "b0001", "b0002")
    appendix = root / "annotations" / "Online_Appendix_training_set.csv"
    written(appendix, APPENDIX + "b0001,training-b,S3f1.e4k,3,\nb0002,Lab,,3,\n")
    assert {name: subject for name, (_, subject, _) in listed(root).items()} == {
        "lab/b0001.wav": None,
        "lab/b0002.wav": "lab_3",
        "training-b/b0001.wav": "b3",
    }


def test_recordings_of_several_databases_in_one_folder(tmp_path: Path):
    root = tmp_path / "all"
    database(root / "training", "a0001", "A0002", "b0001", "b0002", "e00001", "f0001")
    appendix = "a0001,training-a,C45S1,,\nA0002,training-a,C45S2,,\nb0001,training-b,x,3,\nb0002,training-b,x,3,\n"
    written(
        root / "annotations" / "Online_Appendix_training_set.csv",
        f"{APPENDIX}{appendix}e00001,training-e,e01,,14\nf0001,training-f,x,,\n",
    )
    expected = {
        "training/a0001.wav": ("abnormal", "a45", "training-a"),
        "training/A0002.wav": ("normal", "a45", "training-a"),
        "training/b0001.wav": ("normal", "b3", "training-b"),
        "training/b0002.wav": ("normal", "b3", "training-b"),
        "training/e00001.wav": ("normal", "e_normal14", "training-e"),
        "training/f0001.wav": ("normal", None, "training-f"),
    }
    told = "holds recordings of training-a, training-b, training-e, training-f: each is in the collection of the letter"
    for data in (root, root / "training"):
        assert listed(data) == expected
        assert [note for note in notes(data) if told not in note] == []
    database(root / "training", "x0001", "a0001")  # of an unknown database
    assert listed(root)["training/x0001.wav"] == ("abnormal", None, "training")
    assert listed(root)["training/b0001.wav"] == (None, "b3", "training-b")
    (root / "training").rename(root / "Validation")
    for data in (root, root / "Validation"):
        assert {(subject, collection) for _, subject, collection in listed(data).values()} == {(None, "validation")}
