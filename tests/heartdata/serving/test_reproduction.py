"""Training again from a manifest: the same weights, and what is said where they are not."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import beats, tone, use_small_network, write_wav

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.errors import HeartbeatError
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor
from heartdata.serving.reproduction import Reproduction, check_recordings, differences, render_again, train_again
from heartdata.storage.hash_cache import sha256_of
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Store
from heartdata.training.network import build_net, weights_bytes
from heartdata.training.recipe import TrainingConfig
from heartdata.versions import PREPROCESSING

TRAINING = TrainingConfig(init="random", epochs=2, batch=4, width=64, members=2)
PARTS = ["train"] * 6 + ["valid"] * 2 + ["test"] * 2


def ignore(*_: object) -> None: ...


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch):
    use_small_network(monkeypatch)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """A manifest of ten recordings with a low or a high tone, and their files."""
    uris = {}
    for i, _ in enumerate(PARTS):
        sound = beats(duration_s=2.0, seed=i) + tone((60, 300)[i % 2], 2.0, level=0.1)
        uris[f"r{i}"] = str(write_wav(tmp_path / f"r{i}.wav", sound))
    names = list(uris)
    manifest = pd.DataFrame({"recording_id": names, "group": names, "part": PARTS, "label": ["low", "high"] * 5})
    manifest["sha256"] = [sha256_of(Path(uri)) for uri in uris.values()]
    return manifest.reindex(columns=MANIFEST.names), uris


def trained(recorded: tuple[pd.DataFrame, dict[str, str]], folder: Path, config: TrainingConfig = TRAINING) -> bytes:
    manifest, uris = recorded
    store = Store(folder).open()
    rendered = render_again(manifest, uris, SpectrogramConfig(), "first", store, ignore)
    assert rendered["recording_id"].tolist() == manifest["recording_id"].tolist()
    return train_again(rendered, None, config.networks(), store, ignore)


def test_the_same_manifest_and_settings_give_the_same_weights(recorded, tmp_path: Path):
    first = trained(recorded, tmp_path / "a")
    assert trained(recorded, tmp_path / "b") == first
    assert trained(recorded, tmp_path / "c", TRAINING.model_copy(update={"seed": 1})) != first


def test_progress_counts_the_epochs_of_all_networks(recorded, tmp_path: Path):
    manifest, uris = recorded
    store, done = Store(tmp_path / "s").open(), []
    rendered = render_again(manifest, uris, SpectrogramConfig(), "first", store, ignore)
    train_again(rendered, None, TRAINING.networks(), store, lambda *counts: done.append(counts))
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


def remove(path: Path) -> None:
    path.unlink()


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2] + b"xx")


@pytest.mark.parametrize(("damage", "fault"), [(remove, "is missing or cannot be read"), (change, "has changed")])
def test_recordings_that_are_not_as_they_were_are_listed(recorded, damage: Callable[[Path], None], fault: str):
    manifest, uris = recorded
    check_recordings(manifest, uris, ignore)
    damage(Path(uris["r3"]))
    with pytest.raises(
        HeartbeatError, match=f"1 of the 10 recordings .* restore them, and run again\n  .*r3.wav {fault}$"
    ):
        check_recordings(manifest, uris, ignore)


def test_differences_of_two_models_on_the_test_part(recorded, tmp_path: Path):
    manifest, uris = recorded
    store = Store(tmp_path / "s").open()
    rendered = render_again(manifest, uris, SpectrogramConfig(), "first", store, ignore)
    config = ModelConfig(
        classes=("high", "low"), width=64, spectrogram=SpectrogramConfig(), preprocessing=PREPROCESSING,
        dataset_version="0", init="random",
    )  # fmt: skip
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        (tmp_path / "w.safetensors").write_bytes(weights_bytes(build_net(2)))
        (tmp_path / "c.json").write_text(config.model_dump_json())
        models.append(Predictor.load(tmp_path / "w.safetensors", tmp_path / "c.json"))
    done: list[tuple[int, int]] = []
    other = differences(*models, rendered, store, lambda *counts: done.append(counts))
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert other["max_difference"] > 0.01
    same = differences(models[0], models[0], rendered, store, ignore)
    assert (same["max_difference"], same["changed_labels"], same["recordings"]) == (0, 0, 2)
    assert same["macro_f1"] == same["macro_f1_again"] == other["macro_f1"]


@pytest.mark.parametrize(
    ("sha256", "difference", "changed", "reproduced"),
    [("a", 0.0, 0, True), ("b", 0.009, 0, True), ("b", 0.009, 1, False), ("b", 0.011, 0, False)],
)
def test_reproduced_means_the_same_weights_or_hardly_another_prediction(
    sha256: str, difference: float, changed: int, reproduced: bool
):
    result = Reproduction(
        model="models:/m/1", weights_sha256="a", weights_sha256_again=sha256, max_difference=difference,
        changed_labels=changed, recordings=9, macro_f1=0.5, macro_f1_again=0.5, machine="", machine_again="",
    )  # fmt: skip
    assert result.reproduced is reproduced
    assert result.identical is (sha256 == "a")
    assert json.loads(result.to_json())["reproduced"] is reproduced
