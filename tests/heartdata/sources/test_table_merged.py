"""Anybody's table: cells that stand for several rows, in a workbook and as a CSV leaves them."""

from pathlib import Path

import pytest
from helpers import write_xlsx

from heartdata.errors import SourceError
from heartdata.sources import SourceListing, TableSource

HEADER = ["Patient ID", "File name", "Diagnosis", "Site"]


def listed(path: Path, rows: list[list[str]], **settings) -> SourceListing:
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return TableSource(data=path, **settings).listing(path.parent)


def test_merged_cells_of_a_workbook_count_in_each_of_their_rows(tmp_path: Path):
    rows = [[None] * 4, HEADER]
    for patient, label in (("P1", "normal"), ("P2", "murmur")):
        rows += [[patient, f"{patient}_1", label, "AV"], [None, f"{patient}_2", None, "MV"], [None, f"{patient}_3"]]
    rows += [["P3", "P3_1", "normal", "AV"], [None] * 4]
    path = write_xlsx(tmp_path / "t.xlsx", ("A3:A5", "A6:A8", "C3:C5", "C6:C8", "A9:A1048576", "F1:F9"), one=rows)
    listing = TableSource(data=path).listing(tmp_path)
    told = [(row.recording_id, row.label, row.subject, row.site) for row in listing.recordings]
    assert told == [
        ("P1_1", "normal", "P1", "AV"), ("P1_2", "normal", "P1", "MV"), ("P1_3", "normal", "P1", None),
        ("P2_1", "murmur", "P2", "AV"), ("P2_2", "murmur", "P2", "MV"), ("P2_3", "murmur", "P2", None),
        ("P3_1", "normal", "P3", "AV"),
    ]  # fmt: skip
    titled = write_xlsx(tmp_path / "titled.xlsx", ("A1:D1",), one=[["Recordings of 2020"], *rows])
    with pytest.raises(SourceError, match="column.2, .*the first row that is not empty must be the header"):
        TableSource(data=titled).check()


def test_what_merged_cells_leave_in_a_csv_is_refused(tmp_path: Path):
    rows = [[f"P{i // 3}" if i % 3 == 0 else "", f"{i}.wav", "ab"[i % 2]] for i in range(12)]
    said = r"^8 of 12 rows of .*t.csv have no subject in the column 'Patient ID', and .* --set source.columns.subject= \(and"
    with pytest.raises(SourceError, match=said):
        listed(tmp_path / "t.csv", [HEADER[:3], *rows])
    listing = listed(tmp_path / "t.csv", [HEADER[:3], *rows], columns={"subject": ""})
    assert {row.subject for row in listing.recordings} == {None}


@pytest.mark.parametrize(
    "subjects",
    [
        ["P1", "P1", "", "P2", "", ""],  # a subject stands twice
        ["", "P1", "", "", "P2", ""],  # the first is empty
        ["P1", "P2", "P3", "P4", "P5", ""],  # few are
        ["P1", "na", "na", "P2", "na", ""],  # words stand there
        ["P1", "", "", "", "", ""],
        ["", "", "", "", "", ""],
    ],
)
def test_rows_without_a_subject_are_noted(tmp_path: Path, subjects: list[str]):
    rows = [[subject, f"{i}.wav", "ab"[i % 2]] for i, subject in enumerate(subjects)]
    (note,) = [n for n in listed(tmp_path / "t.csv", [HEADER[:3], *rows]).notes if "subject" in n]
    count = sum(not subject.startswith("P") for subject in subjects)
    assert note.startswith(
        f"{count} of 6 rows of {tmp_path}/t.csv have no subject in the column 'Patient ID': of these, "
    )
    assert "scores are too high. Fill the column" in note
    full = [[f"P{i // 2}", *row[1:]] for i, row in enumerate(rows)]
    assert not any("subject" in n for n in listed(tmp_path / "t.csv", [HEADER[:3], *full]).notes)
