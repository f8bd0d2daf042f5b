"""Training on a handful of made sounds: the same weights for the same seed, the test part never seen."""

import gc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import beats, tone
from safetensors.torch import save

from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.errors import ConfigError, HeartbeatError
from heartdata.storage.store import Store
from heartdata.training import callbacks
from heartdata.training import train as training
from heartdata.training.callbacks import macro_f1_with_se, within_one_standard_error
from heartdata.training.network import (
    build_net,
    ensemble_weights,
    first_member,
    load_net,
    load_pretrained,
    read_weights,
    weights_bytes,
)
from heartdata.training.recipe import TrainingConfig

CONFIG = TrainingConfig(init="random", epochs=2, width=32, batch=4, frozen_epochs=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[pd.DataFrame, Store]:
    """Low and high tones, eight to train, four to validate, four to test, in one shard."""
    store = Store(tmp_path_factory.mktemp("training")).open()
    rows, parts, start = [], [], 0
    for i in range(16):
        label, part = ("high", "low")[i % 2], "train" if i < 8 else "valid" if i < 12 else "test"
        spectrogram = log_mel(
            beats(duration_s=1.0, seed=i) + tone((60, 300)[i % 2], 1.0, level=0.1), 4000, SpectrogramConfig()
        )
        rows.append(
            {
                "recording_id": f"r{i}",
                "group": f"g{i}",
                "label": label,
                "part": part,
                "shard": "s.npy",
                "start": start,
                "frames": len(spectrogram),
            }
        )
        parts.append(spectrogram)
        start += len(spectrogram)
    digest = store.write_array("s.npy", np.concatenate(parts))
    return pd.DataFrame(rows).assign(shard_sha256=digest), store


def weights_of(trained: training.Trained) -> bytes:
    return weights_bytes(trained.net)


def test_same_seed_same_weights(data):
    manifest, store = data
    one, two = (training.train(manifest, None, CONFIG, store) for _ in range(2))
    other = training.train(manifest, None, CONFIG.model_copy(update={"seed": 1}), store)
    assert weights_of(one) == weights_of(two) != weights_of(other)
    assert one.classes == ("high", "low")
    assert one.history.num_rows == 2


def test_the_test_part_is_never_looked_at(data):
    manifest, store = data
    nonsense = manifest.copy()
    nonsense.loc[nonsense["part"] == "test", ["shard", "label"]] = ["absent.npy", "unheard of"]
    assert weights_of(training.train(nonsense, None, CONFIG, store)) == weights_of(
        training.train(manifest, None, CONFIG, store)
    )


def test_given_weights_are_started_from_and_frozen_first(data):
    manifest, store = data
    torch.manual_seed(5)
    initial = build_net(7).state_dict()
    rows: list[dict] = []
    trained = training.train(manifest, initial, CONFIG, store, rows.append)
    assert [row["epoch"] for row in rows] == [0, 1, 2]  # one frozen, two after
    assert trained.net.fc.out_features == 2
    frozen = training.train(manifest, initial, CONFIG.model_copy(update={"epochs": 0}), store).net.state_dict()
    assert all(torch.equal(frozen[k], initial[k]) for k in frozen if not k.startswith("fc."))
    assert any(not torch.equal(frozen[k], v) for k, v in trained.net.state_dict().items() if not k.startswith("fc."))


def test_the_last_epoch_as_good_as_the_best_is_kept(data):
    manifest, store = data
    trained = training.train(manifest, None, CONFIG.model_copy(update={"epochs": 3}), store)
    rows = trained.history.to_pylist()
    best = max(rows, key=lambda row: row["valid_macro_f1"])
    good = [r["epoch"] for r in rows if r["valid_macro_f1"] >= best["valid_macro_f1"] - best["valid_macro_f1_se"]]
    assert trained.kept_epoch == good[-1]


@pytest.mark.parametrize(
    ("scores", "kept"),
    [([0.5, 0.41], True), ([0.5, 0.39], False), ([0.5, 0.7, 0.61], True), ([0.7, 0.5, 0.59], False), ([0.5], True)],
)
def test_as_good_as_the_best_is_within_one_standard_error(scores: list[float], kept: bool):
    assert within_one_standard_error([{"valid_macro_f1": s, "valid_macro_f1_se": 0.1} for s in scores]) is kept


def test_the_standard_error_falls_with_the_root_of_the_subjects():
    right = np.tile([[0.9, 0.1], [0.1, 0.9]], (20, 1)), np.tile([0, 1, 1, 1], 10)
    _, few = macro_f1_with_se(*right, np.arange(40))
    _, many = macro_f1_with_se(np.tile(right[0], (16, 1)), np.tile(right[1], 16), np.arange(640))
    assert few / many == pytest.approx(4, rel=0.2)
    _, same = macro_f1_with_se(np.repeat(right[0], 16, 0), np.repeat(right[1], 16), np.repeat(np.arange(40), 16))
    assert same == pytest.approx(few)  # sixteen recordings each of the same forty say no more than one
    assert macro_f1_with_se(np.eye(2), np.array([0, 1]), np.arange(2)) == (1, 0)  # all right, however drawn


def test_an_answer_of_a_class_that_is_not_in_the_validation_part_is_one_mistake():
    probabilities = np.tile([[0.9, 0.1]], (10, 1)) - np.eye(10, 2)[::-1] * 0.85
    value, error = macro_f1_with_se(probabilities, np.zeros(10, int), np.arange(10))
    assert value == pytest.approx(2 * 9 / (10 + 9))
    assert 0 < error < 0.1


def test_training_stops_when_it_gets_worse(data):
    manifest, store = data
    other = manifest["label"].map({"high": "low", "low": "high"})
    wrong = manifest.assign(label=manifest["label"].where(manifest["part"] != "valid", other))
    short = CONFIG.model_copy(update={"epochs": 12, "patience": 1, "seed": 1})  # one whose first epoch is good
    assert training.train(wrong, None, short, store).history.num_rows < 12


def test_a_loss_that_is_no_number_stops_with_a_sentence(data):
    manifest, store = data
    broken = {
        name: torch.full_like(t, float("nan")) if t.is_floating_point() else t
        for name, t in build_net(2).state_dict().items()
    }
    with pytest.raises(HeartbeatError, match="^the training loss became nan in epoch 1: lower training.learning_rate"):
        training.train(manifest, broken, CONFIG, store)


def test_classes_are_drawn_equally_often(data):
    manifest, store = data
    rows = pd.concat(
        [manifest[manifest["label"] == "high"].iloc[:1], *[manifest[manifest["label"] == "low"]] * 4], ignore_index=True
    )
    loader = training.build_dataloaders(rows, rows, ("high", "low"), CONFIG, store).train
    np.random.seed(0)
    drawn = [int(y) for _ in range(20) for _, batch in loader for y in batch]
    assert 0.4 < np.mean(drawn) < 0.6  # one in thirty-three would be 0.97


def test_balanced_loss_counts_a_rare_class_as_much():
    probabilities = np.array([[1.0, 0.0]] * 9 + [[np.exp(-1), 1 - np.exp(-1)]])
    rare_first = np.array([1] * 9 + [0])
    assert callbacks.balanced_loss(probabilities, np.array([0] * 10)) == pytest.approx(0.1)
    assert callbacks.balanced_loss(probabilities[:, ::-1], rare_first) == pytest.approx(
        (0 - np.log(1 - np.exp(-1))) / 2
    )


def test_a_recordings_probabilities_are_the_means_of_its_windows():
    windows = np.array([[1.0, 0.0], [0.0, 1.0], [0.2, 0.8]])
    assert callbacks.mean_by_recording(windows, np.array([0, 0, 1])).tolist() == [[0.5, 0.5], [0.2, 0.8]]


def test_a_training_leaves_nothing_in_memory_but_its_network(data):
    manifest, store = data

    def held() -> int:
        kinds = (torch.Tensor, torch.nn.Parameter)
        return sum(found.numel() for found in gc.get_objects() if type(found) in kinds)

    gc.collect()
    before = held()
    trained = training.train(manifest, None, CONFIG, store)
    own = sum(tensor.numel() for tensor in trained.net.state_dict().values())
    assert held() - before < 1.5 * own  # optimiser and gradients are gone; without care they are three times that


class Killed(Exception):
    """Stands for SIGKILL: nothing of the training after it runs."""


@pytest.mark.parametrize(("init", "stop_after"), [("random", 2), ("given", 1), ("given", 3)])
def test_interrupted_training_ends_with_the_weights_of_an_undisturbed_one(data, tmp_path: Path, init, stop_after):
    manifest, store = data
    torch.manual_seed(5)
    initial = build_net(7).state_dict() if init == "given" else None
    config = CONFIG.model_copy(update={"epochs": 3, "mixup": 0.4})
    undisturbed = training.train(manifest, initial, config, store)
    seen = []

    def kill(row: dict) -> None:
        seen.append(row)

    def kill_in_the_next(row: dict) -> None:
        if len(seen) == stop_after:  # its progress was not written: the epoch is done again
            raise Killed("now")
        kill(row)

    path = tmp_path / "progress.safetensors"
    with pytest.raises(Killed):
        training.train(manifest, initial, config, store, kill_in_the_next, path)
    resumed = training.train(manifest, initial, config, store, kill, path)
    assert len(seen) == undisturbed.history.num_rows  # no epoch before the last whole one was done again
    assert weights_of(resumed) == weights_of(undisturbed)
    told = ["train_loss", "valid_macro_f1", "learning_rate", "windows_seen"]
    assert resumed.history.select(told).to_pylist()[-1] == undisturbed.history.select(told).to_pylist()[-1]


def test_a_torn_progress_file_is_not_believed(data, tmp_path: Path):
    manifest, store = data
    path = tmp_path / "progress.safetensors"
    whole = training.train(manifest, None, CONFIG, store, progress_path=path)
    path.write_bytes(path.read_bytes()[:1000])
    assert weights_of(training.train(manifest, None, CONFIG, store, progress_path=path)) == weights_of(whole)


def test_masks_hide_one_stretch_of_columns_and_of_bands():
    windows = torch.ones(64, 1, 20, 40)
    columns, bands = (callbacks.random_mask(windows, axis, 0.25).expand_as(windows) for axis in (3, 2))
    hidden_columns = columns[:, 0, 0].sum(1)
    assert int(hidden_columns.max()) == 10
    assert int(hidden_columns.min()) == 0
    assert int(bands[:, 0, :, 0].sum(1).max()) == 5
    edges = torch.diff(columns[:, 0, 0].int(), dim=1).abs().sum(1)
    assert int(edges.max()) <= 2  # one stretch


def test_training_windows_keep_their_direction_in_time(data):
    manifest, store = data
    rows = manifest[manifest["part"] == "train"]
    config = CONFIG.model_copy(update={"mask_fraction": 0.0})
    learner = training.build_learner(
        build_net(2), training.build_dataloaders(rows, rows, ("high", "low"), config, store), config
    )
    augment = next(cb for cb in learner.cbs if isinstance(cb, callbacks.Augment))
    windows = torch.arange(4.0).repeat(200, 1, 1, 1)  # a reversed one would begin with 3
    learner.xb = (windows,)
    augment.x = windows
    augment.before_batch()
    assert torch.equal(learner.xb[0], windows)


def test_bfloat16_is_taken_when_asked_for_and_scores_stay_numbers(data):
    manifest, store = data
    trained = training.train(manifest, None, CONFIG.model_copy(update={"epochs": 1, "precision": "bfloat16"}), store)
    assert trained.precision == "bfloat16"
    assert all(np.isfinite(row["train_loss"]) for row in trained.history.to_pylist())


def test_the_weights_of_each_balance():
    rows = pd.DataFrame({"collection": list("aaab"), "label": ["x", "x", "y", "x"]})
    assert training.sampling_weights(rows, "class_and_collection").tolist() == [0.25, 0.25, 1, 0.5]
    assert training.sampling_weights(rows, "class").tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1 / 3])
    assert training.sampling_weights(rows, "none").tolist() == [1, 1, 1, 1]


