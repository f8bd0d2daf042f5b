"""Which map shows where the evidence is: patches planted in noise, and weights that are randomised; ours beside the last
stage's and LayerCAM.

    python -m benchmarks.explanations [--networks 5]

Five small residual networks learn to tell patches in the low bands from patches in the high ones. Of the maps of 24 other
spectrograms each: how often its peak is inside the patch (the pointing game, Zhang et al. 2018), the AUROC of cells inside
against outside, the ratio of their means, the same ratio for the other class, and the rank correlation with the map of
the network whose last layer has random weights (Adebayo et al. 2018).
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from captum.attr import LayerGradientXActivation
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from benchmarks.command import run_benchmark, say
from benchmarks.rows import Row, Value, mean_with_interval, scored
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.dataset.windows import as_images
from heartdata.serving.explain import LAYERS, relevance
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor

WIDTH, BANDS, PATCH_COLUMNS, PATCH_BANDS = 128, 32, 12, 8
CLASSES = ("low", "high")
TRAINED = 96
SIZES = {"networks": (5, 1), "tested": (24, 2)}
OURS = "activation x gradient of stages 1-3 (used)"
COLUMNS = {  # and whether lower is better
    "peak inside the patch": False,
    "AUROC of inside": False,
    "mean inside / outside": False,
    "mean inside / outside, for the other class": True,
    "rank correlation after the last layer was randomised": True,
}


def planted(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spectrograms (count, WIDTH, BANDS) of noise with one louder patch, class numbers, and where the patches are."""
    rng = np.random.default_rng(seed)
    numbers, patches = np.arange(count) % 2, np.zeros((count, WIDTH, BANDS), bool)
    for patch, number in zip(patches, numbers, strict=True):
        column, band = rng.integers(8, WIDTH - 20), rng.integers(2, 8) + 14 * number
        patch[column : column + PATCH_COLUMNS, band : band + PATCH_BANDS] = True
    return rng.normal(0, 1, patches.shape).astype(np.float32) + 2 * patches, numbers, patches


def trained(seed: int) -> Predictor:
    """A network of one block a stage that tells the classes."""
    torch.manual_seed(seed)
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=len(CLASSES))
    net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    spectrograms, numbers, _ = planted(TRAINED, seed)
    images, targets = as_images(spectrograms), torch.from_numpy(numbers)
    optimiser = torch.optim.AdamW(net.parameters())
    for _ in range(4):
        for batch in torch.randperm(TRAINED).split(16):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), targets[batch]).backward()
            optimiser.step()
    config = ModelConfig(
        classes=CLASSES, width=WIDTH, spectrogram=SpectrogramConfig(), dataset_version="", init="random"
    )
    return Predictor(net.eval(), config)


def of_layers(names: tuple[str, ...], positive_gradients: bool) -> Callable[[Predictor, np.ndarray, str], np.ndarray]:
    """A map from activations times gradients (or their positive part, LayerCAM) of ``names``, averaged."""

    def of(predictor: Predictor, spectrogram: np.ndarray, label: str) -> np.ndarray:
        net, number = predictor.net, CLASSES.index(label)
        images = as_images(spectrogram[None]).requires_grad_()
        total = torch.zeros(BANDS, WIDTH)
        for layer in (net.get_submodule(name) for name in names):
            if positive_gradients:
                cells = _layer_cam(net, layer, images, number)
            else:
                method = LayerGradientXActivation(lambda x: net(x)[:, number] - net(x)[:, 1 - number], layer)
                cells = method.attribute(images).detach()
            cells = cells.sum(1, keepdim=True).clamp(min=0)
            cells = nn.functional.interpolate(cells, (BANDS, WIDTH), mode="bilinear")[0, 0]
            total += cells / max(float(cells.max()), 1e-12)
        return (total / len(names)).T.numpy()

    return of


def _layer_cam(net: nn.Module, layer: nn.Module, images: torch.Tensor, number: int) -> torch.Tensor:
    """Activations times positive gradients: Jiang et al., IEEE TIP 2021."""
    kept: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    outputs = net(images)
    hook.remove()
    (gradient,) = torch.autograd.grad(outputs[0, number] - outputs[0, 1 - number], kept[0])
    return (kept[0] * gradient.clamp(min=0)).detach()


def measured(
    map_of: Callable[[Predictor, np.ndarray, str], np.ndarray], predictor: Predictor, seed: int, tested: int
) -> Iterator[tuple[float, ...]]:
    """The columns of the table for each spectrogram; the last one is nan where one of the maps is empty."""
    randomised = replace(predictor, net=copy.deepcopy(predictor.net))
    torch.manual_seed(seed)
    randomised.net.get_submodule("fc").reset_parameters()
    for spectrogram, number, patch in zip(*planted(tested, 100 + seed), strict=True):
        of_class, of_other = (map_of(predictor, spectrogram, CLASSES[n]) for n in (number, 1 - number))
        of_random = map_of(randomised, spectrogram, CLASSES[number])
        both = of_class.any() and of_random.any()
        yield (
            patch.flat[of_class.argmax()],
            roc_auc_score(patch.ravel(), of_class.ravel()),
            of_class[patch].mean() / max(of_class[~patch].mean(), 1e-12),
            of_other[patch].mean() / max(of_other[~patch].mean(), 1e-12),
            spearmanr(of_class.ravel(), of_random.ravel()).statistic if both else np.nan,
        )


def of_network(rows: list[tuple[float, ...]]) -> np.ndarray:
    """Means over the spectrograms of one network; the correlation without its sign, as any agreement would be wrong."""
    means = np.nanmean(rows, axis=0)
    return np.append(means[:-1], abs(means[-1]))


def measure(networks: int, tested: int) -> Iterator[Row]:
    maps: dict[str, Callable[[Predictor, np.ndarray, str], np.ndarray]] = {
        OURS: relevance,
        "activation x gradient of stage 4": of_layers(("layer4",), positive_gradients=False),
        "positive gradients only (LayerCAM), stages 1-3": of_layers(tuple(LAYERS), positive_gradients=True),
    }
    each: dict[str, list[np.ndarray]] = {name: [] for name in maps}
    for seed in range(networks):
        say(f"network {seed + 1} of {networks}")
        predictor = trained(seed)
        for name, map_of in maps.items():
            each[name].append(of_network(list(measured(map_of, predictor, seed, tested))))
    values: dict[str, list[Value]] = {
        name: [mean_with_interval(column) for column in np.transpose(of_map)] for name, of_map in each.items()
    }
    for number, (column, is_lower_better) in enumerate(COLUMNS.items()):
        for name in list(maps)[1:]:
            yield scored(
                f"{column}: {OURS}", values[OURS][number], name, values[name][number], lower_is_better=is_lower_better
            )


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
