"""Relevance is where the evidence is: planted patches, randomised weights, windows, ensembles and threads."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import beats, write_wav
from scipy.stats import spearmanr
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.dataset.windows import as_images
from heartdata.errors import BadAudio, ConfigError
from heartdata.serving.explain import explain, relevance
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor
from heartdata.training.network import Ensemble

WIDTH = 128
CLASSES = ("low", "high")


def small_net() -> nn.Module:
    """A resnet with the layers of ours, and a quarter of its weights."""
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=len(CLASSES))
    net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return net


def predictor_of(net: nn.Module, **changes: object) -> Predictor:
    config = ModelConfig(
        classes=CLASSES, width=WIDTH, spectrogram=SpectrogramConfig(), dataset_version="0", init="random"
    )
    return Predictor(net.eval(), config.model_copy(update=changes))


def planted(count: int, columns: int = WIDTH, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with a louder patch in the low or, of the other class, in the high bands; class numbers; where the patch is."""
    rng = np.random.default_rng(seed)
    spectrograms, patch = (
        rng.normal(0, 1, (count, columns, 32)).astype(np.float32),
        np.zeros((count, columns, 32), bool),
    )
    numbers = np.arange(count) % 2
    for i in range(count):
        column, band = rng.integers(8, columns - 20), rng.integers(2, 8) + 14 * numbers[i]
        patch[i, column : column + 12, band : band + 8] = True
    return spectrograms + 2 * patch, numbers, patch


