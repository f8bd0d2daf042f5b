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
        assert listing.notes[1].startswith("2 recordings in training-e stand in no row of its REFERENCE.csv; kept as")


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
