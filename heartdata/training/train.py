"""Fine-tuning resnet34 with fastai: balanced sampling, augmentation, one-cycle, early stopping on validation subjects."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fastai.callback.schedule  # noqa: F401  (adds fit_one_cycle to Learner)
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from fastai.callback.data import WeightedDL
from fastai.callback.mixup import MixUp
from fastai.callback.training import BnFreeze
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import OptimWrapper
from fastai.torch_core import set_seed, trainable_params
from torch import nn

from heartdata.dataset.split_strategies import UNLABELLED
from heartdata.dataset.windows import Windows
from heartdata.errors import HeartbeatError
from heartdata.storage.schemas import HISTORY
from heartdata.storage.store import Store, table_from_rows
from heartdata.training.callbacks import Augment, EarlyStopping, HalfPrecision, SeedEpochs, has_native_bfloat16
from heartdata.training.checkpoint import OptimiserState, Progress, load_checkpoint
from heartdata.training.contrast import Contrast, with_projection
from heartdata.training.features import FeatureWindows, frozen_features
from heartdata.training.network import build_net, computing_device, load_pretrained
from heartdata.training.recipe import NetworkConfig

VALID_FEATURES = 4096  # windows in a batch of features: 8 MB


@dataclass(frozen=True)
class Trained:
    """The network with the weights of the kept epoch, and one row an epoch (schema HISTORY)."""

    net: nn.Module
    classes: tuple[str, ...]
    history: pa.Table
    kept_epoch: int
    precision: str


def train(
    manifest: pd.DataFrame,
    initial: dict[str, torch.Tensor] | None,
    config: NetworkConfig,
    store: Store,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
    checkpoint: Path | None = None,
    on_resume: Callable[[int], None] = lambda epochs: None,
) -> Trained:
    """Train on part ``train`` of the manifest and choose the epoch on part ``valid``; part ``test`` is never read.

    With ``config.contrast``, part ``unlabelled`` is trained on as well. ``initial``: weights to start from, or None for
    random ones. ``on_epoch`` gets a row of schema HISTORY after each epoch. ``checkpoint``: where to save after each
    epoch and to resume from, of which ``on_resume`` gets the number of epochs done; a resumed training ends with the same
    weights as an undisturbed one, and the same manifest, configuration and machine give the same weights. Raises
    `HeartbeatError` when the loss is not finite.
    """
    parts = ["train", UNLABELLED] if config.contrast else ["train"]
    train_rows, valid_rows = (
        manifest[manifest["part"].isin(names)].reset_index(drop=True) for names in (parts, ["valid"])
    )
    classes = tuple(sorted(train_rows["label"].dropna().unique()))
    set_seed(config.seed, reproducible=True)
    net = build_net(len(classes))
    if initial is not None:
        load_pretrained(net, initial, config.init)
    if config.contrast:
        with_projection(net)
    head_only = initial is not None and backbone_is_fixed(config)
    trained = net.get_submodule("fc") if head_only else net
    progress, optimiser_state = load_checkpoint(checkpoint, trained) if checkpoint else (Progress(), {})
    if progress.rows:
        on_resume(len(progress.rows))
    if head_only:
        data = build_feature_dataloaders(net, train_rows, valid_rows, classes, config, store)
    else:
        data = build_dataloaders(train_rows, valid_rows, classes, config, store)
    labels = valid_rows["label"].map({label: number for number, label in enumerate(classes)})
    stopping = EarlyStopping(
        data.valid.dataset.recordings, labels, valid_rows["group"], config.patience, on_epoch, checkpoint, progress
    )
    _fit(trained, data, config, initial is not None, stopping, optimiser_state)
    gc.collect()  # frees optimiser and gradients: a Learner and its callbacks refer to each other
    trained.load_state_dict(progress.best)
    if config.contrast:
        del net.projection
    precision = "float32" if head_only else forward_precision(config, data.device)
    history = table_from_rows(progress.rows, HISTORY)
    return Trained(net.cpu().eval(), classes, history, progress.kept_epoch or 0, precision)


def backbone_is_fixed(config: NetworkConfig) -> bool:
    """Whether the last layer alone is trained, on inputs that do not change from epoch to epoch."""
    return config.epochs == 0 and not config.mixup and not config.contrast


def _fit(
    net: nn.Module, data: DataLoaders, config: NetworkConfig, pretrained: bool, stopping: EarlyStopping,
    optimiser_state: OptimiserState,
) -> None:  # fmt: skip
    """Train the head alone if the rest is ``pretrained``, then all layers, from where ``stopping.progress`` left off."""
    frozen_epochs = config.frozen_epochs if pretrained else 0
    if frozen_epochs + config.epochs == 0:
        raise HeartbeatError(
            "training.epochs = 0 trains the last layer alone, and there are no weights to start from: set more epochs"
        )
    learner, progress = build_learner(net, data, config), stopping.progress
    for first, epochs, frozen in ((0, frozen_epochs, True), (frozen_epochs, config.epochs, False)):
        done = len(progress.rows) - first
        if done >= epochs or progress.exhausted(config.patience):
            continue
        learner.freeze() if frozen else learner.unfreeze()
        if done > 0:  # resumed within this phase: freezing and unfreezing clear the optimiser's state
            learner.opt.load_state_dict({**learner.opt.state_dict(), "state": optimiser_state})
        rate = config.learning_rate
        rates = slice(rate * config.backbone_rate, rate) if pretrained and not frozen else rate
        callbacks = [SeedEpochs(config.seed, first), stopping, *([BnFreeze()] if frozen else [])]
        with learner.no_bar(), learner.no_logging():
            learner.fit_one_cycle(epochs, rates, start_epoch=max(0, done), cbs=callbacks)
        if stopping.fault:
            raise HeartbeatError(stopping.fault)


def build_learner(net: nn.Module, data: DataLoaders, config: NetworkConfig) -> Learner:
    """fastai's Learner with the callbacks of the whole training; those of one fit are passed to it.

    ``net``: the network, or its last layer, which is then trained on `Features`.
    """
    head_only = isinstance(net, nn.Linear)
    callbacks: list[Any] = []
    if not head_only:
        callbacks += [Augment(config.mask_fraction, device=config.contrast > 0)]
        callbacks += [Contrast(config.contrast)] if config.contrast else []
        callbacks += [MixUp(config.mixup)] if config.mixup else []
        callbacks += [HalfPrecision()] if forward_precision(config, data.device) == "bfloat16" else []
    return Learner(
        data,
        net,
        loss_func=CrossEntropyLossFlat(label_smoothing=config.label_smoothing),
        opt_func=partial(OptimWrapper, opt=partial(torch.optim.AdamW, fused=True)),
        splitter=trainable_params if head_only else backbone_and_head,
        wd=config.weight_decay,
        train_bn=False,
        cbs=callbacks,
    )


def forward_precision(config: NetworkConfig, device: torch.device) -> str:
    """``config.precision``, where ``auto`` is bfloat16 if the device has it in hardware."""
    if config.precision == "auto":
        return "bfloat16" if has_native_bfloat16(device) else "float32"
    return config.precision


def backbone_and_head(net: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters in two groups: the head is the last layer and `Contrast`'s projection, the backbone all others."""
    groups: list[list[nn.Parameter]] = [[], []]
    for name, module in net.named_children():
        groups[name in ("fc", "projection")] += module.parameters()
    return groups


