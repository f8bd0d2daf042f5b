"""What recordings teach without labels: two windows of one are to be told from those of all others."""

from typing import Any

import torch
from fastai.callback.core import Callback
from torch import nn
from torch.nn import functional

from heartdata.dataset.windows import NO_LABEL

FEATURES, PROJECTED = 512, 128  # of resnet34 before its last layer; of what is compared
TEMPERATURE = 0.2


def with_projection(net: nn.Module) -> nn.Module:
    """``net`` with the small network ``projection``, which `Contrast` compares through and which is thrown away after."""
    net.projection = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, PROJECTED))
    return net


def contrastive_loss(projected: torch.Tensor) -> torch.Tensor:
    """How badly each row of ``projected`` (2 n, numbers) finds its pair, row i + n, among all the others: NT-Xent.

    The mean cross entropy over cosines divided by TEMPERATURE. Source: Chen et al. 2020, SimCLR.
    """
    count = len(projected) // 2
    rows = functional.normalize(projected, dim=1)
    alike = rows @ rows.T / TEMPERATURE
    itself = torch.eye(2 * count, dtype=torch.bool, device=rows.device)
    pair = torch.arange(2 * count, device=rows.device).roll(count)
    return functional.cross_entropy(alike.masked_fill(itself, -torch.inf), pair)


class Contrast(Callback):
    """Adds ``weight`` times `contrastive_loss` to the training loss of a net `with_projection`, or is all of it where no window
    of a batch has a label.

    Batches hold two windows of each recording: the first half one, the second half the other, in the same order.
    """

    order = 20  # after HalfPrecision has closed its context
    run_valid = False

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def before_fit(self) -> None:
        self.hook = self.model.fc.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.features = inputs[0]

    def after_loss(self) -> None:
        apart = self.weight * contrastive_loss(self.model.projection(self.features.float()))
        labelled = bool((self.y != NO_LABEL).any())
        self.learn.loss_grad = self.loss_grad + apart if labelled else apart
        self.learn.loss = self.loss_grad.detach().clone()

    def after_fit(self) -> None:
        self.hook.remove()


def simulate_other_device(windows: torch.Tensor) -> torch.Tensor:
    """``windows`` (n, 1, mel_bands, width) as some other device and room would have them, each by a draw of its own.

    Loudness range between .7 and 1.3; slope and bend over the bands; noise of a deviation up to .4.
    """
    count, _, bands, _ = windows.shape

    def draw(make: Any) -> torch.Tensor:
        return make(count, 1, 1, 1, device=windows.device)

    band = torch.linspace(-1, 1, bands, device=windows.device)[None, None, :, None]
    colour = 0.5 * (draw(torch.randn) * band + draw(torch.randn) * (band**2 - 1 / 3))
    return (0.7 + 0.6 * draw(torch.rand)) * windows + colour + 0.4 * draw(torch.rand) * torch.randn_like(windows)
