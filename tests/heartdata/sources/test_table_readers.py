"""Tables as files: the dialects of CSV, workbooks with sheets and merged cells, Parquet."""

import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from builders import listed, listed_parquet
from helpers import write_xlsx

from heartdata.dataset.inventory import take_inventory
from heartdata.errors import SourceError
from heartdata.sources import TableSource
from heartdata.sources.table import parquet, workbook

GOOD = [["File", "Diagnosis", "Patient ID"], ["audio/one.wav", "N", 7]]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("path;label\naudio/one.wav;normal\n", "utf-8"),
     ("path,label\naudio/one.wav,normal\n", "utf-8-sig"),
     ("path\tlabel\r\naudio/one.wav\tnormal\r\n", "utf-8"),
     ("sep=;\npath;label\naudio/one.wav;normal\n", "utf-8-sig"),
     ("SEP=|\r\npath|label\r\naudio/one.wav|normal\r\n", "utf-8"),
     ("path\tlabel\r\naudio/one.wav\tnormal\r\n", "utf-16"),
     ("path|label\naudio/one.wav|normal\n", "utf-8"),
     ('"path";"label";"notes, if any"\naudio/one.wav;normal;"a;b, c, d, e"\n', "utf-8"),
     ("path,label,a;b;c;d\naudio/one.wav,normal,1;2;3;4\n", "utf-8"),
     (",,\npath,label,,\naudio/one.wav,normal,,\n", "utf-8")],
)  # fmt: skip
def test_dialects_of_csv(folder: Path, text: str, encoding: str):
    (row,) = listed(folder, text, encoding).recordings
    assert (row.label, row.missing) == ("normal", None)


def test_another_encoding_is_read_when_it_is_named(folder: Path):
    text = "path;label\naudio/one.wav;Geräusch\naudio/three.wav;souffle é\n"
    for encoding in ("cp1252", "utf-16"):  # a byte-order mark takes precedence over the setting
        rows = listed(folder, text, encoding, encoding="cp1252").recordings
        assert [row.label for row in rows] == ["Geräusch", "souffle é"]
    with pytest.raises(SourceError, match="is not CP932 text: save it as CSV UTF-8, or .*source.encoding=NAME"):
        listed(folder, "path;label\naudio/one.wav;é\xff\n", "cp1252", encoding="cp932")
    for wrong in ("utf-99", "base64"):
        with pytest.raises(ValueError, match="no such encoding"):
            listed(folder, text, encoding=wrong)
    assert "encoding" not in TableSource(data="t.csv").model_dump()  # so digests without it stay valid
    assert TableSource(data="t.csv", encoding="UTF8").digest() == TableSource(data="t.csv").digest()
    assert TableSource(data="t.csv", encoding="cp1252").digest() != TableSource(data="t.csv").digest()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_needs_the_setting(folder: Path, encoding: str):
    text = "path;label;subject\naudio/one.wav;\u00e9;1\n"
    with pytest.raises(SourceError, match=f"table.csv is not UTF-8 text: .*source.encoding=NAME .*{encoding}"):
        listed(folder, text, encoding)
    (row,) = TableSource(data=folder / "table.csv", encoding=encoding).listing(folder).recordings
    assert (row.label, row.subject) == ("\u00e9", "1")


