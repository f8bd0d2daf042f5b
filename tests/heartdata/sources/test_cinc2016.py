"""CinC 2016: its own download, parts of it, and databases of others with the same layout."""

from collections import Counter
from pathlib import Path

import pytest
from builders import by_id, packed, touch, write
from helpers import REAL, beats, write_wav

from heartdata.audio import measurements as measure
from heartdata.checks.suite import ValidationConfig
from heartdata.checks.validation import validate
from heartdata.dataset.inventory import take_inventory
from heartdata.errors import SourceError
from heartdata.sources import Cinc2016Source
from heartdata.storage.schemas import FACTS
from heartdata.storage.store import table_from_rows

CINC = REAL / "cinc2016"
APPENDIX = "Challenge record name,Database,Original record name,Subject ID,# Raw record\n"
APPENDIX_FILE = "annotations/Online_Appendix_training_set.csv"


def database(folder: Path, *names: str, table: str = "REFERENCE.csv") -> Path:
    """Recordings of these names, and a table that calls the first abnormal and the others normal."""
    touch(folder, *(f"{name}.wav" for name in names))
    write(folder / table, "".join(f"{name},{-1 if i else 1}\n" for i, name in enumerate(names)))
    return folder


def facts(data: Path) -> dict[str, tuple[str | None, str | None, str]]:
    """Label, subject and collection by id, of data without faults."""
    source = Cinc2016Source(data=data)
    source.check()
    rows = source.listing(data.parent / "made").recordings
    assert all(row.missing is None for row in rows)
    return {row.recording_id: (row.label, row.subject, row.collection) for row in rows}


def notes(data: Path) -> list[str]:
    """All but the one on unknown subjects."""
    return [n for n in Cinc2016Source(data=data).listing(data.parent).notes if not n.startswith("The subjects of")]


@pytest.mark.skipif(not (CINC / "training-b").is_dir(), reason="no recordings in ../shared/data/cinc2016")
def test_counts_of_the_real_databases(tmp_path: Path):
    source = Cinc2016Source(data=CINC)
    source.check()
    listing = source.listing(tmp_path)
    assert Counter((row.collection[-1], row.label) for row in listing.recordings) == {
        ("b", "normal"): 386, ("b", "abnormal"): 104, ("c", "normal"): 7, ("c", "abnormal"): 24,
        ("d", "normal"): 27, ("d", "abnormal"): 28, ("f", "normal"): 80, ("f", "abnormal"): 34,
    }  # fmt: skip
    assert Counter(row.extra["sqi"] for row in listing.recordings) == {"1": 556, "0": 134}
    assert all(row.missing is None and row.path.is_file() and "comment" not in row.extra for row in listing.recordings)
    assert by_id(listing)["training-c/c0001.wav"].extra == {"challenge_label": "1", "sqi": "1"}
    assert listing.notes[0].startswith("The subjects of 690 of 690 recordings are not known")


@pytest.fixture
def cinc(tmp_path: Path) -> Path:
    """Small databases a and e, and a validation/ whose recording is a copy."""
    root = tmp_path / "cinc"
    for number, name in enumerate(("training-a/a0001", "training-a/a0002", "training-a/a0003", "training-e/e00001")):
        write(root / f"{name}.wav", str(number))
    write(root / "training-a/REFERENCE.csv", "\ufeffa0001,-1\r\na0002,1\r\n\r\na0004,0\r\n")
    write(root / "training-a/REFERENCE-SQI.csv", "a0001,0\na0002,1\n")
    write(root / "training-a/a0001.hea", "a0001 1 2000 16000\na0001.wav 16+44 1 16 0 0 0 0 PCG\n# Abnormal\n")
    write(root / "training-a/a0002.hea", "a0002 1 2000 16000\n# MVP\n# age 40\n")
    write(root / "training-e/REFERENCE_withSQI.csv", "e00001,1,1\n")
    write(root / "validation/REFERENCE.csv", "a0001,-1\n")
    write(root / "validation/a0001.wav", "0")
    return root


