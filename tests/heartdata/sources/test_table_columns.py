"""Which column of a table has which role, above all the subject."""

import re
from pathlib import Path

import pytest
from builders import listed

from heartdata.config_file import build_config, parse_change
from heartdata.errors import SourceError
from heartdata.sources.table.columns import USUAL_NAMES


def recurring(header: str, each: int = 12, count: int = 240) -> str:
    """Rows of a path, one of two labels and a value that recurs in ``each`` rows."""
    return f"{header}\n" + "".join(f"{i}.wav,{'ab'[i % 2]},P{i // each}\n" for i in range(count))


def test_the_usual_names_are_in_the_docs():
    page = (Path(__file__).parents[3] / "docs" / "sources.md").read_text()
    for role, usual in USUAL_NAMES.items():
        assert f"| {role} | {', '.join(f'`{name}`' for name in usual)} |" in page


def test_columns_of_usual_names_and_others(folder: Path):
    listing = listed(folder, "file,diagnosis,patient_id,age\naudio/one.wav,normal,7,40\naudio/süß two.wav,,8,\n")
    one, two = listing.recordings
    assert (one.label, one.subject, one.extra) == ("normal", "7", {"age": "40"})
    assert (two.label, two.subject, two.missing) == (None, "8", None)
    (note,) = listing.notes
    assert note.startswith(f"1 of 3 audio files below {folder} are left out, as they are in no row of the table: ")
    assert note.endswith(" audio/three.wav")
    (row,) = listed(folder, "path,label,age,age,,\naudio/one.wav,a,1,2,c,d\n").recordings
    assert (row.label, row.extra) == ("a", {"age": "1", "age.4": "2", "column.5": "c", "column.6": "d"})


@pytest.mark.parametrize(
    ("header", "columns"),
    [("File name,Diagnosis,Patient ID", {}), ("Audio file,LABEL,participant-id", {}), ("FileName,Class,PatientID", {}),
     ("recording_id,labels,SubjectNo", {}), ("path,label,MRN", {}),
     ("x y,Result (final),Who?", {"path": "X_Y", "label": "result final", "subject": "who"}),
     ("File,Label,patient,Subject,label", {"subject": "patient"}),
     ("path,label,who,Who", {"subject": "who"}), ("path,Who,who", {"label": "Who", "subject": "who"})],
)  # fmt: skip
def test_columns_are_found_whatever_their_case_and_punctuation(folder: Path, header: str, columns: dict):
    (row,) = listed(folder, f"{header}\naudio/one.wav,normal,7\n", columns=columns).recordings
    assert (row.label, row.subject, row.missing) == ("normal", "7", None)


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [("a,b", {}, "has no path column and no label column of a usual name; it has: a, b. Name them "
      "with --set source.columns.path=COLUMN --set source.columns.label=COLUMN --set source.columns.subject=COLUMN "),
     ("a,label", {}, "has no path column .* with --set source.columns.path=COLUMN --set"),
     ("a,label,subject", {}, "has no path column .* with --set source.columns.path=COLUMN$"),
     ("a,b", {"path": "a", "label": "c"}, "has no column 'c' for the label: choose among a, b"),
     ("#,path,label", {"subject": "?"}, r"has no column '\?' for the subject: choose among #, path, label"),
     ("path,label", {"label": ""}, "has no label column"),
     ("Clinic export,,\npath,label,age", {},
      r"Clinic export, column.2, column.3 \(the first row that is not empty must be")],
)  # fmt: skip
def test_absent_columns_are_named(folder: Path, header: str, columns: dict, message: str):
    with pytest.raises(SourceError, match="table.csv .*" + message):
        listed(folder, f"{header}\n1,2\n", columns=columns)


def test_several_columns_that_may_be_the_label(folder: Path):
    text = "path,AS,MR,age,sex\naudio/one.wav,1,0.0,40,\naudio/three.wav,0,1.0,1,\n"
    with pytest.raises(SourceError, match="zeros and ones: AS, MR. .*source.target=AS, .*=argmax .*=.AS, MR."):
        listed(folder, text)
    assert [r.label for r in listed(folder, text, columns={"label": "AS"}).recordings] == ["1", "0"]
    text = "path,diagnosis,Label,subject\naudio/one.wav,a,b,c\n"
    listing = listed(folder, text)
    assert (listing.recordings[0].label, listing.recordings[0].extra) == ("b", {"diagnosis": "a"})
    assert listing.notes[0].startswith("The label was taken from the column 'Label'; if 'diagnosis' holds it, say so")
    assert not any("taken from" in note for note in listed(folder, text, columns={"label": "label"}).notes)


def test_several_columns_that_may_be_the_subject_are_noted(folder: Path):
    text = "path,label,MRN,case_id\naudio/one.wav,a,7,1\n"
    assert "The subject was taken from the column 'MRN'; if 'case_id' holds it, say so with" in "".join(
        listed(folder, text).notes
    )
    assert not any("taken from" in note for note in listed(folder, text, columns={"subject": "MRN"}).notes)


