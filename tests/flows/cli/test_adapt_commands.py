"""`heartbeat calibrate`, `export` and `reproduce` with the model of a whole run on synthetic recordings."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers import registry, tiny, use_small_network
from safetensors.torch import save_file

from flows.cli import calibrate, export, reproduce
from flows.pipeline import heartbeat as pipeline
from heartdata.audio.synthesis import RATE_HZ, Heart, synthesize
from heartdata.config import RegistryConfig, RunConfig
from heartdata.errors import BadAudio, HeartbeatError
from heartdata.serving.predictor import Predictor
from heartdata.storage.store import Store, read_parquet
from tasks.registry.client import load_model
from tasks.registry.previous import recordings_trained_on

NAME = "heartbeat-demo"


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    """resnet10 in place of resnet34, and no logging to a file."""
    with pytest.MonkeyPatch.context() as patch:
        use_small_network(patch)
        for command in (calibrate, export, reproduce):
            patch.setattr(command, "prepare_environment", lambda store: None)
        yield


@pytest.fixture(scope="module")
def trained(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run that registered version 1."""
    store = tmp_path_factory.mktemp("trained")
    pipeline(tiny(store, source__plant_faults=False, training__members=2))
    return store


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A table of a user's own recordings: 12 of 12 people, and one without a label."""
    rng, rows = np.random.default_rng(5), []
    for number in range(12):
        kind = ("normal", "murmur")[number % 3 == 0]
        soundfile.write(tmp_path / f"own{number}.wav", synthesize(Heart.draw(kind, rng), 3.0, 0, rng).samples, RATE_HZ)
        rows.append({"file": f"own{number}.wav", "label": kind, "subject": f"p{number}"})
    shutil.copy(tmp_path / "own0.wav", tmp_path / "unlabelled.wav")
    with (tmp_path / "unlabelled.wav").open("ab") as file:
        file.write(b"\0\0")
    pd.DataFrame(rows).to_csv(tmp_path / "own.csv", index=False)
    return tmp_path / "own.csv"


def sentence(text: str) -> str:
    return " ".join(text.split())


def test_calibrate_registers_a_version_that_keeps_the_weights(heartbeat, trained: Path, own: Path):
    manifest = pd.read_parquet(trained / "latest" / "manifest.parquet")
    uris = read_parquet(trained / "latest" / "recordings.parquet").to_pandas().set_index("recording_id")["uri"]
    table = pd.read_csv(own)
    for part in ("train", "valid", "test"):
        row = manifest[manifest["part"] == part].iloc[0]
        shutil.copy(uris[row["recording_id"]], own.parent / f"{part}.wav")
        table.loc[len(table)] = {"file": f"{part}.wav", "label": row["label"], "subject": part}
    table.to_csv(own, index=False)

    arguments = ("calibrate", "--data", own, "--store", trained, "--model", f"models:/{NAME}/1")
    status, error, output = heartbeat(*arguments)
    assert (status, error) == (0, "")
    assert "2 recordings are left out, as the model was trained on them" in sentence(output)  # train and valid
    assert "on your 13 recordings of 13 subjects, each scored by the others" in sentence(output)
    assert f"models:/{NAME}/2, which no alias names" in sentence(output)

    client = registry(trained)
    version = client.get_model_version(NAME, "2")
    assert version.tags["heartbeat.calibrated_from"] == "1"
    assert client.get_model_version_by_alias(NAME, "challenger").version == 1
    assert "calibrated on 13 recordings of 13 subjects (source table): macro-F1 " in version.description
    before, after = (load_model(f"models:/{NAME}/{number}", RegistryConfig(), Store(trained))[1] for number in (1, 2))
    assert after.config.model_copy(update={"calibration": before.config.calibration}) == before.config
    assert len(after.config.calibration.class_bias) == 4
    assert all((a == b).all() for a, b in zip(before.net.parameters(), after.net.parameters(), strict=True))
    seen = set(recordings_trained_on(version.run_id).column("sha256").to_pylist())
    used = client.download_artifacts(version.run_id, "tables/calibration.parquet")
    assert len(pd.read_parquet(used)) == 13
    assert mlflow.artifacts.load_text(f"runs:/{version.run_id}/model_card.md").startswith(
        "> Version 1 calibrated on 13 "
    )
    assert set(pd.read_parquet(used)["sha256"]) < seen

    _, _, output = heartbeat(*arguments)
    assert f"models:/{NAME}/2, which no alias names" in sentence(output)  # the same calibration is one version
    status, _, output = heartbeat("calibrate", "--data", own, "--store", trained, "--model", f"models:/{NAME}/2")
    assert status == 0
    assert f"models:/{NAME}/2 is models:/{NAME}/1 calibrated already: calibrating models:/{NAME}/1 again" in sentence(
        output
    )
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2