def test_rows_without_files_and_files_without_rows(cinc: Path, tmp_path: Path):
    listing = Cinc2016Source(data=cinc).listing(tmp_path)
    rows = by_id(listing)
    assert rows["training-a/a0001.wav"].extra == {"challenge_label": "-1", "sqi": "0", "comment": "Abnormal"}
    assert rows["training-a/a0002.wav"].extra == {"challenge_label": "1", "sqi": "1", "comment": "MVP; age 40"}
    assert (rows["training-a/a0003.wav"].label, rows["training-a/a0003.wav"].missing) == (None, None)
    assert (rows["training-a/a0004.wav"].label, rows["training-a/a0004.wav"].path) == (None, None)
    assert rows["training-a/a0004.wav"].missing == f"there is no file {cinc}/training-a/a0004.wav"
    assert (rows["training-e/e00001.wav"].label, rows["training-e/e00001.wav"].extra["sqi"]) == ("abnormal", "1")
    assert rows["validation/a0001.wav"].collection == "validation"
    assert listing.notes[0].startswith("1 recordings in training-a are in no row")
    assert listing.notes[1].startswith("The .hea files of 1 recordings in training-a contradict")
    chosen = Cinc2016Source(data=cinc, databases=("validation",)).listing(tmp_path).recordings
    assert chosen == [rows["validation/a0001.wav"]]


def test_names_and_suffixes_in_other_letter_cases(cinc: Path, tmp_path: Path):
    (cinc / "training-a/a0002.wav").rename(cinc / "training-a/a0002.WAV")
    write(cinc / "training-a/REFERENCE-SQI.csv", "a0001,0\na0002.WAV,1\n")
    row = by_id(Cinc2016Source(data=cinc).listing(tmp_path))["training-a/a0002.wav"]
    assert (row.path, row.label, row.extra["sqi"]) == (cinc / "training-a/a0002.WAV", "abnormal", "1")
    write(cinc / "training-a/sub/a0001.wav")
    with pytest.raises(SourceError, match=r"training-a/a0001.wav and .*/training-a/sub/a0001.wav have the same name"):
        Cinc2016Source(data=cinc).listing(tmp_path)


def test_tables_that_contradict_each_other_are_noted_once(cinc: Path, tmp_path: Path):
    write(cinc / "training-a/REFERENCE-SQI.csv", "a0001,1,0\na0002,1,1\na0004,1,1\n")
    write(cinc / "training-a/REFERENCE_withSQI.csv", "a0001,-1,0\n")
    listing = Cinc2016Source(data=cinc).listing(tmp_path)
    (note,) = [note for note in listing.notes if "contradicts REFERENCE.csv" in note]
    assert "REFERENCE-SQI.csv contradicts" in note
    assert note.endswith("on 1 recordings: a0001, ...")
    assert by_id(listing)["training-a/a0001.wav"].label == "normal"


def test_of_copies_in_validation_the_training_recording_is_kept(cinc: Path, tmp_path: Path):
    for name in ("training-a/a0001", "validation/a0001"):
        write_wav(cinc / f"{name}.wav", beats(), 2000)
    recordings, _ = take_inventory(Cinc2016Source(data=cinc), tmp_path)
    uris = {row["sha256"]: row["uri"] for row in recordings.to_pylist() if row["sha256"]}
    measured = [measure.measure_file(uri, sha256, measure.MeasureConfig()) for sha256, uri in uris.items()]
    validation = validate(recordings, table_from_rows(measured, FACTS), ValidationConfig(), tmp_path / "docs")
    copy = {row["recording_id"]: row for row in validation.quarantine.to_pylist()}["validation/a0001.wav"]
    assert copy["check"] == "duplicate"
    assert copy["reason"].startswith("a copy of training-a/a0001.wav, which is kept")
    assert "training-a/a0001.wav" in validation.accepted["recording_id"].to_pylist()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [("training-a/REFERENCE.csv", "a0001,2\n", "REFERENCE.csv: line 1: '2' is none of the values"),
     ("training-a/REFERENCE.csv", "record;label\na0001;2\n", "line 2: '2' is none of the values"),
     ("training-a/REFERENCE.csv", "a0001,abnormal\na0002,-1\n", "line 1: 'abnormal' is none of the values"),
     ("training-a/REFERENCE.csv", "record,label\nrecord,label\n", "line 2: 'label' is none of the values"),
     ("training-a/REFERENCE.csv", "a0001\n", "line 1 has 1 cells"),
     ("training-a/REFERENCE.csv", "record,label\na0001,1,1\n", "line 2 has 3 cells"),
     ("training-a/REFERENCE.csv", "record;label\na/1;1\n", "line 2: 'a/1' is not a recording's name"),
     ("training-a/REFERENCE.csv", "a0001,1\na0001,-1\n", "line 2 has a second label for a0001"),
     ("training-a/REFERENCE-SQI.csv", "a0001,1,good\n", "REFERENCE-SQI.csv: line 1: 'good' is none"),
     ("old/training-a/REFERENCE.csv", "a0001,1\n", "holds training-a twice")],
)  # fmt: skip
def test_malformed_tables_stop_the_run(cinc: Path, tmp_path: Path, file: str, text: str, message: str):
    write(cinc / file, text)
    with pytest.raises(SourceError, match=message):
        Cinc2016Source(data=cinc).listing(tmp_path)


