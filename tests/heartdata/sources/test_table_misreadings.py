"""Tables that would be misread: two columns of one name, ids that a spreadsheet rounded, rows that are segments."""

import re
from pathlib import Path

import pytest
from builders import listed, listed_parquet, touch
from helpers import write_xlsx

from heartdata.errors import SourceError
from heartdata.sources import TableSource


@pytest.mark.parametrize(
    ("header", "role"),
    [("path,subject,label,label", "label"), ("path,subject,label,label.1", "label"), ("path,subject,label,Label ", "label"),
     ("path,subject,label,label\u200b", "label"), ("label,path,subject,subject", "subject"), ("subject,label,path,PATH", "path"),
     ("path,label,site,site", "site"), ("path,label,device,device", "collection")],
)  # fmt: skip
def test_of_two_columns_of_one_name_that_differ_none_is_chosen(folder: Path, header: str, role: str):
    text = f"{header}\n1.wav,2.wav,x,x\n3.wav,4.wav,x,y\n"
    message = (
        f"several columns of the name '{header.split(',')[2]}', which differ in 1 of 2 rows: .* not the {role}, or"
    )
    with pytest.raises(SourceError, match=message) as refused:
        listed(folder, text)
    choices = re.findall(rf"--set 'source.columns.{role}=(.*?)'", str(refused.value))
    for column, last in zip(choices, "xy", strict=True):
        row = listed(folder, text, columns={role: column}).recordings[1]
        assert last in (row.label, row.subject, row.recording_id.partition("#")[0], row.site, row.collection)


def test_equal_or_empty_columns_of_one_name_are_read(folder: Path):
    listing = listed(folder, "path,label,label\n1.wav,a,a \n2.wav,b,b\n")
    assert [row.label for row in listing.recordings] == ["a", "b"]
    assert "The label was taken from the first of several equal columns of the name 'label'" in listing.notes
    assert not any("equal columns" in note for note in listed(folder, "path,label,label\n1.wav,a,\n").notes)


@pytest.mark.parametrize(
    ("column", "cell"),
    [("subject", "1.30678E+12"), ("subject", '"1,30678E+12"'), ("patient_id", "4e+09"), ("file", "1.3E+12"),
     ("device", "1.30678E+12"), ("subject", "1.30678E+12\u200b")],
)  # fmt: skip
def test_ids_that_a_spreadsheet_rounded_are_refused(folder: Path, column: str, cell: str):
    other = "notes" if column == "file" else "path"
    text = f"{column},label,{other}\n{cell},a,1.wav\n{cell},b,2.wav\n"
    with pytest.raises(
        SourceError, match=f"2 of 2 cells of the column '{column}' .* that a spreadsheet rounded, .* as text"
    ):
        listed(folder, text)


def test_numbers_of_more_digits_than_a_spreadsheet_keeps_are_refused(folder: Path):
    subjects = [1234567890123450, 2234567890123450, 3234567890123450]
    text = "path,label,subject\n" + "".join(f"{i}.wav,a,{subject}\n" for i, subject in enumerate(subjects))
    book = write_xlsx(folder / "t.xlsx", a=[["path", "label", "subject"], ["1.wav", "a", subjects[0]]])
    for read in (
        lambda: listed(folder, text),
        lambda: TableSource(data=book).check(),
        lambda: listed_parquet(folder, {"path": ["1", "2"], "label": ["a", "b"], "subject": [12e17, None]}),
    ):
        with pytest.raises(SourceError, match="rounded"):
            read()


def test_other_numbers_are_ids(folder: Path):
    exact = [1306780000001, 1306780000002.0, "5E02", "1234567890123456", "1234567890123450"]
    rows = [[f"{i}.wav", "ab"[i % 2], subject] for i, subject in enumerate(exact)]
    book = write_xlsx(folder / "t.xlsx", a=[["path", "label", "subject"], *rows])
    subjects = [row.subject for row in TableSource(data=book).listing(folder).recordings]
    assert subjects == ["1306780000001", "1306780000002", *exact[2:]]
    assert listed(folder, "path,label\n1.wav,1E+05\n").recordings[0].label == "1E+05"


@pytest.mark.parametrize(
    "columns",
    ["start,end", "onset,offset", "start_s,end_s", "tmin,tmax", "Start (s),Duration", "segment_start,segment_end",
     "begin_sample,end_sample", "t_start,t_end"],
)  # fmt: skip
def test_rows_that_are_segments_are_refused(folder: Path, columns: str):
    names = " and ".join(f"'{name}'" for name in columns.split(","))
    text = f"path,label,{columns}\naudio/one.wav,a,0,1.5\naudio/one.wav,b,1.5,3\naudio/three.wav,a,0,1\n"
    message = f"several rows for 1 of 2 recordings .* differ in {re.escape(names)}, so its rows are segments: .* Cut"
    with pytest.raises(SourceError, match=message):
        listed(folder, text)
    listing = listed(folder, f"path,label,{columns}\naudio/one.wav,a,0,1.5\naudio/three.wav,b,1.5,3\n")
    assert f"{names} are not used: each recording is read whole" in listing.notes


