"""From audio bytes to answers: in batches, each recording by itself, and only by a model for this preprocessing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import beats, write_wav

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.errors import BadAudio, ConfigError
from heartdata.serving import predictor as predictors
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import WINDOWS_AT_ONCE, Predictor
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
    """Spectrograms of 1 to 400 columns, one of them of more windows than fit into the network at once."""
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(1, 400, count - 1).tolist(), 32 * (WINDOWS_AT_ONCE + 9)]
    return [rng.normal(0, 1, (length, 32)).astype(np.float16) for length in lengths]


def test_a_recording_has_the_same_probabilities_whatever_is_beside_it(weights: Path, tmp_path: Path):
    predictor, sounds, sizes = loaded(weights, tmp_path), noise(40), []
    predictor.net.register_forward_pre_hook(lambda net, given: sizes.append(len(given[0])))
    together = list(predictor.probabilities(sounds))
    assert max(sizes) == WINDOWS_AT_ONCE
    assert len(sizes) < 20
    backwards = list(predictor.probabilities(sounds[::-1]))[::-1]
    alone = [next(predictor.probabilities([sound])) for sound in sounds]
    assert np.allclose(together, alone, rtol=0, atol=1e-5)
    assert np.allclose(backwards, alone, rtol=0, atol=1e-5)
    assert np.ptp(np.array(alone)[:, 0]) > 1e-2  # they could be told apart


def test_spectrograms_are_taken_as_they_are_needed(weights: Path, tmp_path: Path):
    taken = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            taken.append(1)
            yield np.zeros((64, 32), np.float16)

    next(loaded(weights, tmp_path).probabilities(endless()))
    assert len(taken) <= WINDOWS_AT_ONCE


def test_a_bad_file_is_bad_by_itself(weights: Path, tmp_path: Path):
    predictor = loaded(weights, tmp_path)
    good = write_wav(tmp_path / "a.wav", beats()).read_bytes()
    short = write_wav(tmp_path / "s.wav", beats(duration_s=0.5)).read_bytes()
    silent = write_wav(tmp_path / "z.wav", np.zeros(8000, np.float32)).read_bytes()
    not_finite = write_wav(tmp_path / "n.wav", np.full(8000, np.nan), subtype="FLOAT").read_bytes()
    bad, one, brief, quiet, nan, two = predictor.predict([b"no audio", good, short, silent, not_finite, good])
    assert "cannot be decoded" in str(bad)
    assert "only 0.50 s long: too short" in str(brief)
    assert "check the microphone" in str(quiet)
    assert "not numbers" in str(nan)
    assert all(isinstance(answer, BadAudio) for answer in (bad, brief, quiet, nan))
    for answer in (one, two):
        assert not isinstance(answer, BadAudio)
        assert sum(answer.probabilities) == pytest.approx(1)
        assert answer.label == "ab"[int(np.argmax(answer.probabilities))]
    assert predictor.predict([]) == []
    assert all(isinstance(answer, BadAudio) for answer in predictor.predict([b"x", b""]))


@pytest.mark.parametrize(
    ("recorded", "named"),
    [
        ({}, "decoding is of version .*, the model needs one that it does not name"),
        ({**PREPROCESSING, "decoding": "0"}, "decoding is of version .*, the model needs 0\\)"),
        ({**PREPROCESSING, "spectrograms": "1"}, "\\(spectrograms is of version .*, the model needs 1\\)"),
    ],
)
def test_a_model_for_other_input_is_refused(weights: Path, tmp_path: Path, recorded: dict[str, str], named: str):
    with pytest.raises(ConfigError, match=f"c.json is of a model for other input .*{named}.*: train a new version"):
        loaded(weights, tmp_path, preprocessing=recorded)


def test_a_configuration_of_another_version_is_refused_in_a_sentence(weights: Path, tmp_path: Path):
    loaded(weights, tmp_path)
    newer = json.loads((tmp_path / "c.json").read_text()) | {"unheard_of": 1}
    (tmp_path / "c.json").write_text(json.dumps(newer))
    with pytest.raises(ConfigError, match="c.json is no model configuration that this version .* reads"):
        Predictor.load(weights, tmp_path / "c.json")


def test_network_and_windows_go_where_the_device_says(weights: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(predictors, "computing_device", lambda: torch.device("meta"))
    predictor, seen = loaded(weights, tmp_path), []
    predictor.net.register_forward_pre_hook(lambda net, given: seen.append(given[0].device.type))
    with pytest.raises(NotImplementedError):  # nothing comes back from there
        list(predictor.probabilities(noise(2)))
    assert seen == ["meta"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_what_the_processor_gives(weights: Path, tmp_path: Path, monkeypatch):
    fast, sounds = loaded(weights, tmp_path), noise(40)
    assert next(fast.net.parameters()).is_cuda
    monkeypatch.setattr(predictors, "computing_device", lambda: torch.device("cpu"))
    slow = list(loaded(weights, tmp_path).probabilities(sounds))
    assert np.allclose(list(fast.probabilities(sounds)), slow, rtol=0, atol=1e-4)
    assert np.allclose(list(fast.probabilities(sounds)), [next(fast.probabilities([s])) for s in sounds], atol=1e-5)