def build_dataloaders(
    train_rows: pd.DataFrame, valid_rows: pd.DataFrame, classes: tuple[str, ...], config: NetworkConfig, store: Store
) -> DataLoaders:
    """Random training windows sampled by ``config.balance``, and all windows of the validation recordings."""
    width, batch = config.width, min(config.batch, len(train_rows))
    return DataLoaders(
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


def build_feature_dataloaders(
    net: nn.Module, train_rows: pd.DataFrame, valid_rows: pd.DataFrame, classes: tuple[str, ...], config: NetworkConfig,
    store: Store,
) -> DataLoaders:  # fmt: skip
    """`build_dataloaders` for the last layer of ``net`` alone: windows at the places of scoring, as `Features`."""
    device = computing_device()
    features = frozen_features(net.to(device), config.width, config.view)

    def windows(rows: pd.DataFrame, random: bool) -> FeatureWindows:
        return FeatureWindows(features.of(rows, store), [classes.index(label) for label in rows["label"]], random)

    return DataLoaders(
        Batches(
            windows(train_rows, random=True), bs=min(config.batch, len(train_rows)),
            wgts=sampling_weights(train_rows, config.balance), shuffle=True, drop_last=True, num_workers=0,
            once=config.balance == "none",
        ),
        Batches(windows(valid_rows, random=False), bs=VALID_FEATURES, shuffle=False, num_workers=0),
        device=device,
    )  # fmt: skip


def sampling_weights(rows: pd.DataFrame, balance: str) -> np.ndarray:
    """Relative frequency at which each recording is drawn: shape (n,).

    ``class``: all classes equally often. ``class_and_collection``: also, within a class, all collections that have it;
    where every collection has every class, the collection then carries no information about the class. ``none``: all
    recordings equally often, once an epoch.
    """
    if balance == "none":
        return np.ones(len(rows))
    by_class = rows.groupby("label")
    if balance == "class":
        return (1.0 / by_class["label"].transform("size")).to_numpy()
    in_collection = rows.groupby(["collection", "label"])["label"].transform("size")
    return (1.0 / (in_collection * by_class["collection"].transform("nunique"))).to_numpy()


class Batches(WeightedDL):
    """Takes a whole batch from `Windows` or `FeatureWindows` at once, instead of collating items.

    ``once``: every item once an epoch, instead of drawing by weight. ``views``: windows of each item in a batch, all
    first ones before all second ones.
    """

    n_inp = 1  # fastai would infer it from a batch
    seed: int | None = None  # of the next epoch's random windows; set by SeedEpochs

    def __init__(self, dataset: Windows | FeatureWindows, once: bool = False, views: int = 1, **rest: Any) -> None:
        super().__init__(dataset, **rest)
        self.once, self.views = once, views

    def get_idxs(self) -> list[int]:
        return super(WeightedDL, self).get_idxs() if self.once else super().get_idxs()

    def create_batches(self, samples: Iterator[int]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.seed is not None:
            torch.manual_seed(self.seed)  # here, as torch's loader draws from the generator before its first batch
        yield from super().create_batches(samples)

    def create_item(self, index: int) -> int:
        return index

    def create_batch(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.dataset.batch(indices * self.views)
