"""The Learner's speed against a bare torch loop and fastai's usual way from a folder of PNG files, and what else was tried
to make training and prediction faster.

    python -m benchmarks.training [--recordings 256] [--batches 10]

The same resnet34 is trained on synthetic recordings for the same number of batches of the same shape. No network, no GPU
needed.
"""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback, CancelFitException
from fastai.learner import Learner
from PIL import Image
from torch import nn
from torch.fx.experimental.optimization import fuse

from benchmarks.command import in_turn, run_benchmark, seconds_of
from benchmarks.rows import Row, Target, timed
from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.audio.synthesis import CLASSES, RATE_HZ, Heart, synthesize
from heartdata.dataset.windows import Windows, as_images, scoring_views
from heartdata.storage.store import Store
from heartdata.training import features
from heartdata.training.callbacks import has_native_bfloat16
from heartdata.training.network import build_net, computing_device
from heartdata.training.recipe import NetworkConfig, TrainingConfig
from heartdata.training.train import build_dataloaders, build_learner, train

SIZES = {"recordings": (256, 24), "batches": (10, 1), "epochs": (8, 1), "repeats": (4, 1)}
SPECTROGRAM, CONFIG = SpectrogramConfig(), TrainingConfig(init="random")
SHAPE = f"resnet34, {SPECTROGRAM.mel_bands} x {CONFIG.width}"
CROPS = 64


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
    data = build_dataloaders(rows, rows, CLASSES, CONFIG, store)
    return fit_s(build_learner(build_net(len(CLASSES)), data, CONFIG), batches)


def random_batches(rows: pd.DataFrame, store: Store, batches: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    windows, rng = Windows(rows, CLASSES, store, CONFIG.width, random=True), np.random.default_rng(0)
    return [windows.batch(rng.integers(0, len(rows), CONFIG.batch).tolist()) for _ in range(batches)]


def bare_s(data: list[tuple[torch.Tensor, torch.Tensor]], memory_format: torch.memory_format) -> float:
    """Seconds of batches in memory through the same net and dtype in a plain loop."""
    device = computing_device()
    net = build_net(len(CLASSES)).train().to(device, memory_format=memory_format)
    optimiser = torch.optim.AdamW(net.parameters(), CONFIG.learning_rate, fused=True)
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=CONFIG.label_smoothing)
    half = has_native_bfloat16(device)
    began = time.perf_counter()
    for images, labels in data:
        images = images.to(device, memory_format=memory_format)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = cross_entropy(net(images).float(), labels.to(device))
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


def last_layer_s(rows: pd.DataFrame, store: Store, kept: bool, epochs: int) -> float:
    """Seconds of three trainings of the last layer on one backbone, as in a study; ``kept``: with its features."""
    parts = np.where(np.arange(len(rows)) % 5, "train", "valid")
    manifest = rows.assign(part=parts, group=rows.index.astype(str), recording_id=rows.index.astype(str))
    torch.manual_seed(0)
    initial = build_net(2).state_dict()
    features._kept.clear()
    began = time.perf_counter()
    with patch("heartdata.training.train.backbone_is_fixed", return_value=kept):
        for seed in range(3):
            train(manifest, initial, NetworkConfig(frozen_epochs=epochs, epochs=0, seed=seed), store)
    return time.perf_counter() - began


def training_rows(
    rows: pd.DataFrame, store: Store, png: Path, batches: int, epochs: int, repeats: int
) -> Iterator[Row]:
    """The three ways of training, a step in another memory format, and the last layer alone."""
    data = random_batches(rows, store, batches)
    ways = {
        "heartbeat": lambda: heartbeat_s(rows, store, batches),
        "a bare torch loop on windows in memory": lambda: bare_s(data, torch.contiguous_format),
        "fastai's `ImageDataLoaders` from a folder of PNG": lambda: png_s(png, batches),
        "channels_last": lambda: bare_s(data, torch.channels_last),
    }
    bare_s(data[:2], torch.contiguous_format)  # the first batches of a process are slow
    seconds = in_turn(ways, repeats)
    per_s = {name: [batches * CONFIG.batch / s for s in of_way] for name, of_way in seconds.items()}
    ours, bare, folder, last = per_s
    measured = f"{SHAPE}, batches of {CONFIG.batch}: the Learner with shards, crops, masks and one-cycle"
    for peer, least in ((bare, 0.85), (folder, 2)):
        yield timed(
            measured, "images/s", per_s[ours], peer, per_s[peer], higher_is_better=True, target=Target(least=least)
        )
    yield timed(
        "a bare training step, contiguous (used)", "images/s", per_s[bare], "channels_last", per_s[last],
        higher_is_better=True,
    )  # fmt: skip
    some = rows[:128]
    ways = {kept: lambda kept=kept: last_layer_s(some, store, kept == "kept", epochs) for kept in ("kept", "anew")}
    seconds = in_turn(ways, 1)
    measured = f"3 trainings of the last layer, {epochs} epochs of {len(some)} recordings, the backbone's features kept"
    yield timed(measured, "s", seconds["kept"], "each window through the backbone in each epoch", seconds["anew"])


