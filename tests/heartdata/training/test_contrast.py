"""Learning from recordings without labels: the loss by hand, two windows a recording, nothing of it in the model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import beats, tone

from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from heartdata.training import train as training
from heartdata.training.contrast import TEMPERATURE, contrastive_loss, simulate_other_device, with_projection
from heartdata.training.network import build_net, weights_snapshot
from heartdata.training.recipe import TrainingConfig

CONFIG = TrainingConfig(init="random", epochs=2, width=32, batch=4, balance="none", contrast=1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[pd.DataFrame, Store]:
    """Eight recordings to train, four to validate, each of two seconds and another pitch."""
    store = Store(tmp_path_factory.mktemp("contrast")).open()
    rows, parts, start = [], [], 0
    for i in range(12):
        sound = beats(duration_s=2.0, seed=i) + tone(40 + 20 * i, 2.0, level=0.1)
        spectrogram = log_mel(sound, 4000, SpectrogramConfig())
        place = {"shard": "s.npy", "start": start, "frames": len(spectrogram)}
        rows.append(
            {
                "recording_id": f"r{i}",
                "group": f"g{i}",
                "label": "ab"[i % 2],
                "part": "train" if i < 8 else "valid",
                **place,
            }
        )
        parts.append(spectrogram)
        start += len(spectrogram)
    digest = store.write_array("s.npy", np.concatenate(parts))
    return pd.DataFrame(rows).assign(shard_sha256=digest), store


def test_pair_loss_by_hand():
    x, y = [1.0, 0.0], [0.0, 2.0]  # lengths do not count
    sure, none = np.exp(1 / TEMPERATURE), np.exp(0)
    found = contrastive_loss(torch.tensor([x, y, x, y]))
    assert float(found) == pytest.approx(-np.log(sure / (sure + 2 * none)))
    crossed = contrastive_loss(torch.tensor([x, y, y, x]))
    assert float(crossed) == pytest.approx(-np.log(none / (sure + 2 * none)))


def test_a_batch_holds_two_windows_of_each_recording_each_recording_once(data):
    manifest, store = data
    rows = manifest[manifest["part"] == "train"].reset_index(drop=True)
    loader = training.build_dataloaders(rows, rows, ("a", "b"), CONFIG, store).train
    seen: list[int] = []
    asked = loader.dataset.batch
    loader.dataset.batch = lambda indices: seen.extend(indices) or asked(indices)
    batches = list(loader)
    assert [len(images) for images, _ in batches] == [8, 8]
    for first in (0, 8):
        assert seen[first : first + 4] == seen[first + 4 : first + 8]
    assert sorted(seen) == sorted([*range(8), *range(8)])
    images, labels = batches[0]
    assert torch.equal(labels[:4], labels[4:])
    assert not torch.equal(images[:4], images[4:])


def test_both_losses_teach_and_the_model_is_an_ordinary_one(data, monkeypatch):
    manifest, store = data
    projections: list[tuple[torch.nn.Module, torch.Tensor]] = []

    def noting(net: torch.nn.Module) -> torch.nn.Module:
        with_projection(net)
        projections.append((net.projection, net.projection[0].weight.detach().clone()))
        return net

    monkeypatch.setattr(training, "with_projection", noting)
    trained = training.train(manifest, None, CONFIG, store)
    ((projection, before),) = projections
    assert not torch.equal(projection[0].weight, before)
    assert trained.net.state_dict().keys() == build_net(2).state_dict().keys()
    assert trained.history["windows_seen"].to_pylist() == [16, 32]
    labels_alone = training.train(manifest, None, CONFIG.model_copy(update={"contrast": 0.0}), store)
    assert labels_alone.history["windows_seen"].to_pylist() == [8, 16]
    losses = [one.history["train_loss"][0].as_py() for one in (trained, labels_alone)]
    assert losses[0] > losses[1] + 1  # of eight windows that cannot be told apart yet: log 7 on top


def test_recordings_without_a_label_are_learned_from(data):
    manifest, store = data
    hidden = manifest["recording_id"].isin(["r4", "r5", "r6", "r7"])
    some = manifest.assign(
        part=manifest["part"].mask(hidden, "unlabelled"), label=manifest["label"].astype(object).mask(hidden, None)
    )
    trained = training.train(some, None, CONFIG, store)
    assert trained.classes == ("a", "b")
    assert trained.history["windows_seen"].to_pylist() == [16, 32]  # as of all eight
    labels_alone = CONFIG.model_copy(update={"contrast": 0.0})
    assert training.train(some, None, labels_alone, store).history["windows_seen"].to_pylist() == [4, 8]


def test_a_batch_without_any_label_teaches_by_pairs_alone(data, monkeypatch):
    manifest, store = data
    rows = manifest[manifest["part"] == "train"].reset_index(drop=True).assign(label=None)
    valid = manifest[manifest["part"] == "valid"].reset_index(drop=True)
    config = CONFIG.model_copy(update={"weight_decay": 0.0})

    def change() -> dict[str, float]:
        """How far the weights of two layers move in an epoch."""
        torch.manual_seed(0)
        net = with_projection(build_net(2))
        before = weights_snapshot(net)
        learner = training.build_learner(
            net, training.build_dataloaders(rows, valid, ("a", "b"), config, store), config
        )
        with learner.no_bar(), learner.no_logging():
            learner.fit(1)
        after = weights_snapshot(net)
        return {name: float((after[name] - before[name]).abs().max()) for name in ("conv1.weight", "fc.weight")}

    moved = change()
    assert moved["conv1.weight"] > 1e-5
    assert moved["fc.weight"] == 0  # no label, no lesson for the classifier
    monkeypatch.setattr("heartdata.training.contrast.pair_loss", lambda projected: 0 * projected.sum())
    assert change()["conv1.weight"] == 0


def test_training_goes_on_after_an_interruption(data, tmp_path: Path):
    manifest, store = data
    whole = training.train(manifest, None, CONFIG, store)

    def die(row: dict[str, float]) -> None:
        if row["epoch"] == 1:
            raise HeartbeatError("killed")

    path = tmp_path / "progress.safetensors"
    with pytest.raises(HeartbeatError, match="killed"):
        training.train(manifest, None, CONFIG, store, die, path)
    again = training.train(manifest, None, CONFIG, store, progress_path=path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights_snapshot(again.net).values(), weights_snapshot(whole.net).values(), strict=True)
    )


def test_another_device_changes_colour_and_loudness_of_each_window_by_itself():
    torch.manual_seed(0)
    silent = simulate_other_device(torch.zeros(3, 1, 16, 400))
    colour = silent.mean(3)[:, 0]  # (window, band): noise averages out
    assert colour.std(dim=1).min() > 0.05
    assert not torch.allclose(colour[0], colour[1], atol=0.05)
    by_band = np.polynomial.polynomial.polyfit(np.linspace(-1, 1, 16), colour.T.numpy(), 2)
    smooth = np.polynomial.polynomial.polyval(np.linspace(-1, 1, 16), by_band)
    assert np.abs(smooth - colour.numpy()).max() < 0.1


@pytest.mark.parametrize("change", [{"balance": "class"}, {"mixup": 0.2}, {"view": "whole"}])
def test_what_does_not_go_together_is_refused(change: dict):
    with pytest.raises(ValueError, match="contrast needs"):
        TrainingConfig.model_validate({**CONFIG.model_dump(), **change})


def test_a_setting_that_is_off_leaves_names_of_earlier_trainings_as_they_are():
    assert "contrast" not in TrainingConfig().model_dump()
    assert TrainingConfig(contrast=0.5, balance="none").digest() != TrainingConfig(balance="none").digest()
