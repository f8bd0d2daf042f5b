"""JSON as a table."""

from pathlib import Path

import pytest
from builders import touch, write

from heartdata.errors import SourceError
from heartdata.sources import SourceRecording, TableSource


def rows_of(folder: Path, name: str, text: str) -> list[SourceRecording]:
    touch(folder, "001.wav", "2.wav")
    return list(TableSource(data=write(folder / name, text)).listing(folder).recordings)


RECORDS = (
    '{"path": "001", "label": 1, "subject": "007", "ok": true}',
    '{"path": "2", "label": 0, "subject": "8", "age": null}',
)


@pytest.mark.parametrize(
    ("name", "text"),
    [("t.jsonl", "\n".join(RECORDS) + "\n\n"), ("t.ndjson", "\ufeff" + "\r\n".join(RECORDS)),
     ("t.json", f"[{', '.join(RECORDS)}]"), ("t.json", "\n".join(RECORDS)), ("t.jsonl", f"[{', '.join(RECORDS)}]"),
     ("t.json", '{"version": 2, "recordings": [' + ", ".join(RECORDS) + "]}"),
     ("t.json", '{"path": {"0": "001", "1": "2"}, "label": {"0": 1, "1": 0}, "subject": {"0": "007", "1": "8"}, '
                '"ok": {"0": true, "1": null}}'),
     ("t.json", '{"path": ["001", "2"], "label": [1, 0], "subject": ["007", "8"], "ok": [true, NaN]}'),
     ("t.json", '{"columns": ["path", "label", "subject", "ok"], "index": [0, 1], '
                '"data": [["001", 1, "007", true], ["2", 0, "8", null]]}'),
     ("t.json", '{"001": {"label": 1, "subject": "007", "ok": true}, "2": {"label": 0, "subject": "8"}}')],
)  # fmt: skip
def test_shapes_of_json(tmp_path: Path, name: str, text: str):
    one, two = rows_of(tmp_path, name, text)
    assert (one.path, one.label, one.subject, one.extra) == (tmp_path / "001.wav", "1", "007", {"ok": "True"})
    assert (two.path, two.label, two.subject, two.extra) == (tmp_path / "2.wav", "0", "8", {})


def test_labels_by_path_and_nested_objects(tmp_path: Path):
    assert [row.label for row in rows_of(tmp_path, "t.json", '{"001.wav": "a", "2.wav": "b"}')] == ["a", "b"]
    text = '{"audio": {"path": "001.wav"}, "label": ["a"], "age": 12345678901234567890}'
    (row,) = rows_of(tmp_path, "t.jsonl", text)
    assert (row.path, row.label, row.extra) == (tmp_path / "001.wav", "a", {"age": "12345678901234567890"})


def test_a_list_of_files_is_a_recording_each(tmp_path: Path):
    rows = rows_of(tmp_path, "t.jsonl", '{"patient": "P1", "label": "a", "files": ["001.wav", "2.wav"]}')
    assert [(row.path, row.subject, row.label) for row in rows] == [
        (tmp_path / "001.wav", "P1", "a"), (tmp_path / "2.wav", "P1", "a")
    ]  # fmt: skip


@pytest.mark.parametrize(
    "cell",
    ['[{"at": "apex", "file": "001.wav"}, {"at": "erb", "file": "2.wav"}]', '[{"at": "apex", "file": "001.wav"}]',
     '["001", "2"]', "[0.1, 0.2]"],
)  # fmt: skip
def test_lists_and_objects_are_no_paths(tmp_path: Path, cell: str):
    text = f'[{{"subject": "P1", "label": "a", "recordings": {cell}}}, {{"label": "b", "recordings": null}}]'
    source = TableSource(data=write(tmp_path / "t.json", text), columns={"path": "recordings"})
    with pytest.raises(SourceError, match="t.json holds lists or objects in the column 'recordings', .* one row per"):
        source.check()
    usual = write(tmp_path / "t.jsonl", f'{{"path": {cell}, "label": "a"}}\n' * 2)
    with pytest.raises(SourceError, match="holds lists or objects in the column 'path'"):
        TableSource(data=usual).check()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("t.json", "[1, 2]", "is JSON of another shape than a table: write one object per recording"),
     ("t.json", '{"epochs": 3}', "is JSON of another shape"), ("t.json", '"x"', "is JSON of another shape"),
     ("t.json", '[{"path": "a",}]', r"is not JSON \(line 1: "), ("t.json", "", "is not JSON|has no rows"),
     ("t.jsonl", RECORDS[0] + '\n{"path": "2', r"is not JSON \(line 2: Unterminated string"),
     ("t.json", "[]", "has no rows: add one row per recording"), ("t.json", "[{}]", "has no rows")],
)  # fmt: skip
def test_json_that_is_no_table(tmp_path: Path, name: str, text: str, message: str):
    with pytest.raises(SourceError, match=f"{name} ({message})"):
        rows_of(tmp_path, name, text)


def test_names_of_columns_are_cleaned(tmp_path: Path):
    write(tmp_path / "t.json", '[{"path\u200b": "1.wav", " Label": "x", "age ": 3}]')
    (row,) = TableSource(data=touch(tmp_path, "1.wav") / "t.json").listing(tmp_path).recordings
    assert (row.label, row.extra) == ("x", {"age": "3"})


def test_lists_of_files_by_label_and_utf_16(tmp_path: Path):
    rows = rows_of(tmp_path, "t.json", '{"normal": ["001.wav"], "murmur": ["2.wav"]}')
    assert [(row.label, row.path) for row in rows] == [("normal", tmp_path / "001.wav"), ("murmur", tmp_path / "2.wav")]
    (tmp_path / "t.jsonl").write_text("\n".join(RECORDS), encoding="utf-16")
    assert [row.label for row in TableSource(data=tmp_path / "t.jsonl").listing(tmp_path).recordings] == ["1", "0"]