def test_a_role_that_no_column_has(folder: Path):
    text = "path,label,subject,site\n1.wav,a,P1,AV\n2.wav,b,P1,AV\n"
    (one, _) = listed(folder, text, columns={"subject": "", "site": ""}).recordings
    assert (one.subject, one.site, one.extra) == (None, None, {"subject": "P1", "site": "AV"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"label": "Finding", "subject": "finding"}, "'Finding' of {}/table.csv is both the label and the subject"),
     ({"label": "Finding", "subject": "path"}, "'path' of {}/table.csv is both the path and the subject"),
     ({"label": "Finding", "site": "who", "subject": "who"}, "'who' of {}/table.csv is both the subject and the site")],
)  # fmt: skip
def test_a_column_has_one_role(folder: Path, columns: dict[str, str], message: str):
    text = "path,Finding,who,device\n1.wav,a,P1,x\n2.wav,b,P2,y\n"
    with pytest.raises(SourceError, match=message.format(folder)):
        listed(folder, text, columns=columns)
    (one, _) = listed(folder, text, columns={"label": "Finding", "subject": "who", "site": "device"}).recordings
    assert (one.label, one.subject, one.site, one.collection) == ("a", "P1", "x", "x")  # a usual name is no choice


@pytest.mark.parametrize(("each", "count"), [(3, 36), (12, 240)])
def test_columns_whose_values_recur_are_named_where_there_is_no_subject(folder: Path, each: int, count: int):
    (note,) = [n for n in listed(folder, recurring("path,label,who", each, count)).notes if "no subject column" in n]
    assert note.endswith("(values recur in 'who')")


@pytest.mark.parametrize(
    "column",
    ["subject_code", "patient name", "Individual ID", "Subject ID (anonymised)", "Case", "PatientName", "probands"],
)
def test_a_column_named_like_an_identifier_of_persons_must_be_named_or_denied(folder: Path, column: str):
    message = f"no subject column .*, but '{re.escape(column)}' may identify who"
    with pytest.raises(SourceError, match=message) as refused:
        listed(folder, recurring(f"path,label,{column}"))
    advice = re.findall(r"--set '?(source.columns.subject=.*?)(?:'| .and nothing)", str(refused.value))

    def subjects(change: str) -> set[str | None]:
        source = build_config("table", str(folder / "table.csv"), changes=dict([parse_change(change)])).source
        return {row.subject for row in source.listing(folder).recordings}

    assert [subjects(change) for change in advice] == [{f"P{i}" for i in range(20)}, {None}]


@pytest.mark.parametrize(
    "header",
    ["path,label,lowercase", "path,label,personal_note", "path,label,who", "path,Case,x", "path,label,patient_age"],
)
def test_other_columns_do_not_stop_the_run(folder: Path, header: str):
    columns = {"path": "path", "label": header.split(",")[1]}
    rows = listed(folder, recurring(header, count=24), columns=columns).recordings
    assert {row.subject for row in rows} == {None}


@pytest.mark.parametrize("values", ["PP", "PQ"])
def test_a_column_of_persons_that_separates_no_recordings_does_not_stop_the_run(folder: Path, values: str):
    text = f"path,label,Patient name\n1.wav,a,{values[0]}\n2.wav,b,{values[1]}\n"
    assert {row.subject for row in listed(folder, text).recordings} == {None}


def with_subjects(subjects: list[str]) -> str:
    rows = "".join(f"{subject},{i}.wav,{'ab'[i % 2]}\n" for i, subject in enumerate(subjects))
    return "Patient ID,File name,Diagnosis\n" + rows


def test_gaps_that_merged_cells_leave_in_a_csv_are_refused(folder: Path):
    text = with_subjects(["P1", "", "", "P2", "", "", "P3", "", "", "P4", "", ""])
    message = (
        r"^8 of 12 rows of .*table.csv have no subject in the column 'Patient ID', and .* source.columns.subject= \(and"
    )
    with pytest.raises(SourceError, match=message):
        listed(folder, text)
    assert {row.subject for row in listed(folder, text, columns={"subject": ""}).recordings} == {None}


@pytest.mark.parametrize(
    "subjects",
    [["P1", "P1", "", "P2", "", ""],  # a subject is in two rows
     ["", "P1", "", "", "P2", ""],  # the first is empty
     ["P1", "P2", "P3", "P4", "P5", ""],  # few are empty
     ["P1", "na", "na", "P2", "na", ""],  # words instead of empty cells
     ["P1", "", "", "", "", ""],
     ["", "", "", "", "", ""]],
)  # fmt: skip
def test_other_rows_without_a_subject_are_noted(folder: Path, subjects: list[str]):
    (note,) = [n for n in listed(folder, with_subjects(subjects)).notes if "subject" in n]
    count = sum(not subject.startswith("P") for subject in subjects)
    assert note.startswith(
        f"{count} of 6 rows of {folder}/table.csv have no subject in the column 'Patient ID': of these"
    )
    assert "scores are too high. Fill the column" in note


def test_a_full_subject_column_is_not_noted(folder: Path):
    assert not any("no subject" in note for note in listed(folder, with_subjects(["P1", "P1", "P2"])).notes)


@pytest.mark.parametrize("name", ["speaker_id", "Patienten-Nr", "paciente", "患者编号"])
def test_columns_that_may_identify_people_in_other_words(folder: Path, name: str):
    with pytest.raises(SourceError, match=f"'{name}' may identify who was recorded"):
        listed(folder, f"path,label,{name}\n1,a,1\n2,b,1\n3,b,2\n")


def test_a_numbered_second_label_is_noted(folder: Path):
    assert any("if 'label_2' holds it" in note for note in listed(folder, "path,label,label_2\n1,a,b\n2,b,a\n").notes)
