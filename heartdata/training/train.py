"""Fine-tuning resnet34 with fastai: balanced sampling, augmentation, one-cycle, early stop on validation subjects."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from fastai.callback.data import WeightedDL
from fastai.callback.mixup import MixUp
from fastai.callback.schedule import fit_one_cycle, lr_find  # noqa: F401  (adds the methods to Learner)
from fastai.callback.training import BnFreeze
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import OptimWrapper
from fastai.torch_core import set_seed
from torch import nn

from heartdata.dataset.split_strategies import UNLABELLED
from heartdata.dataset.windows import Windows
from heartdata.errors import HeartbeatError
from heartdata.storage.schemas import HISTORY
from heartdata.storage.store import Store, table_from_rows
from heartdata.training.callbacks import Augment, HalfPrecision, KeepEpoch, SeedEpochs, has_native_bfloat16
from heartdata.training.checkpoint import Progress, ProgressFile
from heartdata.training.contrast import Contrast, with_projection
from heartdata.training.network import build_net, computing_device, load_pretrained
from heartdata.training.recipe import NetworkConfig


@dataclass(frozen=True)
class Trained:
    """The network of the epoch that was kept (by validation macro-F1) and what each epoch gave (schema HISTORY)."""

    net: nn.Module
    classes: tuple[str, ...]
    history: pa.Table
    kept_epoch: int
    precision: str


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs with one schedule of learning rates; ``first`` counts from the training's beginning."""

    first: int
    epochs: int
    frozen: bool


def train(
    manifest: pd.DataFrame,
    initial: dict[str, torch.Tensor] | None,
    config: NetworkConfig,
    store: Store,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
    progress_path: Path | None = None,
) -> Trained:
    """Train on part ``train`` of the manifest, choosing the epoch on part ``valid``; ``test`` is never looked at.

    ``config.contrast`` learns from part ``unlabelled`` as well.

    ``initial``: weights to start from, or None for random ones. ``on_epoch`` gets a row of schema HISTORY after each
    epoch. ``progress_path``: where progress is kept after each epoch; a training that finds some goes on from there
    and ends as if it had never stopped. The same manifest, configuration and machine give the same weights. Raises
    `HeartbeatError` when the loss stops being a number.
    """
    try:
        return _train(manifest, initial, config, store, on_epoch, progress_path)
    finally:
        gc.collect()  # a Learner and its callbacks name each other: their tensors would stay until Python looks for such


def _train(
    manifest: pd.DataFrame, initial: dict[str, torch.Tensor] | None, config: NetworkConfig, store: Store,
    on_epoch: Callable[[dict[str, float]], None], progress_path: Path | None,
) -> Trained:  # fmt: skip
    heard = ["train", UNLABELLED] if config.contrast else ["train"]
    train_rows, valid_rows = (manifest[manifest["part"].isin(of)].reset_index(drop=True) for of in (heard, ["valid"]))
    classes = tuple(sorted(train_rows["label"].dropna().unique()))
    set_seed(config.seed, reproducible=True)
    net = build_net(len(classes))
    if initial is not None:
        load_pretrained(net, initial, config.init)
    if config.contrast:
        with_projection(net)
    file = ProgressFile(progress_path) if progress_path else None
    progress, remembered = file.read(net) if file else (Progress(), {})
    learner = build_learner(net, build_dataloaders(train_rows, valid_rows, classes, config, store), config)
    windows = learner.dls.valid.dataset
    labels = valid_rows["label"].map({label: number for number, label in enumerate(classes)})
    keep = KeepEpoch(windows.recordings, labels, valid_rows["group"], config.patience, on_epoch, file, progress)
    with learner.no_bar(), learner.no_logging():
        for phase in phases(config, initial is not None):
            _fit(learner, phase, initial is not None, config, keep, remembered)
            if keep.fault:
                raise HeartbeatError(keep.fault)
    net.load_state_dict(progress.best)
    if config.contrast:
        del net.projection
    precision = "bfloat16" if any(isinstance(cb, HalfPrecision) for cb in learner.cbs) else "float32"
    kept_epoch = int(progress.kept_epoch or 0)
    return Trained(net.cpu().eval(), classes, table_from_rows(progress.rows, HISTORY), kept_epoch, precision)


def phases(config: NetworkConfig, from_weights: bool) -> list[Phase]:
    """The last layer alone first, where the others start from given weights; then everything.

    Raises `HeartbeatError` when that is nothing.
    """
    frozen = config.frozen_epochs if from_weights else 0
    if frozen + config.epochs == 0:
        raise HeartbeatError("training.epochs = 0 trains the last layer alone, and there are no weights to start from")
    both = [Phase(0, frozen, True), Phase(frozen, config.epochs, False)]
    return [phase for phase in both if phase.epochs]


