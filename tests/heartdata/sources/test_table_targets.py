"""Labels from columns of zeros and ones, or of probabilities."""

from pathlib import Path

import pytest
from builders import listed

from heartdata.config_file import build_config, parse_change
from heartdata.errors import SourceError

HARD = "path,AS,MR,N,visit\n1,1,0,0,1\n2,0,1.0,0,1\n3,True,TRUE,0,1\n4,0,0,0,1\n5,,,,1\n6,0,,1,1\n"
SOFT = "path,AS,MR,age\n1,0.7,0.3,40\n2,0.2,.8,50\n3,0.5,0.5,60\n4,1,0,70\n"


@pytest.mark.parametrize(
    ("text", "target", "labels"),
    [(HARD, "AS", ["AS", "not AS", "AS", "not AS", None, "not AS"]),
     (HARD, "as", ["AS", "not AS", "AS", "not AS", None, "not AS"]),
     (HARD, "argmax", ["AS", "MR", None, "none of these", None, "N"]),
     (HARD, ("MR", "N"), ["none of these", "MR", "MR", "none of these", None, "N"]),
     (SOFT, "argmax", ["AS", "MR", None, "AS"]), (SOFT, ("AS", "MR"), ["AS", "MR", None, "AS"]),
     ("path,label,AS\n1,x,0\n2,y,1\n", "AS", ["not AS", "AS"]),
     ("path,AS,MR\n1,yes,No\n2,N,Y\n", "AS", ["AS", "not AS"]), ("path,AS,MR\n1,x,\n2,,x\n", "argmax", ["AS", "MR"]),
     ('path,AS,MR\n1,"0,9","0,1"\n2,"0,2","0,8"\n', "argmax", ["AS", "MR"])],
)  # fmt: skip
def test_labels_of_a_target(tmp_path: Path, text: str, target: str | tuple[str, ...], labels: list[str | None]):
    assert [row.label for row in listed(tmp_path, text, target=target).recordings] == labels


def test_rows_of_several_ones_and_of_none_are_counted(tmp_path: Path):
    notes = listed(tmp_path, HARD, target="argmax").notes
    assert notes[0] == "The label is the largest of the columns AS, MR, N (source.target)"
    assert notes[1].startswith(
        "1 of 6 rows have several largest values, such as several ones, among them: they are unl"
    )
    assert notes[2] == "1 of 6 rows are 0 in all of them: their label is 'none of these'"
    assert notes[3].startswith("1 of 6 rows are empty in all of them, and are unlabelled: write 0 where")
    (note, *_) = listed(tmp_path, "path,AS\n1,x\n2,\n", target="AS").notes
    assert note.startswith("1 of 2 rows are empty in the column 'AS', and are unlabelled")


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [("TR", {}, "has no column 'TR', which source.target names: choose among path, AS, MR, N, age, or argmax"),
     ("age", {}, "has '40' in the column 'age', where source.target needs numbers from 0 to 1"),
     ("p", {}, r"the column 'p' of .* holds other numbers than 0 and 1, .* 'source.target=\[p, ...\]'"),
     ("AS", {"columns": {"label": "MR"}}, "source.target and source.columns.label both say what the label is")],
)  # fmt: skip
def test_targets_that_are_refused(tmp_path: Path, target: str, settings: dict, message: str):
    text = "path,AS,MR,N,age,p\n1,0,1,0,40,0.5\n2,1,0,0,50,0.25\n"
    with pytest.raises(SourceError, match=message.replace("age, or", "age, p, or")):
        listed(tmp_path, text, target=target, **settings)


def test_a_table_without_such_columns_has_no_argmax(tmp_path: Path):
    with pytest.raises(SourceError, match="has not several columns of zeros and ones for source.target=argmax"):
        listed(tmp_path, "path,AS,age\n1,0,3\n2,1,4\n", target="argmax")
    source = build_config("table", str(tmp_path), changes={"source.target": "AS"}).source
    with pytest.raises(SourceError, match="leave out source.folder, source.sheet, source.target and"):
        source.check()


def test_the_setting_takes_a_name_or_a_list():
    changes = dict([parse_change("source.target=[AS, MR]")])
    source = build_config("table", "t.csv", changes=changes).source
    assert source.target == ("AS", "MR")
    assert "target" not in build_config("table", "t.csv").source.model_dump()  # so digests without it stay valid


def test_labels_of_a_target_get_other_names(tmp_path: Path):
    listing = listed(tmp_path, HARD, target="AS", labels={"AS": "stenosis", "not AS": "others"})
    assert {row.label for row in listing.recordings} == {"stenosis", "others", None}