def test_both_of_two_tables_that_differ_in_case_are_read(tmp_path: Path):
    folder = database(tmp_path / "training-a", "a0001", "a0002")
    write(folder / "reference.csv", "a0002,1\n")
    if len(list(folder.glob("*.csv"))) == 1:
        pytest.skip("this disk ignores letter case")
    with pytest.raises(SourceError, match="training-a/reference.csv: line 1 has a second label for a0002"):
        Cinc2016Source(data=tmp_path).listing(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["a0001;1\na0002;-1\n", "record,label\na0001,1\na0002,-1\n", "\ufeffName;Class (-1/1)\r\n\r\na0001; 1\na0002;-1"],
)
def test_tables_with_semicolons_or_a_header(tmp_path: Path, text: str):
    write(database(tmp_path / "all" / "training-a", "a0001", "a0002") / "REFERENCE.csv", text)
    assert [label for label, _, _ in facts(tmp_path / "all").values()] == ["abnormal", "normal"]


def test_check_names_what_is_absent(cinc: Path, tmp_path: Path):
    Cinc2016Source(data=cinc).check()
    with pytest.raises(SourceError, match="has no training-f, which source.databases names: .* training-a, training-e"):
        Cinc2016Source(data=cinc, databases=("training-f",)).check()
    (cinc / "validation/REFERENCE.csv").unlink()
    touch(tmp_path / "zips", "training.zip", "validation.zip")
    (tmp_path / "empty").mkdir()
    for data, message in (
        (cinc, "validation/? holds no REFERENCE.csv: complete the download"),
        (packed(cinc, tmp_path / "all.zip", "heart-1.0.0/"), "validation/? holds no REFERENCE.csv"),
        (tmp_path / "empty", "empty holds none of training-a"),
        (tmp_path / "nowhere", "nowhere does not exist: give the folder"),
        (tmp_path / "zips", "nor a REFERENCE.csv: unpack training.zip, validation.zip in it"),
        (packed(tmp_path / "zips", tmp_path / "zips.zip"), "nor a REFERENCE.csv: unpack training.zip, validation.zip"),
    ):
        with pytest.raises(SourceError, match=message):
            Cinc2016Source(data=data).check()


def test_labels_of_the_headers_where_there_is_no_table(tmp_path: Path):
    folder = tmp_path / "cinc" / "training-e"
    for name, comment in (("e00001", "# Abnormal\n"), ("e00002", "# MVP\n"), ("e00003", "# Normal \n"), ("e00004", "")):
        write(folder / f"{name}.wav")
        write(folder / f"{name}.hea", f"{name} 1 2000 16000\n{name}.wav 16+44 1 16 0 0 0 0 PCG\n{comment}")
    with pytest.raises(SourceError, match="training-e holds no REFERENCE.csv: complete the download"):
        Cinc2016Source(data=tmp_path / "cinc").check()
    write(folder / "RECORDS", "e00001\ne00002\ne00003\ne00004\n")
    for data in (tmp_path / "cinc", folder, packed(folder, tmp_path / "e.zip")):
        labels = {name.removeprefix("training-e/"): label for name, (label, _, _) in facts(data).items()}
        assert labels == {"e00001.wav": "abnormal", "e00002.wav": None, "e00003.wav": "normal", "e00004.wav": None}
        from_headers, unlisted = notes(data)
        assert "holds no REFERENCE.csv: the labels of 2 recordings are those of the .hea files" in from_headers
        assert unlisted.startswith("2 recordings in training-e are in no row of its REFERENCE.csv")


