"""Training on a handful of synthetic recordings: reproducible, resumable, and never on the test part."""

import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from heartdata.errors import HeartbeatError
from heartdata.training import features
from heartdata.training import train as training
from heartdata.training.callbacks import Augment, random_mask
from heartdata.training.network import build_net, weights_bytes
from heartdata.training.recipe import TrainingConfig

CONFIG = TrainingConfig(init="random", epochs=3, width=32, batch=4, frozen_epochs=1)
CONTRAST = {"contrast": 1.0, "balance": "none"}


@pytest.fixture(scope="module")
def trained(data) -> training.Trained:
    """A training from random weights."""
    return training.train(data[0], None, CONFIG, data[1])


@pytest.fixture
def initial() -> dict[str, torch.Tensor]:
    """Weights of a network for seven other classes."""
    torch.manual_seed(5)
    return build_net(7).state_dict()


def test_same_seed_same_weights(data, trained):
    manifest, store = data
    same = training.train(manifest, None, CONFIG, store)
    other = training.train(manifest, None, CONFIG.model_copy(update={"seed": 1}), store)
    assert weights_bytes(same.net) == weights_bytes(trained.net) != weights_bytes(other.net)
    assert trained.classes == ("high", "low")


def test_the_test_part_is_never_read(data, trained):
    manifest, store = data
    nonsense = manifest.copy()
    nonsense.loc[nonsense["part"] == "test", ["shard", "label"]] = ["absent.npy", "unknown"]
    assert weights_bytes(training.train(nonsense, None, CONFIG, store).net) == weights_bytes(trained.net)


def test_initial_weights_are_frozen_first(data, initial):
    manifest, store = data
    rows: list[dict] = []
    tuned = training.train(manifest, initial, CONFIG, store, rows.append)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]  # one frozen, three after
    assert tuned.net.fc.out_features == 2
    frozen = training.train(manifest, initial, CONFIG.model_copy(update={"epochs": 0}), store).net.state_dict()
    backbone = [name for name in frozen if not name.startswith("fc.")]
    assert all(torch.equal(frozen[name], initial[name]) for name in backbone)
    assert any(not torch.equal(frozen[name], tuned.net.state_dict()[name]) for name in backbone)


def test_a_frozen_backbone_computes_each_window_once(data, initial, monkeypatch):
    manifest, store = data
    passes = []
    forward = features._forward
    monkeypatch.setattr(features, "_forward", lambda net, windows: passes.append(1) or forward(net, windows))
    config = CONFIG.model_copy(update={"epochs": 0, "frozen_epochs": 5, "width": 48})
    one = training.train(manifest, initial, config, store)
    assert (one.history.num_rows, one.precision) == (5, "float32")
    assert len(passes) == 2  # of the training and of the validation part
    same, other = (
        training.train(manifest, initial, config.model_copy(update={"seed": seed}), store) for seed in (0, 1)
    )
    assert len(passes) == 2
    assert weights_bytes(same.net) == weights_bytes(one.net) != weights_bytes(other.net)


def test_the_last_epoch_within_one_standard_error_is_kept_and_training_stops_early(data, monkeypatch):
    scores = iter([0.5, 0.9, 0.85, 0.1, 0.7, 0.9])
    monkeypatch.setattr("heartdata.training.callbacks.macro_f1_with_se", lambda *args: (next(scores), 0.1))
    config = CONFIG.model_copy(update={"epochs": 6, "patience": 2})
    stopped = training.train(data[0], None, config, data[1])
    assert (stopped.kept_epoch, stopped.history.num_rows) == (2, 5)


def test_a_loss_that_is_not_finite_stops_training_with_advice(data):
    manifest, store = data
    broken = {name: torch.full(tensor.shape, torch.nan) for name, tensor in build_net(2).state_dict().items()}
    with pytest.raises(HeartbeatError, match=r"^the training loss became nan in epoch 1: lower training.learning_rate"):
        training.train(manifest, broken, CONFIG, store)


def test_training_leaves_nothing_in_memory_but_its_network(data):
    manifest, store = data

    def tensor_elements() -> int:
        return sum(each.numel() for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter))

    gc.collect()
    before = tensor_elements()
    net = training.train(manifest, None, CONFIG, store).net
    own = sum(tensor.numel() for tensor in net.state_dict().values())
    assert tensor_elements() - before < 1.5 * own  # optimiser and gradients would be three times that


class Killed(Exception):
    """In place of SIGKILL: nothing of the training runs after it."""


