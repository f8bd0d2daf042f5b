"""Parquet that holds the audio itself, as Hugging Face data sets do."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from builders import touch

from heartdata.errors import SourceError
from heartdata.sources import SourceListing, TableSource
from heartdata.sources.table import parquet

AUDIO = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def sound(level: float, kind: str = "WAV") -> bytes:
    content = io.BytesIO()
    sf.write(content, np.full(400, level), 8000, format=kind)
    return content.getvalue()


def hugging_face(path: Path, levels: list[float], names: list[str | None], labels: list[int]) -> Path:
    """A shard of a data set with audio and class labels."""
    cells = [{"bytes": sound(level), "path": name} for level, name in zip(levels, names, strict=True)]
    feature = {"names": ["normal", "murmur"], "_type": "ClassLabel"}
    info = {"info": {"features": {"audio": {"_type": "Audio"}, "label": feature}}}
    schema = pa.schema({"audio": AUDIO, "label": pa.int64()}, metadata={"huggingface": json.dumps(info)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"audio": cells, "label": labels}, schema=schema), path)
    return path


def listing_of(data: Path, workdir: Path, **settings) -> SourceListing:
    source = TableSource(data=data, **settings)
    source.check()
    assert not workdir.exists() or settings
    return source.listing(workdir)


def test_audio_and_class_labels_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "BATCH_ROWS", 2)
    data = hugging_face(tmp_path / "t.parquet", [0.1, 0.2, 0.3], ["a b.wav", "x/b.wav", None], [0, 1, -1])
    rows = listing_of(data, tmp_path / "made").recordings
    assert [row.label for row in rows] == ["normal", "murmur", None]
    assert [Path(row.path).read_bytes() for row in rows] == [sound(0.1), sound(0.2), sound(0.3)]
    assert [row.recording_id.partition("-")[0] for row in rows[:2]] == ["a_b", "b"]
    assert {Path(row.path).suffix for row in rows} == {".wav"}
    monkeypatch.setattr(parquet, "_written", None)  # on later nights, nothing is unpacked
    assert TableSource(data=data).listing(tmp_path / "made").recordings == rows


def test_names_of_unpacked_audio_do_not_depend_on_rows_and_shards(tmp_path: Path):
    one = hugging_face(tmp_path / "1" / "t.parquet", [0.1, 0.2], [None, "b.wav"], [0, 1])
    two = hugging_face(tmp_path / "2" / "t.parquet", [0.3, 0.2, 0.1], [None, "b.wav", None], [0, 1, 0])
    ids = [
        {row.recording_id for row in listing_of(data, tmp_path / data.parent.name / "made").recordings}
        for data in (one, two)
    ]
    assert ids[0] < ids[1]


@pytest.mark.parametrize(
    ("kind", "suffix"), [("WAV", ".wav"), ("FLAC", ".flac"), ("OGG", ".ogg"), ("MP3", ".mp3"), ("AIFF", ".aiff")]
)
@pytest.mark.parametrize("column", ["audio", "content"])
def test_a_column_of_bytes_gets_the_suffix_of_its_format(tmp_path: Path, kind: str, suffix: str, column: str):
    table = pa.table({column: [sound(0.1, kind), None], "label": ["a", "b"], "subject": ["P1", "P2"]})
    pq.write_table(table, tmp_path / "t.parquet")
    one, two = listing_of(tmp_path / "t.parquet", tmp_path / "made").recordings
    assert (one.path.suffix, one.subject, one.missing) == (suffix, "P1", None)
    assert (two.path, two.missing) == (None, "the table gives no path")


def test_a_folder_of_shards_is_one_table_with_the_parts_of_the_split(tmp_path: Path):
    root = tmp_path / "set"
    for i, part in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        hugging_face(root / "data" / f"{part}.parquet", [0.1 + i / 10], ["0.wav"], [i % 2])
    listing = listing_of(root, tmp_path / "made")
    assert sorted((row.extra["part"], row.label) for row in listing.recordings) == [
        ("test", "normal"), ("train", "murmur"), ("train", "normal")
    ]  # fmt: skip
    assert len({row.path for row in listing.recordings}) == 3
    assert f"3 Parquet files below {root} were read as one table" in listing.notes
    assert any("--set split.strategy=column --set split.column=part" in note for note in listing.notes)
    one = root / "data" / "train-00000-of-00002.parquet"
    (note, *_) = TableSource(data=one).listing(tmp_path / "made").notes
    assert note == f"{one} is one of 2 shards: to read all, give their folder with --data"


def test_paths_without_bytes_are_files(tmp_path: Path):
    touch(tmp_path, "wavs/a.wav")
    table = pa.table({"audio": pa.array([{"bytes": None, "path": "wavs/a.wav"}], AUDIO), "label": ["x"]})
    pq.write_table(table, tmp_path / "t.parquet")
    (row,) = listing_of(tmp_path / "t.parquet", tmp_path / "made").recordings
    assert (row.path, row.label) == (tmp_path / "wavs" / "a.wav", "x")


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"audio": [{"array": [0.1, 0.2], "sampling_rate": 4000}]}, "holds decoded samples in the column 'audio'"),
     ({"one": [sound(0.1)], "two": [sound(0.2)]}, "holds audio in the columns one, two: choose one with --set source.col"),
     ({"path": ["a.wav"], "image": [{"bytes": b"\x89PNG", "path": "a.png"}]}, "holds bytes in the column 'image'")],
)  # fmt: skip
def test_other_bytes_and_samples_are_refused(tmp_path: Path, columns: dict, message: str):
    pq.write_table(pa.table(columns | {"label": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=message):
        listing_of(tmp_path / "t.parquet", tmp_path / "made")


def test_one_of_several_columns_of_audio_is_chosen(tmp_path: Path):
    pq.write_table(pa.table({"one": [sound(0.1)], "two": [sound(0.2)], "label": ["a"]}), tmp_path / "t.parquet")
    listing = listing_of(tmp_path / "t.parquet", tmp_path / "made", columns={"path": "two"})
    assert [Path(row.path).read_bytes() for row in listing.recordings] == [sound(0.2)]
    assert listing.notes[0] == "The bytes in the columns one are not read; the audio is that of the column two"


def test_damage_in_the_audio_is_one_sentence(tmp_path: Path):
    data = hugging_face(tmp_path / "t.parquet", [0.1] * 3, ["a", "b", "c"], [0, 1, 0])
    content = bytearray(data.read_bytes())
    content[4:200] = bytes(196)
    data.write_bytes(content)
    with pytest.raises(SourceError, match=r"t.parquet cannot be read as a table \(.*\): download it again"):
        listing_of(data, tmp_path / "made")


def test_names_of_columns_are_cleaned_also_beside_audio(tmp_path: Path):
    cells = {"audio\u200b": [sound(0.1), sound(0.2)], " label ": ["a", "b"], "count": [1e17, 2e17]}
    pq.write_table(pa.table(cells), tmp_path / "t.parquet")
    rows = listing_of(tmp_path / "t.parquet", tmp_path / "work").recordings
    assert [(row.label, row.extra) for row in rows] == [("a", {"count": "1e+17"}), ("b", {"count": "2e+17"})]
    assert all(Path(str(row.path)).is_file() for row in rows)


def test_damaged_and_differing_shards_are_refused(tmp_path: Path):
    hugging_face(tmp_path / "a.parquet", [0.1, 0.2], ["1.wav", "2.wav"], [0, 1])
    pq.write_table(
        pa.table({"sound": pa.array([{"bytes": sound(0.3), "path": "3.wav"}], AUDIO)}), tmp_path / "b.parquet"
    )
    with pytest.raises(SourceError, match=r"columns of different names, 'audio' and 'sound' \(b.parquet\)"):
        listing_of(tmp_path, tmp_path / "work")
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match="b.parquet cannot be read as a table: download it again, or move it away"):
        listing_of(tmp_path, tmp_path / "work")


@pytest.mark.parametrize(
    "cell", [["1.wav", "2.wav"], [{"at": "apex", "file": "1.wav"}], {"at": "apex", "file": "1.wav"}]
)
def test_lists_and_objects_are_no_paths(tmp_path: Path, cell: object):
    pq.write_table(pa.table({"recording": [cell, None], "label": ["a", "b"]}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match="holds lists or objects in the column 'recording', where a path should be"):
        listing_of(tmp_path / "t.parquet", tmp_path / "made")


def test_samples_and_an_unnamed_index_of_names(tmp_path: Path):
    pq.write_table(pa.table({"audio": [[0.1, 0.2]], "label": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match="holds decoded samples in the column 'audio'"):
        listing_of(tmp_path / "t.parquet", tmp_path)
    touch(tmp_path, "1.wav")
    pd.DataFrame({"label": ["a"]}, index=["1.wav"]).to_parquet(tmp_path / "t.parquet")
    (row,) = listing_of(tmp_path / "t.parquet", tmp_path, columns={"path": "index"}).recordings
    assert row.path == tmp_path / "1.wav"
