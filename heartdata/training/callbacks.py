"""What training adds to fastai's Learner: augmentation, precision, the epoch kept, and going on after an interruption."""

import random
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.learner import CancelFitException
from fastai.torch_core import set_seed

from heartdata.scoring.confusion import confusion_counts, macro_f1
from heartdata.scoring.metrics import subject_draws
from heartdata.training.checkpoint import Progress, ProgressFile
from heartdata.training.contrast import simulate_other_device
from heartdata.training.memory import peak_memory_mb
from heartdata.training.network import weights_snapshot


class SeedEpochs(Callback):
    """Each epoch draws from generators seeded by ``seed`` and its number, so one can begin anywhere and be the same."""

    order = -20  # before anything is drawn

    def __init__(self, seed: int, first: int) -> None:
        self.seed, self.first = seed, first

    def before_epoch(self) -> None:
        drawn = int(np.random.SeedSequence([self.seed, self.first + self.epoch]).generate_state(1)[0])
        set_seed(drawn, reproducible=True)
        self.dls.train.rng, self.dls.train.seed = random.Random(drawn), drawn


class Augment(Callback):
    """Random changes of training windows that leave the label true; windows have mean 0, so 0 hides.

    ``mask_fraction``: one stretch of columns and one of mel bands is hidden, each up to this share of the window
    (Park et al. 2019, SpecAugment). ``device``: see `simulate_other_device`. Windows are never reversed in time: a
    systolic murmur would become a diastolic one, and S3 would become S4.
    """

    run_valid = False

    def __init__(self, mask_fraction: float, device: bool = False) -> None:
        self.mask_fraction, self.device = mask_fraction, device

    def before_batch(self) -> None:
        windows = simulate_other_device(self.x) if self.device else self.x
        if self.mask_fraction:
            for axis in (2, 3):
                windows = windows.masked_fill(random_mask(windows, axis, self.mask_fraction), 0)
        self.learn.xb = (windows,)


def random_mask(windows: torch.Tensor, axis: int, fraction: float) -> torch.Tensor:
    """One stretch of ``axis`` for each window (n, 1, mel_bands, width), at most ``fraction`` long: True inside."""
    count, size = len(windows), windows.shape[axis]
    draw = torch.rand(2, count, 1, device=windows.device)
    length = (draw[0] * (int(fraction * size) + 1)).floor()
    begin = (draw[1] * (size - length + 1)).floor()
    at = torch.arange(size, device=windows.device)
    inside = (at >= begin) & (at < begin + length)
    return inside[:, None, :, None] if axis == 2 else inside[:, None, None, :]


class HalfPrecision(Callback):
    """Forward passes in bfloat16 where the processor has it (fastai's own callback knows CUDA alone)."""

    order = 10

    def before_batch(self) -> None:
        self.cast = torch.autocast(self.x.device.type, dtype=torch.bfloat16)
        self.cast.__enter__()

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self.cast.__exit__(None, None, None)


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 itself; where it must be imitated, it is ten times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        asked = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(ask is not None and ask() for ask in asked)
    return False


