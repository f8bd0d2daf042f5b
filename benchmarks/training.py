"""The Learner's speed against a bare torch loop and against fastai's usual way from a folder of PNG files.

`python benchmarks/training.py` trains the same resnet34 on synthetic recordings for the same number of batches of the
same shape three ways in turn, repeated, and prints images a second (medians) and ratios. Then the last layer alone and
predictions, with the features of the frozen backbone and without. No network, no GPU needed.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.learner import Learner
from rich.console import Console
from rich.table import Table
from torch import nn

from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.audio.synthesis import CLASSES, RATE_HZ, Heart, synthesize
from heartdata.dataset.windows import Windows, scoring_views
from heartdata.storage.store import Store
from heartdata.training import features
from heartdata.training.callbacks import has_native_bfloat16, peak_memory_mb
from heartdata.training.network import build_net, computing_device
from heartdata.training.recipe import NetworkConfig, TrainingConfig
from heartdata.training.train import build_dataloaders, build_learner, train

SPECTROGRAM, CONFIG = SpectrogramConfig(), TrainingConfig(init="random")
LAST_LAYER = NetworkConfig(frozen_epochs=8, epochs=0)


class StopAfter(Callback):
    """Times ``batches`` of training, then ends the fit."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def before_train(self) -> None:
        self.done, self.began = 0, time.perf_counter()

    def after_batch(self) -> None:
        self.done += 1
        if self.done == self.batches:
            self.seconds = time.perf_counter() - self.began
            raise CancelFitException


def fit_s(learner: Learner, batches: int) -> float:
    """Seconds of ``batches``, all in the first epoch."""
    stop = StopAfter(batches)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(1, CONFIG.learning_rate, cbs=[stop])
    return stop.seconds


def synthetic_recordings(store: Store, count: int) -> pd.DataFrame:
    """Manifest rows of synthetic recordings in one shard."""
    rows, spectrograms, start = [], [], 0
    for i in range(count):
        label, rng = CLASSES[i % len(CLASSES)], np.random.default_rng([1, i])
        spectrogram = log_mel(synthesize(Heart.draw(label, rng), 6.0, i % 4, rng).samples, RATE_HZ, SPECTROGRAM)
        rows.append({"label": label, "shard": "s.npy", "start": start, "frames": len(spectrogram)})
        spectrograms.append(spectrogram)
        start += len(spectrogram)
    return pd.DataFrame(rows).assign(shard_sha256=store.write_array("s.npy", np.concatenate(spectrograms)))


def heartbeat_s(rows: pd.DataFrame, store: Store, batches: int) -> float:
    """Seconds of ``batches`` through heartbeat's Learner: shards, crops, masks, one-cycle."""
    classes = tuple(sorted(rows["label"].unique()))
    return fit_s(
        build_learner(build_net(len(classes)), build_dataloaders(rows, rows, classes, CONFIG, store), CONFIG), batches
    )


def bare_s(rows: pd.DataFrame, store: Store, batches: int) -> float:
    """Seconds of ``batches`` of the same net, batch and dtype in a plain loop on windows that are already in memory."""
    classes = tuple(sorted(rows["label"].unique()))
    windows, rng = Windows(rows, classes, store, CONFIG.width, random=True), np.random.default_rng(0)
    data = [windows.batch(rng.integers(0, len(rows), CONFIG.batch).tolist()) for _ in range(batches)]
    device = computing_device()
    net = build_net(len(classes)).train().to(device)
    optimiser = torch.optim.AdamW(net.parameters(), CONFIG.learning_rate, fused=True)
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=CONFIG.label_smoothing)
    half = has_native_bfloat16(device)
    began = time.perf_counter()
    for images, labels in data:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = cross_entropy(net(images.to(device)).float(), labels.to(device))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()
    return time.perf_counter() - began


def png_s(folder: Path, batches: int) -> float:
    """Seconds of ``batches`` through fastai's ImageDataLoaders from a folder of PNG, decoded and resized each time."""
    from fastai.vision.augment import Resize, ResizeMethod
    from fastai.vision.core import PILImage
    from fastai.vision.data import ImageDataLoaders
    from fastai.vision.learner import vision_learner
    from torchvision.models import resnet34

    size = (SPECTROGRAM.mel_bands, CONFIG.width)
    data = ImageDataLoaders.from_folder(
        folder, valid_pct=0.05, seed=0, bs=CONFIG.batch, num_workers=0, img_cls=PILImage,
        item_tfms=Resize(size, method=ResizeMethod.Squish),
    )  # fmt: skip
    learner = vision_learner(data, resnet34, pretrained=False, normalize=False)
    learner.unfreeze()
    return fit_s(learner, batches)