def _fit(
    learner: Learner, phase: Phase, from_weights: bool, config: NetworkConfig, keep: KeepEpoch,
    remembered: dict[int, dict[str, torch.Tensor]],
) -> None:  # fmt: skip
    """Train through ``phase``, or what is left of it; nothing where it, or the patience of ``keep``, is at its end."""
    done = len(keep.progress.rows) - phase.first
    if done >= phase.epochs or keep.progress.exhausted(keep.patience):
        return
    if learner.opt is None:
        learner.create_opt()
    learner.freeze() if phase.frozen else learner.unfreeze()
    if remembered and done > 0:  # freezing and unfreezing make the optimiser forget
        learner.opt.load_state_dict({**learner.opt.state_dict(), "state": dict(remembered)})
    remembered.clear()
    rate = config.learning_rate
    rates = slice(rate * config.backbone_rate, rate) if from_weights and not phase.frozen else rate
    learner.fit_one_cycle(
        phase.epochs,
        rates,
        start_epoch=max(0, done),
        cbs=[SeedEpochs(config.seed, phase.first), keep, *([BnFreeze()] if phase.frozen else [])],
    )


def build_learner(net: nn.Module, data: DataLoaders, config: NetworkConfig) -> Learner:
    """fastai's Learner for this recipe; the epochs' bookkeeping comes with each fit."""
    contrast = config.contrast > 0
    callbacks = [
        Augment(config.mask_fraction, contrast),
        *([Contrast(config.contrast)] if contrast else []),
    ]
    callbacks += [MixUp(config.mixup)] if config.mixup else []
    wanted = config.precision == "bfloat16" or (config.precision == "auto" and has_native_bfloat16(data.device))
    callbacks += [HalfPrecision()] if wanted else []
    return Learner(
        data,
        net,
        loss_func=CrossEntropyLossFlat(label_smoothing=config.label_smoothing),
        opt_func=partial(OptimWrapper, opt=partial(torch.optim.AdamW, fused=True)),
        splitter=lambda m: [list(backbone_layers(m).parameters()), list(head_layers(m).parameters())],
        wd=config.weight_decay,
        train_bn=False,
        cbs=callbacks,
    )


def build_dataloaders(
    train_rows: pd.DataFrame,
    valid_rows: pd.DataFrame,
    classes: tuple[str, ...],
    config: NetworkConfig,
    store: Store,
) -> DataLoaders:
    """Random windows, drawn so that every class is seen equally often, and all windows of the validation part."""
    width, batch = config.width, min(config.batch, len(train_rows))
    data = DataLoaders(
        Batches(
            Windows(train_rows, classes, store, width, random=True, view=config.view),
            bs=batch, wgts=sampling_weights(train_rows, config.balance), shuffle=True, drop_last=True, num_workers=0,
            once=config.balance == "none", views=2 if config.contrast else 1,
        ),
        Batches(
            Windows(valid_rows, classes, store, width, random=False, view=config.view),
            bs=config.batch, shuffle=False, num_workers=0,
        ),
        device=computing_device(),
    )  # fmt: skip
    _ = data.train.n_inp  # fastai looks at an item to tell: now, not in the first epoch, which may be any one
    return data


def sampling_weights(rows: pd.DataFrame, balance: str) -> np.ndarray:
    """How often each recording is drawn, relatively: ``class``: every class as often as the others.

    ``class_and_collection``: so too, and within a class every collection that has it as often as the others. Where
    every collection has every class, the collection then says nothing about the class.
    ``none``: every recording as often as the others, that is once an epoch.
    """
    if balance == "none":
        return np.ones(len(rows))
    by_class = rows.groupby("label")
    if balance == "class":
        return (1.0 / by_class["label"].transform("size")).to_numpy()
    in_collection = rows.groupby(["collection", "label"])["label"].transform("size")
    return (1.0 / (in_collection * by_class["collection"].transform("nunique"))).to_numpy()


class Batches(WeightedDL):
    """Takes a whole batch from `Windows` at once, instead of collating items.

    ``once``: every item once an epoch, instead of drawing by weight. ``views``: windows of each item in a batch, all
    first ones before all second ones. ``seed``: of the random windows of the next epoch (torch's loader draws from its
    generator when it is first used).
    """

    seed: int | None = None

    def __init__(self, dataset: Windows, once: bool = False, views: int = 1, **rest: Any) -> None:
        super().__init__(dataset, **rest)
        self.once, self.views = once, views

    def get_idxs(self) -> list[int]:
        return super(WeightedDL, self).get_idxs() if self.once else super().get_idxs()

    def create_batches(self, samples: Iterator[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.seed is not None:
            torch.manual_seed(self.seed)
        yield from super().create_batches(samples)

    def create_item(self, index: int | None) -> int:
        return index or 0

    def create_batch(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.dataset.batch(indices * self.views)


HEADS = ("fc", "projection")


def backbone_layers(net: nn.Module) -> nn.ModuleList:
    """All layers but the last."""
    return nn.ModuleList(module for name, module in net.named_children() if name not in HEADS)


def head_layers(net: nn.Module) -> nn.ModuleList:
    """What stands on the backbone: the last layer, and what `Contrast` compares through."""
    return nn.ModuleList(module for name, module in net.named_children() if name in HEADS)
