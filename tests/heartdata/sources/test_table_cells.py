"""What the cells of a table mean: absent values, several spellings of one value, several labels in one cell."""

import re
from pathlib import Path

import pytest
from builders import listed, touch

from heartdata.config_file import build_config, parse_yaml
from heartdata.errors import SourceError
from heartdata.sources import TableSource


@pytest.mark.parametrize("absent", ["", " ", "NA", "n/a", "#N/A", "NaN", "NULL", "?", "-", " Unlabelled "])
def test_cells_that_count_as_absent(folder: Path, absent: str):
    text = f"path,label,subject,site\naudio/one.wav,{absent},{absent},{absent}\naudio/three.wav,Unknown,unknown,0\n"
    one, three = listed(folder, text).recordings
    assert (one.label, one.subject, one.site) == (None, None, None)
    assert (three.label, three.subject, three.site) == ("Unknown", "unknown", "0")


def test_missing_values_can_be_set(folder: Path):
    text = "path,label,subject\naudio/one.wav,unknown,UNKNOWN\naudio/three.wav,,NA\n"
    one, three = listed(folder, text, missing_values=("Unknown",)).recordings
    assert (one.label, one.subject, three.label, three.subject) == (None, None, None, "NA")


def test_the_label_none_is_absent_only_when_rare_or_set(folder: Path):
    def absent(text: str) -> list[str]:
        return [note for note in listed(folder, text).notes if "as absent" in note]

    table = "path,label\n" + "".join(f"{i}.wav,murmur\n" for i in range(18)) + "a,none\n"
    with pytest.raises(SourceError, match="2 of 20 recordings have the label 'none', .* to make it a class") as refused:
        absent(table + "b,None\n")
    advice = re.findall(r"--set 'source.missing_values=(.*?)'", str(refused.value))
    assert len(advice) == 2
    for values in advice:
        assert '"-"' in values
        changes = {"source.missing_values": parse_yaml(values)}
        source = build_config("table", str(folder / "table.csv"), changes=changes).source
        assert source.listing(folder).recordings[-1].label == (None if '"none"' in values else "None")
    unchanged = build_config("table", str(folder / "table.csv")).source
    for source in (unchanged, TableSource.model_validate(unchanged.model_dump(mode="json"))):  # as a worker gets it
        with pytest.raises(SourceError, match="have the label 'none'"):
            source.check()
    assert absent(table + "b,NA\n") == [
        "1 labels 'NA' were taken as absent (source.missing_values)",
        "1 labels 'none' were taken as absent (source.missing_values)",
    ]
    assert absent("path,label\n1,-\n2,-\n3,a\n4,\n") == ["2 labels '-' were taken as absent (source.missing_values)"]


def test_labels_that_differ_only_in_case_are_one(folder: Path):
    listing = listed(folder, "path,label\n1,Normal\n2,normal \n3,normal\n4,murmur\n5,Murmur\n6,other\n")
    assert [r.label for r in listing.recordings] == ["normal"] * 3 + ["Murmur"] * 2 + ["other"]
    assert listing.notes[0].endswith("were taken as one: 'Normal' as 'normal', 'murmur' as 'Murmur'")
    assert not any("taken as one" in note for note in listed(folder, "path,label\n1,a\n2, a \n3,b\n").notes)


def test_subjects_that_differ_only_in_case_are_one_and_leading_zeros_are_noted(folder: Path):
    listing = listed(folder, "path,label,subject\n1,a,P7\n2,a,p7\n3,b,p7\n4,b,007\n5,b,7\n6,b,70\n7,b,P07\n")
    assert [r.subject for r in listing.recordings] == ["p7", "p7", "p7", "007", "7", "70", "P07"]
    assert [r.extra for r in listing.recordings[:2]] == [{"subject_in_table": "P7"}, {}]
    assert (
        listing.notes[0]
        == "Subjects that differ only in letter case, in .0 or in forms of a character, were taken as one: 'P7' as 'p7'"
    )
    zeros = "Subjects that differ only in leading zeros count as different ones: '007' and '7', 'P07' and 'p7'"
    assert zeros in listing.notes
    assert not any("zeros" in note for note in listed(folder, "path,label,subject\n1,a,0\n2,b,10\n3,b,1\n").notes)


def test_blanks_and_decimals_of_a_spreadsheet_make_no_new_values(folder: Path):
    rows = ("1,P 1,0", "2,P\u00a0 1,0.0", "3,2.0,1", "4,2,1.0", "5,2,1")
    listing = listed(folder, "path,subject,label\n" + "\n".join(rows) + "\n")
    assert [row.subject for row in listing.recordings] == ["P 1", "P 1", "2", "2", "2"]
    assert [row.label for row in listing.recordings] == ["0", "0", "1", "1", "1"]
    assert "in .0 or in forms of a character, were taken as one: '0.0' as '0', '1.0' as '1'" in listing.notes[0]


def test_composed_and_decomposed_accents_are_one(tmp_path: Path):
    composed, decomposed = "J\u00fcrgen \u00e9", "Ju\u0308rgen e\u0301"
    touch(tmp_path, f"{decomposed}.wav")
    text = f"path,label,subject\n{composed}.wav,Ger\u00e4usch,{composed}\n2.wav,Gera\u0308usch,{decomposed}\n"
    listing = listed(tmp_path, text)
    first, second = listing.recordings
    assert (first.path, first.missing) == (tmp_path / f"{decomposed}.wav", None)
    assert first.recording_id == f"{composed}.wav"
    assert (first.subject, first.label) == (second.subject, second.label) == (composed, "Ger\u00e4usch")
    assert not any("under another name" in note for note in listing.notes)


