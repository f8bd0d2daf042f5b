"""Sources: the demo's determinism, PASCAL's names, anybody's table."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers import REAL, beats, needs_pascal, write_wav

from heartdata.audio.synthesis import Heart, beat_times, synthesize
from heartdata.dataset.inventory import take_inventory
from heartdata.errors import SourceError
from heartdata.sources import DemoSource, PascalSource, TableSource
from heartdata.sources.pascal import file_key


def test_demo_is_the_same_bytes_for_the_same_seed(tmp_path: Path):
    def hashes(seed: int, folder: str) -> dict[str, str]:
        table, _ = take_inventory(DemoSource(seed=seed, subjects_per_class=3, sites=2), tmp_path / folder)
        return dict(zip(table["recording_id"].to_pylist(), table["sha256"].to_pylist(), strict=True))

    assert hashes(0, "one") == hashes(0, "two") != hashes(1, "three")
    assert len(hashes(0, "one")) == 4 * 3 * 2 + 8


def test_made_beats_come_at_the_asked_rate():
    rng = np.random.default_rng(0)
    heart = Heart.draw("normal", rng)
    s1, s2 = beat_times(heart, 30.0, rng)
    assert 60 / np.diff(s1).mean() == pytest.approx(heart.rate_bpm, rel=0.05)
    assert ((s2 - s1) > 0.19).all()
    sound = synthesize(heart, 6.0, 0, rng)
    assert sound.samples.shape == (24000,)
    assert np.abs(sound.samples).max() == pytest.approx(0.8)


def test_extrasystole_is_early_and_followed_by_a_pause():
    rng = np.random.default_rng(1)
    heart = Heart.draw("extrasystole", rng)
    intervals = np.diff(beat_times(heart, 60.0, rng)[0]) * heart.rate_bpm / 60
    early = np.flatnonzero(intervals[:-1] < 0.8)
    assert len(early) > 3
    assert (intervals[early + 1] > 1.2).all()


@pytest.mark.parametrize(
    ("in_table", "on_disk"),
    [("set_b/Btraining_extrastole_127_1306764300147_C2.wav", "extrastole__127_1306764300147_C2.wav"),
     ("set_b/Btraining_normal_Btraining_noisynormal_296_1311682952647_D.wav", "normal_noisynormal_296_1311682952647_D.wav"),
     ("set_a/__201101051105.wav", "Aunlabelledtest__201101051105.wav"),
     ("set_b/Bunlabelledtest_101_1305030823364_A.wav", "Bunlabelledtest__101_1305030823364_A.wav")],
)  # fmt: skip
def test_pascal_names_join(in_table: str, on_disk: str):
    assert file_key(in_table) == file_key(on_disk)


@needs_pascal
def test_pascal_joins_completely():
    table, notes = take_inventory(PascalSource(data=REAL / "pascal"), Path("unused"))
    assert not any("name no subject" in note for note in notes)
    rows = table.to_pandas()
    assert len(rows) == 832
    assert rows["missing"].isna().all()
    counts = Counter(zip(rows["collection"], rows["label"].fillna(""), strict=True))
    assert counts == {
        ("set_a", "artifact"): 40, ("set_a", "murmur"): 34, ("set_a", "normal"): 31, ("set_a", "extrahls"): 19,
        ("set_a", ""): 52, ("set_b", "normal"): 320, ("set_b", "murmur"): 95, ("set_b", "extrastole"): 46,
        ("set_b", ""): 195,
    }  # fmt: skip
    assert rows.loc[(rows["collection"] == "set_b") & rows["label"].notna(), "subject"].nunique() == 165
    assert rows.loc[rows["collection"] == "set_b", "subject"].notna().all()


@pytest.mark.parametrize("suffix", [".wav", ".WAV", ".Wav"])
def test_pascal_subjects_and_labels_whatever_the_suffix_and_the_blanks(tmp_path: Path, suffix: str):
    (tmp_path / "set_b").mkdir()
    rows = "dataset,fname,label,sublabel\n"
    for name, label, sublabel in (
        ("murmur__112_1306243000964_A", "Murmur ", ""),
        ("normal_noisynormal_112_1306778707532_D1", " normal", " Noisynormal"),
        ("normal__odd", "normal", ""),
        ("Bunlabelledtest__101_1305030823364_D", " ", ""),
    ):
        (tmp_path / f"set_b/{name}{suffix}").touch()
        rows += f"b,set_b/{name}.wav,{label},{sublabel}\n"
    (tmp_path / "set_b.csv").write_text(rows)
    listing = PascalSource(data=tmp_path, sets=("set_b",)).listing(tmp_path)
    assert [(r.label, r.subject, r.site, r.extra.get("noisy")) for r in listing.recordings] == [
        ("murmur", "b112", "A", None), ("normal", "b112", "D", "true"), ("normal", None, None, None),
        (None, "b101", "D", None),
    ]  # fmt: skip
    (note,) = listing.notes
    assert note.startswith(
        "The names of 1 of 4 recordings in set_b/ name no subject, so each counts as a subject of its"
    )
    assert note.endswith(f"; check set_b/normal__odd{suffix}, ...")


@needs_pascal
def test_pascal_row_without_a_file_is_named(tmp_path: Path):
    for name in ("set_a", "set_b", "set_a.csv"):
        (tmp_path / name).symlink_to(REAL / "pascal" / name)
    text = (REAL / "pascal" / "set_b.csv").read_text().replace("_127_1306764300147_C2", "_127_1306764300147_C9")
    (tmp_path / "set_b.csv").write_text(text)
    with pytest.raises(SourceError, match=r"1 of 656 rows do not join .*127_1306764300147_C9"):
        PascalSource(data=tmp_path).listing(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("one.wav", "süß two.wav", "three.wav"):
        write_wav(tmp_path / "audio" / name, beats())
    return tmp_path


def listed(folder: Path, text: str, written_in: str = "utf-8", **settings):
    (folder / "table.csv").write_text(text, encoding=written_in)
    return TableSource(data=folder / "table.csv", **settings).listing(folder)


def test_table_with_usual_names(folder: Path):
    listing = listed(folder, "file,diagnosis,patient_id,age\naudio/one.wav,normal,7,40\naudio/süß two.wav,,8,\n")
    one, two = listing.recordings
    assert (one.label, one.subject, one.extra) == ("normal", "7", {"age": "40"})
    assert (two.label, two.subject, two.missing) == (None, "8", None)
    assert listing.notes == [
        f"Left out, as they are in no row of the table: 1 of 3 audio files below {folder}: audio/three.wav"
    ]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path;label\naudio/one.wav;normal\n", "utf-8"),
        ("path,label\naudio/one.wav,normal\n", "utf-8-sig"),
        ("path\tlabel\r\naudio/one.wav\tnormal\r\n", "utf-8"),
        ("sep=;\npath;label\naudio/one.wav;normal\n", "utf-8-sig"),
        ("SEP=|\r\npath|label\r\naudio/one.wav|normal\r\n", "utf-8"),
        ("path\tlabel\r\naudio/one.wav\tnormal\r\n", "utf-16"),
        ("path|label\naudio/one.wav|normal\n", "utf-8"),
        ('"path";"label";"notes, if any"\naudio/one.wav;normal;"a;b, c, d, e"\n', "utf-8"),
        ("path,label,a;b;c;d\naudio/one.wav,normal,1;2;3;4\n", "utf-8"),
        (",,\npath,label,,\naudio/one.wav,normal,,\n", "utf-8"),
    ],
)
def test_table_dialects(folder: Path, text: str, encoding: str):
    (row,) = listed(folder, text, encoding).recordings
    assert (row.label, row.missing) == ("normal", None)


def test_a_table_in_another_encoding_is_read_when_that_is_said(folder: Path):
    text = "path;label\naudio/one.wav;Geräusch\naudio/three.wav;souffle é\n"
    rows = listed(folder, text, "cp1252", encoding="cp1252").recordings
    assert [row.label for row in rows] == ["Geräusch", "souffle é"]
    marked = listed(folder, text, "utf-16", encoding="cp1252").recordings  # its mark tells more
    assert [row.label for row in marked] == ["Geräusch", "souffle é"]
    with pytest.raises(SourceError, match="is not CP932 text: save it as CSV UTF-8, or .*source.encoding=NAME"):
        listed(folder, "path;label\naudio/one.wav;é\xff\n", "cp1252", encoding="cp932")
    for wrong in ("utf-99", "base64"):
        with pytest.raises(ValueError, match="there is no such encoding"):
            listed(folder, text, encoding=wrong)


def test_table_rows_of_other_lengths_than_the_header(folder: Path):
    rows = listed(folder, "path,label,subject\naudio/one.wav,a\n\n,,,,\n , ,\naudio/three.wav,b,7\n").recordings
    assert [(r.label, r.subject, r.missing) for r in rows] == [("a", None, None), ("b", "7", None)]
    with pytest.raises(SourceError, match=r"table.csv: line 2 has 3 cells, the header 2: .* a comma, or remove"):
        listed(folder, "path,label\nheart, one.wav,a\naudio/one.wav,a\n")
    with pytest.raises(SourceError, match=r"table.csv: line 6 has 3 cells, the header 2: .* a semicolon, or"):
        listed(folder, 'sep=;\npath;label\n\naudio/one.wav;"a\nb"\naudio/three.wav;b;c\n')


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("", "utf-8", "has no rows: add one row a recording"),
        ("path,label\n,\n", "utf-8", "has no rows: add one row a recording"),
        ("path,label\na.wav,Geräusch\n", "latin-1", "is not UTF-8 text: save it as CSV UTF-8"),
        ('path,label\na.wav,"normal\n', "utf-8", "cannot be read as a table .*unexpected end of data"),
        (
            "a;b;c,d\n1;2;3,4\n",
            "utf-8",
            "has no path column and no label column of a usual name; it has: a, b, c,d. Name them "
            "with --set source.columns.path=COLUMN --set source.columns.label=COLUMN --set source.columns.subject=COLUMN ",
        ),
        (
            "a,label\n1,2\n",
            "utf-8",
            "has no path column .* with --set source.columns.path=COLUMN --set",
        ),
        (
            "a,label,subject\n1,2,3\n",
            "utf-8",
            "has no path column .* with --set source.columns.path=COLUMN$",
        ),
    ],
)
def test_table_that_cannot_be_read(folder: Path, text: str, encoding: str, message: str):
    with pytest.raises(SourceError, match="table.csv " + message):
        listed(folder, text, encoding)


@pytest.mark.parametrize("absent", ["", " ", "NA", "n/a", "#N/A", "NaN", "NULL", "?", "-", " Unlabelled "])
def test_table_cells_that_count_as_absent(folder: Path, absent: str):
    text = f"path,label,subject,site\naudio/one.wav,{absent},{absent},{absent}\naudio/three.wav,Unknown,unknown,0\n"
    one, three = listed(folder, text).recordings
    assert (one.label, one.subject, one.site) == (None, None, None)
    assert (three.label, three.subject, three.site) == ("Unknown", "unknown", "0")


def test_table_missing_values_can_be_set(folder: Path):
    text = "path,label,subject\naudio/one.wav,unknown,UNKNOWN\naudio/three.wav,,NA\n"
    one, three = listed(folder, text, missing_values=("Unknown",)).recordings
    assert (one.label, one.subject, three.label, three.subject) == (None, None, None, "NA")


def test_table_labels_of_several_spellings_are_one(folder: Path):
    text = "path,label\n1,Normal\n2,normal \n3,normal\n4,murmur\n5,Murmur\n6,other\n"
    listing = listed(folder, text)
    assert [r.label for r in listing.recordings] == ["normal"] * 3 + ["Murmur"] * 2 + ["other"]
    assert listing.notes[0] == (
        "Labels that differ only in letter case, or in .0, were taken as one: 'Normal' as 'normal', 'murmur' as 'Murmur'"
    )
    assert not any("taken as one" in note for note in listed(folder, "path,label\n1,a\n2, a \n3,b\n").notes)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("File name,Diagnosis,Patient ID", {}),
        ("Audio file,LABEL,participant-id", {}),
        ("FileName,Class,PatientID", {}),
        ("recording_id,labels,SubjectNo", {}),
        ("x y,Result (final),Who?", {"path": "X_Y", "label": "result final", "subject": "who"}),
        ("File,Label,patient,Subject,label", {"subject": "patient"}),
        ("path,label,who,Who", {"subject": "who"}),
        ("path,Who,who", {"label": "Who", "subject": "who"}),
    ],
)
def test_table_columns_are_found_whatever_their_case_and_punctuation(folder: Path, header: str, columns: dict):
    (row,) = listed(folder, f"{header}\naudio/one.wav,normal,7\n", columns=columns).recordings
    assert (row.label, row.subject, row.missing) == ("normal", "7", None)


def test_table_columns_without_a_letter_do_not_stand_for_each_other(folder: Path):
    with pytest.raises(SourceError, match=r"has no column '\?' for the subject; it has: #, path, label"):
        listed(folder, "#,path,label\n1,audio/one.wav,a\n", columns={"subject": "?"})


def test_table_columns_of_one_name_and_of_none(folder: Path):
    (row,) = listed(folder, "path,label,label,,\naudio/one.wav,a,b,c,d\n").recordings
    assert (row.label, row.extra) == ("a", {"label.3": "b", "column.4": "c", "column.5": "d"})


def test_table_paths_of_another_system(folder: Path):
    write_wav(folder / "audio\\one.wav", beats())
    rows = listed(folder, "path,label\naudio\\one.wav,a\naudio\\three.wav,a\naudio\\four.wav,a\n").recordings
    assert [r.path for r in rows] == [folder / "audio\\one.wav", folder / "audio" / "three.wav", None]
    assert [r.recording_id for r in rows] == ["audio/one.wav", "audio/three.wav", "audio/four.wav"]
    assert rows[2].missing == f"there is no file {folder}/audio/four.wav"


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b.wav", "audio", "audio/one.wav/x"])
def test_table_paths_that_name_no_file_are_missing(folder: Path, name: str):
    (folder / "table.csv").write_text(f"path,label\n{name},a\naudio/one.wav,a\n")
    table, _ = take_inventory(TableSource(data=folder / "table.csv"), folder)
    missing = {row["recording_id"]: row["missing"] for row in table.to_pylist()}
    assert missing[name] is not None
    assert missing["audio/one.wav"] is None


def test_table_columns_by_name_and_subjects_missing(folder: Path):
    text = "a,b\naudio/one.wav,normal\n"
    listing = listed(folder, text, columns={"path": "a", "label": "b"})
    assert "no subject column" in listing.notes[0]
    with pytest.raises(SourceError, match="has no path column and no label column .* it has: a, b"):
        listed(folder, text)
    with pytest.raises(SourceError, match="has no column 'c' for the label; it has: a, b"):
        listed(folder, text, columns={"path": "a", "label": "c"})


def test_table_rows_without_files_and_doubled_rows(folder: Path):
    rows = listed(folder, "path,label\nabsent.wav,x\naudio/one.wav,x\naudio/one.wav,y\n,z\n").recordings
    assert [r.recording_id for r in rows] == ["absent.wav", "audio/one.wav", "audio/one.wav#2", "(no path)"]
    assert "there is no file" in rows[0].missing
    assert rows[3].missing == "the table gives no path"


def test_parquet_table(folder: Path):
    pd.DataFrame({"path": ["audio/one.wav", "audio/three.wav"], "label": ["a", None]}).to_parquet(folder / "t.parquet")
    rows = TableSource(data=folder / "t.parquet").listing(folder).recordings
    assert [r.label for r in rows] == ["a", None]


def test_parquet_numbers_and_empty_rows(folder: Path):
    columns = {
        "path": ["audio/one.wav", None, "audio/three.wav", ""],
        "subject": [7.0, None, None, None],
        "label": pd.Categorical(["a", None, "b", None]),
        "age": [0.5, None, 40.0, None],
        "checked": [True, None, False, None],
    }
    pd.DataFrame(columns).to_parquet(folder / "t.parquet")
    one, three = TableSource(data=folder / "t.parquet").listing(folder).recordings
    assert (one.subject, one.extra) == ("7", {"age": "0.5", "checked": "True"})
    assert (three.subject, three.label, three.extra) == (None, "b", {"age": "40.0", "checked": "False"})


def test_inventory_schema_holds_when_a_column_is_all_empty(folder: Path):
    (folder / "table.csv").write_text("path,label\naudio/one.wav,\n")
    table, _ = take_inventory(TableSource(data=folder / "table.csv"), folder)
    assert table.schema.field("label").type == pa.string()