@pytest.fixture(scope="module")
def trained() -> Predictor:
    """Trained to tell patches in the low bands from patches in the high ones."""
    torch.manual_seed(0)
    net = small_net()
    spectrograms, numbers, _ = planted(96)
    images, targets = as_images(spectrograms), torch.from_numpy(numbers)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=24)
    for _ in range(4):
        for batch in torch.randperm(96).split(16):
            loss = nn.functional.cross_entropy(net(images[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return predictor_of(net)


def test_relevance_is_where_the_evidence_is(trained: Predictor):
    spectrograms, numbers, patches = planted(16, seed=1)
    hits, inside, outside, against = [], [], [], []
    for spectrogram, number, patch in zip(spectrograms, numbers, patches, strict=True):
        of_class = relevance(trained, spectrogram, CLASSES[number])
        assert of_class.shape == spectrogram.shape
        assert 0 <= of_class.min() <= of_class.max() <= 1
        hits.append(patch.flat[of_class.argmax()])
        inside.append(of_class[patch].mean())
        outside.append(of_class[~patch].mean())
        against.append(relevance(trained, spectrogram, CLASSES[1 - number])[patch].mean())
    assert np.mean(hits) >= 0.5  # the pointing game; by chance 0.02
    assert np.mean(inside) > 4 * np.mean(outside)
    assert np.mean(against) < 0.2 * np.mean(inside)


def test_randomised_weights_change_the_map(trained: Predictor):
    """Adebayo et al. 2018: layer after layer from the top is set to random weights."""
    spectrograms, numbers, _ = planted(6, seed=2)
    net = copy.deepcopy(trained.net)

    def maps() -> list[np.ndarray]:
        return [
            relevance(replace(trained, net=net), spectrogram, CLASSES[number])
            for spectrogram, number in zip(spectrograms, numbers, strict=True)
        ]

    original = maps()
    torch.manual_seed(1)
    for name in ("fc", "layer4", "layer3", "layer2", "layer1"):
        for module in net.get_submodule(name).modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        pairs = [(a.ravel(), b.ravel()) for a, b in zip(original, maps(), strict=True)]
        correlations = [spearmanr(a, b).statistic for a, b in pairs if a.any() and b.any()]
        assert correlations, name
        assert np.mean(correlations) < 0.5, name


@pytest.mark.parametrize("columns", [1, 50, WIDTH - 1, 300, 128 * 40])
@pytest.mark.parametrize("view", ["windows", "whole"])
def test_any_length_has_a_relevance_of_its_shape(trained: Predictor, columns: int, view: str):
    spectrogram = np.random.default_rng(0).normal(0, 1, (columns, 32)).astype(np.float16)
    of_class = relevance(predictor_of(trained.net, view=view), spectrogram, "low")
    assert of_class.shape == (columns, 32)
    assert np.isfinite(of_class).all()


def test_the_patch_is_found_in_a_long_a_short_and_a_squeezed_recording(trained: Predictor):
    for columns, view in ((400, "windows"), (70, "windows"), (200, "whole")):
        spectrograms, numbers, patches = planted(8, columns, seed=3)
        predictor = predictor_of(trained.net, view=view)
        maps = [relevance(predictor, x, CLASSES[number]) for x, number in zip(spectrograms, numbers, strict=True)]
        inside = np.mean([of_class[patch].mean() for of_class, patch in zip(maps, patches, strict=True)])
        outside = np.mean([of_class[~patch].mean() for of_class, patch in zip(maps, patches, strict=True)])
        assert inside > 2 * outside, (columns, view)


@pytest.mark.parametrize(("mel_bands", "width"), [(40, 100), (64, 65)])
def test_any_size_of_window(mel_bands: int, width: int):
    torch.manual_seed(0)
    spectrogram = np.random.default_rng(0).normal(0, 1, (150, mel_bands)).astype(np.float16)
    assert relevance(predictor_of(small_net(), width=width), spectrogram, "low").shape == (150, mel_bands)


def test_an_ensemble_of_equal_members_is_explained_as_one_of_them(trained: Predictor):
    (spectrogram,), _, _ = planted(1, seed=4)
    ensemble = predictor_of(Ensemble([copy.deepcopy(trained.net) for _ in range(2)]), members=2)
    assert np.allclose(relevance(ensemble, spectrogram, "low"), relevance(trained, spectrogram, "low"), atol=1e-4)


def test_nothing_speaks_for_a_class_without_evidence(trained: Predictor):
    net = copy.deepcopy(trained.net)
    nn.init.zeros_(net.get_submodule("fc").weight)  # type: ignore[arg-type]
    (spectrogram,), _, _ = planted(1, seed=5)
    assert not relevance(predictor_of(net), spectrogram, "low").any()


def test_threads_and_inference_mode_do_not_disturb_each_other(trained: Predictor):
    spectrograms, _, _ = planted(8, 200, seed=6)
    expected = [relevance(trained, spectrogram, "low") for spectrogram in spectrograms]
    probabilities = list(trained.probabilities(spectrograms))

    def both(number: int) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode(number % 2 == 0):
            return relevance(trained, spectrograms[number], "low"), next(trained.probabilities([spectrograms[number]]))

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(both, range(8)))
    for (of_class, probability), one, other in zip(results, expected, probabilities, strict=True):
        assert np.allclose(of_class, one, atol=1e-4)
        assert np.allclose(probability, other, atol=1e-5)
    assert not any(module._forward_hooks for module in trained.net.modules())


def test_an_explanation_of_a_file(trained: Predictor, tmp_path: Path):
    content = write_wav(tmp_path / "a.wav", beats(70, 6)).read_bytes()
    explanation = explain(trained, content)
    assert explanation.explained == explanation.prediction.label
    assert explanation.samples.shape == (24_000,)
    assert explanation.relevance.shape == explanation.spectrogram.shape
    assert explain(trained, content, "high").explained == "high"
    stereo = np.stack([beats(70, 6), beats(70, 6)], axis=1)
    assert explain(trained, write_wav(tmp_path / "s.wav", stereo).read_bytes()).samples.ndim == 1
    with pytest.raises(ConfigError, match="no class other: choose one of low, high"):
        explain(trained, content, "other")
    with pytest.raises(BadAudio):
        explain(trained, b"no audio")
