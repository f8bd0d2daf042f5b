"""Corrections are laid over any source by recording; what is not understood is refused in one sentence."""

import json
from pathlib import Path

import pytest
from helpers import beats, write_wav, write_xlsx

from heartdata.checks.suite import ValidationConfig
from heartdata.checks.validation import validate
from heartdata.config_file import build_config
from heartdata.dataset.inventory import take_inventory
from heartdata.errors import SourceError
from heartdata.sources import DemoSource, MixSource, TableSource
from heartdata.sources.base import check_source
from heartdata.sources.corrections import corrected_listing
from heartdata.storage.hash_cache import sha256_of
from heartdata.storage.schemas import FACTS
from heartdata.storage.store import content_digest, table_from_rows

HEADER = "recording,label,new_label,who,why\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("normal", "murmur"):
        for name in ("a", "b", "Ü c"):
            write_wav(tmp_path / "data" / label / f"{name}.wav", beats(60 + len(label), 2.0))
    return tmp_path / "data"


def corrected(folder: Path, text: str | bytes, name: str = "corrections.csv", **settings):
    table = folder.parent / name
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    listing = corrected_listing(TableSource(data=folder, corrections=table, **settings), folder.parent)
    return {row.recording_id: row for row in listing.recordings}, listing.notes


def test_labels_change_recordings_are_excluded_and_both_are_counted(folder: Path):
    rows, notes = corrected(
        folder,
        HEADER + "normal/a.wav,normal,Murmur,Ann,heard it twice\nnormal/b.wav,normal,exclude,Bo,cough\n"
        "murmur/a.wav,murmur,murmur,Ann,\nmurmur/b.wav,murmur,,,\nnormal/a.wav,normal,murmur,Bo,me too\n",
    )
    assert rows["normal/a.wav"].label == "murmur"
    assert rows["normal/a.wav"].extra == {"label_in_source": "normal", "corrected": "by Ann: heard it twice"}
    assert rows["normal/b.wav"].excluded == "excluded by Bo: cough"
    assert rows["normal/b.wav"].label == "normal"
    assert rows["murmur/a.wav"].extra == rows["murmur/b.wav"].extra == {}
    assert (
        "3 corrections: 1 labels changed, 1 excluded, 1 as they were (corrections.csv); 1 rows have no new label"
        in str(notes)
    )


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffrecording;new_label;who;why\r\nnormal/Ü c.wav;murmur;Jörg;a, b\r\n".encode(),
        "recording\tnew_label\twho\twhy\nnormal/Ü c.wav\tmurmur\tJörg\ta, b\n".encode("utf-16"),
        'recording,label,who,why\n"normal\\Ü c.wav",murmur,Jörg,"a, b"\n'.encode("cp1252"),
        'Recording ID,New label,Who,Why\nnormal/U\u0308 c.wav ,MURMUR,Jörg,"a, b"\n'.encode(),
    ],
    ids=["semicolons", "utf-16", "windows", "mac"],
)
def test_what_spreadsheets_write_is_read(folder: Path, content: bytes):
    rows, _ = corrected(folder, content)
    assert rows["normal/Ü c.wav"].label == "murmur"
    assert rows["normal/Ü c.wav"].extra["corrected"] == "by Jörg: a, b"


def test_a_workbook_is_read(folder: Path):
    book = write_xlsx(folder.parent / "c.xlsx", sheet=[["recording", "new_label"], ["normal/a.wav", "murmur"]])
    rows, _ = corrected(folder, book.read_bytes(), "c.xlsx")
    assert rows["normal/a.wav"].label == "murmur"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("normal/aa.wav,,murmur,,", r"1 recordings that the source does not list: 'normal/aa.wav' \(row 2, perhaps 'normal/a.wav'"),
        ("normal/a.wav,,murmer,,", r"no recording of the source has: 'murmer' \(row 2, perhaps 'murmur'\); choose among exclude"),
        ("normal/a.wav,,murmur,Ann,\nnormal/a.wav,,exclude,Bo,", r"twice, to murmur \(row 2, by Ann\) and to exclude \(row 3"),
    ],
)  # fmt: skip
def test_typos_and_contradictions_are_refused(folder: Path, row: str, message: str):
    with pytest.raises(SourceError, match=message):
        corrected(folder, HEADER + row)


def test_a_table_without_the_columns_or_an_absent_one_is_refused(folder: Path):
    with pytest.raises(SourceError, match="no column new_label: name the columns recording, new_label, who and why"):
        corrected(folder, "recording,who\nnormal/a.wav,Ann\n")
    source = TableSource(data=folder, corrections=folder / "none.csv")
    for part in (source, MixSource(sources=(source,))):
        with pytest.raises(SourceError, match=r"none\.csv does not exist: correct source\.corrections"):
            check_source(part)


