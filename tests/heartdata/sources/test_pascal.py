"""PASCAL as Kaggle has it, with tables, and as the challenge published it, with a folder for each label."""

from collections import Counter
from pathlib import Path

import pytest
from builders import packed, touch, write
from helpers import REAL, needs_pascal

from heartdata.dataset.inventory import take_inventory
from heartdata.errors import SourceError
from heartdata.sources import PascalSource, TableSource
from heartdata.sources.pascal import file_key
from heartdata.storage.store import sha256_file

TITLE = "dataset,fname,label,sublabel\n"
# Below the challenge's own folders; beside set_a/ and set_b/; in their tables.
FILES = [
    ("Atraining_normal/201101070538.wav", "normal__201101070538.wav", "normal,"),
    ("Atraining_murmur/201104021355.wav", "murmur__201104021355.wav", "murmur,"),
    ("Atraining_extrahls/201104021355.wav", "extrahls__201104021355.wav", "extrahls,"),
    ("Atraining_artifact/201012172012.wav", "artifact__201012172012.wav", "artifact,"),
    ("Aunlabelledtest/201101091153.wav", "Aunlabelledtest__201101091153.wav", ","),
    ("Btraining_normal/103_1305031931979_D2.wav", "normal__103_1305031931979_D2.wav", "normal,"),
    ("Btraining_normal/Btraining_noisynormal/101_1305030823364_A.wav", "normal_noisynormal_101_1305030823364_A.wav",
     "normal,noisynormal"),
    ("Btraining_murmur/112_1306243000964_A.wav", "murmur__112_1306243000964_A.wav", "murmur,"),
    ("Btraining_noisymurmur/162_1307101835989_B_1.wav", "murmur_noisymurmur_162_1307101835989_B_1.wav", "murmur,noisymurmur"),
    ("Btraining_extrastole/127_1306764300147_C2.wav", "extrastole__127_1306764300147_C2.wav", "extrastole,"),
    ("Bunlabelledtest/101_1305030823364_D.wav", "Bunlabelledtest__101_1305030823364_D.wav", ","),
]  # fmt: skip


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return touch(tmp_path / "original", *(name for name, _, _ in FILES))


def facts(source: PascalSource, folder: Path) -> list[tuple]:
    source.check()
    listing = source.listing(folder)
    assert not listing.notes
    return [(row.label, row.subject, row.site, row.collection, row.extra) for row in listing.recordings]


def test_the_challenges_folders_and_kaggles_tables_have_the_same_labels(original: Path, tmp_path: Path):
    for name, letter in (("set_a", "A"), ("set_b", "B")):
        of_set = [(file, cells) for path, file, cells in FILES if path.startswith(letter)]
        rows = [f"{letter.lower()},{name}/{file},{cells}\n" for file, cells in of_set]
        write(tmp_path / "kaggle" / f"{name}.csv", TITLE + "".join(rows))
        touch(tmp_path / "kaggle" / name, *(file for file, _ in of_set))
    kaggle = facts(PascalSource(data=tmp_path / "kaggle"), tmp_path)
    assert kaggle[6] == ("normal", "b101", "A", "set_b", {"noisy": "true", "epoch_ms": "1305030823364", "repeat": ""})
    by_folder = facts(PascalSource(data=original), tmp_path)
    assert sorted(map(str, by_folder)) == sorted(map(str, kaggle))
    (tmp_path / "around").mkdir()
    original.rename(tmp_path / "around" / "original")
    set_b = facts(PascalSource(data=tmp_path / "around", sets=("set_b",)), tmp_path)
    assert set_b == [row for row in by_folder if row[3] == "set_b"]


def test_a_label_whose_folder_is_absent_stops_the_run(original: Path, tmp_path: Path):
    with pytest.raises(SourceError, match="as the data set pascal does: use --source pascal"):
        TableSource(data=original).check()
    (original / "Atraining_murmur").rename(tmp_path / "elsewhere")
    for step in (PascalSource(data=original).check, lambda: PascalSource(data=original).listing(tmp_path)):
        with pytest.raises(SourceError, match=r"holds Atraining_normal, but no Atraining_murmur: .*\[set_b\]'$"):
            step()
    PascalSource(data=original, sets=("set_b",)).check()


