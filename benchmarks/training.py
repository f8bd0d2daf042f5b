"""What the Learner costs beside a bare torch loop, and beside fastai's usual way from a folder of pictures.

`python benchmarks/training.py` makes sounds, trains the same resnet34 for the same number of batches of the same shape
three ways in turn, repeated, and prints images a second (medians) and ratios of one run. No network, no GPU needed.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback, CancelFitException
from rich.console import Console
from rich.table import Table
from torch import nn

from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.audio.synthesis import CLASSES, RATE_HZ, Heart, synthesize
from heartdata.dataset.windows import Windows
from heartdata.storage.store import Store
from heartdata.training.callbacks import has_native_bfloat16, peak_memory_mb
from heartdata.training.network import build_net, computing_device
from heartdata.training.recipe import TrainingConfig
from heartdata.training.train import build_dataloaders, build_learner

SPECTROGRAM = SpectrogramConfig()


class StopAfter(Callback):
    """Times batches, and ends the fit after so many."""

    def __init__(self, batches: int) -> None:
        self.batches, self.seconds = batches, 0.0

    def before_train(self) -> None:
        self.done, self.began = 0, time.perf_counter()

    def after_batch(self) -> None:
        self.done += 1
        if self.done == self.batches:
            self.seconds = time.perf_counter() - self.began
            raise CancelFitException


def made(store: Store, recordings: int) -> pd.DataFrame:
    """Manifest rows of made sounds, in one shard."""
    rows, parts, start = [], [], 0
    for i in range(recordings):
        kind, rng = CLASSES[i % len(CLASSES)], np.random.default_rng([1, i])
        spectrogram = log_mel(synthesize(Heart.draw(kind, rng), 6.0, i % 4, rng).samples, RATE_HZ, SPECTROGRAM)
        rows.append({"label": kind, "shard": "s.npy", "start": start, "frames": len(spectrogram)})
        parts.append(spectrogram)
        start += len(spectrogram)
    return pd.DataFrame(rows).assign(shard_sha256=store.write_array("s.npy", np.concatenate(parts)))


def learner_s(rows: pd.DataFrame, store: Store, config: TrainingConfig, batches: int) -> float:
    """Seconds of ``batches`` through heartbeat's Learner: shards, crops, masks, one-cycle."""
    classes = tuple(sorted(rows["label"].unique()))
    learner = build_learner(build_net(len(classes)), build_dataloaders(rows, rows, classes, config, store), config)
    stop = StopAfter(batches)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(1 + batches // max(1, len(learner.dls.train)), config.learning_rate, cbs=[stop])
    return stop.seconds


def bare_s(rows: pd.DataFrame, store: Store, config: TrainingConfig, batches: int) -> float:
    """Seconds of ``batches`` of the same net, batch and dtype in a plain loop on windows that are already in memory."""
    classes = tuple(sorted(rows["label"].unique()))
    windows = Windows(rows, classes, store, config.width, random=True)
    data = [
        windows.batch(np.random.default_rng(i).integers(0, len(rows), config.batch).tolist()) for i in range(batches)
    ]
    net = build_net(len(classes)).train()
    optimiser = torch.optim.AdamW(net.parameters(), config.learning_rate, fused=True)
    loss_of = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    device = computing_device()
    half = has_native_bfloat16(device)
    net.to(device)
    began = time.perf_counter()
    for images, labels in data:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = loss_of(net(images.to(device)).float(), labels.to(device))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
    return time.perf_counter() - began


def pictures_s(folder: Path, config: TrainingConfig, batches: int) -> float:
    """Seconds of ``batches`` through fastai's ImageDataLoaders from a folder of PNG, decoded and resized each time."""
    from fastai.vision.augment import Resize, ResizeMethod
    from fastai.vision.core import PILImage
    from fastai.vision.data import ImageDataLoaders
    from fastai.vision.learner import vision_learner
    from torchvision.models import resnet34

    size = (SPECTROGRAM.mel_bands, config.width)
    data = ImageDataLoaders.from_folder(
        folder, valid_pct=0.05, seed=0, bs=config.batch, num_workers=0, img_cls=PILImage,
        item_tfms=Resize(size, method=ResizeMethod.Squish),
    )  # fmt: skip
    learner = vision_learner(data, resnet34, pretrained=False, normalize=False)
    learner.unfreeze()
    stop = StopAfter(batches)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(1 + batches // max(1, len(data.train)), config.learning_rate, cbs=[stop])
    return stop.seconds


def draw_pictures(rows: pd.DataFrame, store: Store, folder: Path) -> None:
    """One matplotlib picture a recording in a folder a class, as tutorials do."""
    from matplotlib.figure import Figure

    array = np.load(store.local("s.npy"), mmap_mode="r")
    for number, row in enumerate(rows.itertuples(index=False)):
        figure = Figure(figsize=(4, 3), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.imshow(array[row.start : row.start + row.frames].T.astype(float), origin="lower", aspect="auto")
        path = folder / row.label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=256)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store, config = Store(Path(folder) / "store").open(), TrainingConfig(init="random")
        rows = made(store, asked.recordings)
        draw_pictures(rows, store, Path(folder) / "pictures")
        ways = {
            "heartbeat's Learner": lambda n: learner_s(rows, store, config, n),
            "bare torch loop": lambda n: bare_s(rows, store, config, n),
            "fastai, folder of PNG": lambda n: pictures_s(Path(folder) / "pictures", config, n),
        }
        for way in ways.values():  # the first batches of a process are slow
            way(2)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(asked.repeats):
            for name, way in ways.items():
                seconds[name].append(way(asked.batches))
    images = asked.batches * config.batch
    rate = {name: images / statistics.median(times) for name, times in seconds.items()}
    ours = rate["heartbeat's Learner"]
    title = (
        f"resnet34, {SPECTROGRAM.mel_bands} x {config.width}, batch {config.batch}, {torch.get_num_threads()} threads"
    )
    table = Table("way", "images/s", "ours / this", title=title, title_justify="left")
    for name, value in rate.items():
        table.add_row(name, f"{value:.1f}", f"{ours / value:.2f}")
    console = Console(width=100)
    console.print(table)
    console.print(f"peak memory of all three ways {peak_memory_mb():.0f} MB")


if __name__ == "__main__":
    main()
