"""PASCAL as the challenge published it: folders that tell the labels, without tables."""

from pathlib import Path

import pytest

from heartdata.errors import SourceError
from heartdata.sources import PascalSource, TableSource

# Below the challenge's own folders; beside set_a/ and set_b/; in their tables.
FILES = [
    ("Atraining_normal/201101070538.wav", "normal__201101070538.wav", "normal,"),
    ("Atraining_murmur/201104021355.wav", "murmur__201104021355.wav", "murmur,"),
    ("Atraining_extrahls/201104021355.wav", "extrahls__201104021355.wav", "extrahls,"),
    ("Atraining_artifact/201012172012.wav", "artifact__201012172012.wav", "artifact,"),
    ("Aunlabelledtest/201101091153.wav", "Aunlabelledtest__201101091153.wav", ","),
    ("Btraining_normal/103_1305031931979_D2.wav", "normal__103_1305031931979_D2.wav", "normal,"),
    (
        "Btraining_normal/Btraining_noisynormal/101_1305030823364_A.wav",
        "normal_noisynormal_101_1305030823364_A.wav",
        "normal,noisynormal",
    ),
    ("Btraining_murmur/112_1306243000964_A.wav", "murmur__112_1306243000964_A.wav", "murmur,"),
    ("Btraining_noisymurmur/162_1307101835989_B_1.wav", "murmur_noisymurmur_162_1307101835989_B_1.wav", "murmur,noisymurmur"),
    ("Btraining_extrastole/127_1306764300147_C2.wav", "extrastole__127_1306764300147_C2.wav", "extrastole,"),
    ("Bunlabelledtest/101_1305030823364_D.wav", "Bunlabelledtest__101_1305030823364_D.wav", ","),
]  # fmt: skip


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def original(tmp_path: Path) -> Path:
    for name, _, _ in FILES:
        written(tmp_path / "original" / name, name)
    return tmp_path / "original"


def listed(source: PascalSource, folder: Path) -> list[tuple]:
    source.check()
    listing = source.listing(folder)
    assert not listing.notes
    return [(row.label, row.subject, row.site, row.collection, row.extra) for row in listing.recordings]


def test_the_folders_of_the_challenge_and_the_tables_of_kaggle_tell_the_same(original: Path, tmp_path: Path):
    for name, letter in (("set_a", "A"), ("set_b", "B")):
        told = [(file, cells) for path, file, cells in FILES if path.startswith(letter)]
        rows = [f"{letter.lower()},{name}/{file},{cells}\n" for file, cells in told]
        written(tmp_path / "kaggle" / f"{name}.csv", "dataset,fname,label,sublabel\n" + "".join(rows))
        for file, _ in told:
            written(tmp_path / "kaggle" / name / file, file)
    expected = listed(PascalSource(data=tmp_path / "kaggle"), tmp_path)
    assert expected[6] == ("normal", "b101", "A", "set_b", {"noisy": "true", "epoch_ms": "1305030823364", "repeat": ""})
    found = listed(PascalSource(data=original), tmp_path)
    assert sorted(map(str, found)) == sorted(map(str, expected))
    (tmp_path / "around").mkdir()
    original.rename(tmp_path / "around" / "original")
    assert listed(PascalSource(data=tmp_path / "around", sets=("set_b",)), tmp_path) == [
        row for row in found if row[3] == "set_b"
    ]


def test_a_label_whose_folder_is_absent_stops_the_run(original: Path, tmp_path: Path):
    with pytest.raises(
        SourceError, match="Btraining_noisymurmur, .*, as the data set pascal does: use --source pascal"
    ):
        TableSource(data=original).check()
    (original / "Atraining_murmur").rename(tmp_path / "elsewhere")
    for do in (PascalSource(data=original).check, lambda: PascalSource(data=original).listing(tmp_path)):
        with pytest.raises(
            SourceError, match=r"original holds Atraining_normal, but no Atraining_murmur: .*\[set_b\]'$"
        ):
            do()
    PascalSource(data=original, sets=("set_b",)).check()
