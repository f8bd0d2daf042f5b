"""Training on a handful of made sounds: the same weights for the same seed, the test part never seen."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import beats, tone

from heartdata import training
from heartdata.config import ModelConfig, TrainingConfig
from heartdata.errors import BadAudio, ConfigError, HeartbeatError
from heartdata.model import build_net, load_net, read_weights, start_from, weights_bytes
from heartdata.predictor import Predictor
from heartdata.spectrograms import SpectrogramConfig, log_mel
from heartdata.store import Store

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


def test_the_best_epoch_is_kept(data):
    manifest, store = data
    trained = training.train(manifest, None, CONFIG.model_copy(update={"epochs": 3}), store)
    rows = trained.history.to_pylist()
    merits = [(row["valid_macro_f1"], -row["valid_balanced_loss"]) for row in rows]
    assert trained.best_epoch == merits.index(max(merits))


def test_training_stops_when_nothing_gets_better(data):
    manifest, store = data
    hopeless = CONFIG.model_copy(update={"epochs": 8, "patience": 1, "learning_rate": 1e-9, "weight_decay": 0.0})
    assert training.train(manifest, None, hopeless, store).history.num_rows < 8


def test_a_loss_that_is_no_number_stops_with_a_sentence(data):
    manifest, store = data
    broken = {
        name: torch.full_like(t, float("nan")) if t.is_floating_point() else t
        for name, t in build_net(2).state_dict().items()
    }
    with pytest.raises(HeartbeatError, match="the training loss became nan in epoch 0: lower training.learning_rate"):
        training.train(manifest, broken, CONFIG, store)


def test_classes_are_drawn_equally_often(data):
    manifest, store = data
    rows = pd.concat(
        [manifest[manifest["label"] == "high"].iloc[:1], *[manifest[manifest["label"] == "low"]] * 4], ignore_index=True
    )
    loader = training.dataloaders(rows, rows, ("high", "low"), CONFIG, store).train
    np.random.seed(0)
    drawn = [int(y) for _ in range(20) for _, batch in loader for y in batch]
    assert 0.4 < np.mean(drawn) < 0.6  # one in thirty-three would be 0.97


def test_balanced_loss_counts_a_rare_class_as_much():
    logits = torch.tensor([[9.0, 0.0]] * 9 + [[9.0, 0.0]])
    targets = torch.tensor([0] * 9 + [1])
    assert training.balanced_loss(logits, targets) == pytest.approx(9 / 2, abs=1e-3)


def test_weights_round_trip_and_foreign_files_are_refused(tmp_path: Path):
    net = build_net(3)
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(net))
    again = load_net(tmp_path / "w.safetensors", ["a", "b", "c"])
    picture = torch.randn(2, 1, 64, 64)
    assert torch.equal(net.eval()(picture), again(picture))
    torch.save(net.state_dict(), tmp_path / "pickle.safetensors")
    with pytest.raises(ConfigError, match="not a safetensors file"):
        read_weights(tmp_path / "pickle.safetensors")
    with pytest.raises(ConfigError, match="do not fit resnet34"):
        start_from(build_net(2), {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "these")


def test_predictor_answers_bytes_and_refuses_what_is_none(tmp_path: Path):
    from helpers import write_wav

    (tmp_path / "w.safetensors").write_bytes(weights_bytes(build_net(2)))
    config = ModelConfig(
        classes=("a", "b"), width=64, spectrogram=SpectrogramConfig(), dataset_version="0", init="random"
    )
    (tmp_path / "c.json").write_text(config.model_dump_json())
    predictor = Predictor.load(tmp_path / "w.safetensors", tmp_path / "c.json")
    answer = predictor.answer_bytes(write_wav(tmp_path / "a.wav", beats()).read_bytes())
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.label == "ab"[int(np.argmax(answer.probabilities))]
    with pytest.raises(BadAudio):
        predictor.answer_bytes(b"no audio")
    with pytest.raises(BadAudio, match="not numbers"):
        predictor.answer_bytes(write_wav(tmp_path / "n.wav", np.full(8000, np.nan), subtype="FLOAT").read_bytes())