def relabelled(table: pd.DataFrame) -> pd.DataFrame:
    return table.replace({"label": {"murmur": "MR"}})


def few(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(subject="p" + (table.index % 4).astype(str))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (relabelled, f"'MR' is no class of models:/{NAME}/1, which has artifact, extrasystole, murmur, normal: name the "
                     "class of each label, as in --set 'source.labels={MR: artifact}'"),
        (few, "only 12 recordings of 4 subjects are left"),
    ],
)  # fmt: skip
def test_recordings_that_cannot_calibrate_are_refused_in_a_sentence(
    heartbeat, trained: Path, own: Path, change, message
):
    change(pd.read_csv(own)).to_csv(own, index=False)
    status, error, _ = heartbeat("calibrate", "--data", own, "--store", trained, "--model", f"models:/{NAME}/1")
    assert status == 2
    assert message in sentence(error)


def test_calibrate_needs_recordings(heartbeat, trained: Path):
    status, error, _ = heartbeat("calibrate", "--store", trained)
    assert (status, error) == (2, "heartbeat: calibrate needs your own labelled recordings: give them with --data\n")


def test_the_exported_folder_predicts_as_the_registered_version(heartbeat, trained: Path, own: Path, tmp_path: Path):
    out = tmp_path / "exported"
    status, error, output = heartbeat("export", "--out", out, "--store", trained, "--model", f"models:/{NAME}/1")
    assert (status, error) == (0, "")
    assert "weights.safetensors" in output
    run_id = registry(trained).get_model_version(NAME, "1").run_id
    assert (out / "MODEL_CARD.md").read_text() == mlflow.artifacts.load_text(f"runs:/{run_id}/model_card.md")
    audio = (own.parent / "own0.wav").read_bytes()
    (prediction,) = Predictor.load(out / "weights.safetensors", out / "config.json").predict([audio])
    assert not isinstance(prediction, BadAudio)
    uri, predictor = load_model(f"models:/{NAME}/1", RegistryConfig(), Store(trained))
    registered = mlflow.pyfunc.load_model(uri).predict(pd.DataFrame({"audio": [audio]})).iloc[0]
    assert prediction.label == registered["label"]
    classes = predictor.config.classes
    assert np.allclose(prediction.probabilities, [registered[f"p_{name}"] for name in classes], atol=1e-6)
    status, error, _ = heartbeat("export", "--out", out, "--store", trained, "--model", uri)
    assert status == 2
    assert error.endswith("exported is not empty: name a folder that is new or empty\n")


def test_reproduce_gives_the_same_weights_also_of_recordings_that_have_moved(heartbeat, trained: Path, tmp_path: Path):
    out, elsewhere = tmp_path / "result.json", tmp_path / "elsewhere"
    manifest = pd.read_parquet(trained / "latest" / "manifest.parquet")
    recordings = read_parquet(trained / "latest" / "recordings.parquet").to_pandas().set_index("recording_id")
    uris = [Path(uri) for uri in recordings.loc[manifest["recording_id"][:2], "uri"]]
    (elsewhere / "inside").mkdir(parents=True)
    moved = [shutil.move(uri, elsewhere / "inside" / f"{number}.wav") for number, uri in enumerate(uris)]
    try:
        status, error, output = heartbeat(
            "reproduce", f"models:/{NAME}/1", "--data", elsewhere, "--store", trained, "--out", out
        )
    finally:
        for file, uri in zip(moved, uris, strict=True):
            shutil.move(file, uri)
    assert (status, error) == (0, "")
    assert f"models:/{NAME}/1 is reproduced: the same weights, bit by bit" in sentence(output)
    result = json.loads(out.read_text())
    assert (result["identical"], result["reproduced"], result["max_difference"]) == (True, True, 0.0)
    assert result["machine"] == result["machine_again"] != ""
    assert not list(trained.glob("reproduce-*"))