def test_databases_of_other_names_and_spellings(tmp_path: Path):
    root = tmp_path / "all"
    database(root / "training-a", "a0001", "a0002")
    database(root / "Training-B", "b0001", table="Reference.CSV")
    database(root / "training-g", "g0001", table="reference-sqi.csv")
    database(root / "more" / "clinic1", "x0001")
    database(root / "Validation", "a0001")
    write(root / "Annotations" / "training-a" / "REFERENCE.csv", "a0001,1\n")
    write(root / "REFERENCE-SQI.csv", "a0001,1,1\ne00001,1,1\n")  # beside databases: of no database itself
    (root / "latest").symlink_to(root / "training-a")
    assert facts(root) == {
        "clinic1/x0001.wav": ("abnormal", None, "clinic1"),
        "training-a/a0001.wav": ("abnormal", None, "training-a"),
        "training-a/a0002.wav": ("normal", None, "training-a"),
        "training-b/b0001.wav": ("abnormal", None, "training-b"),
        "training-g/g0001.wav": (None, None, "training-g"),
        "validation/a0001.wav": ("abnormal", None, "validation"),
    }
    assert notes(root) == []
    chosen = Cinc2016Source(data=root, databases=("TRAINING-b", "clinic1")).listing(tmp_path).recordings
    assert [row.recording_id for row in chosen] == ["training-b/b0001.wav", "clinic1/x0001.wav"]
    (root / "Training-B" / "Reference.CSV").unlink()
    with pytest.raises(SourceError, match="Training-B holds no REFERENCE.csv: complete the download of training-b"):
        Cinc2016Source(data=root).check()


def test_one_database_alone(tmp_path: Path):
    clinic = database(tmp_path / "clinic1", "c1_x1", "c1_x2")
    write(clinic / "old" / "REFERENCE.csv", "c1_x3,1\n")  # without recordings, it is no database
    flat = database(tmp_path / "flat", "c1_x1", "c1_x2")
    for data in (clinic, packed(flat, tmp_path / "clinic1.zip")):
        assert facts(data) == {
            "clinic1/c1_x1.wav": ("abnormal", None, "clinic1"), "clinic1/c1_x2.wav": ("normal", None, "clinic1"),
        }  # fmt: skip
    mine = database(tmp_path / "mine", "B0001", "b0002")
    assert {collection for _, _, collection in facts(mine).values()} == {"training-b"}


def test_recordings_that_are_not_read_are_noted(tmp_path: Path):
    root = tmp_path / "all"
    database(root / "training-a", "a0001")
    write(root / "labels" / "REFERENCE.csv", "a0001,1\n")
    touch(root, "clinic2/deep/y0001.WAV", "z0001.wav")
    assert set(facts(root)) == {"training-a/a0001.wav"}
    (note,) = notes(root)
    assert note.startswith(f"The recordings in {root}, {root}/clinic2 are not read: a database is a folder with")


def test_subjects_are_those_of_the_appendix(cinc: Path, tmp_path: Path):
    write(
        cinc / "annotations/Online Appendix_training set.csv",
        f"\ufeff{APPENDIX}a0001,training-a,C45S1,,\na0002,training-a,C045S2b,,\na0003,training-a,odd,,\n"
        "e00001,training-e,e01430,,14.0\ne00002,training-e,14,,14\nb0001,training-b,S34f2.e4k_data,34.0,\n",
    )
    write(cinc / "annotations/updated/training-e/REFERENCE_withSQI.csv", "e00001,1,0\n")
    rows = by_id(Cinc2016Source(data=cinc).listing(tmp_path))
    assert {name: row.subject for name, row in rows.items() if row.path} == {
        "training-a/a0001.wav": "a45", "training-a/a0002.wav": "a45", "training-a/a0003.wav": None,
        "training-e/e00001.wav": "e_normal14", "validation/a0001.wav": None,
    }  # fmt: skip
    assert rows["training-e/e00001.wav"].extra["sqi"] == "1"  # the table beside the recordings takes precedence


@pytest.mark.parametrize(
    ("place", "text"),
    [("annotations", APPENDIX + "b0001,training-b,S3f1.e4k,3,\nb0002,training-b,S3f2.e4k,3,\n"),
     ("training/Annotations", APPENDIX + "B0001 ,training-b,S3f1.e4k,3.0,\nb0002.wav,Training-B,S3f2.e4k,3,\n"),
     ("annotations", APPENDIX.replace(",", ";") + "b0001;training-b;S3f1.e4k;3,0;\nb0002;training-b;S3f2.e4k;;\n")],
)  # fmt: skip
def test_the_appendix_is_found_above_a_database_and_read_in_other_spellings(tmp_path: Path, place: str, text: str):
    root = tmp_path / "all"
    database(root / "training" / "training-b", "b0001", "b0002")
    write(root / place / "Online_Appendix_training_set.csv", text)
    assert {subject for _, subject, _ in facts(root).values()} == {"b3"}
    assert notes(root) == []


