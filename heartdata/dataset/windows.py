"""Windows of spectrograms for training and scoring, read from memory-mapped shards."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from heartdata.dataset.spectrogram_shards import open_shard
from heartdata.errors import StoreError
from heartdata.storage.store import Store

NO_LABEL = -100  # ignored by torch's cross entropy


class Shards:
    """Read access to spectrograms by manifest row; each shard is checked and mapped once and never loaded whole."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._maps: dict[str, np.ndarray] = {}

    def open(self, rows: pd.DataFrame) -> None:
        """Map the shards of manifest rows. Raises `StoreError` when one is missing or damaged."""
        ends = (rows["start"] + rows["frames"]).groupby(rows["shard"]).max()
        for shard, sha256 in rows[["shard", "shard_sha256"]].drop_duplicates().itertuples(index=False):
            if shard in self._maps:
                continue
            array = open_shard(shard, sha256, None, self._store)
            if len(array) < ends[shard]:
                raise StoreError(f"{self._store.address(shard)} is shorter than its index says: run again")
            self._maps[shard] = array

    def spectrogram(self, shard: str, start: int, frames: int) -> np.ndarray:
        """A view of shape (frames, mel_bands)."""
        return self._maps[shard][start : start + frames]


def window(spectrogram: np.ndarray, start: int, width: int) -> np.ndarray:
    """``width`` columns from ``start`` on, shape (width, mel_bands); a short spectrogram is repeated to fill them."""
    if len(spectrogram) >= start + width:
        return spectrogram[start : start + width]
    return np.take(spectrogram, np.arange(start, start + width) % len(spectrogram), axis=0)


def window_starts(frames: int, width: int) -> list[int]:
    """Starts of the evaluation windows: half overlapping, the last one ends with the recording."""
    if frames <= width:
        return [0]
    return sorted({*range(0, frames - width, width // 2), frames - width})


def squeezed(spectrogram: np.ndarray, width: int) -> np.ndarray:
    """A whole spectrogram (columns, mel_bands) interpolated linearly to ``width`` columns."""
    at = np.linspace(0, len(spectrogram) - 1, width)
    before = at.astype(int)
    after = np.minimum(before + 1, len(spectrogram) - 1)
    share = (at - before)[:, None].astype(np.float32)
    return (1 - share) * spectrogram[before] + share * spectrogram[after]


def scoring_views(spectrogram: np.ndarray, width: int, view: str) -> list[np.ndarray]:
    """The inputs scored for one recording, each of shape (width, mel_bands): its windows, or (view whole) all of it squeezed."""
    if view == "whole":
        return [squeezed(spectrogram, width)]
    return [window(spectrogram, at, width) for at in window_starts(len(spectrogram), width)]


def as_images(windows: np.ndarray) -> torch.Tensor:
    """(items, width, mel_bands) to a float32 tensor (items, 1, mel_bands, width), low frequencies first."""
    return torch.from_numpy(windows).float().transpose(1, 2).unsqueeze(1).contiguous()


class Windows(Dataset):
    """Windows of the recordings of one part: one random window per recording to train, all windows to score.

    Items are (tensor (1, mel_bands, width), class number or NO_LABEL). Random windows come from torch's generator.
    """

    def __init__(
        self, rows: pd.DataFrame, classes: Sequence[str], store: Store, width: int, random: bool, view: str = "windows"
    ) -> None:
        self._shards = Shards(store)
        self._shards.open(rows)
        self._width, self._random, self._whole = width, random, view == "whole"
        self.recordings: list[int] = []  # row number in ``rows`` of each item
        self._items: list[tuple[str, int, int, int, int]] = []
        numbers = {label: number for number, label in enumerate(classes)}
        for position, row in enumerate(rows.itertuples(index=False)):
            number = numbers[row.label] if isinstance(row.label, str) else NO_LABEL
            for at in [0] if random or self._whole else window_starts(int(row.frames), width):
                self.recordings.append(position)
                self._items.append((row.shard, int(row.start), int(row.frames), at, number))

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, numbers = self.batch([index])
        return images[0], numbers[0]

    def batch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Several items at once: float32 tensor (items, 1, mel_bands, width), and their class numbers."""
        windows, numbers = [], []
        for index in indices:
            shard, start, frames, at, number = self._items[index]
            spectrogram = self._shards.spectrogram(shard, start, frames)
            if self._whole:
                windows.append(squeezed(spectrogram, self._width))
            else:
                if self._random:
                    at = int(torch.randint(max(1, frames - self._width + 1), ()))
                windows.append(window(spectrogram, at, self._width))
            numbers.append(number)
        return as_images(np.stack(windows)), torch.tensor(numbers)
