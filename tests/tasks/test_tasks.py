"""Single tasks by ``.fn``: no server, no flow."""

import hashlib
import io
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import torchvision
from helpers import DisplayLog, beats, write_wav
from prefect.logging import disable_run_logger
from torchvision.models import resnet34

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import ValidationConfig
from heartdata.config import RegistryConfig
from heartdata.dataset.manifest import build_manifest
from heartdata.errors import BadAudio, ConfigError, DataRefused
from heartdata.scoring.calibration import Calibration, DecisionConfig
from heartdata.sources import DemoSource, TableSource
from heartdata.storage.schemas import ACCEPTED, FACTS, MANIFEST, METRICS, RECORDINGS, SPECTROGRAMS, SPLITS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store, sha256_file, table_from_rows
from heartdata.training.network import build_net, read_weights, weights_bytes
from tasks.calibrate import doubt, few
from tasks.engine import progress
from tasks.inventory import inventory
from tasks.measure import file_shards, measure_shard
from tasks.registry.client import ACCEPTED_TAG, SERIES_TAG, connect
from tasks.results import Earlier, ValidationResult
from tasks.spectrograms import spectrogram_shard
from tasks.summary import _never_told, _no_better_than, _warned
from tasks.train import initial_weights
from tasks.validate import accept, last_accepted, memory_of, validate


def shard_of(*paths: Path) -> Shard:
    return Shard(0, tuple(sorted((sha256_file(p), str(p)) for p in paths)))


def test_inventory_counts_and_hashes(store: Store):
    artifact = inventory.fn(DemoSource(subjects_per_class=3, sites=1), store)
    rows = store.read_frame(artifact, RECORDINGS)
    assert artifact.counts["found"] == len(rows) == 4 * 3 + 8
    assert rows["sha256"].str.len().eq(64).all()
    assert sum(len(s.recordings) for s in file_shards(artifact, store)) == rows["sha256"].nunique() == len(rows) - 2


def test_what_the_source_remarks_is_told_at_once(store: Store, tmp_path: Path):
    write_wav(tmp_path / "a.wav", beats())
    (tmp_path / "t.csv").write_text("path,label\na.wav,normal\n")
    display = DisplayLog()
    progress.begin(display)
    artifact = inventory.fn(TableSource(data=tmp_path / "t.csv"), store)
    progress.begin()
    assert "has no subject column" in display.remarks[0]
    assert display.remarks == [text for name, text in artifact.counts.items() if name.startswith("note_")]
    assert "1 recordings, each its own subject" in display.said[0][2]


def test_measure_shard_keeps_undecodable_files_as_rows(store: Store, tmp_path: Path):
    good, bad = write_wav(tmp_path / "ü é.wav", beats()), tmp_path / "bad.wav"
    bad.write_text("no audio at all")
    artifact = measure_shard.fn(shard_of(good, bad), MeasureConfig(), store)
    rows = store.read_frame(artifact, FACTS).set_index("sha256")
    assert rows.loc[sha256_file(good), "duration_s"] == 5.0
    assert "cannot be decoded" in rows.loc[sha256_file(bad), "error"]


