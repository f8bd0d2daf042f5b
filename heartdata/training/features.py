"""Forward passes over the windows of recordings, and the features that a frozen backbone computes, kept in memory.

Where only the last layer is trained, all networks of a study share the backbone: each window passes it once in a process,
and an epoch of the last layer, and a prediction by it, are matrix products. A window takes 2 KB.
"""

import copy
import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset

from heartdata.dataset.windows import Shards, as_images, scoring_views
from heartdata.storage.store import Store
from heartdata.training.network import without_head

BATCH_WINDOWS = 64  # in one forward pass; of several recordings if they are short


def outputs_of(
    net: nn.Module, recordings: Iterable[Sequence[np.ndarray]], equal_batches: bool = False
) -> Iterator[torch.Tensor]:
    """What ``net`` computes for the windows (width, mel_bands) of each recording: shapes (windows, outputs), on the CPU.

    ``recordings`` are consumed lazily, so that no more than about BATCH_WINDOWS windows, or those of one recording, are
    in memory at a time. ``equal_batches``: the last batch is padded, as the last bits of a result depend on the size of
    its batch, and on nothing else in it.
    """
    waiting: list[np.ndarray] = []
    counts: deque[int] = deque()
    outputs: list[torch.Tensor] = []
    for windows in recordings:
        waiting += windows
        counts.append(len(windows))
        while len(waiting) >= BATCH_WINDOWS:
            outputs.append(_forward(net, waiting[:BATCH_WINDOWS]))
            del waiting[:BATCH_WINDOWS]
        if sum(map(len, outputs)) >= counts[0]:
            rest = torch.cat(outputs)
            while counts and len(rest) >= counts[0]:
                first, rest = rest.split([counts[0], len(rest) - counts.popleft()])
                yield first
            outputs = [rest]
    if waiting:
        padding = [np.zeros_like(waiting[0])] * (BATCH_WINDOWS - len(waiting)) if equal_batches else []
        outputs.append(_forward(net, waiting + padding)[: len(waiting)])
    if counts:
        yield from torch.cat(outputs).split(list(counts))


def _forward(net: nn.Module, windows: Sequence[np.ndarray]) -> torch.Tensor:
    device = next(net.parameters()).device
    # TensorFloat-32 would make a recording's outputs depend on its batch, in the third decimal
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        images = as_images(np.stack(windows)).to(device, memory_format=torch.channels_last)
        return net(images).cpu()


class Features:
    """The inputs of the last layer, float32, for the scoring windows of recordings."""

    def __init__(self, net: nn.Module, width: int, view: str) -> None:
        self._backbone = copy.deepcopy(net).eval().to(memory_format=torch.channels_last)
        self._backbone.fc = nn.Identity()
        self._width, self._view = width, view
        self._of_recording: dict[tuple[str, int], torch.Tensor] = {}

    def of(self, rows: pd.DataFrame, store: Store) -> Iterator[torch.Tensor]:
        """Of each recording of manifest ``rows``, in order: shape (windows, features)."""
        shards = Shards(store)
        shards.open(rows)
        keys = list(zip(rows["shard_sha256"], rows["start"], strict=True))
        new = [key not in self._of_recording for key in keys]
        views = (
            scoring_views(shards.spectrogram(row.shard, row.start, row.frames), self._width, self._view)
            for row in rows[new].itertuples(index=False)
        )
        computed = outputs_of(self._backbone, views, equal_batches=True)
        for key, is_new in zip(keys, new, strict=True):
            if is_new:
                self._of_recording[key] = next(computed).clone()
            yield self._of_recording[key]


_kept: dict[tuple[str, int, str], Features] = {}  # by backbone, width and view; no more than one


def frozen_features(net: nn.Module, width: int, view: str) -> Features:
    """The features of ``net``'s backbone, which are kept until those of another are asked for."""
    key = (_backbone_digest(net), width, view)
    features = _kept.get(key) or Features(net, width, view)
    if key not in _kept:
        _kept.clear()
    return _kept.setdefault(key, features)  # a thread with another backbone may clear in between


def kept_features(net: nn.Module, width: int, view: str) -> Features | None:
    """Those features if they are kept, else None."""
    return _kept.get((_backbone_digest(net), width, view)) if _kept else None


def _backbone_digest(net: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in without_head(net.state_dict()).items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


class FeatureWindows(Dataset):
    """`heartdata.dataset.windows.Windows` as `Features`: a random window of each recording to train, all to score.

    Items are (tensor (features,), class number). Random windows come from torch's generator.
    """

    def __init__(self, features: Iterable[torch.Tensor], numbers: Sequence[int], random: bool) -> None:
        each = list(features)
        self._features, self._counts = torch.cat(each), torch.tensor([len(windows) for windows in each])
        self._first = self._counts.cumsum(0) - self._counts
        self._numbers, self._random = torch.tensor(numbers), random
        of_window = torch.arange(len(each)).repeat_interleave(self._counts)
        self.recordings: list[int] = (torch.arange(len(each)) if random else of_window).tolist()

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        features, numbers = self.batch([index])
        return features[0], numbers[0]

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Several items at once: float32 tensor (items, features), and their class numbers."""
        at = torch.tensor(indices)
        if not self._random:
            return self._features[at], self._numbers[torch.tensor(self.recordings)[at]]
        window = (torch.rand(len(at)) * self._counts[at]).long()
        return self._features[self._first[at] + window], self._numbers[at]