def test_a_correction_of_another_content_is_not_applied(folder: Path):
    good = sha256_of(folder / "normal" / "a.wav")
    text = f"recording,new_label,sha256\nnormal/a.wav,murmur,{good}\nnormal/b.wav,murmur,{good[:-1]}x\n"
    rows, notes = corrected(folder, text)
    assert (rows["normal/a.wav"].label, rows["normal/b.wav"].label) == ("murmur", "normal")
    assert "1 corrections in corrections.csv are of another content" in str(notes)


def test_corrections_come_after_renamed_labels_in_parts_and_in_a_mix(folder: Path):
    part, whole = folder.parent / "part.csv", folder.parent / "whole.csv"
    part.write_text("recording,new_label\nnormal/a.wav,1\n")
    whole.write_text("recording,new_label\ntable/normal/b.wav,abnormal\n")
    table = TableSource(data=folder, labels={"normal": "0", "murmur": "1"}, corrections=part)
    names = {"table": {"0": "healthy", "1": "abnormal"}}
    listing = corrected_listing(MixSource(sources=(table,), labels=names, corrections=whole), folder)
    labels = {row.recording_id: (row.label, row.extra["label_in_source"]) for row in listing.recordings}
    assert labels["table/normal/a.wav"] == ("abnormal", "1")
    assert labels["table/normal/b.wav"] == ("abnormal", "0")
    assert labels["table/normal/Ü c.wav"] == ("healthy", "0")
    notes = [note for note in listing.notes if "labels changed" in note]
    assert [note.partition(" corrections: ")[0] for note in notes] == ["table: 1", "1"]


def test_the_content_counts_and_neither_the_path_nor_an_unchanged_label(folder: Path, tmp_path: Path):
    demo, table = DemoSource(), tmp_path / "c.csv"
    with_table = DemoSource(corrections=table)
    assert demo.digest() == with_table.digest()  # the folder of its recordings, and what they are compared with
    assert MixSource(sources=(demo,)).digest() == MixSource(sources=(with_table,), corrections=table).digest()

    def digest(text: str, path: Path) -> str:
        path.write_text("recording,new_label,who\n" + text)
        return content_digest(take_inventory(TableSource(data=folder, corrections=path), tmp_path)[0])

    once = digest("normal/a.wav,murmur,Ann\n", table)
    assert once == digest("normal/a.wav,murmur,Ann\n", tmp_path / "other.csv")
    assert once != digest("normal/b.wav,murmur,Ann\n", table)
    assert digest("normal/a.wav,normal,Ann\n", table) == digest("", table)


def test_a_relative_path_is_that_of_the_folder_where_it_was_given(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = build_config("demo", changes={"source.corrections": "c.csv"})
    assert config.source.corrections == tmp_path / "c.csv"
    assert "corrections" not in build_config("demo").model_dump()["source"]  # so that digests without it stay valid


def test_excluded_recordings_are_quarantined_and_count_against_nothing(folder: Path, tmp_path: Path):
    table = tmp_path / "c.csv"
    for number, path in enumerate(sorted(folder.rglob("*.wav"))):
        write_wav(path, beats(60 + 3 * number, 2.0, seed=number))
    twin = folder / "murmur" / "twin.wav"
    twin.write_bytes((folder / "normal" / "b.wav").read_bytes())  # of another label
    table.write_text("recording,new_label,who,why\nmurmur/twin.wav,exclude,Ann,a copy\nmurmur/b.wav,exclude,,\n")
    recordings, _ = take_inventory(TableSource(data=folder, corrections=table), tmp_path)
    rows = [{"sha256": s, "duration_s": 5.0, "periodicity": 0.9, "quality": 0.9, "peak": 0.5, "rms": 0.2, "dc_offset": 0.0,
             "samples_sha256": s, "rate_hz": 4000, "finite": True} for s in set(recordings["sha256"].to_pylist())]  # fmt: skip
    facts = table_from_rows(rows, FACTS)
    config = ValidationConfig(max_quarantined_fraction=0, min_recordings=2)
    before = validate(
        take_inventory(TableSource(data=folder), tmp_path)[0], facts, config, tmp_path / "docs"
    ).quarantine
    assert set(before["check"].to_pylist()) == {"label_conflict"}
    accepted = validate(recordings.slice(0), facts, config, tmp_path / "docs").accepted
    result = validate(recordings, facts, config, tmp_path / "docs", before=accepted)
    refused = {row["recording_id"]: (row["check"], row["reason"]) for row in result.quarantine.to_pylist()}
    assert refused == {
        "murmur/twin.wav": ("excluded", "excluded by Ann: a copy"),
        "murmur/b.wav": ("excluded", "excluded"),
    }
    assert result.refusal is None
    assert json.loads(recordings["extra"][0].as_py()) == {}