@pytest.mark.parametrize(
    ("names", "named"),
    [(("a0001", "b0001", "d0001"), "training-a, training-b"), (("d0001", "f0001"), None)],
)
def test_the_note_on_subjects_names_the_table_that_identifies_them(
    tmp_path: Path, names: tuple[str, ...], named: str | None
):
    for name in names:
        write(tmp_path / f"training-{name[0]}" / "REFERENCE.csv", f"{name},1\n")
        write(tmp_path / f"training-{name[0]}" / f"{name}.wav")

    def note() -> str:
        notes = Cinc2016Source(data=tmp_path).listing(tmp_path).notes
        return next(note for note in notes if note.startswith("The subjects of"))

    remedy = f"too high. annotations/Online_Appendix_training_set.csv of the challenge identifies those of {named}: put"
    assert remedy in note() if named else note().endswith("scores are too high")
    write(tmp_path / APPENDIX_FILE, APPENDIX)
    assert note().endswith("scores are too high")


def test_the_appendix_beside_one_database(tmp_path: Path):
    folder = database(tmp_path / "training-b", "b0001")
    write(tmp_path / "annotations" / "online appendix_training set.csv", APPENDIX + "b0001,training-b,,3,\n")
    assert facts(folder) == {"training-b/b0001.wav": ("abnormal", "b3", "training-b")}


def test_an_appendix_without_a_databases_recordings_is_noted(tmp_path: Path):
    root = tmp_path / "all"
    for name, recording in (("training-b", "b0001"), ("training-d", "d0001"), ("validation", "b0001")):
        database(root / name, recording)
    write(root / APPENDIX_FILE, APPENDIX + "d0001,training-d,x,,\nb 1,training-b,S3f1.e4k,3,\n")
    (note,) = notes(root)
    assert note.startswith(f"{root / APPENDIX_FILE} has none of the 1 recordings in training-b: if it should, compare")


def test_subjects_of_another_database_are_not_those_of_the_challenge(tmp_path: Path):
    root = tmp_path / "all"
    database(root / "training-b", "b0001")
    database(root / "lab", "b0001", "b0002")
    write(root / APPENDIX_FILE, APPENDIX + "b0001,training-b,S3f1.e4k,3,\nb0002,Lab,,3,\n")
    assert {name: subject for name, (_, subject, _) in facts(root).items()} == {
        "lab/b0001.wav": None, "lab/b0002.wav": "lab_3", "training-b/b0001.wav": "b3",
    }  # fmt: skip


def test_recordings_of_several_databases_in_one_folder(tmp_path: Path):
    root = tmp_path / "all"
    database(root / "training", "a0001", "A0002", "b0001", "b0002", "e00001", "f0001")
    write(
        root / APPENDIX_FILE,
        f"{APPENDIX}a0001,training-a,C45S1,,\nA0002,training-a,C45S2,,\nb0001,training-b,x,3,\nb0002,training-b,x,3,\n"
        "e00001,training-e,e01,,14\nf0001,training-f,x,,\n",
    )
    expected = {
        "training/a0001.wav": ("abnormal", "a45", "training-a"),
        "training/A0002.wav": ("normal", "a45", "training-a"),
        "training/b0001.wav": ("normal", "b3", "training-b"),
        "training/b0002.wav": ("normal", "b3", "training-b"),
        "training/e00001.wav": ("normal", "e_normal14", "training-e"),
        "training/f0001.wav": ("normal", None, "training-f"),
    }
    for data in (root, root / "training"):
        assert facts(data) == expected
        (note,) = notes(data)
        assert "holds recordings of training-a, training-b, training-e, training-f: each is in the collection" in note
    database(root / "training", "x0001", "a0001")  # of an unknown database
    assert facts(root)["training/x0001.wav"] == ("abnormal", None, "training")
    assert facts(root)["training/b0001.wav"] == (None, "b3", "training-b")
    (root / "training").rename(root / "Validation")
    for data in (root, root / "Validation"):
        assert {(subject, collection) for _, subject, collection in facts(data).values()} == {(None, "validation")}