@pytest.mark.parametrize(
    ("pretrained", "stop_after", "change"),
    [
        (False, 2, {"mixup": 0.4}),
        (True, 1, {"mixup": 0.4}),
        (True, 3, {"mixup": 0.4}),
        (False, 1, CONTRAST),
        (True, 2, {"epochs": 0, "frozen_epochs": 4}),
    ],
)
def test_a_resumed_training_ends_with_the_weights_of_an_undisturbed_one(
    data, tmp_path: Path, initial, pretrained: bool, stop_after: int, change: dict
):
    manifest, store = data
    start, config = initial if pretrained else None, CONFIG.model_copy(update=change)
    undisturbed = training.train(manifest, start, config, store)
    epochs: list[int] = []

    def kill(row: dict) -> None:
        if len(epochs) == stop_after:  # before this epoch is saved: it is trained again
            raise Killed("now")
        epochs.append(row["epoch"])

    checkpoint = tmp_path / "progress.safetensors"
    with pytest.raises(Killed):
        training.train(manifest, start, config, store, kill, checkpoint)
    for done in (stop_after, undisturbed.history.num_rows):
        resumes: list[int] = []
        resumed = training.train(
            manifest, start, config, store, lambda row: epochs.append(row["epoch"]), checkpoint, resumes.append
        )
        assert resumes == [done]
        assert epochs == list(range(undisturbed.history.num_rows))  # no saved epoch was trained again
        assert weights_bytes(resumed.net) == weights_bytes(undisturbed.net)
        columns = ["train_loss", "valid_macro_f1", "learning_rate", "windows_seen"]
        assert resumed.history.select(columns).equals(undisturbed.history.select(columns))


def test_a_torn_checkpoint_is_ignored(data, tmp_path: Path, trained):
    manifest, store = data
    checkpoint = tmp_path / "progress.safetensors"
    training.train(manifest, None, CONFIG.model_copy(update={"epochs": 1}), store, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    again = training.train(manifest, None, CONFIG, store, checkpoint=checkpoint)
    assert weights_bytes(again.net) == weights_bytes(trained.net)


def test_bfloat16_on_request(data):
    manifest, store = data
    config = CONFIG.model_copy(update={"epochs": 1, "precision": "bfloat16"})
    half = training.train(manifest, None, config, store)
    assert half.precision == "bfloat16"
    assert np.isfinite(half.history["train_loss"].to_numpy()).all()


def test_masks_hide_one_stretch_of_columns_and_of_bands():
    windows = torch.ones(64, 1, 20, 40)
    columns, bands = (random_mask(windows, axis, 0.25).expand_as(windows) for axis in (3, 2))
    masked = columns[:, 0, 0].sum(1)
    assert (int(masked.min()), int(masked.max())) == (0, 10)
    assert int(bands[:, 0, :, 0].sum(1).max()) == 5
    edges = torch.diff(columns[:, 0, 0].int(), dim=1).abs().sum(1)
    assert int(edges.max()) <= 2  # one stretch


def test_training_windows_keep_their_direction_in_time():
    windows = torch.arange(4.0).repeat(200, 1, 1, 1)  # a reversed one would begin with 3
    augment = Augment(mask_fraction=0)
    augment.learn = SimpleNamespace(x=windows)
    augment.before_batch()
    assert torch.equal(augment.learn.xb[0], windows)


def test_classes_are_drawn_equally_often(data):
    manifest, store = data
    rows = pd.concat(
        [manifest[manifest["label"] == "high"].iloc[:1], *[manifest[manifest["label"] == "low"]] * 4], ignore_index=True
    )
    loader = training.build_dataloaders(rows, rows, ("high", "low"), CONFIG, store).train
    np.random.seed(0)
    drawn = [int(y) for _ in range(20) for _, batch in loader for y in batch]
    assert 0.4 < np.mean(drawn) < 0.6  # one in thirty-three would be 0.97


def test_sampling_weights_of_each_balance():
    rows = pd.DataFrame({"collection": list("aaab"), "label": ["x", "x", "y", "x"]})  # b has no y
    assert training.sampling_weights(rows, "class_and_collection").tolist() == [0.25, 0.25, 1, 0.5]
    assert training.sampling_weights(rows, "class").tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1 / 3])
    assert training.sampling_weights(rows, "none").tolist() == [1, 1, 1, 1]


def test_the_first_network_of_an_ensemble_has_the_configuration_of_a_single_one():
    single, several = TrainingConfig(seed=3).networks(), TrainingConfig(seed=3, members=3).networks()
    assert [network.digest() for network in single] == [several[0].digest()]
    assert len({network.seed for seed in range(4) for network in TrainingConfig(seed=seed, members=3).networks()}) == 12
