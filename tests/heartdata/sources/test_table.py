"""Anybody's recordings: workbooks, folders without a table, patterns, and tables that tell no single label."""

import zipfile
from pathlib import Path

import pytest
from helpers import beats, write_wav, write_xlsx

from heartdata.config_file import build_config
from heartdata.errors import ConfigError, SourceError
from heartdata.sources import TableSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one.wav", "süß two.wav", "three.wav"):
        write_wav(tmp_path / "audio" / name, beats())
    return tmp_path


def listed(folder: Path, text: str, encoding: str = "utf-8", **settings):
    (folder / "table.csv").write_text(text, encoding=encoding)
    return TableSource(data=folder / "table.csv", **settings).listing(folder)


GOOD = [["File", "Diagnosis", "Patient ID"], ["audio/one.wav", "N", 7]]


def test_excel_table(folder: Path):
    rows = [["", ""], [*GOOD[0], "age", "seen", "at", "code"], ["", " "],
            ["audio/one.wav", "normal", 7, 40.5, "2020-01-02", "2020-01-02T03:04:05", "007"],
            ["audio/three.wav", "NA", 8.0]]  # fmt: skip
    one, three = TableSource(data=write_xlsx(folder / "t.XLSX", first=rows)).listing(folder).recordings
    assert (one.label, one.subject, one.missing) == ("normal", "7", None)
    assert one.extra == {"age": "40.5", "seen": "2020-01-02", "at": "2020-01-02 03:04:05", "code": "007"}
    assert (three.label, three.subject, three.extra) == (None, "8", {})


def test_excel_sheets(folder: Path):
    def labels(sheet: str | None = None, **sheets: list[list]) -> list[str | None]:
        source = TableSource(data=write_xlsx(folder / "t.xlsx", **sheets), sheet=sheet)
        return [row.label for row in source.listing(folder).recordings]

    notes, other = [["read me"]], [GOOD[0], ["audio/one.wav", "M", 7]]
    assert labels(a=GOOD, b=other) == labels(a=notes, b=[], c=GOOD) == ["N"]
    assert labels("b", a=GOOD, b=other) == ["M"]
    with pytest.raises(SourceError, match=r"has 2 sheets with columns for label and path .* are 'a', 'b', 'c': choose"):
        labels(a=notes, b=GOOD, c=other)
    with pytest.raises(SourceError, match=r"has no sheets with columns for label and path .* sheets are 'a', 'b': "):
        labels(a=notes, b=[])
    with pytest.raises(SourceError, match=r"has no sheet 'd'; it has: 'a', 'b'$"):
        labels("d", a=notes, b=GOOD)
    with pytest.raises(SourceError, match=r"t.xlsx has no rows"):
        labels(a=[GOOD[0]])
    with pytest.raises(SourceError, match=r"table.csv has no sheets: leave out source.sheet=a"):
        listed(folder, "path,label\naudio/one.wav,a\n", sheet="a")


def test_excel_that_unpacks_to_too_much(folder: Path):
    path = write_xlsx(folder / "t.xlsx", first=GOOD)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as book, book.open("xl/big.xml", "w") as big:
        for _ in range(501):
            big.write(bytes(1_000_000))
    with pytest.raises(SourceError, match=r"t.xlsx unpacks to 501 MB, more than 500: save the sheet of the recordings"):
        TableSource(data=path).check()


