"""CirCor 2022 as people have it: with names of their own, or without the table."""

import shutil
from pathlib import Path

import pytest

from heartdata.dataset.inventory import take_inventory
from heartdata.dataset.splits import SplitConfig, assign_splits
from heartdata.errors import SourceError
from heartdata.sources import Circor2022Source
from heartdata.sources.base import SourceListing, SourceRecording


def written(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def named(listing: SourceListing) -> dict[str, SourceRecording]:
    """The rows by the names of their files, without suffix."""
    return {row.recording_id.removeprefix("training_data/").removesuffix(".wav"): row for row in listing.recordings}


@pytest.fixture
def circor(tmp_path: Path) -> Path:
    """Two patients who are one child, each with one recording and its .txt."""
    root = tmp_path / "circor"
    table = "Patient ID,Recording locations:,Murmur,Outcome,Additional ID\n"
    for name, site, murmur, other in (("2530", "AV", "Absent", "nan"), ("2531", "PV", "Present", "2530")):
        table += f"{name},{site},{murmur},Normal,{other}\n"
        written(root / f"training_data/{name}_{site}.wav")
        written(
            root / f"training_data/{name}.txt",
            f"{name} 1 4000\n{site} {name}_{site}.hea {name}_{site}.wav {name}_{site}.tsv\n#Age: Child\n"
            f"#Murmur: {murmur}\n#Outcome: Normal\n#Additional ID: {other}\n",
        )
    written(root / "training_data.csv", table)
    return root


def test_a_leading_patients_number_tells_subject_and_label_whatever_the_site(circor: Path, tmp_path: Path):
    names = ("2531_Erb", "2531_AV_1", "2531_Erb_2", "2531", "2531_AV_take two", "25311_AV", "9999_Erb", "12 odd")
    for name in names:
        written(circor / f"training_data/{name}.wav")
    listing = Circor2022Source(data=circor).listing(tmp_path)
    rows = named(listing)
    assert {name: (rows[name].label, rows[name].subject, rows[name].site) for name in names} == {
        "2531_Erb": ("Present", "2530", "Erb"),
        "2531_AV_1": ("Present", "2530", "AV"),
        "2531_Erb_2": ("Present", "2530", "Erb"),
        "2531": ("Present", "2530", None),
        "2531_AV_take two": ("Present", "2530", None),
        "25311_AV": (None, "25311", "AV"),
        "9999_Erb": (None, "9999", "Erb"),
        "12 odd": (None, None, None),
    }
    assert listing.notes[0].startswith("3 recordings in training_data/ belong to no patient")
    assert listing.notes[1] == (
        "5 recordings in training_data/ name no site, or one that is none of AV, PV, TV, MV, Phc; check their names: "
        "2531.wav, 2531_AV_take two.wav, 2531_Erb.wav, 2531_Erb_2.wav, 9999_Erb.wav"
    )


def test_recordings_of_a_tested_patient_are_not_trained_on_for_their_site(tmp_path: Path):
    table = "Patient ID,Recording locations:,Murmur\n"
    for number in range(1000, 1016):
        table += f"{number},AV,{'Present' if number % 2 else 'Absent'}\n"
        for site in ("AV", "Erb"):
            written(tmp_path / f"training_data/{number}_{site}.wav", f"{number}{site}")
    written(tmp_path / "training_data.csv", table)
    recordings, _ = take_inventory(Circor2022Source(data=tmp_path), tmp_path / "made")
    split = assign_splits(recordings, SplitConfig(unlabelled=True)).to_pandas()
    patients = split.groupby(split["recording_id"].str.extract(r"/(\d+)_", expand=False))
    assert set(split["part"]) == {"train", "valid", "test"}
    assert (patients["part"].nunique() == 1).all()


def test_without_the_table_patients_are_those_of_the_texts(circor: Path, tmp_path: Path):
    for target in ("murmur", "outcome"):
        with_table = named(Circor2022Source(data=circor, target=target).listing(tmp_path))
        (circor / "training_data.csv").rename(tmp_path / "kept.csv")
        archive = Path(shutil.make_archive(str(tmp_path / target), "zip", tmp_path, "circor"))
        for data in (circor, tmp_path, archive):
            Circor2022Source(data=data).check()
            listing = Circor2022Source(data=data, target=target).listing(tmp_path / "made")
            facts = {name: (r.label, r.subject, r.site, r.extra["murmur"]) for name, r in named(listing).items()}
            assert facts == {n: (r.label, r.subject, r.site, r.extra["murmur"]) for n, r in with_table.items()}
            assert listing.notes[0] == (
                "2 patients have no row in training_data.csv and are known only from their .txt: 2530, ..."
            )
        (tmp_path / "kept.csv").rename(circor / "training_data.csv")
    (circor / "training_data.csv").unlink()
    with pytest.raises(SourceError, match=rf"training_data does not exist: --data must be .*, that is {circor}$"):
        Circor2022Source(data=circor / "training_data").check()


def test_patients_of_table_and_texts_are_united_and_the_table_takes_precedence(circor: Path, tmp_path: Path):
    written(
        circor / "training_data.csv",
        "Patient ID,Recording locations:,Murmur,Outcome,Additional ID\n2531,PV,Unknown,,\n2540,AV,Absent,Normal,2541\n",
    )
    listing = Circor2022Source(data=circor).listing(tmp_path)
    assert {name: (r.label, r.subject) for name, r in named(listing).items()} == {
        "2530_AV": ("Absent", "2530"), "2531_PV": ("Unknown", "2530"), "2540_AV": ("Absent", "2540"),
    }  # fmt: skip
    assert [note.split(":")[0] for note in listing.notes[:2]] == [
        "1 patients have no row in training_data.csv and are known only from their .txt",
        "The .txt of 1 patients contradict the murmur or outcome in training_data.csv, which takes precedence",
    ]


def test_a_wrong_word_or_id_is_named_with_its_file(circor: Path, tmp_path: Path):
    for cell, message in (
        ("p01,AV,Absent", r"training_data\.csv: the Patient ID 'p01' is not a number: correct it, or"),
        ("2531,AV,Loud", r"training_data\.csv: patient 2531 has the murmur 'Loud'"),
        ("2531,AV,", r"training_data/2531\.txt: patient 2531 has the murmur 'Soft'"),
    ):
        written(circor / "training_data/2531.txt", "2531 1 4000\n#Murmur: Soft\n")
        written(circor / "training_data.csv", f"Patient ID,Recording locations:,Murmur\n{cell}\n")
        with pytest.raises(SourceError, match=message):
            Circor2022Source(data=circor).listing(tmp_path)