@pytest.mark.parametrize(
    ("in_table", "on_disk"),
    [("set_b/Btraining_extrastole_127_1306764300147_C2.wav", "extrastole__127_1306764300147_C2.wav"),
     ("set_b/Btraining_normal_Btraining_noisynormal_296_1311682952647_D.wav", "normal_noisynormal_296_1311682952647_D.wav"),
     ("set_a/__201101051105.wav", "Aunlabelledtest__201101051105.wav"),
     ("set_b/Bunlabelledtest_101_1305030823364_A.wav", "Bunlabelledtest__101_1305030823364_A.wav")],
)  # fmt: skip
def test_names_in_the_tables_and_on_the_disk_join(in_table: str, on_disk: str):
    assert file_key(in_table) == file_key(on_disk)


@needs_pascal
def test_the_real_tables_and_files_join_completely():
    table, notes = take_inventory(PascalSource(data=REAL / "pascal"), Path("unused"))
    assert not any("name no subject" in note for note in notes)
    rows = table.to_pandas()
    assert rows["missing"].isna().all()
    assert Counter(zip(rows["collection"], rows["label"].fillna(""), strict=True)) == {
        ("set_a", "artifact"): 40, ("set_a", "murmur"): 34, ("set_a", "normal"): 31, ("set_a", "extrahls"): 19,
        ("set_a", ""): 52, ("set_b", "normal"): 320, ("set_b", "murmur"): 95, ("set_b", "extrastole"): 46,
        ("set_b", ""): 195,
    }  # fmt: skip
    assert rows.loc[(rows["collection"] == "set_b") & rows["label"].notna(), "subject"].nunique() == 165
    assert rows.loc[rows["collection"] == "set_b", "subject"].notna().all()


@pytest.mark.parametrize("suffix", [".wav", ".WAV"])
def test_subjects_and_labels_whatever_the_suffix_and_the_blanks(tmp_path: Path, suffix: str):
    rows = {
        "murmur__112_1306243000964_A": "Murmur ,", "normal_noisynormal_112_1306778707532_D1": " normal, Noisynormal",
        "normal__odd": "normal,", "Bunlabelledtest__101_1305030823364_D": " ,",
    }  # fmt: skip
    touch(tmp_path, *(f"set_b/{name}{suffix}" for name in rows))
    write(tmp_path / "set_b.csv", TITLE + "".join(f"b,set_b/{name}.wav,{cells}\n" for name, cells in rows.items()))
    listing = PascalSource(data=tmp_path, sets=("set_b",)).listing(tmp_path)
    assert [(r.label, r.subject, r.site, r.extra.get("noisy")) for r in listing.recordings] == [
        ("murmur", "b112", "A", None), ("normal", "b112", "D", "true"), ("normal", None, None, None),
        (None, "b101", "D", None),
    ]  # fmt: skip
    (note,) = listing.notes
    assert note.startswith("The names of 1 of 4 recordings in set_b/ name no subject")
    assert note.endswith(f"; check set_b/normal__odd{suffix}, ...")


def test_a_row_that_joins_to_no_file_is_named(tmp_path: Path):
    touch(tmp_path, "set_b/normal__103_1.wav")
    write(tmp_path / "set_b.csv", TITLE + "b,set_b/normal__103_1.wav,normal,\nb,set_b/normal__104_1.wav,normal,\n")
    with pytest.raises(SourceError, match=r"1 of 2 rows do not join .*normal__104_1.wav \(no file\)"):
        PascalSource(data=tmp_path, sets=("set_b",)).listing(tmp_path)


def test_a_zip_is_listed_like_its_folder(original: Path, tmp_path: Path):
    source = PascalSource(data=packed(original, tmp_path / "original.zip"))
    source.check()
    assert not (tmp_path / "made").exists()
    assert facts(source, tmp_path / "made") == facts(PascalSource(data=original), tmp_path)
    first = source.listing(tmp_path / "made").recordings[0]
    assert first.path.is_relative_to(tmp_path / "made" / f"zip-{sha256_file(source.data)}")
    data = packed(write(tmp_path / "in/set_a.csv", TITLE).parent, tmp_path / "p.zip")
    with pytest.raises(SourceError, match=r"p.zip/set_a does not exist: --data must be the folder"):
        PascalSource(data=data, sets=("set_a",)).check()
