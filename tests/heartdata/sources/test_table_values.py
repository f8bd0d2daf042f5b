"""Anybody's table: what counts as absent, as one subject, as one recording; linked folders; tables too large."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest
from helpers import beats, write_wav

from heartdata.config_file import build_config, parse_change, parse_yaml
from heartdata.errors import SourceError
from heartdata.sources import TableSource
from heartdata.sources.base import audio_files
from heartdata.sources.table import columns as tables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one.wav", "süß two.wav", "three.wav"):
        write_wav(tmp_path / "audio" / name, beats())
    return tmp_path


def listed(folder: Path, text: str, encoding: str = "utf-8", **settings):
    (folder / "table.csv").write_text(text, encoding=encoding)
    return TableSource(data=folder / "table.csv", **settings).listing(folder)


def test_table_label_none_is_absent_only_when_rare_or_asked_for(folder: Path):
    def told(text: str, **settings) -> list[str]:
        return [note for note in listed(folder, text, **settings).notes if "as absent" in note]

    table = "path,label\n" + "".join(f"{i}.wav,murmur\n" for i in range(18)) + "a,none\n"
    with pytest.raises(SourceError, match="2 of 20 recordings have the label 'none', .* makes it a class") as refused:
        told(table + "b,None\n")
    for values in re.findall(r"--set 'source.missing_values=(.*?)'", str(refused.value)):  # what is advised
        assert '"-"' in values
        changes = {"source.missing_values": parse_yaml(values)}
        source = build_config("table", str(folder / "table.csv"), changes=changes).source
        assert source.listing(folder).recordings[-1].label == (None if '"none"' in values else "None")
    with pytest.raises(SourceError, match="have the label 'none'"):
        build_config("table", str(folder / "table.csv")).source.check()
    assert told(table + "b,NA\n") == [
        "1 labels 'NA' were taken as absent (source.missing_values)",
        "1 labels 'none' were taken as absent (source.missing_values)",
    ]
    assert told("path,label\n1,-\n2,-\n3,a\n4,\n") == ["2 labels '-' were taken as absent (source.missing_values)"]


def test_a_configuration_that_was_handed_over_asks_about_labels_none_all_the_same(folder: Path):
    (folder / "table.csv").write_text("path,label\n1,none\n2,murmur\n3,None\n")

    def handed_over(**settings) -> TableSource:
        return TableSource.model_validate(TableSource(data=folder / "table.csv", **settings).model_dump(mode="json"))

    with pytest.raises(SourceError, match="2 of 3 recordings have the label 'none'"):
        handed_over().check()
    others = [value for value in TableSource(data="t.csv").missing_values if value != "none"]
    for values, labels in ((others, ["None", "murmur", "None"]), (["none", *others], [None, "murmur", None])):
        rows = handed_over(missing_values=values).listing(folder).recordings
        assert [row.label for row in rows] == labels


def test_table_subjects_of_several_spellings(folder: Path):
    listing = listed(folder, "path,label,subject\n1,a,P7\n2,a,p7\n3,b,p7\n4,b,007\n5,b,7\n6,b,70\n7,b,P07\n")
    assert [r.subject for r in listing.recordings] == ["p7", "p7", "p7", "007", "7", "70", "P07"]
    assert listing.notes[0] == "Subjects that differ only in letter case, or in .0, were taken as one: 'P7' as 'p7'"
    told = "Subjects that differ only in leading zeros count as different ones: '007' and '7', 'P07' and 'p7'"
    assert told in listing.notes
    assert not any("zeros" in note for note in listed(folder, "path,label,subject\n1,a,0\n2,b,10\n3,b,1\n").notes)


def test_table_ids_whatever_way_of_writing_a_path_and_order_of_rows(folder: Path):
    lines = ["./audio/one.wav,b,7", "audio//one.wav,a,8", "audio\\x\\..\\one.wav,a,7", "audio/three.wav,a,7"]
    for order in (lines, lines[::-1]):
        listing = listed(folder, "\n".join(["path,label,subject", *order]))
        assert {r.recording_id: (r.label, r.subject) for r in listing.recordings} == {
            "audio/one.wav": ("a", "7"), "audio/one.wav#2": ("a", "8"), "audio/one.wav#3": ("b", "7"),
            "audio/three.wav": ("a", "7"),
        }  # fmt: skip
    assert [note for note in listing.notes if "in no row" in note][0].endswith(
        f"1 of 3 audio files below {folder}: audio/süß two.wav"
    )


def test_linked_folders_are_entered_once(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    outside = tmp_path_factory.mktemp("outside")
    for path in (outside / "deep" / "x.wav", outside / ".hidden.wav", folder / "audio" / "z" / "four.wav"):
        write_wav(path, beats())
    (folder / "linked").symlink_to(outside)
    (folder / "again").symlink_to(folder / "audio" / "z")
    (outside / "deep" / "loop").symlink_to(outside)
    (outside / "up").symlink_to(folder)
    assert [path.relative_to(folder).as_posix() for path in audio_files(folder)] == [
        "audio/one.wav", "audio/süß two.wav", "audio/three.wav", "audio/z/four.wav", "linked/deep/x.wav"
    ]  # fmt: skip
    labels = {row.label for row in TableSource(data=folder).listing(folder).recordings}
    assert labels == {"audio", "linked"}


@pytest.mark.parametrize("name", [b"gr\xfcn.wav", b"gr\xfcn/1.wav"])
def test_a_name_that_is_not_utf_8_is_told(folder: Path, name: bytes):
    path = folder / "audio" / os.fsdecode(name)
    try:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    except OSError:
        pytest.skip("this disk takes no such names")
    for do in (TableSource(data=folder).check, lambda: listed(folder, "path,label\naudio/one.wav,a\n")):
        with pytest.raises(SourceError, match="^the names of 1 of 4 audio files are not UTF-8, the first") as refused:
            do()
        assert repr(os.fsencode(path)) in str(refused.value)
    path.rename(folder / "audio" / "grün.wav")
    (folder / "audio" / os.fsdecode(b"n\xfctes.txt")).touch()
    assert len(audio_files(folder)) == 4


def test_parquet_with_too_many_rows(folder: Path, monkeypatch: pytest.MonkeyPatch):
    pd.DataFrame({"path": ["audio/one.wav"] * 3, "label": ["a"] * 3}).to_parquet(folder / "t.parquet")
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    with pytest.raises(SourceError, match=r"t.parquet has 3 rows, more than 2: a table needs one row a recording"):
        TableSource(data=folder / "t.parquet").check()


def test_parquet_lists_are_no_labels(folder: Path):
    for labels in ([["AS", "MR"], ["AS"]], [["AS"], []]):
        pd.DataFrame({"path": ["a", "b"], "label": labels, "more": labels}).to_parquet(folder / "t.parquet")
        with pytest.raises(SourceError, match=r"2 of 2 recordings have several labels in the column 'label' of"):
            TableSource(data=folder / "t.parquet").check()


def test_parquet_lists_of_one_value_are_these_values(folder: Path):
    columns = {
        "path": ["a", "b", "c"],
        "label": [["AS"], None, ["MR"]],
        "age": [[3], [4], [5]],
        "more": [["x"], ["y", "z"], []],
    }
    pd.DataFrame(columns).to_parquet(folder / "t.parquet")
    rows = TableSource(data=folder / "t.parquet").listing(folder).recordings
    assert [row.label for row in rows] == ["AS", None, "MR"]
    assert [row.extra["age"] for row in rows] == ["3", "4", "5"]
    assert rows[0].extra["more"] == "['x']"


@pytest.mark.parametrize("cell", [b"\x00\xff", b"text"])
def test_parquet_of_bytes_names_the_column(folder: Path, cell: bytes):
    pd.DataFrame({"path": ["a", "b"], "label": ["x", "y"], "raw": [None, cell]}).to_parquet(folder / "t.parquet")
    with pytest.raises(SourceError, match=f"^{folder}/t.parquet holds bytes in the column 'raw': write it as text, or"):
        TableSource(data=folder / "t.parquet").check()


def test_a_named_index_of_parquet_is_a_column(folder: Path):
    table = pd.DataFrame({"path": ["a", "b"], "subject": ["P1", "P2"], "label": ["x", "y"]})
    for index in ("path", ["path", "subject"]):
        table.set_index(index).to_parquet(folder / "t.parquet")
        rows = TableSource(data=folder / "t.parquet").listing(folder).recordings
        assert [(row.recording_id, row.label, row.subject, row.extra) for row in rows] == [
            ("a", "x", "P1", {}), ("b", "y", "P2", {}),
        ]  # fmt: skip
    table.set_index(pd.Index([7, 8])).to_parquet(folder / "t.parquet")
    assert TableSource(data=folder / "t.parquet").listing(folder).recordings[0].extra == {}


def test_composed_and_decomposed_accents_are_one(tmp_path: Path):
    composed, decomposed = "J\u00fcrgen \u00e9", "Ju\u0308rgen e\u0301"
    write_wav(tmp_path / f"{decomposed}.wav", beats())
    text = f"path,label,subject\n{composed}.wav,Ger\u00e4usch,{composed}\n2.wav,Gera\u0308usch,{decomposed}\n"
    listing = listed(tmp_path, text)
    first, second = listing.recordings
    assert (first.path, first.missing) == (tmp_path / f"{decomposed}.wav", None)
    assert first.recording_id == f"{composed}.wav"
    assert (first.subject, first.label) == (second.subject, second.label) == (composed, "Ger\u00e4usch")
    assert not any("under another name" in note for note in listing.notes)


def test_blanks_and_decimals_of_a_spreadsheet_make_no_new_subjects_or_labels(folder: Path):
    rows = ("1,P 1,0", "2,P\u00a0 1,0.0", "3,2.0,1", "4,2,1.0", "5,2,1")
    listing = listed(folder, "path,subject,label\n" + "\n".join(rows) + "\n")
    assert [row.subject for row in listing.recordings] == ["P 1", "P 1", "2", "2", "2"]
    assert [row.label for row in listing.recordings] == ["0", "0", "1", "1", "1"]
    assert "or in .0, were taken as one: '0.0' as '0', '1.0' as '1'" in listing.notes[0]


def test_columns_that_may_hold_the_subject_are_named(folder: Path):
    rows = "".join(f"{i}.wav,{'ab'[i % 2]},P{i // 3},{i}\n" for i in range(36))
    (note,) = [n for n in listed(folder, "path,label,who,age\n" + rows).notes if "no subject column" in n]
    assert note.endswith("(values recur in 'who')")
    rows = "".join(f"{i}.wav,{'ab'[i % 2]},P{i // 12},{i}\n" for i in range(240))
    (note,) = [n for n in listed(folder, "path,label,who,age\n" + rows).notes if "no subject column" in n]
    assert note.endswith("(values recur in 'who')")
    assert [r.subject for r in listed(folder, "path,label,MRN\n1,a,7\n").recordings] == ["7"]


@pytest.mark.parametrize(
    "column",
    ["subject_code", "patient name", "Individual ID", "Subject ID (anonymised)", "Case", "PatientName", "probands"],
)
def test_a_column_that_speaks_of_persons_is_to_be_named_or_denied(folder: Path, column: str):
    rows = "".join(f"{i}.wav,{'ab'[i % 2]},P{i // 12}\n" for i in range(240))
    with pytest.raises(
        SourceError, match=f"no subject column .*, but '{re.escape(column)}' may identify who"
    ) as refused:
        listed(folder, f"path,label,{column}\n{rows}")
    advice = re.findall(r"--set '?(source.columns.subject=.*?)(?:'| .and nothing)", str(refused.value))

    def subjects(change: str) -> set[str | None]:
        source = build_config("table", str(folder / "table.csv"), changes=dict([parse_change(change)])).source
        return {row.subject for row in source.listing(folder).recordings}

    assert [subjects(change) for change in advice] == [{f"P{i}" for i in range(20)}, {None}]


@pytest.mark.parametrize(
    "header",
    ["path,label,lowercase", "path,label,personal_note", "path,label,who", "path,Case,x", "path,label,patient_age"],
)
def test_a_column_that_does_not_speak_of_persons_is_passed_over(folder: Path, header: str):
    rows = "".join(f"{i}.wav,{'ab'[i % 2]},P{i // 12}\n" for i in range(24))
    columns = {"path": "path", "label": header.split(",")[1]}
    assert {row.subject for row in listed(folder, f"{header}\n{rows}", columns=columns).recordings} == {None}
    for values in ("PP", "PQ"):  # of one person, or of as many as there are recordings: nothing can be torn apart
        text = f"path,label,Patient name\n1.wav,a,{values[0]}\n2.wav,b,{values[1]}\n"
        assert {row.subject for row in listed(folder, text).recordings} == {None}


def test_a_role_that_no_column_has(folder: Path):
    text = "path,label,subject,site\n1.wav,a,P1,AV\n2.wav,b,P1,AV\n"
    (one, _) = listed(folder, text, columns={"subject": "", "site": ""}).recordings
    assert (one.subject, one.site, one.extra) == (None, None, {"subject": "P1", "site": "AV"})
    with pytest.raises(SourceError, match="has no label column"):
        listed(folder, text, columns={"label": ""})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"label": "Finding", "subject": "finding"},
            "'Finding' of {}/table.csv is both the label and the subject",
        ),
        ({"label": "Finding", "subject": "path"}, "'path' of {}/table.csv is both the path and the subject"),
        (
            {"label": "Finding", "site": "who", "subject": "who"},
            "'who' of {}/table.csv is both the subject and the s",
        ),
    ],
)
def test_a_column_has_one_role(folder: Path, columns: dict[str, str], said: str):
    text = "path,Finding,who,device\n1.wav,a,P1,x\n2.wav,b,P2,y\n"
    with pytest.raises(SourceError, match=said.format(folder)):
        listed(folder, text, columns=columns)
    (one, _) = listed(folder, text, columns={"label": "Finding", "subject": "who", "site": "device"}).recordings
    assert (one.label, one.subject, one.site, one.collection) == ("a", "P1", "x", "x")  # a usual name is no choice


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_refused(folder: Path, encoding: str):
    text = "path;label;subject\naudio/one.wav;\u00e9;1\n"
    with pytest.raises(SourceError, match=f"table.csv is not UTF-8 text: .*source.encoding=NAME .*{encoding}"):
        listed(folder, text, encoding)
    (folder / "table.csv").write_text(text, encoding=encoding)
    (row,) = TableSource(data=folder / "table.csv", encoding=encoding).listing(folder).recordings
    assert (row.label, row.subject) == ("\u00e9", "1")


def test_the_usual_encoding_leaves_digests_of_earlier_configurations_as_they_are():
    assert "encoding" not in TableSource(data="t.csv").model_dump()
    assert TableSource(data="t.csv", encoding="UTF8").digest() == TableSource(data="t.csv").digest()
    assert TableSource(data="t.csv", encoding="cp1252").digest() != TableSource(data="t.csv").digest()