class KeepEpoch(Callback):
    """Scores each epoch on the validation recordings, keeps one epoch's weights, and stops when none gets as good.

    A recording's probabilities are the means over its windows, as in the final scores. Kept is the last epoch that is
    `within_one_standard_error`. ``labels`` and ``subjects`` are of each recording. ``progress``: where to go on from.
    """

    def __init__(
        self,
        recordings: Sequence[int],
        labels: Sequence[int],
        subjects: Sequence[str],
        patience: int,
        on_epoch: Callable[[dict[str, float]], None],
        file: ProgressFile | None,
        progress: Progress,
    ) -> None:
        self.recordings, self.labels, self.subjects = map(np.asarray, (recordings, labels, subjects))
        self.patience, self.on_epoch, self.file, self.progress = patience, on_epoch, file, progress
        self.fault: str | None = None

    def before_train(self) -> None:
        self.started = perf_counter()
        self.losses: list[float] = []

    def after_batch(self) -> None:
        if not self.training:
            return
        self.losses.append(float(self.loss.detach()))
        if not np.isfinite(self.losses[-1]):
            self.fault = (
                f"the training loss became {self.losses[-1]} in epoch {len(self.progress.rows) + 1}: "
                "lower training.learning_rate and run again"
            )
            raise CancelFitException  # fastai would wrap another exception's words in its own

    def before_validate(self) -> None:
        self.answers: list[torch.Tensor] = []

    def after_pred(self) -> None:
        if not self.training:
            self.answers.append(self.pred.detach().float().softmax(1).cpu())

    def after_validate(self) -> None:
        progress, epoch = self.progress, len(self.progress.rows)
        probabilities = mean_by_recording(torch.cat(self.answers).numpy(), self.recordings)
        score, error = macro_f1_with_se(probabilities, self.labels, self.subjects)
        row: dict[str, Any] = {
            "epoch": epoch,
            "train_loss": float(np.mean(self.losses)),
            "valid_loss": float(-np.log(true_class_probability(probabilities, self.labels)).mean()),
            "valid_balanced_loss": balanced_loss(probabilities, self.labels),
            "valid_macro_f1": score,
            "valid_macro_f1_se": error,
            "learning_rate": float(self.opt.hypers[-1]["lr"]),
            "windows_seen": (progress.rows[-1]["windows_seen"] if progress.rows else 0) + self.seen(),
            "seconds": perf_counter() - self.started,
            "peak_memory_mb": peak_memory_mb(),
        }
        progress.rows.append(row)
        if within_one_standard_error(progress.rows):
            progress.kept_epoch, progress.best = epoch, weights_snapshot(self.learn.model)
        self.on_epoch(row)
        if self.file is not None:
            self.file.write(progress, self.learn.model, self.opt)
        if progress.exhausted(self.patience):
            raise CancelFitException

    def seen(self) -> int:
        """Windows that this epoch trained on."""
        return len(self.dls.train) * self.dls.train.bs * self.dls.train.views


def within_one_standard_error(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the last epoch's macro-F1 is within one standard error of the highest one's so far.

    The rule of one standard error (Breiman et al. 1984), for epochs: the highest of many scores on a few recordings is
    mostly the luckiest, and of epochs that cannot be told apart the last has learned at the lowest rate.
    """
    best = max(rows, key=lambda row: row["valid_macro_f1"])
    return bool(rows[-1]["valid_macro_f1"] >= best["valid_macro_f1"] - best["valid_macro_f1_se"])


def macro_f1_with_se(
    probabilities: np.ndarray, labels: np.ndarray, subjects: np.ndarray, draws: int = 200
) -> tuple[float, float]:
    """Macro-F1 over the classes that occur, and its standard error by bootstrap over subjects (always the same draws).

    ``labels`` and ``subjects`` have shape (n,), as the rows of ``probabilities``: recordings of one subject are drawn
    together, as they are right or wrong together.
    """
    weights = subject_draws(subjects, draws, seed=0)
    values = macro_f1(confusion_counts(labels, probabilities.argmax(1), probabilities.shape[1], weights))
    return float(values[0]), float(values[1:].std())


def mean_by_recording(probabilities: np.ndarray, recordings: np.ndarray) -> np.ndarray:
    """Means of ``probabilities`` (windows, classes) over the windows of each recording: shape (recordings, classes)."""
    total = np.zeros((recordings.max() + 1, probabilities.shape[1]))
    np.add.at(total, recordings, probabilities)
    return total / np.bincount(recordings)[:, None]


def true_class_probability(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability given to the true class of each recording, never 0."""
    return np.maximum(probabilities[np.arange(len(labels)), labels], 1e-7)


def balanced_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Cross entropy averaged within each class first, so that a rare class counts as much as a common one."""
    losses = -np.log(true_class_probability(probabilities, labels))
    return float(np.mean([losses[labels == number].mean() for number in np.unique(labels)]))