def test_what_is_not_reproduced_is_said(heartbeat, trained: Path, monkeypatch: pytest.MonkeyPatch):
    from heartdata.serving import reproduction

    original = reproduction.train_again

    def otherwise(manifest, initial, networks, *rest):
        return original(
            manifest, initial, [each.model_copy(update={"seed": each.seed + 1}) for each in networks], *rest
        )

    monkeypatch.setattr(reproduction, "train_again", otherwise)
    status, _, output = heartbeat("reproduce", f"models:/{NAME}/1", "--store", trained)
    assert status == 5
    assert f"models:/{NAME}/1 is NOT reproduced: the weights differ, probabilities by up to 0." in sentence(output)


def test_a_missing_recording_is_named(heartbeat, trained: Path):
    recordings = read_parquet(trained / "latest" / "recordings.parquet").to_pandas()
    manifest = pd.read_parquet(trained / "latest" / "manifest.parquet")
    uri = Path(recordings.set_index("recording_id").loc[manifest["recording_id"].iloc[0], "uri"])
    moved = uri.rename(uri.with_suffix(".moved"))
    try:
        status, error, _ = heartbeat("reproduce", f"models:/{NAME}/1", "--store", trained)
    finally:
        moved.rename(uri)
    assert status == 2
    assert "recordings are not as they were trained on: restore them, and run again" in error
    assert f"{uri} is missing" in error


def test_training_starts_again_from_the_same_weights(store: Store, tmp_path: Path):
    save_file({"conv1.weight": torch.ones(1)}, start := tmp_path / "start.safetensors")
    scratch = Store(tmp_path / "scratch").open()
    tags = {"init": str(start)}
    assert reproduce._initial_weights({"init": "random"}, RunConfig(), store, scratch) is None
    resolved = reproduce._initial_weights(tags, RunConfig(), store, scratch)
    digest = hashlib.sha256(resolved.read_bytes()).hexdigest()
    start.unlink()
    kept = store.write_bytes("initial", ".safetensors", resolved.read_bytes())
    same = reproduce._initial_weights({**tags, "init_sha256": digest}, RunConfig(), store, scratch)
    assert same == store.local(kept.name)
    save_file({"conv1.weight": torch.zeros(1)}, start)
    empty = Store(tmp_path / "empty").open()
    with pytest.raises(HeartbeatError, match="start.safetensors, which is not what it was"):
        reproduce._initial_weights({**tags, "init_sha256": digest}, RunConfig(), empty, scratch)


@pytest.mark.parametrize(
    ("f1", "brier", "ending"),
    [
        ((0.02, 0.42), (-0.1, 0.1), "labels (macro-F1) better, probabilities (Brier score) no clear difference"),
        ((-0.1, 0.1), (-0.2, -0.1), "labels (macro-F1) no clear difference, probabilities (Brier score) better"),
        ((-0.1, 0.1), (-0.1, 0.1), "probabilities (Brier score) no clear difference: keep models:/m/1"),
        ((-0.1, 0.1), (0.1, 0.2), "probabilities (Brier score) worse: keep models:/m/1"),
        ((-0.2, -0.1), (-0.2, -0.1), "better: choose by which of them you use"),
    ],
)
def test_the_verdict_on_a_calibration_follows_from_the_intervals(f1: tuple, brier: tuple, ending: str):
    rows = [("as trained", "macro_f1", *f1), ("as trained", "brier", *brier), ("calibrated here", "brier", 0, 0)]
    metrics = pd.DataFrame(rows, columns=["model", "metric", "difference_low", "difference_high"])
    assert calibrate.verdict(metrics, "models:/m/1").endswith(ending)