def crop_row(rows: pd.DataFrame, store: Store, png: Path) -> Row:
    """A batch of random crops from the shards, and the same number of PNG files, decoded and resized."""
    windows, rng = Windows(rows, CLASSES, store, CONFIG.width, random=True), np.random.default_rng(0)
    files, size = sorted(png.rglob("*.png")), (CONFIG.width, SPECTROGRAM.mel_bands)

    def decode(chosen: list[int]) -> None:
        for number in chosen:
            with Image.open(files[number]) as image:
                np.asarray(image.convert("RGB").resize(size))

    def ms(work: Callable[[list[int]], object]) -> float:
        return 1e3 * seconds_of(work, rng.integers(0, len(rows), CROPS).tolist())

    times = in_turn({"shards": lambda: ms(windows.batch), "PNG": lambda: ms(decode)}, 20, warm_ups=2)
    return timed(
        f"a batch of {CROPS} random crops from a shard", "ms", times["shards"], "as many PNG files, decoded and resized",
        times["PNG"], target=Target(of="heartbeat", most=3),
    )  # fmt: skip


def prediction_rows(rows: pd.DataFrame, store: Store, repeats: int) -> Iterator[Row]:
    """All windows of all recordings through variants of one network."""
    array = np.load(store.local("s.npy"), mmap_mode="r")
    spectrograms = (array[row.start : row.start + row.frames] for row in rows[:96].itertuples(index=False))
    views = [view for each in spectrograms for view in scoring_views(each, CONFIG.width, CONFIG.view)]
    images = as_images(np.stack(views)).split(features.BATCH_WINDOWS)
    torch.manual_seed(0)
    net = build_net(len(CLASSES)).eval()
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    folded = fuse(copy.deepcopy(net)).to(memory_format=torch.channels_last)
    peers = {
        "contiguous": (net, torch.contiguous_format, False),
        "batch norm folded into convolutions, channels_last": (folded, torch.channels_last, False),
        "bfloat16, channels_last": (last, torch.channels_last, True),
    }

    def probabilities(variant: tuple[nn.Module, torch.memory_format, bool]) -> torch.Tensor:
        net, memory_format, half = variant
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            each = [net(batch.to(memory_format=memory_format)).float().softmax(1) for batch in images]
        return torch.cat(each)

    used = (last, torch.channels_last, False)
    ways = {name: (lambda v=variant: seconds_of(probabilities, v)) for name, variant in {"used": used, **peers}.items()}
    seconds = in_turn(ways, repeats, warm_ups=1)
    ours = probabilities(used)
    for name, variant in peers.items():
        difference = float((probabilities(variant) - ours).abs().max())
        per_s = [[len(views) / s for s in seconds[which]] for which in ("used", name)]
        yield timed(
            f"predictions, {SHAPE}, channels_last (used)", "windows/s", per_s[0],
            f"{name}; probabilities differ by up to {difference:.0e}", per_s[1], higher_is_better=True,
        )  # fmt: skip


def measure(recordings: int, batches: int, epochs: int, repeats: int) -> Iterator[Row]:
    if recordings * 0.95 < batches * CONFIG.batch:  # a twentieth is for validation
        raise SystemExit(f"{batches} batches of {CONFIG.batch} need more --recordings")
    with tempfile.TemporaryDirectory() as folder:
        store, png = Store(Path(folder) / "store").open(), Path(folder) / "png"
        rows = synthetic_recordings(store, recordings)
        plot_all(rows, store, png)
        yield from training_rows(rows, store, png, batches, epochs, repeats)
        yield crop_row(rows, store, png)
        yield from prediction_rows(rows, store, repeats)


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
