"""Contrastive learning from recordings without labels: recognise two windows of one recording among all others."""

from typing import Any

import torch
from fastai.callback.core import Callback
from torch import nn
from torch.nn import functional

from heartdata.dataset.windows import NO_LABEL

FEATURES, PROJECTED = 512, 128  # sizes of resnet34's last hidden layer, and of what is compared
TEMPERATURE = 0.2


def with_projection(net: nn.Module) -> nn.Module:
    """``net`` with a projection head, through which `Contrast` compares windows and which is dropped after training."""
    net.projection = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, PROJECTED))
    return net


def contrastive_loss(projected: torch.Tensor) -> torch.Tensor:
    """NT-Xent: the mean cross entropy of finding each row's pair, row i + n, among all rows of ``projected`` (2 n, size).

    Logits are cosines divided by TEMPERATURE. Source: Chen et al. 2020, SimCLR.
    """
    count = len(projected) // 2
    rows = functional.normalize(projected, dim=1)
    logits = rows @ rows.T / TEMPERATURE
    itself = torch.eye(2 * count, dtype=torch.bool, device=rows.device)
    pair = torch.arange(2 * count, device=rows.device).roll(count)
    return functional.cross_entropy(logits.masked_fill(itself, -torch.inf), pair)


class Contrast(Callback):
    """Adds ``weight`` times `contrastive_loss` to the loss of a net `with_projection`; unlabelled batches have only this.

    Batches hold two windows of each recording: the first half one, the second half the other, in the same order.
    """

    order = 20  # after HalfPrecision has closed its context
    run_valid = False

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def before_fit(self) -> None:
        self.hook = self.model.fc.register_forward_pre_hook(self._keep_features)

    def _keep_features(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.features = inputs[0]

    def after_loss(self) -> None:
        loss = self.weight * contrastive_loss(self.model.projection(self.features.float()))
        labelled = bool((self.y != NO_LABEL).any())
        self.learn.loss_grad = self.loss_grad + loss if labelled else loss
        self.learn.loss = self.loss_grad.detach().clone()

    def after_fit(self) -> None:
        self.hook.remove()


def simulate_other_device(windows: torch.Tensor) -> torch.Tensor:
    """``windows`` (n, 1, mel_bands, width) as if recorded by other devices in other rooms, one draw per window.

    Scales by .7 to 1.3, adds a random slope and curvature over the bands, and noise of a deviation up to .4.
    """
    count, _, bands, _ = windows.shape

    def draw(sample: Any) -> torch.Tensor:
        return sample(count, 1, 1, 1, device=windows.device)

    band = torch.linspace(-1, 1, bands, device=windows.device)[None, None, :, None]
    colour = 0.5 * (draw(torch.randn) * band + draw(torch.randn) * (band**2 - 1 / 3))
    return (0.7 + 0.6 * draw(torch.rand)) * windows + colour + 0.4 * draw(torch.rand) * torch.randn_like(windows)