def test_short_rows_are_filled_and_long_ones_refused(folder: Path):
    rows = listed(folder, "path,label,subject\naudio/one.wav,a\n\n,,,,\n , ,\naudio/three.wav,b,7\n").recordings
    assert [(r.label, r.subject, r.missing) for r in rows] == [("a", None, None), ("b", "7", None)]
    with pytest.raises(SourceError, match=r"table.csv: line 2 has 3 cells, the header 2: .* a comma, or remove"):
        listed(folder, "path,label\nheart, one.wav,a\naudio/one.wav,a\n")
    with pytest.raises(SourceError, match=r"table.csv: line 6 has 3 cells, the header 2: .* a semicolon, or"):
        listed(folder, 'sep=;\npath;label\n\naudio/one.wav;"a\nb"\naudio/three.wav;b;c\n')


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [("", "utf-8", "has no rows: add one row per recording"),
     ("path,label\n,\n", "utf-8", "has no rows: add one row per recording"),
     ("path,label\na.wav,Geräusch\n", "latin-1", "is not UTF-8 text: save it as CSV UTF-8"),
     ("1.wav,a\n2.wav,b\n", "utf-8", "has no header: its first row names a recording .1.wav.. Put the names"),
     ("path label\n1.wav a\n", "utf-8", "has no path column .* it has: path label only .cells are separated by commas"),
     ("# of 2020\npath,label\n1.wav,a\n", "utf-8", ": line 2 has 2 cells, but the first line, '# of 2020', has one"),
     ("PK\3\4...", "utf-8", "is a workbook or another archive: name it as such"),
     ("<!DOCTYPE html>", "utf-8", "is a web page or XML: download the table itself"),
     ("version https://git-lfs.github.com/spec/v1\n", "utf-8", "is a placeholder of Git LFS: fetch"),
     ("MATLAB\0\0\0\xff", "latin-1", "is no text: save the table as CSV UTF-8, an Excel workbook, JSON or Parquet"),
     ('path,label\na.wav,"normal\n', "utf-8", "cannot be read as a table .*unexpected end of data")],
)  # fmt: skip
def test_csv_that_cannot_be_read(folder: Path, text: str, encoding: str, message: str):
    with pytest.raises(SourceError, match="table.csv ?" + message):
        listed(folder, text, encoding)


@pytest.mark.parametrize("name", ["all.zip", "table.csv.GZ"])
def test_archives_are_to_be_unpacked(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"PK\3\4")
    with pytest.raises(SourceError, match="is an archive, .*: unpack it and give the table or folder in it"):
        TableSource(data=tmp_path / name).check()


def test_cells_of_a_workbook(folder: Path):
    rows = [["", ""], [*GOOD[0], "age", "seen", "at", "code"], ["", " "],
            ["audio/one.wav", "normal", 7, 40.5, "2020-01-02", "2020-01-02T03:04:05", "007"],
            ["audio/three.wav", "NA", 8.0]]  # fmt: skip
    one, three = TableSource(data=write_xlsx(folder / "t.XLSX", first=rows)).listing(folder).recordings
    assert (one.label, one.subject, one.missing) == ("normal", "7", None)
    assert one.extra == {"age": "40.5", "seen": "2020-01-02", "at": "2020-01-02 03:04:05", "code": "007"}
    assert (three.label, three.subject, three.extra) == (None, "8", {})


def test_the_sheet_of_a_workbook(folder: Path):
    def labels(sheet: str | None = None, **sheets: list[list]) -> list[str | None]:
        source = TableSource(data=write_xlsx(folder / "t.xlsx", **sheets), sheet=sheet)
        return [row.label for row in source.listing(folder).recordings]

    notes, other = [["read me"]], [GOOD[0], ["audio/one.wav", "M", 7]]
    assert labels(a=GOOD, b=other) == labels(a=notes, b=[], c=GOOD) == ["N"]
    assert labels("b", a=GOOD, b=other) == ["M"]
    for sheet, sheets, message in (
        (None, {"a": notes, "b": GOOD, "c": other}, r"has 2 sheets with columns for label and path .* are 'a', 'b', 'c': "),
        (None, {"a": notes, "b": []}, r"has no sheets with columns for label and path .* sheets are 'a', 'b': "),
        ("d", {"a": notes, "b": GOOD}, r"has no sheet 'd': choose among 'a', 'b'$"),
        (None, {"a": [GOOD[0]]}, "t.xlsx has no rows"),
    ):  # fmt: skip
        with pytest.raises(SourceError, match=message):
            labels(sheet, **sheets)
    with pytest.raises(SourceError, match=r"table.csv is not a workbook, .*: leave out source.sheet=a"):
        listed(folder, "path,label\naudio/one.wav,a\n", sheet="a")