def test_excel_that_is_none(folder: Path):
    (folder / "t.xlsx").write_text("path,label\naudio/one.wav,a\n")
    with pytest.raises(SourceError, match=r"t.xlsx is damaged or another kind of file: save it as an Excel"):
        TableSource(data=folder / "t.xlsx").check()
    with zipfile.ZipFile(folder / "t.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook>")
    with pytest.raises(SourceError, match=r"t.xlsx cannot be read as a table \(.+\)$"):
        TableSource(data=folder / "t.xlsx").check()
    (folder / "t.xls").write_bytes(b"")
    with pytest.raises(SourceError, match=r"t.xls is a workbook of another kind: save it as an Excel workbook"):
        TableSource(data=folder / "t.xls").check()
    (folder / "t.xlsx").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + "EncryptedPackage".encode("utf-16-le"))
    with pytest.raises(SourceError, match=r"t.xlsx is protected by a password: save it without one$"):
        TableSource(data=folder / "t.xlsx").check()


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for name in ("normal/a_1.wav", "normal/deep/a_2.wav", "Murmur x/b-1.wav", "unlabelled/c_1.wav", ".trash/d_1.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_folder_of_a_sub_folder_per_class(classes: Path):
    def told() -> tuple[dict[str, str | None], list[str]]:
        listing = TableSource(data=classes).listing(classes)
        assert all(r.path == classes / r.recording_id for r in listing.recordings)
        return {r.recording_id: r.label for r in listing.recordings}, list(listing.notes)

    labels = {
        "Murmur x/b-1.wav": "Murmur x", "normal/a_1.wav": "normal", "normal/deep/a_2.wav": "normal",
        "unlabelled/c_1.wav": None,
    }  # fmt: skip
    by_folder = f"Labels are the names of the sub-folders of {classes}: Murmur x, normal"
    found, notes = told()
    assert (found, notes[0]) == (labels, by_folder)
    assert notes[1] == "1 recordings are in no sub-folder of a class, and are unlabelled: unlabelled/c_1.wav, ..."
    assert notes[2].startswith("The subjects of the recordings are unknown: every recording counts as a subject")
    for name in ("e.wav", "ages.csv"):
        (classes / name).write_bytes(b"")
    found, notes = told()
    assert found == {**labels, "e.wav": None}
    assert notes[1] == f"{classes}/ages.csv was not read: if it holds the labels, give it with --data"
    assert notes[2] == "2 recordings are in no sub-folder of a class, and are unlabelled: e.wav, ..."


def test_folder_that_tells_no_labels(folder: Path):
    ways = r"; or put the recordings of each class into a sub-folder of its name; or say .* --set 'source.pattern="
    message = r" is a folder without one sub-folder of recordings for each class: give the table of their labels with "
    with pytest.raises(SourceError, match=f"{folder}{message}--data, such as {folder}/recordings.csv{ways}"):
        TableSource(data=folder).check()
    for name in ("t.xlsx", "~$t.xlsx"):
        (folder / name).write_bytes(b"")
    with pytest.raises(SourceError, match=f"{message}--data {folder}/t.xlsx{ways}"):
        TableSource(data=folder).check()
    (folder / "none").mkdir()
    with pytest.raises(SourceError, match="none is a folder without recordings: give the table"):
        TableSource(data=folder / "none").check()
    with pytest.raises(SourceError, match="is a folder: give the table itself with --data, or leave out source.folder"):
        TableSource(data=folder, columns={"label": "x"}).check()


def test_folder_with_a_pattern(classes: Path):
    pattern = r"(?P<site>[^/]+)/(.*/)?(?P<label>[ab])_(?P<subject>\d)(?P<take>\w)?"
    listing = TableSource(data=classes, pattern=pattern).listing(classes)
    told = {r.recording_id: (r.label, r.subject, r.site, r.extra) for r in listing.recordings}
    nothing = (None, None, None, {})
    assert told == {
        "Murmur x/b-1.wav": nothing, "normal/a_1.wav": ("a", "1", "normal", {}),
        "normal/deep/a_2.wav": ("a", "2", "normal", {}), "unlabelled/c_1.wav": nothing,
    }  # fmt: skip
    note = "2 of 4 paths do not match source.pattern, so nothing was taken from them: Murmur x/b-1.wav, ..."
    assert listing.notes == [note]
    taken = TableSource(data=classes, pattern=r".*/(?P<label>.)(?P<take>.*)").listing(classes).recordings
    assert taken[0].extra == {"take": "-1"}
    with pytest.raises(SourceError, match=r"matches none of 4 paths, such as 'Murmur x/b-1': it must match the whole"):
        TableSource(data=classes, pattern="(?P<label>[abc])").check()


@pytest.mark.parametrize(
    ("data", "pattern", "said"),
    [("/x", "(", "source.pattern = '(': this is not a regular expression (missing )"),
     ("/x", "(?P<subject>.*)", "source.pattern = '(?P<subject>.*)': a group (?P<label>...) is needed, to say"),
     ("/x.csv", "(?P<age>.*)", "a group (?P<NAME>...) is needed, NAME being one of label, subject, site, collection")],
)  # fmt: skip
def test_pattern_that_is_refused(data: str, pattern: str, said: str):
    with pytest.raises(ConfigError) as error:
        build_config("table", data, changes={"source.pattern": pattern})
    assert said in str(error.value)


def test_table_with_a_pattern_for_what_has_no_column(folder: Path):
    text = "path,label,site\naudio\\one.wav,a,AV\naudio/three.wav,b,\n"
    listing = listed(folder, text, pattern=r"(?P<site>\w+)/(?P<subject>o)(?P<rest>.*)")
    assert [(r.label, r.subject, r.site, r.extra) for r in listing.recordings] == [
        ("a", "o", "AV", {"rest": "ne"}), ("b", None, None, {})
    ]  # fmt: skip
    unmatched, left_out = listing.notes
    assert unmatched.startswith("1 of 2 paths do not match source.pattern")
    assert left_out.endswith(f"1 of 3 audio files below {folder}: audio/süß two.wav")
    rows = listed(folder, "path,age\naudio/one.wav,4\n", pattern=r"audio/(?P<label>.).*").recordings
    assert [(r.label, r.extra) for r in rows] == [("o", {"age": "4"})]


@pytest.mark.parametrize(
    ("labels", "said"),
    [("MR;AS MR AS MS", "1 of 4 recordings have several labels in the column 'label' of .*, such as 'MR;AS', and"),
     ("MR|x MR", "1 of 2 .* such as 'MR|x'"), ("a+b b+c c+a a+b", "4 of 4 .* such as 'a\\+b'"), ("A,b a B", "such as 'A,b'"),
     ("murmur,systolic murmur murmur,diastolic S3+ S3 1+MR 2+MR a;b ;c", None)],
)  # fmt: skip
def test_labels_that_are_several(folder: Path, labels: str, said: str | None):
    text = "path;label\n" + "".join(f'{i};"{label}"\n' for i, label in enumerate(labels.split()))
    if said is None:
        assert len(listed(folder, text).recordings) == len(labels.split())
    else:
        with pytest.raises(SourceError, match=said + ".*source.columns.label=COLUMN"):
            listed(folder, text)


@pytest.mark.parametrize(
    ("labels", "said"),
    [(["AS/MR", "AS", "MR"], "1 of 3 .* such as 'AS/MR'"), (["as & mr", "AS", "MR"], "such as 'as & mr'"),
     (["AS and MR", "MR", "AS", "AS"], "1 of 4 .* such as 'AS and MR'"),
     (["AS, MR and MS", "MR", "AS", "MS"], "1 of 4 .* such as 'AS, MR and MS'"),
     (["['AS', 'MR']", "['AS']", "[]"], "3 of 3 "), (["{AS,MR}", "AS"], "1 of 2 "), (["('AS',)", "AS"], "1 of 2 "),
     (["S3/S4", "S3", "rhythm & murmur", "murmur", "band", "b", "and", "sand and dust", "(mild) AS (?)"], None)],
)  # fmt: skip
def test_labels_parted_by_what_may_belong_to_a_name(folder: Path, labels: list[str], said: str | None):
    text = "path;label\n" + "".join(f'{i};"{label}"\n' for i, label in enumerate(labels))
    if said is None:
        assert [row.label for row in listed(folder, text).recordings] == labels
    else:
        with pytest.raises(SourceError, match=said + ".*source.columns.label=COLUMN"):
            listed(folder, text)


def test_labels_that_are_no_classes(folder: Path):
    def table(labels: list[str]) -> str:
        return "path,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels))

    said = r"60 recordings have 60 different labels in the column 'label' of .*, such as 'p0', 'p1', 'p10', so these"
    with pytest.raises(SourceError, match=said):
        listed(folder, table([f"p{i}" for i in range(60)]))
    with pytest.raises(SourceError, match="300 recordings have 60 different labels"):
        listed(folder, table([f"{i}.5" for i in range(60)] * 5))
    for labels in ([f"p{i}" for i in range(60)] * 2, [str(i) for i in range(50)]):
        assert len(listed(folder, table(labels)).recordings) == len(labels)


def test_a_title_above_the_header_is_refused(folder: Path):
    with pytest.raises(
        SourceError, match=r"Clinic export, column.2, column.3 \(the first row that is not empty must be"
    ):
        listed(folder, "Clinic export,,\npath,label,age\none.wav,a,3\n")


def test_table_of_several_columns_that_may_be_the_label(folder: Path):
    text = "path,AS,MR,age,sex\naudio/one.wav,1,0.0,40,\naudio/three.wav,0,1.0,1,\n"
    with pytest.raises(SourceError, match="no label column but several of zeros and ones: AS, MR. Name one .*=COLUMN"):
        listed(folder, text)
    assert [r.label for r in listed(folder, text, columns={"label": "AS"}).recordings] == ["1", "0"]
    text = "path,diagnosis,Label,subject\naudio/one.wav,a,b,c\n"
    listing = listed(folder, text)
    assert (listing.recordings[0].label, listing.recordings[0].extra) == ("b", {"diagnosis": "a"})
    assert listing.notes[0] == (
        "The label was taken from the column 'Label'; if 'diagnosis' holds it, say so with --set source.columns.label=COLUMN"
    )
    assert not any("taken from" in note for note in listed(folder, text, columns={"label": "label"}).notes)
