"""CirCor 2022: its table, its texts, and recordings with names of people's own."""

import shutil
from pathlib import Path

import pytest
from builders import packed, touch, write

from heartdata.errors import SourceError
from heartdata.sources import Circor2022Source, SourceRecording, TableSource

COLUMNS = "Patient ID,Recording locations:,Age,Sex,Murmur,Murmur locations,Outcome,Campaign,Additional ID\n"
FEW_COLUMNS = "Patient ID,Recording locations:,Murmur,Outcome,Additional ID\n"


def listed(data: Path, folder: Path, **settings) -> tuple[dict[str, SourceRecording], list[str]]:
    """The recordings by the names of their files, without suffix, and the notes."""
    source = Circor2022Source(data=data, **settings)
    source.check()
    listing = source.listing(folder / "made")
    names = (row.recording_id.removeprefix("training_data/").removesuffix(".wav") for row in listing.recordings)
    return dict(zip(names, listing.recordings, strict=True)), list(listing.notes)


@pytest.fixture
def circor(tmp_path: Path) -> Path:
    root = tmp_path / "circor"
    write(
        root / "training_data.csv",
        COLUMNS + "13918,AV+MV,Child,Female,Present,AV+MV,,CC2014,nan\n"
        "50048,AV+Phc,Infant,Male,Absent,nan,Normal,CC2015,13918.0\n70000,PV,nan,Male,unknown,nan,,CC2015,\n",
    )
    names = ("13918_AV", "13918_MV_1", "13918_MV_2", "50048_AV", "99999_TV", "odd")
    folder = touch(root / "training_data", *(f"{name}.wav" for name in names))
    write(folder / "13918_AV.tsv", "0\t0.5\t0\n0.5\t0.65\t1\n0.65\t1.0\t2\n1.0\t1.125\t3\n1.125\t1.6\t4\n")
    write(folder / "13918_MV_1.tsv", "0\tx\t0\n")
    write(
        folder / "13918.txt",
        "13918 4 4000\nAV 13918_AV.hea 13918_AV.wav 13918_AV.tsv\nMV 13918_MV_1.hea 13918_MV_1.wav\n"
        "MV 13918_MV_2.hea 13918_MV_2.wav\nTV 13918_TV.hea 13918_TV.wav 13918_TV.tsv\n"
        "#Murmur: Absent\n#Outcome: Abnormal\n#Additional ID: nan\n",
    )
    return root


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Two patients who are one child, each with one recording and its .txt."""
    root = tmp_path / "circor"
    table = FEW_COLUMNS
    for name, site, murmur, other in (("2530", "AV", "Absent", "nan"), ("2531", "PV", "Present", "2530")):
        table += f"{name},{site},{murmur},Normal,{other}\n"
        write(root / f"training_data/{name}_{site}.wav")
        write(
            root / f"training_data/{name}.txt",
            f"{name} 1 4000\n{site} {name}_{site}.hea {name}_{site}.wav {name}_{site}.tsv\n#Age: Child\n"
            f"#Murmur: {murmur}\n#Outcome: Normal\n#Additional ID: {other}\n",
        )
    write(root / "training_data.csv", table)
    return root


def test_labels_subjects_sites_and_missing_files(circor: Path, tmp_path: Path):
    rows, notes = listed(circor, tmp_path)
    assert {name: (r.label, r.subject, r.site, r.path is None) for name, r in rows.items()} == {
        "13918_AV": ("Present", "13918", "AV", False),
        "13918_MV_1": ("Present", "13918", "MV", False),
        "13918_MV_2": ("Present", "13918", "MV", False),
        "13918_TV": ("Present", "13918", "TV", True),
        "50048_AV": ("Absent", "13918", "AV", False),
        "50048_Phc": ("Absent", "13918", "Phc", True),
        "70000_PV": ("Unknown", "70000", "PV", True),
        "99999_TV": (None, "99999", "TV", False),
        "odd": (None, None, None, False),
    }
    assert rows["13918_TV"].missing == f"there is no file {circor}/training_data/13918_TV.wav"
    assert rows["13918_AV"].extra == {
        "age_group": "Child", "sex": "Female", "murmur": "Present", "outcome": "Abnormal", "murmur_locations": "AV+MV",
        "campaign": "CC2014", "segmentation": "training_data/13918_AV.tsv", "segmented_s": 1.1,
    }  # fmt: skip
    assert rows["50048_AV"].extra["patient"] == "50048"
    assert "segmented_s" not in rows["13918_MV_1"].extra
    contradicted, unknown, unsegmented = notes
    assert contradicted.startswith("The .txt of 1 patients contradict the murmur or outcome in training_data.csv")
    assert unknown.startswith("2 recordings in training_data/ belong to no patient")
    assert unsegmented.startswith("5 recordings have no readable segmentation (.tsv)")


def test_the_outcome_is_that_of_the_text_where_the_table_lacks_it(circor: Path, tmp_path: Path):
    rows, _ = listed(circor, tmp_path, target="outcome")
    assert [rows[name].label for name in ("13918_AV", "50048_AV", "70000_PV")] == ["Abnormal", "Normal", None]


@pytest.mark.parametrize("header", ["Patient ID,Murmur", "Patient ID,Murmur,Outcome"])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_outcome_is_not_a_target_where_no_patient_has_one(tmp_path: Path, header: str, zipped: bool):
    root = tmp_path / "circor"
    write(root / "training_data.csv", f"{header}\n2530,Absent\n")
    write(root / "training_data/2530_AV.wav")
    data = packed(root, tmp_path / "c.zip", "circor/") if zipped else root
    with pytest.raises(SourceError, match=r"column Outcome of .*training_data\.csv .*source\.target=murmur$"):
        Circor2022Source(data=data, target="outcome").check()
    Circor2022Source(data=data).check()
    write(root / "training_data/2530.txt", "2530 1 4000\n#Outcome: Normal\n")
    Circor2022Source(data=root, target="outcome").check()


def test_other_suffixes_and_files_of_one_name(circor: Path, tmp_path: Path):
    (circor / "training_data/50048_AV.wav").rename(circor / "training_data/50048_AV.WAV")
    assert listed(circor, tmp_path)[0]["50048_AV"].path == circor / "training_data/50048_AV.WAV"
    write(circor / "training_data/sub/13918_AV.wav")
    with pytest.raises(SourceError, match=r"data/13918_AV.wav and .*data/sub/13918_AV.wav have the same name"):
        listed(circor, tmp_path)


def test_a_zip_is_listed_like_its_folder(circor: Path, tmp_path: Path):
    data = packed(circor, tmp_path / "c.zip", "the-circor-data-set-1.0.3/")
    Circor2022Source(data=data).check()
    assert not (tmp_path / "made").exists()
    zipped, folder = listed(data, tmp_path)[0], listed(circor, tmp_path)[0]
    assert {n: (r.label, r.extra) for n, r in zipped.items()} == {n: (r.label, r.extra) for n, r in folder.items()}


def test_check_names_what_is_absent(circor: Path):
    with pytest.raises(SourceError, match="table of patients of the data set circor2022: use --source circor2022"):
        TableSource(data=circor / "training_data.csv").check()
    with pytest.raises(SourceError, match=rf"training_data does not exist: --data must be .*, that is {circor}$"):
        Circor2022Source(data=circor / "training_data").check()
    write(circor / "training_data.csv", "id,Murmur\n1,Absent\n")
    with pytest.raises(SourceError, match="training_data.csv lacks the columns Patient ID, Murmur"):
        Circor2022Source(data=circor).check()
    for name in ("training_data.csv", "training_data/13918.txt"):
        (circor / name).unlink()
    with pytest.raises(SourceError, match="neither .*data.csv nor any patient's <number>.txt in .*training_data exist"):
        Circor2022Source(data=circor).check()


@pytest.mark.parametrize(
    ("rows", "message"),
    [("p01,AV,Absent\n", r"training_data\.csv: the Patient ID 'p01' is not a number: correct it, or"),
     (2 * "1,AV,Absent\n", "the Patient ID '1' is in two rows: correct it, or"),
     ("2531,AV,Loud\n", r"training_data\.csv: patient 2531 has the murmur 'Loud', which is none of Present, Unknown, Absent"),
     ("2531,AV,\n", r"training_data/2531\.txt: patient 2531 has the murmur 'Soft'")],
)  # fmt: skip
def test_a_wrong_label_or_id_is_named_with_its_file(texts: Path, tmp_path: Path, rows: str, message: str):
    write(texts / "training_data/2531.txt", "2531 1 4000\n#Murmur: Soft\n")
    write(texts / "training_data.csv", f"Patient ID,Recording locations:,Murmur\n{rows}")
    with pytest.raises(SourceError, match=message):
        listed(texts, tmp_path)


def test_the_number_that_a_name_begins_with_is_the_patient_whatever_the_site(texts: Path, tmp_path: Path):
    expected = {
        "2531_Erb": ("Present", "2530", "Erb"),
        "2531_AV_1": ("Present", "2530", "AV"),
        "2531_Erb_2": ("Present", "2530", "Erb"),
        "2531": ("Present", "2530", None),
        "2531_AV_take two": ("Present", "2530", None),
        "25311_AV": (None, "25311", "AV"),
        "9999_Erb": (None, "9999", "Erb"),
        "12 odd": (None, None, None),
    }
    touch(texts / "training_data", *(f"{name}.wav" for name in expected))
    rows, notes = listed(texts, tmp_path)
    assert {name: (rows[name].label, rows[name].subject, rows[name].site) for name in expected} == expected
    assert notes[0].startswith("3 recordings in training_data/ belong to no patient")
    assert notes[1].startswith("5 recordings in training_data/ name no site, or another than AV, PV, TV, MV, Phc")
    assert notes[1].endswith("2531.wav, 2531_AV_take two.wav, 2531_Erb.wav, 2531_Erb_2.wav, 9999_Erb.wav")


@pytest.mark.parametrize("target", ["murmur", "outcome"])
def test_without_the_table_patients_are_those_of_the_texts(texts: Path, tmp_path: Path, target: str):
    def facts(data: Path) -> tuple[dict[str, tuple], list[str]]:
        rows, notes = listed(data, tmp_path, target=target)
        return {name: (r.label, r.subject, r.site, r.extra["murmur"]) for name, r in rows.items()}, notes

    with_table, _ = facts(texts)
    (texts / "training_data.csv").unlink()
    for data in (texts, tmp_path, Path(shutil.make_archive(str(tmp_path / target), "zip", tmp_path, "circor"))):
        from_texts, notes = facts(data)
        assert from_texts == with_table
        assert notes[0].startswith("2 patients have no row in training_data.csv and are known only from their .txt")


def test_patients_of_table_and_texts_are_united_and_the_table_takes_precedence(texts: Path, tmp_path: Path):
    write(texts / "training_data.csv", FEW_COLUMNS + "2531,PV,Unknown,,\n2540,AV,Absent,Normal,2541\n")
    rows, notes = listed(texts, tmp_path)
    assert {name: (r.label, r.subject) for name, r in rows.items()} == {
        "2530_AV": ("Absent", "2530"), "2531_PV": ("Unknown", "2530"), "2540_AV": ("Absent", "2540"),
    }  # fmt: skip
    assert notes[0].startswith("1 patients have no row in training_data.csv")
    assert notes[1].startswith(
        "The .txt of 1 patients contradict the murmur or outcome in training_data.csv, which takes"
    )
