"""Fine-tuning resnet34 with fastai: class-balanced sampling, one-cycle, early stop on validation subjects."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from fastai.callback.core import Callback
from fastai.callback.data import WeightedDL
from fastai.callback.schedule import fit_one_cycle  # noqa: F401  (adds the method to Learner)
from fastai.data.core import DataLoaders
from fastai.learner import CancelFitException, Learner, Recorder
from fastai.losses import CrossEntropyLossFlat
from fastai.metrics import AccumMetric, F1Score
from fastai.torch_core import default_device, set_seed
from torch import nn

from heartdata.config import TrainingConfig
from heartdata.dataset import Windows
from heartdata.errors import HeartbeatError
from heartdata.model import build_net, start_from
from heartdata.schemas import HISTORY
from heartdata.store import Store, table_from_rows


@dataclass(frozen=True)
class Trained:
    """The network of the best epoch (by validation macro-F1) and what each epoch gave (schema HISTORY)."""

    net: nn.Module
    classes: tuple[str, ...]
    history: pa.Table
    best_epoch: int


def train(
    manifest: pd.DataFrame,
    initial: dict[str, torch.Tensor] | None,
    config: TrainingConfig,
    store: Store,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> Trained:
    """Train on part ``train`` of the manifest, choosing the epoch on part ``valid``; ``test`` is never looked at.

    ``initial``: weights to start from, or None for random ones. ``on_epoch`` gets a row of schema HISTORY after each
    epoch. The same manifest, configuration and machine give the same weights. Raises `HeartbeatError` when the loss
    stops being a number.
    """
    train_rows, valid_rows = (manifest[manifest["part"] == part].reset_index(drop=True) for part in ("train", "valid"))
    classes = tuple(sorted(train_rows["label"].unique()))
    set_seed(config.seed, reproducible=True)
    net = build_net(len(classes))
    if initial is not None:
        start_from(net, initial, config.init)
    best = KeepBest(config.patience, on_epoch)
    learner = Learner(
        dataloaders(train_rows, valid_rows, classes, config, store),
        net,
        loss_func=CrossEntropyLossFlat(label_smoothing=config.label_smoothing),
        metrics=[
            AccumMetric(balanced_loss, flatten=False, name="balanced_loss"),
            F1Score(average="macro"),
        ],
        splitter=lambda m: [list(backbone_of(m).parameters()), list(m.fc.parameters())],
        wd=config.weight_decay,
        cbs=[best],
        path=store.root,
    )
    with learner.no_bar(), learner.no_logging():
        if initial is not None and config.frozen_epochs:
            learner.freeze()
            learner.fit_one_cycle(config.frozen_epochs, config.learning_rate)
            learner.unfreeze()
        rates = slice(config.learning_rate / 10, config.learning_rate) if initial is not None else config.learning_rate
        learner.fit_one_cycle(config.epochs, rates)
    net.load_state_dict(best.weights)
    return Trained(net.cpu().eval(), classes, table_from_rows(best.rows, HISTORY), best.best_epoch)


def dataloaders(
    train_rows: pd.DataFrame,
    valid_rows: pd.DataFrame,
    classes: tuple[str, ...],
    config: TrainingConfig,
    store: Store,
) -> DataLoaders:
    """Random windows drawn so that every class is seen equally often, and all windows of the validation part."""
    frequency = train_rows["label"].value_counts()
    weights = (1.0 / train_rows["label"].map(frequency)).to_numpy()
    width, batch = config.width, min(config.batch, len(train_rows))
    return DataLoaders(
        Batches(
            Windows(train_rows, classes, store, width, random=True),
            bs=batch, wgts=weights, shuffle=True, drop_last=True, num_workers=0,
        ),
        Batches(
            Windows(valid_rows, classes, store, width, random=False), bs=config.batch, shuffle=False, num_workers=0
        ),
        device=default_device(),
    )  # fmt: skip


class Batches(WeightedDL):
    """Takes a whole batch from `Windows` at once, instead of collating items."""

    def create_item(self, index: int | None) -> int:
        return index or 0

    def create_batch(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.dataset.batch(indices)


def backbone_of(net: nn.Module) -> nn.ModuleList:
    """All layers but the last."""
    return nn.ModuleList(module for name, module in net.named_children() if name != "fc")


def balanced_loss(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Cross entropy averaged within each class first, so that a rare class counts as much as a common one."""
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    return float(np.mean([losses[targets == number].mean().item() for number in targets.unique()]))


class KeepBest(Callback):
    """Keeps the weights of the best epoch, records every epoch, stops after ``patience`` epochs without a better one.

    The best has the highest macro-F1 on the validation part; of equals, the lowest balanced loss.
    """

    order = Recorder.order + 1  # reads its values

    def __init__(self, patience: int, on_epoch: Callable[[dict[str, float]], None]) -> None:
        self.patience, self.on_epoch = patience, on_epoch
        self.rows: list[dict[str, Any]] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.best_epoch, self.best_merit = 0, (-1.0, 0.0)

    def before_epoch(self) -> None:
        self.started = perf_counter()

    def after_batch(self) -> None:
        if self.training and not torch.isfinite(self.loss):
            raise HeartbeatError(
                f"the training loss became {self.loss.item()} in epoch {len(self.rows)}: "
                "lower training.learning_rate and run again"
            )

    def after_epoch(self) -> None:
        train_loss, valid_loss, balanced, macro_f1 = (float(x) for x in self.recorder.values[-1])
        epoch = len(self.rows)
        row = {
            "epoch": epoch,
            "train_loss": train_loss,
            "valid_loss": valid_loss,
            "valid_balanced_loss": balanced,
            "valid_macro_f1": macro_f1,
            "learning_rate": float(self.opt.hypers[-1]["lr"]),
            "seconds": perf_counter() - self.started,
        }
        self.rows.append(row)
        self.on_epoch(row)
        merit = (macro_f1, -balanced)
        if merit > self.best_merit:
            self.best_epoch, self.best_merit = epoch, merit
            self.weights = {
                name: tensor.detach().cpu().clone() for name, tensor in self.learn.model.state_dict().items()
            }
        elif epoch - self.best_epoch >= self.patience:
            raise CancelFitException
