"""fastai callbacks of training: seeded epochs, augmentation, half precision, early stopping with checkpoints."""

import random
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from fastai.callback.core import Callback
from fastai.learner import CancelFitException
from fastai.torch_core import set_seed

from heartdata.scoring.bootstrap import subject_draws
from heartdata.scoring.confusion import confusion_counts, macro_f1
from heartdata.training.checkpoint import Progress, save_checkpoint
from heartdata.training.contrast import simulate_other_device
from heartdata.training.network import weights_snapshot


class SeedEpochs(Callback):
    """Seeds every generator by ``seed`` and the epoch's number, so that a resumed training draws as an undisturbed one.

    ``first``: the number of the fit's first epoch.
    """

    order = -20  # before anything is drawn

    def __init__(self, seed: int, first: int) -> None:
        self.seed, self.first = seed, first

    def before_epoch(self) -> None:
        seed = int(np.random.SeedSequence([self.seed, self.first + self.epoch]).generate_state(1)[0])
        set_seed(seed, reproducible=True)
        self.dls.train.rng, self.dls.train.seed = random.Random(seed), seed


class Augment(Callback):
    """Augments training windows in ways that leave the label true; windows have mean 0, so masked cells are 0.

    ``mask_fraction``: one stretch of columns and one of mel bands is masked, each up to this share of the window
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
    """True in one random stretch of ``axis`` for each of ``windows`` (n, 1, mel_bands, width), at most ``fraction`` long.

    The mask broadcasts against ``windows``. (torchaudio's mask_along_axis_iid would be one more heavy dependency.)
    """
    count, size = len(windows), windows.shape[axis]
    draw = torch.rand(2, count, 1, device=windows.device)
    length = (draw[0] * (int(fraction * size) + 1)).floor()
    begin = (draw[1] * (size - length + 1)).floor()
    at = torch.arange(size, device=windows.device)
    inside = (at >= begin) & (at < begin + length)
    return inside[:, None, :, None] if axis == 2 else inside[:, None, None, :]


class HalfPrecision(Callback):
    """Forward passes in bfloat16 on any device (fastai's MixedPrecision supports CUDA alone)."""

    order = 10

    def before_batch(self) -> None:
        self.cast = torch.autocast(self.x.device.type, dtype=torch.bfloat16)
        self.cast.__enter__()

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self.cast.__exit__(None, None, None)


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 in hardware; emulated, it is ten times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return any(check is not None and check() for check in checks)
    return False


class EarlyStopping(Callback):
    """Scores the validation recordings after each epoch, keeps the weights of one epoch, and stops without improvement.

    The kept epoch is the last that is `within_one_standard_error` of the best; training stops ``patience`` epochs after
    it. fastai's EarlyStoppingCallback knows neither this rule nor recordings, whose probabilities are the means over
    their windows, nor resuming: ``progress`` is what `load_checkpoint` read, and is saved to ``checkpoint``.
    ``recordings``: the number of each window's recording; ``labels`` and ``subjects``: of each recording.
    """

    def __init__(
        self, recordings: Sequence[int], labels: Sequence[int], subjects: Sequence[str], patience: int,
        on_epoch: Callable[[dict[str, float]], None], checkpoint: Path | None, progress: Progress,
    ) -> None:  # fmt: skip
        self.recordings, self.labels, self.subjects = map(np.asarray, (recordings, labels, subjects))
        self.patience, self.on_epoch, self.checkpoint, self.progress = patience, on_epoch, checkpoint, progress
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
            raise CancelFitException  # fastai would rewrite the message of any other exception

    def before_validate(self) -> None:
        self.outputs: list[torch.Tensor] = []

    def after_pred(self) -> None:
        if not self.training:
            self.outputs.append(self.pred.detach().float().softmax(1).cpu())

    def after_validate(self) -> None:
        rows, data = self.progress.rows, self.dls.train
        probabilities = mean_by_recording(torch.cat(self.outputs).numpy(), self.recordings)
        losses = cross_entropies(probabilities, self.labels)
        score, error = macro_f1_with_se(probabilities, self.labels, self.subjects)
        row: dict[str, Any] = {
            "epoch": len(rows),
            "train_loss": float(np.mean(self.losses)),
            "valid_loss": float(losses.mean()),
            "valid_balanced_loss": balanced_mean(losses, self.labels),
            "valid_macro_f1": score,
            "valid_macro_f1_se": error,
            "learning_rate": float(self.opt.hypers[-1]["lr"]),
            "windows_seen": (rows[-1]["windows_seen"] if rows else 0) + len(data) * data.bs * data.views,
            "seconds": perf_counter() - self.started,
            "peak_memory_mb": peak_memory_mb(),
        }
        rows.append(row)
        if within_one_standard_error(rows):
            self.progress.kept_epoch, self.progress.best = row["epoch"], weights_snapshot(self.learn.model)
        self.on_epoch(row)
        if self.checkpoint is not None:
            save_checkpoint(self.checkpoint, self.progress, self.learn.model, self.opt)
        if self.progress.exhausted(self.patience):
            raise CancelFitException


def within_one_standard_error(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the last epoch's macro-F1 is within one standard error of the highest so far.

    The one-standard-error rule (Breiman et al. 1984) applied to epochs: the highest of many scores on a few recordings
    is mostly luck, and of epochs that are equally good the last was trained at the lowest learning rate.
    """
    best = max(rows, key=lambda row: row["valid_macro_f1"])
    return bool(rows[-1]["valid_macro_f1"] >= best["valid_macro_f1"] - best["valid_macro_f1_se"])


def macro_f1_with_se(
    probabilities: np.ndarray, labels: np.ndarray, subjects: np.ndarray, resamples: int = 200
) -> tuple[float, float]:
    """Macro-F1 over the classes that occur, and its standard error by a bootstrap over subjects with a fixed seed.

    ``labels`` and ``subjects`` have shape (n,), ``probabilities`` (n, classes). Recordings of one subject are correlated,
    so they are drawn together.
    """
    weights = subject_draws(subjects, labels, resamples, seed=0).weights
    values = macro_f1(confusion_counts(labels, probabilities.argmax(1), probabilities.shape[1], weights))
    return float(values[0]), float(values[1:].std()) if len(values) > 1 else 0.0


def mean_by_recording(probabilities: np.ndarray, recordings: np.ndarray) -> np.ndarray:
    """Means of ``probabilities`` (windows, classes) over the windows of each recording: shape (recordings, classes)."""
    total = np.zeros((recordings.max() + 1, probabilities.shape[1]))
    np.add.at(total, recordings, probabilities)
    return total / np.bincount(recordings)[:, None]


def cross_entropies(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log of the probability of each recording's true class, which is taken to be at least 1e-7: shape (n,)."""
    return -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-7))


def balanced_mean(losses: np.ndarray, labels: np.ndarray) -> float:
    """The mean of the classes' mean losses, so that a rare class counts as much as a common one."""
    return float(np.mean([losses[labels == number].mean() for number in np.unique(labels)]))


def peak_memory_mb() -> float:
    """The highest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 if sys.platform != "darwin" else 1024**2)