@pytest.mark.parametrize(
    ("header", "cells"),
    [("start,end", ("2020-01-01,2020-01-02", "2020-02-01,2020-02-02")), ("start,end", ("0,1", "0,1")),
     ("offset,max", ("0,1", "1,2")), ("begin,sex", (",f", ",m"))],
)  # fmt: skip
def test_columns_that_only_look_like_times_of_segments(folder: Path, header: str, cells: tuple[str, str]):
    first, second = cells
    text = f"path,label,{header}\naudio/one.wav,a,{first}\naudio/one.wav,a,{second}\n"
    assert len(listed(folder, text).recordings) == 2


def test_invisible_and_full_width_characters_make_no_new_values(tmp_path: Path):
    touch(tmp_path, "1.wav", "2.wav", "３.wav", "4\u200b.wav")
    rows = ("1.wav\u200b,P1,normal,AV,x", "\u202a2.wav,Ｐ１\u00ad,normal\u200b,A\u200bV,x\ufeff",
            "３.wav,P2,murmur,AV,x", "4.wav,Ｐ２,ｍurmur,AV,x")  # fmt: skip
    header = "\u200bpath,ｓubject,label\u00a0,site,collection\n"
    listing = listed(tmp_path, header + "\n".join(rows) + "\n")
    recordings = listing.recordings
    assert [row.recording_id for row in recordings] == ["1.wav", "2.wav", "３.wav", "4.wav"]
    assert [row.missing for row in recordings] == [None] * 4
    assert [(row.subject, row.label) for row in recordings] == [("P1", "normal")] * 2 + [("P2", "murmur")] * 2
    assert {(row.site, row.collection) for row in recordings} == {("AV", "x")}
    (note,) = [note for note in listing.notes if "full-width" in note]
    assert note.startswith(
        "8 cells held invisible or full-width characters, which were taken out or replaced: 'normal\\u200b'"
    )
    assert note.endswith(" was read as 'normal', ...")
    assert not any("full-width" in note for note in listed(tmp_path, "path,label\n３.wav, a\n").notes)


def test_a_long_cell_does_not_fill_messages_notes_and_ids(folder: Path):
    long = "x" * 10_000
    header, table = "path,label,subject,site", f"audio/{long}.wav,a,{long},{long}\n{long}/\u200b,b,P{long}X,\n"
    listing = listed(folder, f"{header}\n{table}{long},b,p{long}x,\n")
    assert max(map(len, listing.notes)) < 500
    assert max(len(row.recording_id) + len(row.missing or "") for row in listing.recordings) < 700
    for text in (f"path,label\n1.wav,{long}\n", f"path,{long}\n1.wav,a\n", f"path,label,label\n1.wav,a,{long}\n",
                 "path," + ",".join(f"column {i}" for i in range(10_000)) + "\n1,2\n"):  # fmt: skip
        with pytest.raises(SourceError) as refused:
            listed(folder, text)
        assert len(str(refused.value)) < 900


@pytest.mark.parametrize("columns", ["inicio,fin", "segment_index,snr", "frame_offset,num_frames"])
def test_rows_of_segments_by_other_names_are_refused(folder: Path, columns: str):
    rows = "".join(f"{i}.wav,a,{part},{part + 1}\n" for i in range(3) for part in (0, 1))
    names = columns.replace(",", "', '")
    with pytest.raises(SourceError, match=f"several rows for 3 of 3 recordings .* differ in '{names}': a row must be"):
        listed(folder, f"path,label,{columns}\n{rows}")
    assert len(listed(folder, f"path,label,{columns}\n{rows.replace(',1,2', ',0,1')}").recordings) == 6


@pytest.mark.parametrize("cell", ["#REF!", "#NAME?", "#DIV/0!", "########", "Err:502"])
@pytest.mark.parametrize("role", ["label", "subject"])
def test_errors_of_a_spreadsheet_are_refused(folder: Path, cell: str, role: str):
    values = {"label": "a", "subject": "p"} | {role: cell}
    with pytest.raises(SourceError, match=rf"1 of 2 cells of the column '{role}' .* such as '{cell[:4]}.* are errors"):
        listed(folder, f"path,label,subject\n1.wav,b,q\n2.wav,{values['label']},{values['subject']}\n")