def test_class_and_collection_draws_each_class_equally_often_where_collections_lack_one():
    rows = pd.DataFrame(
        {"collection": list("aaaaabbbc"), "label": ["x", "x", "x", "y", "z", "x", "y", "y", "x"]}
    )  # x in three collections, y in two, z in one
    drawn = rows.assign(weight=training.sampling_weights(rows, "class_and_collection"))
    of_class = drawn.groupby("label")["weight"].sum()
    assert of_class.tolist() == pytest.approx([1, 1, 1])
    of_both = drawn.groupby(["label", "collection"])["weight"].sum()
    assert of_both["x"].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3])
    assert of_both["y"].tolist() == pytest.approx([1 / 2, 1 / 2])
    assert drawn.groupby(["label", "collection"])["weight"].nunique().eq(1).all()


def test_collections_tell_nothing_about_the_class_when_each_has_every_class():
    rows = pd.DataFrame({"collection": list("aaaabbb"), "label": ["x", "x", "x", "y", "x", "y", "y"]})
    drawn = rows.assign(weight=training.sampling_weights(rows, "class_and_collection"))
    shares = drawn.groupby(["collection", "label"])["weight"].sum()
    assert shares.tolist() == pytest.approx([1 / 2] * 4)


def test_weights_round_trip_and_foreign_files_are_refused(tmp_path: Path):
    net = build_net(3)
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(net))
    again = load_net(tmp_path / "w.safetensors", ["a", "b", "c"])
    plot = torch.randn(2, 1, 64, 64)
    assert torch.equal(net.eval()(plot), again(plot))
    torch.save(net.state_dict(), tmp_path / "pickle.safetensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        read_weights(tmp_path / "pickle.safetensors")
    with pytest.raises(ConfigError, match="do not fit resnet34"):
        load_pretrained(build_net(2), {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "these")


def test_an_ensemble_answers_by_the_mean_of_probabilities(tmp_path: Path):
    nets, plot = [build_net(3).eval(), build_net(3).eval()], torch.randn(4, 1, 64, 64)
    with torch.inference_mode():
        nets[0].fc.bias += torch.tensor([2.0, 0, 0])
        mean = sum(net(plot).softmax(1) for net in nets) / 2
    (tmp_path / "w.safetensors").write_bytes(save(ensemble_weights([net.state_dict() for net in nets])))
    together = load_net(tmp_path / "w.safetensors", ["a", "b", "c"], members=2)
    with torch.inference_mode():
        assert torch.allclose(together(plot).softmax(1), mean, atol=1e-6)
        assert torch.allclose(together(plot).exp(), mean, atol=1e-6)
    first = first_member(read_weights(tmp_path / "w.safetensors"))  # what a training starts from
    assert first.keys() == nets[0].state_dict().keys()
    assert all(torch.equal(first[name], tensor) for name, tensor in nets[0].state_dict().items())
    assert first_member(first) is first


def test_the_first_of_an_ensemble_is_trained_as_it_would_be_alone():
    alone, several = TrainingConfig(seed=3).networks(), TrainingConfig(seed=3, members=3).networks()
    assert len(alone) == 1
    assert several[0].digest() == alone[0].digest()
    assert len({network.seed for network in several}) == 3
    assert len({network.seed for seed in range(4) for network in TrainingConfig(seed=seed, members=3).networks()}) == 12
