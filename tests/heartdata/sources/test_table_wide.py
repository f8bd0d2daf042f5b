"""Tables with a row a patient and several columns of files."""

import re
from pathlib import Path

import pytest
from builders import by_id, listed, touch

from heartdata.errors import SourceError
from heartdata.sources import SourceListing


def wide(folder: Path, header: str, *rows: str, files: tuple[str, ...] = (), **settings) -> SourceListing:
    """What is listed of a table whose cells ``f1``, ``audio/f2.wav``, ... are files in the folder ``audio``."""
    stems = {Path(cell).stem for row in rows for cell in row.split(",")}
    touch(folder, *(f"audio/{stem}.wav" for stem in stems if stem.startswith("f")), *files)
    return listed(folder, "\n".join([header, *rows]) + "\n", **settings)


ROWS = ("P1,a,f1,f2,f3", "P2,b,f4,,f6", "P3,b,,NA,")


@pytest.mark.parametrize(
    ("columns", "sites"),
    [("recording_1,recording_2,recording_3", (None, None, None)), ("wav_AV,wav_MV,wavPhc", ("AV", "MV", "Phc")),
     ("Aortic,Mitral,Tricuspid", ("Aortic", "Mitral", "Tricuspid")), ("path,path2,path3", (None, None, None)),
     ("sitting,standing,supine", (None, None, None))],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["", ".wav"])
def test_a_row_a_patient_is_read_as_a_row_a_file(tmp_path: Path, columns: str, sites: tuple, suffix: str):
    rows = [re.sub(r"f\d", lambda name: f"audio/{name[0]}.wav" if suffix else name[0], row) for row in ROWS]
    listing = wide(tmp_path, f"patient_id,label,{columns}", *rows)
    names = ["f1", "f2", "f3", "f4", "f6"]
    assert [row.path for row in listing.recordings] == [tmp_path / f"audio/{name}.wav" for name in names]
    assert [(row.subject, row.label) for row in listing.recordings] == 3 * [("P1", "a")] + 2 * [("P2", "b")]
    assert [row.site for row in listing.recordings] == [sites[i] for i in (0, 1, 2, 0, 2)]
    assert listing.recordings[1].extra["file_column"] == columns.split(",")[1]
    (note,) = [note for note in listing.notes if "name files" in note]
    assert "so its 3 rows, of which 1 names none, were read as 5 recordings; to read one column only" in note
    assert note.startswith(f"The columns {columns.replace(',', ', ')} of {tmp_path}/table.csv name files")
    assert not any("left out" in note for note in listing.notes)


def test_a_column_of_the_settings_is_read_alone_and_the_others_are_named(tmp_path: Path):
    rows = ("P1,a,f1,f2", "P2,b,f3,f4")
    listing = wide(tmp_path, "patient_id,label,first,second", *rows, columns={"path": "first"})
    assert [row.recording_id for row in listing.recordings] == ["f1", "f3"]
    assert listing.notes[-1] == (
        f"2 of 4 audio files below {tmp_path} are left out, of which other columns name 2 (second): leave "
        "source.columns.path out to read all"
    )


@pytest.mark.parametrize(
    ("header", "rows", "count"),
    [("path,ecg,label,subject", ["f1,f2,a,P1", "f3,f4,b,P2"], 2),  # the usual name, and a column of another kind
     ("path,name,label,subject", ["audio/f1.wav,f1,a,P1", "audio/f3.wav,f3,b,P2"], 2),  # the same files
     ("file,file_size,label,subject", ["f1,10,a,P1", "f3,20,b,P2"], 2),
     ("wav_1,wav_2,age,label,subject", ["f1,f2,45,a,P1", "f3,f4,46,b,P2"], 4),  # 45.wav is no recording of this patient
     ("wav_1,wav_2,calibration,label,subject", ["f1,f2,45,a,P1", "f3,f4,45,b,P2", "f5,f6,45,b,P3"], 6)],
)  # fmt: skip
def test_only_columns_of_several_recordings_are_melted(tmp_path: Path, header: str, rows: list[str], count: int):
    listing = wide(tmp_path, header, *rows, files=("45.wav", "46.wav"))
    assert len(listing.recordings) == count
    assert all(row.missing is None for row in listing.recordings)


def test_absent_files_of_numbered_columns_are_missing_recordings(tmp_path: Path):
    listing = wide(tmp_path, "patient,label,recording_1,recording_2", "P1,a,x1,x2", "P2,b,x3,x4")
    assert [row.missing for row in listing.recordings] == [f"there is no file {tmp_path}/x{i}" for i in (1, 2, 3, 4)]


def test_columns_numbered_as_the_files_go_with_them(tmp_path: Path):
    header = "patient,file_1,label_1,quality_1,file_2,label_2,quality_2,age_1"
    listing = wide(tmp_path, header, "P1,f1,a,3,f2,b,4,50", "P2,f3,b,5,f4,a,6,60")
    found = {name: (row.label, row.extra["quality"], row.extra["age_1"]) for name, row in by_id(listing).items()}
    assert found == {"f1": ("a", "3", "50"), "f2": ("b", "4", "50"), "f3": ("b", "5", "60"), "f4": ("a", "6", "60")}


@pytest.mark.parametrize(
    ("header", "settings", "subjects"),
    [("ID", {}, ["7", "7", "8", "8"]), ("Patient name", {}, ["7", "7", "8", "8"]), ("age", {}, ["f1", "f1", "f3", "f3"]),
     ("age", {"columns": {"subject": ""}}, [None] * 4), ("patient_id", {}, ["7", "7", "8", "8"])],
)  # fmt: skip
def test_a_row_is_one_person(tmp_path: Path, header: str, settings: dict, subjects: list[str | None]):
    listing = wide(tmp_path, f"{header},label,wav1,wav2", "7,a,f1,f2", "8,b,f3,f4", **settings)
    assert [row.subject for row in listing.recordings] == subjects
    is_guess = header != "patient_id" and not settings
    assert any("Each row of the table was taken as one person" in note for note in listing.notes) == is_guess


def test_files_in_several_columns_of_one_name_are_melted(tmp_path: Path):
    listing = wide(tmp_path, "patient_id,label,recording,recording,recording", *ROWS)
    assert [Path(str(row.path)).stem for row in listing.recordings] == ["f1", "f2", "f3", "f4", "f6"]
    assert any(note.startswith("The columns recording, recording.4, recording.5 of ") for note in listing.notes)


def test_a_column_that_is_called_record_but_names_no_file_hides_no_file_columns(tmp_path: Path):
    touch(tmp_path, *(f"{100 + i}.wav" for i in range(4)))
    listing = listed(tmp_path, "Record,label,Rec 1,Rec 2\n7,a,100,101\n8,b,102,103\n")
    assert [row.path for row in listing.recordings] == [tmp_path / f"{100 + i}.wav" for i in range(4)]


def test_the_message_of_a_wide_table_without_labels_names_its_own_columns(tmp_path: Path):
    with pytest.raises(SourceError, match="it has: pid, dx, first, second. Name"):
        wide(tmp_path, "pid,dx,first,second", "P1,a,f1,f2", "P2,b,f3,f4")


def test_a_bare_site_names_none_of_several_files_that_are_left_out(tmp_path: Path):
    touch(tmp_path, "1/AV.wav", "1/MV.wav", "2/AV.wav", "2/MV.wav")
    listing = listed(tmp_path, "patient,label,AV,MV\n1,a,1/AV.wav,1/MV.wav\n2,b,2/AV.wav,\n")
    assert not any("other columns name" in note for note in listing.notes)
