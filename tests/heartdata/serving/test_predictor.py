"""From audio bytes to predictions: batched, each recording by itself, and only with the preprocessing of the training."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import beats, write_wav

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import RecordingBounds
from heartdata.errors import BadAudio, ConfigError
from heartdata.scoring.calibration import Calibration
from heartdata.serving import predictor as predictors
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Prediction, Predictor, predict_probabilities, prediction_frame
from heartdata.storage.store import Store
from heartdata.training.features import BATCH_WINDOWS, frozen_features
from heartdata.training.network import build_net, weights_bytes
from heartdata.versions import PREPROCESSING


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("net") / "w.safetensors"
    path.write_bytes(weights_bytes(build_net(2)))
    return path


def loaded(weights: Path, folder: Path, **changes: Any) -> Predictor:
    values = {
        "classes": ("a", "b"), "width": 64, "spectrogram": SpectrogramConfig(), "preprocessing": PREPROCESSING,
        "dataset_version": "0", "init": "random",
    }  # fmt: skip
    (folder / "c.json").write_text(ModelConfig(**{**values, **changes}).model_dump_json())
    return Predictor.load(weights, folder / "c.json")


def noise(count: int) -> list[np.ndarray]:
    """Spectrograms of 1 to 400 columns, one of them of more windows than a batch holds."""
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(1, 400, count - 1).tolist(), 32 * (BATCH_WINDOWS + 9)]
    return [rng.normal(0, 1, (length, 32)).astype(np.float16) for length in lengths]


def test_probabilities_do_not_depend_on_the_rest_of_the_batch(weights: Path, tmp_path: Path):
    predictor, spectrograms, sizes = loaded(weights, tmp_path), noise(16), []
    predictor.net.register_forward_pre_hook(lambda net, inputs: sizes.append(len(inputs[0])))
    together = list(predictor.probabilities(spectrograms))
    assert max(sizes) == BATCH_WINDOWS
    assert len(sizes) < 8
    backwards = list(predictor.probabilities(spectrograms[::-1]))[::-1]
    alone = [next(predictor.probabilities([each])) for each in spectrograms]
    assert np.allclose(together, alone, rtol=0, atol=1e-5)
    assert np.allclose(backwards, alone, rtol=0, atol=1e-5)
    assert np.ptp(np.array(alone)[:, 0]) > 1e-2  # a mix-up would be noticed


def test_features_of_training_give_the_same_probabilities(weights: Path, tmp_path: Path, store: Store):
    predictor, spectrograms = loaded(weights, tmp_path), noise(6)
    frames = np.array([len(spectrogram) for spectrogram in spectrograms])
    rows = pd.DataFrame({"shard": "s.npy", "start": frames.cumsum() - frames, "frames": frames})
    rows["shard_sha256"] = store.write_array("s.npy", np.concatenate(spectrograms))
    forward = predict_probabilities(predictor, rows, store)
    frozen_features(predictor.net, 64, "windows")
    done: list[int] = []
    kept = predict_probabilities(predictor, rows, store, done.append)
    assert np.allclose(kept, forward, rtol=0, atol=1e-6)
    assert done == [1, 2, 3, 4, 5, 6]


def test_spectrograms_are_consumed_lazily(weights: Path, tmp_path: Path):
    taken = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            taken.append(1)
            yield np.zeros((64, 32), np.float16)

    next(loaded(weights, tmp_path).probabilities(endless()))
    assert len(taken) <= BATCH_WINDOWS


def test_a_bad_file_does_not_affect_the_others(weights: Path, tmp_path: Path):
    predictor = loaded(weights, tmp_path)
    good = write_wav(tmp_path / "a.wav", beats()).read_bytes()
    short = write_wav(tmp_path / "s.wav", beats(duration_s=0.5)).read_bytes()
    silent = write_wav(tmp_path / "z.wav", np.zeros(8000, np.float32)).read_bytes()
    not_finite = write_wav(tmp_path / "n.wav", np.full(8000, np.nan), subtype="FLOAT").read_bytes()
    results = predictor.predict([b"no audio", good, short, silent, not_finite, good])
    assert [isinstance(result, BadAudio) for result in results] == [True, False, True, True, True, False]
    bad, one, brief, quiet, nan, two = results
    assert "cannot be decoded" in str(bad)
    assert "only 0.50 s long: too short" in str(brief)
    assert "check the microphone" in str(quiet)
    assert "not finite numbers" in str(nan)
    assert one == two
    assert sum(one.probabilities) == pytest.approx(1)
    assert one.label == "ab"[int(np.argmax(one.probabilities))]
    assert predictor.predict([]) == []
    assert all(isinstance(result, BadAudio) for result in predictor.predict([b"x", b""]))


@pytest.mark.parametrize(
    ("recorded", "difference"),
    [
        ({}, "decoding: installed version .*, the model's unknown"),
        ({**PREPROCESSING, "decoding": "0"}, "decoding: installed version .*, the model's 0\\)"),
        ({**PREPROCESSING, "spectrograms": "1"}, "\\(spectrograms: installed version .*, the model's 1\\)"),
    ],
)
def test_a_model_with_other_preprocessing_is_refused(
    weights: Path, tmp_path: Path, recorded: dict[str, str], difference: str
):
    with pytest.raises(ConfigError, match=f"c.json is .*other preprocessing.*{difference}.*: train a new version"):
        loaded(weights, tmp_path, preprocessing=recorded)


def test_a_configuration_of_another_version_is_refused(weights: Path, tmp_path: Path):
    loaded(weights, tmp_path)
    newer = json.loads((tmp_path / "c.json").read_text()) | {"unknown": 1}
    (tmp_path / "c.json").write_text(json.dumps(newer))
    with pytest.raises(ConfigError, match="c.json is not a model configuration that this version .* reads"):
        Predictor.load(weights, tmp_path / "c.json")


def test_network_and_windows_are_moved_to_the_computing_device(weights: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(predictors, "computing_device", lambda: torch.device("meta"))
    predictor, seen = loaded(weights, tmp_path), []
    predictor.net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0].device.type))
    with pytest.raises(NotImplementedError):  # meta tensors have no data to copy back
        list(predictor.probabilities(noise(2)))
    assert seen == ["meta"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_gpu_and_cpu_agree(weights: Path, tmp_path: Path, monkeypatch):
    gpu, spectrograms = loaded(weights, tmp_path), noise(40)
    assert next(gpu.net.parameters()).is_cuda
    monkeypatch.setattr(predictors, "computing_device", lambda: torch.device("cpu"))
    cpu = list(loaded(weights, tmp_path).probabilities(spectrograms))
    together = list(gpu.probabilities(spectrograms))
    assert np.allclose(together, cpu, rtol=0, atol=1e-4)
    assert np.allclose(together, [next(gpu.probabilities([each])) for each in spectrograms], atol=1e-5)


def test_too_little_memory_is_not_said_to_be_a_fault_of_the_file(weights: Path, tmp_path: Path, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(predictors, "log_mel", fail)
    with pytest.raises(MemoryError):
        loaded(weights, tmp_path).predict([write_wav(tmp_path / "a.wav", beats()).read_bytes()])


def test_failed_warnings_and_the_heart_rate_are_said_beside_the_prediction(weights: Path, tmp_path: Path, monkeypatch):
    predictor = loaded(weights, tmp_path)
    contents = [
        write_wav(tmp_path / "short.wav", beats(duration_s=2)).read_bytes(),
        write_wav(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, 24_000)).read_bytes(),
        write_wav(tmp_path / "good.wav", beats(duration_s=8)).read_bytes(),
    ]
    short, noisy, good = predictor.predict(contents)
    assert short.warnings == ("short",)
    assert noisy.warnings == ("poor_quality",)
    assert good.warnings == ()
    assert good.heart_rate_bpm is not None
    assert noisy.heart_rate_bpm is None
    config = predictor.config.model_copy(update={"accepts": RecordingBounds(short_duration_s=10)})
    assert replace(predictor, config=config).predict(contents[2:])[0].warnings == ("short",)

    def fail(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(predictors, "find_beats", fail)
    assert predictor.predict(contents) == [replace(each, heart_rate_bpm=None) for each in (short, noisy, good)]


def test_the_digest_tells_weights_and_configurations_apart(weights: Path, tmp_path: Path):
    first = loaded(weights, tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", first.digest)
    assert loaded(weights, tmp_path).digest == first.digest
    assert loaded(weights, tmp_path, calibration=Calibration(unsure_below=0.5)).digest != first.digest
    (tmp_path / "other.safetensors").write_bytes(weights_bytes(build_net(2)))
    assert loaded(tmp_path / "other.safetensors", tmp_path).digest != first.digest


def test_results_as_a_table(weights: Path, tmp_path: Path):
    predictor = loaded(weights, tmp_path)
    sure = Prediction("b", False, (0.25, 0.75), ("short", "dc_offset"), 61.5)
    frame = prediction_frame([sure, BadAudio("too short")], predictor)
    assert list(frame.columns) == [
        "label", "unsure", "error", "warnings", "heart_rate_bpm", "model_digest", "p_a", "p_b",
    ]  # fmt: skip
    assert frame.iloc[0].tolist() == ["b", False, None, "short, dc_offset", 61.5, predictor.digest, 0.25, 0.75]
    assert frame.iloc[1, :4].tolist() == [None, pd.NA, "too short", ""]
    assert frame.iloc[1][["heart_rate_bpm", "p_a", "p_b"]].isna().all()
    assert len(prediction_frame([], predictor)) == 0
