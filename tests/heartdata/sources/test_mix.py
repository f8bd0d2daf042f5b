"""Several sources as one: labels are mapped to common ones, and subjects of two sources stay two."""

from pathlib import Path

import pytest
from builders import by_id, touch, write

from heartdata.config_file import build_config
from heartdata.errors import ConfigError, SourceError
from heartdata.sources import DemoSource, MixSource


@pytest.fixture
def tables(tmp_path: Path) -> list[dict]:
    for name, label in (("one", "Healthy"), ("two", "murmur")):
        touch(tmp_path / name, "x.wav", "y.wav")
        write(tmp_path / name / "t.csv", f"path,label,subject\nx.wav,{label},7\ny.wav,unsure,8\n")
    return [{"name": "table", "data": str(tmp_path / name / "t.csv")} for name in ("one", "two")]


def test_labels_are_mapped_and_sources_kept_apart(tables: list[dict], tmp_path: Path):
    labels = {"table-1": {"Healthy": "normal", "unsure": None}, "table-2": {"murmur": "abnormal", "unsure": "unsure"}}
    write(touch(tmp_path / "cinc", "e00001.wav") / "REFERENCE.csv", "e00001,1\n")
    parts = [*tables, {"name": "cinc2016", "data": str(tmp_path / "cinc"), "databases": ["training-e"]}]
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


def test_labels_and_parts_that_are_not_mapped_are_named(tables: list[dict], tmp_path: Path):
    mix = MixSource(sources=tables, labels={"table-1": {"Healthy": "normal"}})
    with pytest.raises(SourceError, match="table-1 has labels that source.labels.table-1 does not map: unsure"):
        mix.listing(tmp_path)
    for settings, message in (
        ({"sources": tables, "labels": {"table": {}}}, "'table', which is not a part: choose among table-1, table-2"),
        ({"sources": tables, "labels": {0: {}}}, "'0', which is not a part"),
        ({"sources": []}, "source.sources"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_config(changes={"source": {"name": "mix", **settings}})


def test_different_labels_need_a_mapping(tables: list[dict], tmp_path: Path):
    def labels(mapping: dict | None = None) -> list[str | None]:
        return [row.label for row in MixSource(sources=tables, labels=mapping or {}).listing(tmp_path).recordings]

    message = (
        r"the parts table-1 and table-2 have different labels \(table-1: Healthy, unsure; table-2: murmur, unsure\)\. "
        r".*: source.labels: \{table-1: \{Healthy: COMMON, unsure: COMMON\}, table-2: \{murmur: COMMON, unsure: COMMON\}\}$"
    )
    with pytest.raises(SourceError, match=message):
        labels()
    same = {"Healthy": "Healthy", "unsure": "unsure"}
    assert labels({"table-1": same}) == ["Healthy", "unsure", "murmur", "unsure"]
    with pytest.raises(SourceError, match=r"source.labels: \{table-2: \{murmur: COMMON, unsure: COMMON\}\}$"):
        labels({"table-1": {**same, "Healthy": "Murmur"}})
    write(tmp_path / "two" / "t.csv", "path,label\nx.wav,healthy\ny.wav,unsure\n")
    with pytest.raises(SourceError, match="table-1: Healthy, unsure; table-2: healthy, unsure"):
        labels()
    write(tmp_path / "two" / "t.csv", "path,label\nx.wav,Healthy\ny.wav,unsure\n")
    assert labels() == ["Healthy", "unsure"] * 2


def test_every_part_is_checked_before_any_is_listed(tables: list[dict], tmp_path: Path):
    parts = [DemoSource(), *tables, {"name": "cinc2016", "data": str(tmp_path / "nowhere")}]
    with pytest.raises(SourceError, match="nowhere does not exist"):
        MixSource(sources=parts).check()