def test_missing_file_is_an_os_error_and_worth_a_retry(store: Store, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        measure_shard.fn(Shard(0, (("00" * 32, str(tmp_path / "gone.wav")),)), MeasureConfig(), store)


def test_spectrogram_shard_is_the_same_bytes_whatever_the_order(store: Store, tmp_path: Path):
    paths = [write_wav(tmp_path / f"{i}.wav", beats(60 + i, 3.0)) for i in range(3)]
    shard = shard_of(*paths)
    turned = Shard(0, shard.recordings[::-1])
    one = spectrogram_shard.fn(shard, SpectrogramConfig(), store)
    content = store.local(one.array.name).read_bytes()
    two = spectrogram_shard.fn(turned, SpectrogramConfig(), store)
    assert store.local(two.array.name).read_bytes() == content
    index = store.read_frame(one.index, SPECTROGRAMS)
    assert index["frames"].tolist() == [94] * 3  # 3 s x 2000 Hz / 64 + 1
    assert index["start"].tolist() == [0, 94, 188]


def test_bad_audio_in_a_shard_is_no_os_error(store: Store, tmp_path: Path):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    with pytest.raises(BadAudio, match="empty"):
        spectrogram_shard.fn(shard_of(bad), SpectrogramConfig(), store)


def table_of(tmp_path: Path, labels: list[str]) -> TableSource:
    rows = [{"path": f"{i}.wav", "label": label, "subject": i} for i, label in enumerate(labels)]
    for i in range(len(labels)):
        write_wav(tmp_path / f"{i}.wav", beats(60 + 3 * i, 3.0, seed=i))
    pd.DataFrame(rows).to_csv(tmp_path / "recordings.csv", index=False)
    return TableSource(data=tmp_path / "recordings.csv")


def facts_of(recordings: Artifact, store: Store) -> Artifact:
    files = tuple(file for shard in file_shards(recordings, store) for file in shard.recordings)
    return measure_shard.fn(Shard(0, files), MeasureConfig(), store)


def checked(source: TableSource, store: Store):
    recordings = inventory.fn(source, store)
    return validate.fn(recordings, facts_of(recordings, store), ValidationConfig(), None, Earlier(), store)


def test_one_class_stops_with_a_sentence(store: Store, tmp_path: Path):
    source = table_of(tmp_path, ["normal"] * 12)
    result = checked(source, store)
    assert (store.workpath(result.docs) / "index.html").is_file()
    with pytest.raises(DataRefused, match="at least two labels; these have: normal"):
        accept.fn(result, inventory.fn(source, store), source, None, store)
    assert store.workpath("latest/quarantine.csv").read_text().startswith("recording_id,")


def test_good_table_is_accepted_and_remembered(store: Store, tmp_path: Path):
    source = table_of(tmp_path, ["normal", "murmur"] * 6)

    def before() -> Artifact | None:
        return earlier(source, store).last

    assert before() is None
    first = accept.fn(checked(source, store), inventory.fn(source, store), source, None, store)
    assert first.rows == 12
    assert before() is None  # nothing new: compared as then, so that the check stays cached
    table_of(tmp_path, ["normal", "murmur"] * 7)
    assert before() == first
    store.local(first.name).write_bytes(b"damaged")
    assert before() is None


@pytest.mark.parametrize("old", ["table", "record"])
def test_what_an_older_version_accepted_starts_a_new_series_with_a_note(store: Store, tmp_path: Path, old: str):
    source = table_of(tmp_path, ["normal", "murmur"] * 6)
    accept.fn(checked(source, store), inventory.fn(source, store), source, None, store)
    (record,) = store.workpath("accepted").glob("last-*.json")
    if old == "table":
        last = ValidationResult.model_validate_json(record.read_text())
        without = store.read_table(last.accepted, ACCEPTED).drop_columns(["quality"])
        older = store.write_table("accepted", without, without.schema)
        record.write_text(last.model_copy(update={"accepted": older, "reference": older}).model_dump_json())
    else:
        record.write_text("{}")
    source = table_of(tmp_path, ["normal", "murmur"] * 7)
    progress.clear_notes()
    tonight = night(source, store)
    (note,) = progress.notes()
    assert "cannot be read" in note
    assert "compared with none" in note
    progress.clear_notes()
    table_of(tmp_path, ["normal", "murmur"] * 8)
    assert earlier(source, store) == Earlier(last=tonight, reference=tonight)
    assert progress.notes() == []


def earlier(source: TableSource, store: Store) -> Earlier:
    recordings = inventory.fn(source, store)
    facts = facts_of(recordings, store)
    return last_accepted.fn(source, recordings, facts, ValidationConfig(), None, RegistryConfig(), store)


def night(source: TableSource, store: Store, **settings: Any) -> Artifact:
    """Recordings compared with earlier ones, and accepted."""
    recordings = inventory.fn(source, store)
    facts, config = facts_of(recordings, store), ValidationConfig(**settings)
    before = last_accepted.fn(source, recordings, facts, config, None, RegistryConfig(), store)
    result = validate.fn(recordings, facts, config, None, before, store)
    return accept.fn(result, recordings, source, None, store)


def test_the_first_accepted_recordings_stay_the_reference_until_a_change_is_accepted(store: Store, tmp_path: Path):
    source = table_of(tmp_path, ["normal", "murmur"] * 6)
    first = night(source, store)
    table_of(tmp_path, ["normal", "murmur"] * 7)
    second = night(source, store)
    table_of(tmp_path, ["normal", "murmur"] * 8)
    assert earlier(source, store) == Earlier(last=second, reference=first)
    third = night(source, store, accept_change=True)
    table_of(tmp_path, ["normal", "murmur"] * 9)
    assert earlier(source, store) == Earlier(last=third, reference=third)


def test_what_the_champion_was_trained_from_is_the_reference(store: Store, tmp_path: Path):
    source = table_of(tmp_path, ["normal", "murmur"] * 6)
    first = night(source, store)
    table_of(tmp_path, ["normal", "murmur"] * 7)
    second = night(source, store)
    client = connect(RegistryConfig(), store)
    client.create_registered_model("heartbeat")
    for version, accepted, series in ((1, second, memory_of(source, None)), (2, first, "another series")):
        tags = {ACCEPTED_TAG: accepted.model_dump_json(), SERIES_TAG: series}
        client.create_model_version("heartbeat", source=str(tmp_path), tags=tags)
        client.set_registered_model_alias("heartbeat", "champion", version)
        table_of(tmp_path, ["normal", "murmur"] * (7 + version))
        if version == 1:
            assert earlier(source, store) == Earlier(last=second, reference=second, champion=second.digest)
            third = night(source, store)
    assert earlier(source, store) == Earlier(last=third, reference=second, champion=second.digest)


def test_a_slow_loss_is_refused_though_no_night_loses_much(store: Store, tmp_path: Path):
    for pairs in (18, 16, 14):
        source = table_of(tmp_path, ["normal", "murmur"] * pairs)
        night(source, store)
    table_of(tmp_path, ["normal", "murmur"] * 12)
    with pytest.raises(DataRefused, match="night by night, 33% of the 36 recordings of the reference"):
        night(source, store)
    assert earlier(source, store).reference.rows == 36  # a refused night is not remembered


def test_too_few_recordings_stop(store: Store, tmp_path: Path):
    source = table_of(tmp_path, ["normal", "murmur"] * 2)
    with pytest.raises(DataRefused, match="only 4 labelled recordings are left to train on, 10 are needed"):
        accept.fn(checked(source, store), inventory.fn(source, store), source, None, store)


def test_initial_weights_random_and_missing_file(store: Store, tmp_path: Path):
    assert initial_weights.fn("random", RegistryConfig(), store).weights is None
    with pytest.raises(ConfigError, match="does not exist"):
        initial_weights.fn(str(tmp_path / "absent.safetensors"), RegistryConfig(), store)


def test_weights_of_unknown_past_are_taken_with_a_warning(store: Store, tmp_path: Path):
    (tmp_path / "x.safetensors").write_bytes(weights_bytes(build_net(2)))
    found = initial_weights.fn(str(tmp_path / "x.safetensors"), RegistryConfig(), store)
    assert (
        found.note
        == f"{tmp_path}/x.safetensors does not say what it was trained on: recordings of the test part may be among them"
    )


def published(content: bytes, kept: bytes, folder: Path, monkeypatch) -> Path:
    """torch's cache with ``kept`` in the place of ImageNet weights, which torchvision publishes as ``content``."""
    name = f"resnet34-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    weights = torchvision.models.ResNet34_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights.value, "url", (folder / name).as_uri())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    path = folder / "checkpoints" / name
    path.parent.mkdir()
    path.write_bytes(kept)
    return path


def pickled(weights: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getvalue()


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_auto_takes_imagenet_weights_where_they_can_be_had(store: Store, tmp_path: Path, monkeypatch):
    content = pickled(resnet34().state_dict())
    published(content, content, tmp_path, monkeypatch)
    found = initial_weights.fn("auto", RegistryConfig(), store)
    assert (found.kind, found.note) == ("imagenet", "")
    assert found.weights is not None
    weights = read_weights(store.local(found.weights.name))
    assert weights["conv1.weight"].shape == (64, 1, 7, 7)
    assert "fc.weight" not in weights


@pytest.mark.parametrize("downloaded", [False, True])
def test_other_weights_under_the_name_of_imagenet_are_refused(
    store: Store, tmp_path: Path, monkeypatch, downloaded: bool
):
    other = pickled({"conv1.weight": Touch(tmp_path / "ran")})
    path = published(pickled({}), other, tmp_path, monkeypatch)
    if downloaded:
        path.rename(tmp_path / path.name)  # the publisher's place
    said = "invalid hash value" if downloaded else f"{path} is not the file that torchvision publishes: delete it"
    with pytest.raises(ConfigError, match=said):
        initial_weights.fn("imagenet", RegistryConfig(), store)
    assert path.exists() is not downloaded
    assert not (tmp_path / "ran").exists()


def test_nothing_in_a_file_of_weights_is_run(store: Store, tmp_path: Path, monkeypatch):
    content = pickled({"conv1.weight": Touch(tmp_path / "ran")})
    path = published(content, content, tmp_path, monkeypatch)
    with pytest.raises(ConfigError, match=f"{path} holds more than weights: delete it"):
        initial_weights.fn("imagenet", RegistryConfig(), store)
    assert not (tmp_path / "ran").exists()


def test_auto_says_why_it_starts_from_random_weights(store: Store, tmp_path: Path, monkeypatch):
    def offline(*args, **settings):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    with disable_run_logger():
        found = initial_weights.fn("auto", RegistryConfig(), store)
    assert (found.kind, found.weights) == ("random", None)
    assert "random weights" in found.note
    assert "no route to host" in found.note
    assert "resnet34-b627a593.pth" in found.note  # where to put it
    assert "run `heartbeat pretrain` and set training.init=models:/heartbeat-backbone@champion" in found.note
    with pytest.raises(ConfigError, match="no route to host"):
        initial_weights.fn("imagenet", RegistryConfig(), store)


def test_two_registries_in_one_process_stay_apart(store: Store, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    other = Store(tmp_path / "other").open()
    connect(RegistryConfig(), store).create_registered_model("here")
    assert connect(RegistryConfig(), other).search_registered_models() == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store.workpath('mlflow.db')}")  # the user's own word
    assert [m.name for m in connect(RegistryConfig(), other).search_registered_models()] == ["here"]
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("store/mlflow.db")


def test_data_set_version_sees_the_spectrograms(store: Store):
    def rows(schema, **values):
        return table_from_rows([{name: values.get(name) for name in schema.names}], schema)

    names = {
        "recording_id": "r",
        "sha256": "a",
        "group": "g",
        "part": "train",
        "shard": "s.npy",
        "start": 0,
        "frames": 9,
    }
    versions = {
        store.write_table(
            "manifest", build_manifest(*(rows(s, **names, shard_sha256=d) for s in (ACCEPTED, SPLITS, SPECTROGRAMS))), MANIFEST
        ).digest
        for d in ("one", "two")
    }  # fmt: skip
    assert len(versions) == 2


def test_artifact_names_carry_no_path_of_the_machine(store: Store, tmp_path: Path):
    artifact = measure_shard.fn(shard_of(write_wav(tmp_path / "a.wav", beats())), MeasureConfig(), store)
    assert isinstance(artifact, Artifact)
    assert not Path(artifact.name).is_absolute()


@pytest.mark.parametrize(
    ("temperature", "risk", "said"),
    [
        (1.2, 0.1, ""),
        (1.2, 0.4, "Even of the surest 60% .* 40% are wrong"),
        (20.0, 0.1, "tell no more than equal ones"),
    ],
)
def test_a_model_that_is_not_to_be_relied_on_says_so(temperature: float, risk: float, said: str):
    found = Calibration(temperature=temperature, class_weights=(1.0, 1.0), coverage=0.6, risk=risk)
    told = doubt(found, DecisionConfig(max_risk=0.2))
    assert re.search(said, told) if said else told == ""


def test_a_class_with_few_validation_recordings_is_remarked_on():
    assert few(pd.Series(["a"] * 9 + ["b"] * 5), ("a", "b"), DecisionConfig()) == ""
    told = few(pd.Series(["a"] * 9 + ["b"] * 4), ("a", "b"), DecisionConfig())
    assert told.startswith("Only 4 of the 13 validation recordings are b: do not rely on")
    assert told.endswith("(the temperature, the operating point, the bound of unsure answers)")
    alone = few(pd.Series(["a"] * 9), ("a", "b"), DecisionConfig(temperature=False, operating_point="none"))
    assert "Only 0 of the 9 validation recordings are b" in alone
    assert alone.endswith("(the bound of unsure answers)")


def test_a_class_of_which_nothing_was_recognised_is_named():
    rows = {"a": (0.5, 4), "b": (0.0, 6), "c": (0.0, 0)}  # of c nothing was held out
    scored = SimpleNamespace(per_class={n: {"recall": r, "recordings": k} for n, (r, k) in rows.items()})
    assert _never_told(scored) == ["Not one of the 6 held-out recordings of b was recognised"]


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.09, []), (-0.01, 0.11, ["not clearly better than metadata only"]), (-0.2, -0.1, ["worse than metadata"])],
)
def test_a_model_is_held_against_the_best_baseline_on_the_same_draws(low: float, high: float, said: list[str]):
    """Their own intervals overlap in every case: what counts is that of the difference."""
    difference = (low + high) / 2
    rows = [
        ("resnet34", 0.7, 0.6, 0.8, 0.0, 0.0, 0.0),
        ("metadata only", 0.7 - difference, 0.5, 0.9, difference, low, high),
        ("majority class", 0.2, 0.1, 0.3, 0.5, 0.4, 0.6),
    ]
    notes = _no_better_than(
        pd.DataFrame(rows, columns=[n for n in METRICS.names if n != "metric"]).assign(metric="macro_f1")
    )
    assert len(notes) == len(said)
    assert all(f"The model is {text}" in note for text, note in zip(said, notes, strict=True))


def test_what_the_checks_warn_of_is_told_in_one_sentence():
    columns = ["check", "level", "severity", "passed", "failing"]
    rows = [("several_labels", "subject", "warning", False, 3), ("poor_quality", "recording b", "warning", False, 2),
            ("silent", "recording", "critical", False, 9), ("clipped", "recording", "warning", True, 0)]  # fmt: skip
    told = "The checks warn of several labels (3 subjects), poor quality (2 recordings): the Data Docs say which"
    assert _warned(pd.DataFrame(rows, columns=columns)) == [told]
    assert _warned(pd.DataFrame(rows[2:], columns=columns)) == []