def test_sheets_that_could_be_read_too_are_noted(folder: Path):
    for sheets, others in (
        ({"a": GOOD, "b": GOOD, "c": [["read me"]], "d": GOOD}, "'b', 'd'"),
        ({"a": GOOD, "b": []}, ""),
    ):
        listing = TableSource(data=write_xlsx(folder / "t.xlsx", **sheets)).listing(folder)
        notes = [note for note in listing.notes if note.startswith("Of the sheets")]
        assert bool(notes) == bool(others)
        assert all(
            note.startswith(f"Of the sheets of t.xlsx only 'a' was read, while {others} could") for note in notes
        )
    book = write_xlsx(folder / "t.xlsx", a=GOOD, b=GOOD)
    assert not any(note.startswith("Of the sheets") for note in TableSource(data=book, sheet="b").listing(folder).notes)


def with_formulas(path: Path, cell: str) -> Path:
    """A workbook, made by `write_xlsx`, whose cells FORMULA are ``cell`` instead."""
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name).decode() for name in book.namelist()}
    with zipfile.ZipFile(path, "w") as book:
        for name, text in parts.items():
            book.writestr(name, text.replace('<c t="str"><v>FORMULA</v></c>', cell))
    return path


@pytest.mark.parametrize("value", ["", "<v/>", "<v></v>"])
@pytest.mark.parametrize(("column", "role"), [(0, "path"), (2, "label"), (3, "subject")])
def test_formulas_without_a_value_are_refused(folder: Path, value: str, column: int, role: str):
    row = ["audio/one.wav", 3, "a", "P1"]
    rows = [["path", "grade", "label", "subject"], row, [*row[:column], "FORMULA", *row[column + 1 :]]]
    write_xlsx(folder / "t.xlsx", notes=[["FORMULA"]], a=rows)
    book = with_formulas(folder / "t.xlsx", f'<c><f>IF(B2&gt;0,"a","b")</f>{value}</c>')
    with pytest.raises(
        SourceError, match=f"1 cells of the column '{role}' .* formulas without a value: open .* save it"
    ):
        TableSource(data=book).check()


def test_formulas_with_a_value_or_without_a_role_are_read(folder: Path):
    rows = [["path", "label", "age", "subject"], ["audio/one.wav", "FORMULA", "", ""]]
    book = with_formulas(write_xlsx(folder / "t.xlsx", a=rows), '<c t="str"><f>A1</f><v>murmur</v></c>')
    assert TableSource(data=book).listing(folder).recordings[0].label == "murmur"
    rows = [["path", "label", "age"], ["audio/one.wav", "a", "FORMULA"], ["audio/three.wav", "", "4"]]
    book = with_formulas(write_xlsx(folder / "t.xlsx", a=rows), "<c><f>A1</f></c>")
    assert TableSource(data=book).listing(folder).recordings[0].extra == {}
    rows = [["path", "label"], ["audio/one.wav", "FORMULA"]]
    book = with_formulas(write_xlsx(folder / "t.xlsx", a=rows), '<c t="str"><f>""</f><v></v></c>')
    assert TableSource(data=book).listing(folder).recordings[0].label is None


def test_workbooks_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile(folder / "broken.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook>")
    (folder / "text.xlsx").write_text("path,label\naudio/one.wav,a\n")
    (folder / "old.xls").write_bytes(b"")
    (folder / "locked.xlsx").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + "EncryptedPackage".encode("utf-16-le"))
    write_xlsx(folder / "large.xlsx", first=[*GOOD, ["x" * 1_000_000, "N", 7]])
    monkeypatch.setattr(workbook, "MAX_UNPACKED_MB", 1)
    for name, message in (
        ("broken.xlsx", r"cannot be read as a table \(.+\): repair"),
        ("text.xlsx", "is damaged or another kind of file: save it as an Excel"),
        ("old.xls", "is a workbook of another kind: save it as an Excel workbook"),
        ("locked.xlsx", "is protected by a password: save it without one$"),
        ("large.xlsx", "unpacks to 1 MB, more than 1: save the sheet of the recordings"),
    ):
        with pytest.raises(SourceError, match=f"{name} {message}"):
            TableSource(data=folder / name).check()