def test_labels_can_be_renamed(folder: Path):
    text = "path,label\n1,0.0\n2,1\n3,1\u200b\n4,3;4\n5,2\n6,\n"
    labels = {"source.labels": parse_yaml('{0: normal, "1": abnormal, 3;4: abnormal, 2: null}')}
    listed(folder, text.replace("3;4", "1"))
    source = build_config("table", str(folder / "table.csv"), changes={"source.labels": {1: 2}}).source
    assert [row.label for row in source.listing(folder).recordings] == ["0.0", "2", "2", "2", "2", None]
    (folder / "table.csv").write_text(text)
    source = build_config("table", str(folder / "table.csv"), changes=labels).source
    rows = source.listing(folder).recordings
    assert [row.label for row in rows] == ["normal", "abnormal", "abnormal", "abnormal", None, None]
    assert [row.extra.get("label_in_source") for row in rows] == ["0.0", "1", "1", "3;4", "2", None]
    assert TableSource(data="t").digest() == TableSource(data="t", labels={}).digest()
    assert "labels" not in TableSource(data="t").model_dump()  # so digests without it stay valid


def test_labels_that_no_recording_has_cannot_be_renamed(folder: Path):
    for labels in ({"none": "normal"}, {"Normal": "N", "none": None}):
        with pytest.raises(SourceError, match="^source.labels names 'none', .*: choose among 'murmur', 'normal'$"):
            listed(folder, "path,label\n1,normal\n2,murmur\n3,\n", labels=labels)


def test_labels_of_folders_can_be_renamed(folder: Path):
    touch(folder / "0", "a.wav")
    touch(folder / "1", "b.wav")
    rows = TableSource(data=folder, labels={"0": "normal", "1": "murmur", "audio": "murmur"}).listing(folder).recordings
    assert [row.label for row in rows] == ["normal", "murmur", "murmur", "murmur", "murmur"]


def labelled(labels: list[str]) -> str:
    return "path;label\n" + "".join(f'{i};"{label}"\n' for i, label in enumerate(labels))


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["MR;AS", "MR", "AS", "MS"], "1 of 4 recordings have several labels in the column 'label' of .*, such as 'MR;AS'"),
     (["MR|x", "MR"], "1 of 2 .* such as 'MR|x'"), (["a+b", "b+c", "c+a", "a+b"], "4 of 4 .* such as 'a\\+b'"),
     (["A,b", "a", "B"], "such as 'A,b'"), (["AS/MR", "AS", "MR"], "1 of 3 .* such as 'AS/MR'"),
     (["as & mr", "AS", "MR"], "such as 'as & mr'"), (["AS and MR", "MR", "AS", "AS"], "1 of 4 .* such as 'AS and MR'"),
     (["AS, MR and MS", "MR", "AS", "MS"], "1 of 4 .* such as 'AS, MR and MS'"),
     (["['AS', 'MR']", "['AS']", "[]"], "3 of 3 "), (["{AS,MR}", "AS"], "1 of 2 "), (["('AS',)", "AS"], "1 of 2 "),
     (["a" * 201, "b"], "1 labels in .* have more than 200 characters, such as 'a{40}…a{39}', so these are not classes"),
     ([f"p{i}" for i in range(60)], "60 recordings have 60 different labels in the column 'label' of .*, such as 'p0', "),
     ([f"{i}.5" for i in range(60)] * 5, "300 recordings have 60 different labels")],
)  # fmt: skip
def test_cells_that_are_not_one_label_of_a_few_stop_the_run(folder: Path, labels: list[str], message: str):
    with pytest.raises(SourceError, match=message + ".*source.columns.label=COLUMN"):
        listed(folder, labelled(labels))


@pytest.mark.parametrize(
    "labels",
    [["murmur,systolic", "murmur", "murmur,diastolic", "S3+", "S3", "1+MR", "2+MR", "a;b", ";c"],
     ["S3/S4", "S3", "rhythm & murmur", "murmur", "band", "b", "and", "sand and dust", "(mild) AS (?)"],
     [f"p{i}" for i in range(60)] * 2, [str(i) for i in range(50)]],
)  # fmt: skip
def test_labels_that_only_look_like_several(folder: Path, labels: list[str]):
    assert [row.label for row in listed(folder, labelled(labels)).recordings] == labels


@pytest.mark.parametrize(
    ("written", "meant"),
    [("\u0420\u2011001", "P-001"), ("P\u2212001", "P-001"), ("\u0441\u0430\u0440", "cap"), ('"=""007"""', "007"), ("'007", "007")],
)  # fmt: skip
def test_spellings_that_look_the_same_are_one_subject(folder: Path, written: str, meant: str):
    listing = listed(folder, f"path,label,subject\n1,a,{meant}\n2,b,{meant}\n3,b,{written}\n")
    assert {row.subject for row in listing.recordings} == {meant}


def test_new_names_of_labels_are_matched_as_cells_are_and_may_not_clash(folder: Path):
    text = "path,label\n1,a\n2,b\n"
    assert [row.label for row in listed(folder, text, labels={" A\u200b ": "x"}).recordings] == ["x", "b"]
    with pytest.raises(SourceError, match="source.labels gives two names to the label 'A'"):
        listed(folder, text, labels={"a": "x", "A": "y"})
