"""Forward passes in batches, and the features of a frozen backbone: in order, computed once, whatever is computed with them."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from heartdata.dataset.windows import Windows
from heartdata.training.features import (
    BATCH_WINDOWS,
    Features,
    FeatureWindows,
    frozen_features,
    kept_features,
    outputs_of,
)
from heartdata.training.network import build_net


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_net(3).eval()


class Mean(torch.nn.Module):
    """Outputs each window's mean; counts batches."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.sizes: list[int] = []

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(windows))
        return self.scale * windows.mean((1, 2, 3))[:, None]


def numbered(counts: list[int]) -> list[list[np.ndarray]]:
    """Recordings of so many windows, each full of its own number."""
    numbers = iter(range(sum(counts)))
    return [[np.full((8, 4), next(numbers), np.float32) for _ in range(count)] for count in counts]


@pytest.mark.parametrize(
    "counts", [[], [1], [3, 1, 2], [64], [1] * 64, [1] * 65, [60, 60, 9], [200, 1, 1], [1, 130, 70]]
)
@pytest.mark.parametrize("equal_batches", [False, True])
def test_each_recording_gets_the_outputs_of_its_own_windows(counts: list[int], equal_batches: bool):
    mean = Mean()
    outputs = [each.flatten().tolist() for each in outputs_of(mean, numbered(counts), equal_batches)]
    assert outputs == [[window[0, 0] for window in windows] for windows in numbered(counts)]
    assert len(mean.sizes) == -(-sum(counts) // BATCH_WINDOWS)
    assert not equal_batches or set(mean.sizes) <= {BATCH_WINDOWS}


def test_recordings_are_consumed_lazily():
    taken = []

    def endless() -> Iterator[list[np.ndarray]]:
        while True:
            taken.append(1)
            yield [np.zeros((8, 4), np.float32)] * 2

    next(outputs_of(Mean(), endless()))
    assert len(taken) == BATCH_WINDOWS // 2


def test_features_are_computed_once_and_do_not_depend_on_the_others(data, net):
    manifest, store = data
    kept = Features(net, 32, "windows")
    together = list(kept.of(manifest, store))
    backwards = list(Features(net, 32, "windows").of(manifest[::-1], store))[::-1]
    assert all(torch.equal(a, b) for a, b in zip(together, backwards, strict=True))
    kept._backbone = None  # nothing is left to compute
    again = list(kept.of(manifest.sample(frac=1, random_state=0), store))
    assert len(again) == len(manifest)


def test_the_last_layer_of_features_is_the_network(data, net):
    manifest, store = data
    windows = Windows(manifest, ["high", "low"], store, 32, random=False)
    features = torch.cat(list(Features(net, 32, "windows").of(manifest, store)))
    images, _ = windows.batch(range(len(windows)))
    with torch.inference_mode():
        assert torch.allclose(net.fc(features), net(images), rtol=0, atol=1e-5)


def test_features_are_kept_for_the_same_backbone_only(net):
    kept = frozen_features(net, 32, "windows")
    other_head, other_backbone = build_net(5), build_net(3)
    other_head.load_state_dict(
        {**net.state_dict(), "fc.weight": torch.ones(5, net.fc.in_features), "fc.bias": torch.ones(5)}
    )
    assert kept_features(other_head, 32, "windows") is kept
    assert kept_features(net, 64, "windows") is None
    assert kept_features(other_backbone, 32, "windows") is None


def test_a_random_window_of_each_recording_or_all_in_order():
    features = [torch.arange(3.0)[:, None], torch.tensor([[10.0]])]
    every = FeatureWindows(features, [0, 1], random=False)
    assert every.recordings == [0, 0, 0, 1]
    assert [(x.item(), y.item()) for x, y in (every[i] for i in range(4))] == [(0, 0), (1, 0), (2, 0), (10, 1)]
    drawn = FeatureWindows(features, [0, 1], random=True)
    assert len(drawn) == 2
    torch.manual_seed(0)
    values, numbers = drawn.batch([0] * 50 + [1] * 5)
    assert set(values[:50, 0].tolist()) == {0, 1, 2}
    assert set(values[50:, 0].tolist()) == {10}
    assert numbers.tolist() == [0] * 50 + [1] * 5