def plot_all(rows: pd.DataFrame, store: Store, folder: Path) -> None:
    """One matplotlib plot per recording in a folder per class, as tutorials do."""
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


def last_layer_s(rows: pd.DataFrame, store: Store, kept: bool, trainings: int = 3) -> float:
    """Seconds of several trainings of the last layer on one backbone, as in a study; ``kept``: with its features."""
    parts = np.where(np.arange(len(rows)) % 5, "train", "valid")
    manifest = rows.assign(part=parts, group=rows.index.astype(str), recording_id=rows.index.astype(str))
    torch.manual_seed(0)
    initial = build_net(2).state_dict()
    features._kept.clear()
    began = time.perf_counter()
    with patch("heartdata.training.train.backbone_is_fixed", return_value=kept):
        for seed in range(trainings):
            train(manifest, initial, LAST_LAYER.model_copy(update={"seed": seed}), store)
    return time.perf_counter() - began


def predict_s(rows: pd.DataFrame, store: Store, channels_last: bool) -> float:
    """Seconds to compute the outputs of every window of all recordings, in the memory format of the predictor or not."""
    array = np.load(store.local("s.npy"), mmap_mode="r")
    net = build_net(2).eval()
    net = net.to(memory_format=torch.channels_last) if channels_last else net
    views = (
        scoring_views(array[row.start : row.start + row.frames], CONFIG.width, CONFIG.view)
        for row in rows.itertuples(index=False)
    )
    began = time.perf_counter()
    for _ in features.outputs_of(net, views):
        pass
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=256)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if args.recordings * 0.95 < args.batches * CONFIG.batch:  # a twentieth is for validation
        parser.error(f"{args.batches} batches of {CONFIG.batch} need more --recordings")
    with tempfile.TemporaryDirectory() as folder:
        store, png = Store(Path(folder) / "store").open(), Path(folder) / "png"
        rows = synthetic_recordings(store, args.recordings)
        plot_all(rows, store, png)
        ways = {
            "heartbeat's Learner": lambda batches: heartbeat_s(rows, store, batches),
            "bare torch loop": lambda batches: bare_s(rows, store, batches),
            "fastai, folder of PNG": lambda batches: png_s(png, batches),
        }
        for way in ways.values():  # the first batches of a process are slow
            way(2)
        turns = [{name: way(args.batches) for name, way in ways.items()} for _ in range(args.repeats)]
        others = {
            "last layer, 3 trainings of 8 epochs": lambda: last_layer_s(rows, store, kept=False),
            "last layer, features kept": lambda: last_layer_s(rows, store, kept=True),
            "prediction": lambda: predict_s(rows, store, channels_last=False),
            "prediction, channels_last": lambda: predict_s(rows, store, channels_last=True),
        }
        other_turns = [{name: way() for name, way in others.items()} for _ in range(args.repeats)]
    median_s = {name: statistics.median(turn[name] for turn in turns) for name in ways}
    ours_s = median_s["heartbeat's Learner"]
    title = (
        f"resnet34, {SPECTROGRAM.mel_bands} x {CONFIG.width}, batch {CONFIG.batch}, {torch.get_num_threads()} threads"
    )
    table = Table("way", "images/s", "ours / this", title=title, title_justify="left")
    for name, seconds in median_s.items():
        table.add_row(name, f"{args.batches * CONFIG.batch / seconds:.1f}", f"{seconds / ours_s:.2f}")
    console = Console(width=100)
    console.print(table)
    table = Table("work", "s", title=f"{len(rows)} recordings of 6 s", title_justify="left")
    for name in others:
        table.add_row(name, f"{statistics.median(turn[name] for turn in other_turns):.2f}")
    console.print(table)
    console.print(f"peak memory of all {peak_memory_mb():.0f} MB")


if __name__ == "__main__":
    main()
