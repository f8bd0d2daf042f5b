"""Contrastive learning: the loss by hand, two windows of each recording in a batch, no trace of it in the model."""

import numpy as np
import pandas as pd
import pytest
import torch

from heartdata.storage.store import Store
from heartdata.training import train as training
from heartdata.training.contrast import TEMPERATURE, contrastive_loss, simulate_other_device, with_projection
from heartdata.training.network import build_net, weights_snapshot
from heartdata.training.recipe import TrainingConfig

CLASSES = ("high", "low")
CONFIG = TrainingConfig(init="random", epochs=2, width=32, batch=4, balance="none", contrast=1.0)
LABELS_ALONE = CONFIG.model_copy(update={"contrast": 0.0})


def part(data: tuple[pd.DataFrame, Store], name: str) -> pd.DataFrame:
    return data[0][data[0]["part"] == name].reset_index(drop=True)


def test_contrastive_loss_by_hand():
    x, y = [1.0, 0.0], [0.0, 2.0]  # lengths do not count
    same, other = np.exp(1 / TEMPERATURE), np.exp(0)
    matched = contrastive_loss(torch.tensor([x, y, x, y]))
    assert float(matched) == pytest.approx(-np.log(same / (same + 2 * other)))
    crossed = contrastive_loss(torch.tensor([x, y, y, x]))
    assert float(crossed) == pytest.approx(-np.log(other / (same + 2 * other)))


def test_a_batch_holds_two_windows_of_each_recording_and_an_epoch_each_recording_once(data, monkeypatch):
    rows = part(data, "train")
    loader = training.build_dataloaders(rows, rows, CLASSES, CONFIG, data[1]).train
    seen: list[int] = []
    batch_of = loader.dataset.batch
    monkeypatch.setattr(loader.dataset, "batch", lambda indices: seen.extend(indices) or batch_of(indices))
    batches = list(loader)
    assert [len(images) for images, _ in batches] == [8, 8]
    assert all(seen[first : first + 4] == seen[first + 4 : first + 8] for first in (0, 8))
    assert sorted(seen) == sorted([*range(8), *range(8)])
    images, labels = batches[0]
    assert torch.equal(labels[:4], labels[4:])
    assert not torch.equal(images[:4], images[4:])


def test_both_losses_are_minimised_and_the_projection_is_not_in_the_model(data, monkeypatch):
    manifest, store = data
    projections: list[tuple[torch.nn.Module, torch.Tensor]] = []

    def spy(net: torch.nn.Module) -> torch.nn.Module:
        with_projection(net)
        projections.append((net.projection, net.projection[0].weight.detach().clone()))
        return net

    monkeypatch.setattr(training, "with_projection", spy)
    trained = training.train(manifest, None, CONFIG, store)
    ((projection, before),) = projections
    assert not torch.equal(projection[0].weight, before)
    assert trained.net.state_dict().keys() == build_net(2).state_dict().keys()
    assert trained.history["windows_seen"].to_pylist() == [16, 32]
    labels_alone = training.train(manifest, None, LABELS_ALONE, store)
    assert labels_alone.history["windows_seen"].to_pylist() == [8, 16]
    losses = [one.history["train_loss"][0].as_py() for one in (trained, labels_alone)]
    assert losses[0] > losses[1] + 1  # for eight windows that all look alike it would be log 7


def test_unlabelled_recordings_are_trained_on_only_with_contrast(data):
    manifest, store = data
    hidden = manifest["recording_id"].isin(["r4", "r5", "r6", "r7"])
    some = manifest.assign(
        part=manifest["part"].mask(hidden, "unlabelled"), label=manifest["label"].astype(object).mask(hidden, None)
    )
    trained = training.train(some, None, CONFIG, store)
    assert trained.classes == CLASSES
    assert trained.history["windows_seen"].to_pylist() == [16, 32]  # as of all eight
    assert training.train(some, None, LABELS_ALONE, store).history["windows_seen"].to_pylist() == [4, 8]


def test_a_batch_without_labels_trains_the_backbone_alone(data, monkeypatch):
    config = CONFIG.model_copy(update={"weight_decay": 0.0})
    batches = training.build_dataloaders(
        part(data, "train").assign(label=None), part(data, "valid"), CLASSES, config, data[1]
    )

    def change() -> dict[str, float]:
        """How far the weights of two layers move in an epoch."""
        torch.manual_seed(0)
        net = with_projection(build_net(2))
        before = weights_snapshot(net)
        learner = training.build_learner(net, batches, config)
        with learner.no_bar(), learner.no_logging():
            learner.fit(1)
        after = weights_snapshot(net)
        return {name: float((after[name] - before[name]).abs().max()) for name in ("conv1.weight", "fc.weight")}

    moved = change()
    assert moved["conv1.weight"] > 1e-5
    assert moved["fc.weight"] == 0
    monkeypatch.setattr("heartdata.training.contrast.contrastive_loss", lambda projected: 0 * projected.sum())
    assert change()["conv1.weight"] == 0


def test_another_device_changes_the_spectrum_of_each_window_differently():
    torch.manual_seed(0)
    silent = simulate_other_device(torch.zeros(3, 1, 16, 400))
    colour = silent.mean(3)[:, 0]  # (window, band): noise averages out
    assert colour.std(dim=1).min() > 0.05
    assert not torch.allclose(colour[0], colour[1], atol=0.05)
    by_band = np.polynomial.polynomial.polyfit(np.linspace(-1, 1, 16), colour.T.numpy(), 2)
    smooth = np.polynomial.polynomial.polyval(np.linspace(-1, 1, 16), by_band)
    assert np.abs(smooth - colour.numpy()).max() < 0.1


@pytest.mark.parametrize("change", [{"balance": "class"}, {"mixup": 0.2}, {"view": "whole"}])
def test_settings_that_exclude_contrast_are_refused(change: dict):
    with pytest.raises(ValueError, match="contrast needs"):
        TrainingConfig.model_validate({**CONFIG.model_dump(), **change})


def test_contrast_is_left_out_of_the_digest_when_off():
    assert "contrast" not in TrainingConfig().model_dump()
    assert TrainingConfig(contrast=0.5, balance="none").digest() != TrainingConfig(balance="none").digest()