def test_merged_cells_of_a_workbook_count_in_each_of_their_rows(tmp_path: Path):
    rows = [[None] * 4, ["Patient ID", "File name", "Diagnosis", "Site"]]
    for patient, label in (("P1", "normal"), ("P2", "murmur")):
        rows += [[patient, f"{patient}_1", label, "AV"], [None, f"{patient}_2", None, "MV"], [None, f"{patient}_3"]]
    rows += [["P3", "P3_1", "normal", "AV"], [None] * 4]
    path = write_xlsx(tmp_path / "t.xlsx", ("A3:A5", "A6:A8", "C3:C5", "C6:C8", "A9:A1048576", "F1:F9"), one=rows)
    listing = TableSource(data=path).listing(tmp_path)
    assert [(row.recording_id, row.label, row.subject, row.site) for row in listing.recordings] == [
        ("P1_1", "normal", "P1", "AV"), ("P1_2", "normal", "P1", "MV"), ("P1_3", "normal", "P1", None),
        ("P2_1", "murmur", "P2", "AV"), ("P2_2", "murmur", "P2", "MV"), ("P2_3", "murmur", "P2", None),
        ("P3_1", "normal", "P3", "AV"),
    ]  # fmt: skip
    titled = write_xlsx(tmp_path / "titled.xlsx", ("A1:D1",), one=[["Recordings of 2020"], *rows])
    with pytest.raises(SourceError, match="column.2, .*the first row that is not empty must be the header"):
        TableSource(data=titled).check()


def test_numbers_and_empty_rows_of_parquet(folder: Path):
    columns = {
        "path": ["audio/one.wav", None, "audio/three.wav", ""],
        "subject": [7.0, None, None, None],
        "label": pd.Categorical(["a", None, "b", None]),
        "age": [0.5, None, 40.0, None],
        "checked": [True, None, False, None],
    }
    one, three = listed_parquet(folder, columns)
    assert (one.subject, one.extra) == ("7", {"age": "0.5", "checked": "True"})
    assert (three.subject, three.label, three.extra) == (None, "b", {"age": "40.0", "checked": "False"})


def test_parquet_with_too_many_rows(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "MAX_ROWS", 2)
    with pytest.raises(SourceError, match=r"t.parquet has 3 rows, more than 2: a table needs one row per recording"):
        listed_parquet(folder, {"path": ["audio/one.wav"] * 3, "label": ["a"] * 3})


def test_lists_in_parquet_count_only_where_each_has_one_value(folder: Path):
    for labels in ([["AS", "MR"], ["AS"]], [["AS"], []]):
        with pytest.raises(SourceError, match=r"2 of 2 recordings have several labels in the column 'label' of"):
            listed_parquet(folder, {"path": ["a", "b"], "label": labels, "more": labels})
    labels, more = [["AS"], None, ["MR"]], [["x"], ["y", "z"], []]
    rows = listed_parquet(folder, {"path": ["a", "b", "c"], "label": labels, "age": [[3], [4], [5]], "more": more})
    assert [(row.label, row.extra["age"]) for row in rows] == [("AS", "3"), (None, "4"), ("MR", "5")]
    assert rows[0].extra["more"] == "['x']"


@pytest.mark.parametrize("cell", [b"\x00\xff", b"text"])
def test_bytes_in_parquet_stop_the_run(folder: Path, cell: bytes):
    with pytest.raises(SourceError, match=f"^{folder}/t.parquet holds bytes in the column 'raw': write it as text, or"):
        listed_parquet(folder, {"path": ["a", "b"], "label": ["x", "y"], "raw": [None, cell]})


def test_a_named_index_of_parquet_is_a_column(folder: Path):
    table = pd.DataFrame({"path": ["a", "b"], "subject": ["P1", "P2"], "label": ["x", "y"]})
    for index in ("path", ["path", "subject"], pd.Index([7, 8])):
        rows = listed_parquet(folder, table.set_index(index))
        assert [(r.recording_id, r.label, r.subject, r.extra) for r in rows] == [
            ("a", "x", "P1", {}), ("b", "y", "P2", {}),
        ]  # fmt: skip


def test_the_schema_holds_when_a_column_is_all_empty(folder: Path):
    (folder / "table.csv").write_text("path,label\naudio/one.wav,\n")
    table, _ = take_inventory(TableSource(data=folder / "table.csv"), folder)
    assert table.schema.field("label").type == pa.string()
