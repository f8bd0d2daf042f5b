"""The network (torchvision's resnet34 on one channel), its weights as safetensors, and what a model file set holds."""

import hashlib
import io
import math
import pickle
import socket
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from heartdata.errors import ConfigError

DOWNLOAD_TIMEOUT_S = 20


def computing_device() -> torch.device:
    """Where networks are trained and give predictions: a GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def build_net(classes: int) -> nn.Module:
    """resnet34 with random weights, one input channel, ``classes`` outputs: (n, 1, mel_bands, width) to (n, classes)."""
    from torchvision.models import resnet34

    net = resnet34(weights=None, num_classes=classes)
    net.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    return net


class Ensemble(nn.Module):
    """Networks of the same classes that answer together: (n, 1, mel_bands, width) to the logarithms of the means of
    their probabilities, (n, classes) (Lakshminarayanan et al. 2017).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        each = torch.stack([member(windows).log_softmax(1) for member in self.members])
        return each.logsumexp(0) - math.log(len(self.members))


def ensemble_weights(members: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The weights of an `Ensemble` of networks with these."""
    return {f"members.{i}.{name}": tensor for i, member in enumerate(members) for name, tensor in member.items()}


def first_member(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the first member of an `Ensemble`; those of a network alone are given back as they are."""
    first = "members.0."
    return {name.removeprefix(first): tensor for name, tensor in weights.items() if name.startswith(first)} or weights


def imagenet_weights() -> dict[str, torch.Tensor]:
    """torchvision's ImageNet weights for one channel (the three summed), without the last layer.

    Read from torch's cache, else downloaded; in either case only with the hash that torchvision gives, and without
    running any code of the file's. Raises `ConfigError` when they cannot be had.
    """
    from torchvision.models import ResNet34_Weights

    url = ResNet34_Weights.IMAGENET1K_V1.url
    kept = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    prefix = kept.stem.rpartition("-")[2]  # of the file's sha256
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(kept), hash_prefix=prefix, progress=False)
        content = kept.read_bytes()
    except (OSError, RuntimeError, HTTPException) as error:
        reason = getattr(error, "reason", error)  # urllib wraps what went wrong
        raise ConfigError(
            f"ImageNet weights cannot be had ({reason}); bring them once as {kept}, or set training.init=random"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    if not hashlib.sha256(content).hexdigest().startswith(prefix):
        raise ConfigError(f"{kept} is not the file that torchvision publishes: delete it, and it is downloaded again")
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # so short a prefix can be forged
        raise ConfigError(f"{kept} holds more than weights: delete it, and it is downloaded again") from error
    weights["conv1.weight"] = weights["conv1.weight"].sum(dim=1, keepdim=True)
    return without_head(weights)


def without_head(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All but the last layer, whose size depends on the classes."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Weights from a ``.safetensors`` file. Raises `ConfigError` naming the file when it is not one."""
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: training.init must name a .safetensors file")
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own Rust exceptions
        raise ConfigError(f"{path} is not a safetensors file ({error})") from error


def load_pretrained(net: nn.Module, weights: dict[str, torch.Tensor], named: str) -> None:
    """Copy ``weights`` into ``net`` but for its last layer. Raises `ConfigError` when they are of another network."""
    try:
        absent, surplus = net.load_state_dict(without_head(weights), strict=False)
    except RuntimeError as error:
        raise ConfigError(f"the weights {named} do not fit resnet34 on one channel") from error
    if surplus or any(not name.startswith("fc.") for name in absent):
        raise ConfigError(f"the weights {named} do not fit resnet34 on one channel")


def weights_snapshot(net: nn.Module) -> dict[str, torch.Tensor]:
    """The weights as they are now, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}


def weights_bytes(net: nn.Module) -> bytes:
    """The weights as the content of a ``.safetensors`` file."""
    return save({name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()})


def load_net(weights: Path, classes: Sequence[str], members: int = 1) -> nn.Module:
    """A network, or an `Ensemble` of several, in evaluation mode with the weights of a ``.safetensors`` file."""
    nets = [build_net(len(classes)) for _ in range(members)]
    net = nets[0] if members == 1 else Ensemble(nets)
    net.load_state_dict(read_weights(weights))
    return net.eval()
