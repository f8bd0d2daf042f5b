"""Recordings to predict: any folder, and tables without labels or with labels that no model could be trained on."""

from pathlib import Path

import pytest

from heartdata.errors import SourceError
from heartdata.sources import DemoSource, TableSource
from heartdata.sources.table import UnlabelledSource


@pytest.mark.parametrize("names", [["a.wav", "b.flac"], ["1/a.wav", "2/a.wav"], ["train/a.wav", "test/b.wav", "c.mp3"]])
def test_every_audio_file_of_a_folder_is_listed_whatever_its_folder_means(tmp_path: Path, names: list[str]):
    for name in [*names, "notes.docx"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    source = UnlabelledSource.at(tmp_path, DemoSource())
    source.check()
    listing = source.listing(tmp_path)
    assert sorted(r.recording_id for r in listing.recordings) == sorted(names)
    assert {r.label for r in listing.recordings} == {None}
    assert [note[-7:] for note in listing.notes] == ["1 .docx"]


@pytest.mark.parametrize(
    ("table", "labels"),
    [
        ("file,age\na.wav,7\nb.wav,8\n", [None, None]),
        ("file,label\na.wav,none\nb.wav,murmur\n", [None, "murmur"]),  # may be a class: a question to who trains
        ("file,label\na.wav,\nb.wav,\n", [None, None]),
        ("file,label\n" + "".join(f"{n}.wav,finding {n}\n" for n in "ab"), ["finding a", "finding b"]),
    ],
)
def test_a_table_needs_no_labels(tmp_path: Path, table: str, labels: list[str | None]):
    for name in "ab":
        (tmp_path / f"{name}.wav").touch()
    (tmp_path / "list.csv").write_text(table)
    listing = UnlabelledSource.at(tmp_path / "list.csv", DemoSource()).listing(tmp_path)
    assert [r.label for r in listing.recordings] == labels
    assert [Path(str(r.path)).name for r in listing.recordings] == ["a.wav", "b.wav"]
    assert [note for note in listing.notes if "source.missing_values" not in note] == []


def test_the_settings_of_a_table_are_used(tmp_path: Path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "list.csv").write_text("file,Sound\nx,a.wav\n")
    settings = TableSource(data="elsewhere", columns={"path": "Sound"}, corrections="of_elsewhere.csv")
    assert UnlabelledSource.at(tmp_path / "list.csv", settings).corrections is None
    (recording,) = UnlabelledSource.at(tmp_path / "list.csv", settings).listing(tmp_path).recordings
    assert recording.path == tmp_path / "a.wav"


def test_a_folder_without_audio_and_a_single_recording_are_refused(tmp_path: Path):
    (tmp_path / "notes.docx").touch()
    with pytest.raises(SourceError, match="holds no audio file.*1 .docx"):
        UnlabelledSource.at(tmp_path, DemoSource()).check()
    (tmp_path / "a.WAV").touch()
    with pytest.raises(SourceError, match="is one recording: use `heartbeat predict"):
        UnlabelledSource.at(tmp_path / "a.WAV", DemoSource()).check()


def test_a_path_that_does_not_exist_is_refused_in_words_of_the_command(tmp_path: Path):
    message = "absent does not exist: give the table or folder of recordings with `heartbeat score DATA`$"
    with pytest.raises(SourceError, match=message):
        UnlabelledSource.at(tmp_path / "absent", DemoSource()).check()
