"""The network (torchvision's resnet34 on one channel), ensembles of it, and their weights as safetensors."""

import errno
import hashlib
import io
import math
import pickle
import platform
import socket
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from heartdata.errors import ConfigError

DOWNLOAD_TIMEOUT_S = 20
# Of torchvision's ResNet34_Weights.IMAGENET1K_V1; the file's name has only the first eight digits, which can be forged.
IMAGENET_SHA256 = "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f"


def computing_device() -> torch.device:
    """Where networks are trained and predict: a GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def processor_and_torch() -> str:
    """What the last bits of a training depend on: processor, its vector instructions or GPU, threads, torch."""
    device = computing_device()
    kind = torch.cuda.get_device_name() if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    return f"{platform.machine()} {kind}{threads}, torch {torch.__version__}"


def build_net(classes: int) -> nn.Module:
    """resnet34 with random weights, one input channel, ``classes`` outputs: (n, 1, mel_bands, width) to (n, classes)."""
    from torchvision.models import resnet34

    net = resnet34(weights=None, num_classes=classes)
    net.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    return net


class Ensemble(nn.Module):
    """A deep ensemble: (n, 1, mel_bands, width) to the log of the members' mean probabilities, (n, classes).

    Source: Lakshminarayanan et al. 2017.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        each = torch.stack([member(windows).log_softmax(1) for member in self.members])
        return each.logsumexp(0) - math.log(len(self.members))


def ensemble_weights(members: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The weights of an `Ensemble`, from those of its members."""
    return {f"members.{i}.{name}": tensor for i, member in enumerate(members) for name, tensor in member.items()}


def first_member(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of the first member of an `Ensemble`; those of a single network are returned unchanged."""
    first = "members.0."
    return {name.removeprefix(first): tensor for name, tensor in weights.items() if name.startswith(first)} or weights


def imagenet_weights() -> dict[str, torch.Tensor]:
    """torchvision's ImageNet weights for one channel (the three summed), without the last layer.

    Read from torch's cache, else downloaded; torch.hub.load_state_dict_from_url would neither check the hash of a cached
    file nor time out. Raises `ConfigError` when they cannot be downloaded, have another hash or are no plain tensors.
    """
    from torchvision.models import ResNet34_Weights

    url = ResNet34_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    timeout_s = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=IMAGENET_SHA256, progress=False)
        content = path.read_bytes()
    except (OSError, RuntimeError, HTTPException) as error:
        reason = getattr(error, "reason", error)  # urllib wraps the cause
        if isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) == errno.ENETUNREACH:
            reason = "no network"
        raise ConfigError(
            f"ImageNet weights cannot be downloaded ({reason}): save {url} as {path}, or set training.init=random"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout_s)
    if hashlib.sha256(content).hexdigest() != IMAGENET_SHA256:
        raise ConfigError(f"{path} is not the file that torchvision publishes: delete it, and it is downloaded again")
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(f"{path} holds more than weights: delete it, and it is downloaded again") from error
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
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is not a safetensors file ({error}): name another file of weights") from error


def load_pretrained(net: nn.Module, weights: dict[str, torch.Tensor], origin: str) -> None:
    """Copy ``weights`` into ``net`` except its last layer. Raises `ConfigError` when they are of another network."""
    head = {name: tensor for name, tensor in net.state_dict().items() if name.startswith("fc.")}
    try:
        net.load_state_dict({**without_head(weights), **head})
    except RuntimeError as error:
        raise ConfigError(
            f"the weights {origin} do not fit resnet34 on one channel: name others, or set training.init=random"
        ) from error


def weights_snapshot(net: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the weights on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}


def weights_bytes(net: nn.Module) -> bytes:
    """The weights as the content of a ``.safetensors`` file."""
    return save(weights_snapshot(net))


def load_net(weights: Path, classes: Sequence[str], members: int = 1) -> nn.Module:
    """A network, or an `Ensemble` of several, in evaluation mode with the weights of a ``.safetensors`` file."""
    nets = [build_net(len(classes)) for _ in range(members)]
    net = nets[0] if members == 1 else Ensemble(nets)
    net.load_state_dict(read_weights(weights))
    return net.eval()
