"""The known data sets, as folders and as zips, and several as one."""

import zipfile
from collections import Counter
from pathlib import Path

import pytest
from helpers import REAL, beats, needs_pascal, write_wav

from heartdata.audio import measurements as measure
from heartdata.checks.suite import ValidationConfig
from heartdata.checks.validation import validate
from heartdata.config_file import build_config
from heartdata.dataset.inventory import take_inventory
from heartdata.errors import ConfigError, SourceError
from heartdata.sources import Cinc2016Source, Circor2022Source, DemoSource, MixSource, PascalSource, TableSource
from heartdata.sources.circor2022.patients import Patient
from heartdata.storage.schemas import FACTS
from heartdata.storage.store import sha256_file, table_from_rows

CINC = REAL / "cinc2016"
needs_cinc = pytest.mark.skipif(not (CINC / "training-b").is_dir(), reason="no recordings in ../shared/data/cinc2016")


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def packed(folder: Path, target: Path, inside: str = "") -> Path:
    """A zip of all files in ``folder``, below ``inside``."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, inside + path.relative_to(folder).as_posix())
    return target


def by_id(listing) -> dict:
    return {row.recording_id: row for row in listing.recordings}


# CinC 2016


@needs_cinc
def test_cinc_counts_of_the_real_databases(tmp_path: Path):
    source = Cinc2016Source(data=CINC)
    source.check()
    listing = source.listing(tmp_path)
    assert Counter((row.collection[-1], row.label) for row in listing.recordings) == {
        ("b", "normal"): 386, ("b", "abnormal"): 104, ("c", "normal"): 7, ("c", "abnormal"): 24,
        ("d", "normal"): 27, ("d", "abnormal"): 28, ("f", "normal"): 80, ("f", "abnormal"): 34,
    }  # fmt: skip
    assert Counter(row.extra["sqi"] for row in listing.recordings) == {"1": 556, "0": 134}
    assert all(row.missing is None and row.path.is_file() and "comment" not in row.extra for row in listing.recordings)
    assert by_id(listing)["training-c/c0001.wav"].extra == {"challenge_label": "1", "sqi": "1"}
    assert listing.notes[0].startswith("The subjects of 690 of 690 recordings are not known")


@needs_cinc
def test_cinc_one_database_alone_under_any_name_or_in_a_zip(tmp_path: Path):
    alone = Cinc2016Source(data=CINC / "training-c").listing(tmp_path)
    (tmp_path / "mine").symlink_to(CINC / "training-c")
    zipped = Cinc2016Source(data=packed(CINC / "training-c", tmp_path / "c.zip"))
    zipped.check()
    assert len(alone.recordings) == 31
    assert by_id(alone) == by_id(Cinc2016Source(data=tmp_path / "mine").listing(tmp_path))
    unpacked = zipped.listing(tmp_path / "made")
    assert [r.recording_id for r in unpacked.recordings] == [r.recording_id for r in alone.recordings]
    assert {r.collection for r in unpacked.recordings} == {"training-c"}


@pytest.fixture
def cinc(tmp_path: Path) -> Path:
    """Databases a and e in small, and a validation/ whose first recording is a copy."""
    root = tmp_path / "cinc"
    for number, name in enumerate(("training-a/a0001", "training-a/a0002", "training-a/a0003", "training-e/e00001")):
        write_wav(root / f"{name}.wav", beats(seed=number), 2000)
    written(root / "training-a/REFERENCE.csv", "\ufeffa0001,-1\r\na0002,1\r\n\r\na0004,0\r\n")
    written(root / "training-a/REFERENCE-SQI.csv", "a0001,0\na0002,1\n")
    written(root / "training-a/a0001.hea", "a0001 1 2000 16000\na0001.wav 16+44 1 16 0 0 0 0 PCG\n# Abnormal\n")
    written(root / "training-a/a0002.hea", "a0002 1 2000 16000\n# MVP\n# age 40\n")
    written(root / "training-e/REFERENCE_withSQI.csv", "e00001,1,1\n")
    written(root / "validation/REFERENCE.csv", "a0001,-1\n")
    (root / "validation/a0001.wav").write_bytes((root / "training-a/a0001.wav").read_bytes())
    return root


def test_cinc_rows_and_files_that_do_not_meet(cinc: Path, tmp_path: Path):
    listing = Cinc2016Source(data=cinc).listing(tmp_path)
    rows = by_id(listing)
    assert rows["training-a/a0001.wav"].extra == {"challenge_label": "-1", "sqi": "0", "comment": "Abnormal"}
    assert rows["training-a/a0002.wav"].extra == {"challenge_label": "1", "sqi": "1", "comment": "MVP; age 40"}
    assert (rows["training-a/a0003.wav"].label, rows["training-a/a0003.wav"].missing) == (None, None)
    assert (rows["training-a/a0004.wav"].label, rows["training-a/a0004.wav"].path) == (None, None)
    assert rows["training-a/a0004.wav"].missing == f"there is no file {cinc}/training-a/a0004.wav"
    assert (rows["training-e/e00001.wav"].label, rows["training-e/e00001.wav"].extra["sqi"]) == ("abnormal", "1")
    assert rows["validation/a0001.wav"].collection == "validation"
    assert [note[:40] for note in listing.notes[:2]] == [
        "1 recordings in training-a are in no row",
        "The .hea files of 1 recordings in traini",
    ]
    assert Cinc2016Source(data=cinc, databases=("validation",)).listing(tmp_path).recordings == (
        [rows["validation/a0001.wav"]]
    )


def test_cinc_names_and_suffixes_in_other_spellings(cinc: Path, tmp_path: Path):
    (cinc / "training-a/a0002.wav").rename(cinc / "training-a/a0002.WAV")
    written(cinc / "training-a/REFERENCE-SQI.csv", "a0001,0\na0002.WAV,1\n")
    row = by_id(Cinc2016Source(data=cinc).listing(tmp_path))["training-a/a0002.wav"]
    assert (row.path, row.label, row.extra["sqi"]) == (cinc / "training-a/a0002.WAV", "abnormal", "1")
    write_wav(cinc / "training-a/sub/a0001.wav", beats())
    with pytest.raises(SourceError, match=r"training-a/a0001.wav and .*/training-a/sub/a0001.wav have the same name"):
        Cinc2016Source(data=cinc).listing(tmp_path)


def test_cinc_tables_that_contradict_each_other_are_noted(cinc: Path, tmp_path: Path):
    written(cinc / "training-a/REFERENCE-SQI.csv", "a0001,1,0\na0002,1,1\na0004,1,1\n")
    listing = Cinc2016Source(data=cinc).listing(tmp_path)
    assert listing.notes[0] == (
        f"{cinc}/training-a/REFERENCE-SQI.csv contradicts REFERENCE.csv, which takes precedence, on 1 recordings: "
        "a0001, ..."
    )
    assert by_id(listing)["training-a/a0001.wav"].label == "normal"


def test_cinc_copies_in_validation_are_told_by_content_and_the_training_one_is_kept(cinc: Path, tmp_path: Path):
    recordings, _ = take_inventory(Cinc2016Source(data=cinc), tmp_path)
    uris = {row["sha256"]: row["uri"] for row in recordings.to_pylist() if row["sha256"]}
    facts = [measure.measure_file(uri, sha256, measure.MeasureConfig()) for sha256, uri in uris.items()]
    validation = validate(recordings, table_from_rows(facts, FACTS), ValidationConfig(), tmp_path / "docs")
    refused = {row["recording_id"]: row for row in validation.quarantine.to_pylist()}
    assert refused["validation/a0001.wav"]["check"] == "duplicate"
    assert refused["validation/a0001.wav"]["reason"].startswith("a copy of training-a/a0001.wav, which is kept")
    assert "training-a/a0001.wav" in validation.accepted["recording_id"].to_pylist()


def test_cinc_subjects_from_the_appendix(cinc: Path, tmp_path: Path):
    written(
        cinc / "annotations/Online Appendix_training set.csv",
        "\ufeffChallenge record name,Database,Original record name,Subject ID,# Raw record\n"
        "a0001,training-a,C45S1,,\na0002,training-a,C045S2b,,\na0003,training-a,odd,,\n"
        "e00001,training-e,e01430,,14.0\ne00002,training-e,14,,14\nb0001,training-b,S34f2.e4k_data,34.0,\n",
    )
    written(cinc / "annotations/updated/training-e/REFERENCE_withSQI.csv", "e00001,1,0\n")
    rows = by_id(Cinc2016Source(data=cinc).listing(tmp_path))
    subjects = {name: row.subject for name, row in rows.items()}
    assert subjects["training-a/a0001.wav"] == subjects["training-a/a0002.wav"] == "a45"
    assert subjects["training-e/e00001.wav"] == "e_normal14"
    assert subjects["training-a/a0003.wav"] is subjects["validation/a0001.wav"] is None
    assert rows["training-e/e00001.wav"].extra["sqi"] == "1"  # the table beside the recordings is believed first


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("training-a/REFERENCE.csv", "a0001,2\n", r"REFERENCE.csv: line 1: '2' is none of the values"),
        ("training-a/REFERENCE.csv", "a0001\n", r"REFERENCE.csv: line 1 has 1 cells"),
        ("training-a/REFERENCE.csv", "a0001,1\na0001,-1\n", r"line 2 gives a0001 a second label"),
        ("training-a/REFERENCE-SQI.csv", "a0001,1,good\n", r"REFERENCE-SQI.csv: line 1: 'good' is none"),
        ("old/training-a/REFERENCE.csv", "a0001,1\n", r"holds training-a twice"),
    ],
)
def test_cinc_tables_that_cannot_be_read(cinc: Path, tmp_path: Path, file: str, text: str, message: str):
    written(cinc / file, text)
    with pytest.raises(SourceError, match=message):
        Cinc2016Source(data=cinc).listing(tmp_path)


def test_cinc_check_notices_what_is_absent(cinc: Path, tmp_path: Path):
    Cinc2016Source(data=cinc).check()
    with pytest.raises(SourceError, match="has no training-f, which source.databases names: .* training-a, training-e"):
        Cinc2016Source(data=cinc, databases=("training-f",)).check()
    (cinc / "validation/REFERENCE.csv").unlink()
    for data in (cinc, packed(cinc, tmp_path / "all.zip", "heart-1.0.0/")):
        with pytest.raises(SourceError, match="validation/? holds no REFERENCE.csv: complete the download"):
            Cinc2016Source(data=data).check()
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty holds none of training-a"):
        Cinc2016Source(data=tmp_path / "empty").check()
    with pytest.raises(SourceError, match="nowhere does not exist: give the folder"):
        Cinc2016Source(data=tmp_path / "nowhere").check()


# CirCor


COLUMNS = "Patient ID,Recording locations:,Age,Sex,Murmur,Murmur locations,Outcome,Campaign,Additional ID\n"


@pytest.fixture
def circor(tmp_path: Path) -> Path:
    root = tmp_path / "circor"
    written(
        root / "training_data.csv",
        COLUMNS + "13918,AV+MV,Child,Female,Present,AV+MV,,CC2014,nan\n"
        "50048,AV+Phc,Infant,Male,Absent,nan,Normal,CC2015,13918.0\n70000,PV,nan,Male,unknown,nan,,CC2015,\n",
    )
    folder = root / "training_data"
    for name in ("13918_AV", "13918_MV_1", "13918_MV_2", "50048_AV", "99999_TV", "odd"):
        write_wav(folder / f"{name}.wav", beats())
    written(folder / "13918_AV.tsv", "0\t0.5\t0\n0.5\t0.65\t1\n0.65\t1.0\t2\n1.0\t1.125\t3\n1.125\t1.6\t4\n")
    written(folder / "13918_MV_1.tsv", "0\tx\t0\n")
    written(
        folder / "13918.txt",
        "13918 4 4000\nAV 13918_AV.hea 13918_AV.wav 13918_AV.tsv\nMV 13918_MV_1.hea 13918_MV_1.wav\n"
        "MV 13918_MV_2.hea 13918_MV_2.wav\nTV 13918_TV.hea 13918_TV.wav 13918_TV.tsv\n"
        "#Murmur: Absent\n#Outcome: Abnormal\n#Additional ID: nan\n",
    )
    return root


def test_the_table_of_circor_is_no_table_of_recordings(circor: Path):
    with pytest.raises(SourceError, match="table of patients of the data set circor2022: use --source circor2022"):
        TableSource(data=circor / "training_data.csv").check()


def test_circor_labels_subjects_sites_and_missing_rows(circor: Path, tmp_path: Path):
    source = Circor2022Source(data=circor)
    source.check()
    listing = source.listing(tmp_path)
    rows = {row.recording_id.removeprefix("training_data/"): row for row in listing.recordings}
    assert {name: (r.label, r.subject, r.site, r.path is None) for name, r in rows.items()} == {
        "13918_AV.wav": ("Present", "13918", "AV", False),
        "13918_MV_1.wav": ("Present", "13918", "MV", False),
        "13918_MV_2.wav": ("Present", "13918", "MV", False),
        "13918_TV.wav": ("Present", "13918", "TV", True),
        "50048_AV.wav": ("Absent", "13918", "AV", False),
        "50048_Phc.wav": ("Absent", "13918", "Phc", True),
        "70000_PV.wav": ("Unknown", "70000", "PV", True),
        "99999_TV.wav": (None, "99999", "TV", False),
        "odd.wav": (None, None, None, False),
    }
    assert rows["13918_TV.wav"].missing == f"there is no file {circor}/training_data/13918_TV.wav"
    assert rows["13918_AV.wav"].extra == {
        "age_group": "Child", "sex": "Female", "murmur": "Present", "outcome": "Abnormal", "murmur_locations": "AV+MV",
        "campaign": "CC2014", "segmentation": "training_data/13918_AV.tsv", "segmented_s": 1.1,
    }  # fmt: skip
    assert rows["50048_AV.wav"].extra["patient"] == "50048"
    assert "segmented_s" not in rows["13918_MV_1.wav"].extra
    assert [note.split(":")[0] for note in listing.notes] == [
        "The .txt of 1 patients contradict the murmur or outcome in training_data.csv, which takes precedence",
        "2 recordings in training_data/ belong to no patient who has a row in training_data.csv or a .txt; kept as unlabelled",
        "5 recordings have no readable segmentation (.tsv)",
    ]


def test_circor_files_of_one_name_and_other_suffixes(circor: Path, tmp_path: Path):
    (circor / "training_data/50048_AV.wav").rename(circor / "training_data/50048_AV.WAV")
    row = by_id(Circor2022Source(data=circor).listing(tmp_path))["training_data/50048_AV.wav"]
    assert row.path == circor / "training_data/50048_AV.WAV"
    write_wav(circor / "training_data/sub/13918_AV.wav", beats())
    with pytest.raises(SourceError, match=r"data/13918_AV.wav and .*data/sub/13918_AV.wav have the same name"):
        Circor2022Source(data=circor).listing(tmp_path)


def test_circor_looks_only_at_a_patients_own_files(circor: Path, tmp_path: Path, monkeypatch):
    given = {}
    expected = Patient.expected
    monkeypatch.setattr(Patient, "expected", lambda self, names: expected(self, given.setdefault(self.name, names)))
    Circor2022Source(data=circor).listing(tmp_path)
    assert given == {"13918": ["13918_AV", "13918_MV_1", "13918_MV_2"], "50048": ["50048_AV"], "70000": []}


def test_circor_outcome_is_taken_from_the_text_where_the_table_lacks_it(circor: Path, tmp_path: Path):
    rows = by_id(Circor2022Source(data=circor, target="outcome").listing(tmp_path))
    assert rows["training_data/13918_AV.wav"].label == "Abnormal"
    assert rows["training_data/50048_AV.wav"].label == "Normal"
    assert rows["training_data/70000_PV.wav"].label is None


def test_circor_zip_and_folder_are_listed_alike(circor: Path, tmp_path: Path):
    source = Circor2022Source(data=packed(circor, tmp_path / "c.zip", "the-circor-data-set-1.0.3/"))
    source.check()
    assert not (tmp_path / "made").exists()
    unpacked, folder = source.listing(tmp_path / "made"), Circor2022Source(data=circor).listing(tmp_path)
    assert [(r.recording_id, r.label, r.extra) for r in unpacked.recordings] == [
        (r.recording_id, r.label, r.extra) for r in folder.recordings
    ]


def test_circor_check_notices_what_is_absent(circor: Path, tmp_path: Path):
    written(circor / "training_data.csv", COLUMNS + "1,AV,Child,Male,Loud,nan,,CC2014,\n")
    write_wav(circor / "training_data/1_AV.wav", beats())
    with pytest.raises(SourceError, match="patient 1 has the murmur 'Loud', which is none of Present, Unknown, Absent"):
        Circor2022Source(data=circor).listing(tmp_path)
    written(circor / "training_data.csv", COLUMNS + 2 * "1,AV,Child,Male,Absent,nan,,CC2014,\n")
    with pytest.raises(SourceError, match="the Patient ID '1' is in two rows: correct it, or download"):
        Circor2022Source(data=circor).listing(tmp_path)
    written(circor / "training_data.csv", "id,Murmur\n1,Absent\n")
    with pytest.raises(SourceError, match="training_data.csv lacks the columns Patient ID, Murmur"):
        Circor2022Source(data=circor).check()
    for name in ("training_data.csv", "training_data/13918.txt"):
        (circor / name).unlink()
    with pytest.raises(
        SourceError, match="neither .*data.csv nor any patient's <number>.txt in .*training_data exists"
    ):
        Circor2022Source(data=circor).check()


# PASCAL


@needs_pascal
def test_pascal_from_a_zip(tmp_path: Path):
    source = PascalSource(data=packed(REAL / "pascal", tmp_path / "heartbeat-sounds.zip"))
    source.check()
    assert not (tmp_path / "made").exists()
    zipped, folder = source.listing(tmp_path / "made"), PascalSource(data=REAL / "pascal").listing(tmp_path)
    assert [(r.recording_id, r.label, r.subject, r.missing) for r in zipped.recordings] == [
        (r.recording_id, r.label, r.subject, r.missing) for r in folder.recordings
    ]
    assert len(zipped.recordings) == 832
    assert zipped.recordings[0].path.is_relative_to(tmp_path / "made" / f"zip-{sha256_file(source.data)}")


def test_pascal_check_looks_into_a_zip(tmp_path: Path):
    written(tmp_path / "in/set_a.csv", "dataset,fname,label,sublabel\n")
    (data := tmp_path / "p.zip").write_bytes(packed(tmp_path / "in", tmp_path / "x.zip").read_bytes())
    with pytest.raises(SourceError, match=r"p.zip/set_a does not exist: --data must be the folder"):
        PascalSource(data=data, sets=("set_a",)).check()


# Several as one


@pytest.fixture
def tables(tmp_path: Path) -> list[dict]:
    for name, label in (("one", "Healthy"), ("two", "murmur")):
        write_wav(tmp_path / name / "x.wav", beats(seed=len(name)))
        write_wav(tmp_path / name / "y.wav", beats(seed=9))
        written(tmp_path / name / "t.csv", f"path,label,subject\nx.wav,{label},7\ny.wav,unsure,8\n")
    return [{"name": "table", "data": str(tmp_path / name / "t.csv")} for name in ("one", "two")]


def test_mix_maps_labels_and_keeps_sources_apart(cinc: Path, tables: list[dict], tmp_path: Path):
    labels = {"table-1": {"Healthy": "normal", "unsure": None}, "table-2": {"murmur": "abnormal", "unsure": "unsure"}}
    parts = [*tables, {"name": "cinc2016", "data": str(cinc), "databases": ["training-e"]}]
    config = build_config(changes={"source": {"name": "mix", "sources": parts, "labels": labels}})
    config.source.check()
    listing = config.source.listing(tmp_path)
    assert {r.recording_id: (r.label, r.subject, r.collection, r.source) for r in listing.recordings} == {
        "table-1/x.wav": ("normal", "7", "table-1", "table-1"),
        "table-1/y.wav": (None, "8", "table-1", "table-1"),
        "table-2/x.wav": ("abnormal", "7", "table-2", "table-2"),
        "table-2/y.wav": ("unsure", "8", "table-2", "table-2"),
        "cinc2016/training-e/e00001.wav": ("abnormal", None, "cinc2016/training-e", "cinc2016"),
    }
    assert by_id(listing)["table-1/x.wav"].extra == {"label_in_source": "Healthy"}
    assert [note.split(":")[0] for note in listing.notes] == ["cinc2016"]
    assert build_config(base=config.model_dump(mode="json")).source == config.source


def test_mix_names_labels_and_parts_that_are_not_mapped(tables: list[dict], tmp_path: Path):
    mix = MixSource(sources=tables, labels={"table-1": {"Healthy": "normal"}})
    with pytest.raises(
        SourceError, match="the source table-1 has labels that source.labels.table-1 does not map: unsu"
    ):
        mix.listing(tmp_path)
    for labels, message in (
        ({"table": {}}, "'table', which is not a part: choose among table-1, table-2"),
        ({0: {}}, "'0', which is not a part"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_config(changes={"source": {"name": "mix", "sources": tables, "labels": labels}})
    with pytest.raises(ConfigError, match="source.sources"):
        build_config(changes={"source": {"name": "mix", "sources": []}})


def test_mix_of_different_labels_needs_a_mapping(tables: list[dict], tmp_path: Path):
    def listed(labels: dict | None = None) -> list[str | None]:
        return [row.label for row in MixSource(sources=tables, labels=labels or {}).listing(tmp_path).recordings]

    said = (
        r"the parts table-1 and table-2 have different labels \(table-1: Healthy, unsure; table-2: murmur, unsure\)\. "
        r".*: source.labels: \{table-1: \{Healthy: COMMON, unsure: COMMON\}, table-2: \{murmur: COMMON, unsure: COMMON\}\}$"
    )
    with pytest.raises(SourceError, match=said):
        listed()
    same = {"Healthy": "Healthy", "unsure": "unsure"}
    assert listed({"table-1": same}) == ["Healthy", "unsure", "murmur", "unsure"]
    with pytest.raises(
        SourceError, match=r"different .* source.labels: \{table-2: \{murmur: COMMON, unsure: COMMON\}\}$"
    ):
        listed({"table-1": {**same, "Healthy": "Murmur"}})
    written(tmp_path / "two" / "t.csv", "path,label\nx.wav,healthy\ny.wav,unsure\n")
    with pytest.raises(SourceError, match="table-1: Healthy, unsure; table-2: healthy, unsure"):
        listed()
    written(tmp_path / "two" / "t.csv", "path,label\nx.wav,Healthy\ny.wav,unsure\n")
    assert listed() == ["Healthy", "unsure"] * 2


def test_mix_checks_every_part_at_once(tables: list[dict], tmp_path: Path):
    parts = [DemoSource(), *tables, {"name": "cinc2016", "data": str(tmp_path / "nowhere")}]
    with pytest.raises(SourceError, match="nowhere does not exist"):
        MixSource(sources=parts).check()
