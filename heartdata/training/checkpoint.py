"""Checkpoints: a training's state after its last whole epoch as one safetensors file, from which it can resume."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

OptimiserState = dict[int, dict[str, torch.Tensor]]  # by parameter number, as in torch's state_dict


@dataclass
class Progress:
    """Rows of schema HISTORY so far, and the number and weights of the kept epoch (None before the first)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    kept_epoch: int | None = None
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    def exhausted(self, patience: int) -> bool:
        """Whether ``patience`` epochs have passed since the kept one."""
        return self.kept_epoch is not None and len(self.rows) - 1 - self.kept_epoch >= patience


def save_checkpoint(path: Path, progress: Progress, net: nn.Module, optimiser: Any) -> None:
    """Write ``progress``, the net's weights and the state of ``optimiser`` (a torch optimiser) to ``path``."""
    tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    if progress.kept_epoch != len(progress.rows) - 1:  # else these are the net's
        tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"progress": json.dumps({"rows": progress.rows, "kept_epoch": progress.kept_epoch})},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_bytes(content)  # no fsync: a power cut costs some epochs, waiting for the disk slows every one
    unfinished.replace(path)


def load_checkpoint(path: Path, net: nn.Module) -> tuple[Progress, OptimiserState]:
    """Copy the saved weights into ``net``; returns progress and optimiser state, both empty without a whole file."""
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (FileNotFoundError, SafetensorError):
        return Progress(), {}
    weights = _with_prefix(tensors, "net.")
    net.load_state_dict(weights)
    state: OptimiserState = {}
    for name, tensor in _with_prefix(tensors, "optimiser.").items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = tensor
    return Progress(**progress, best=_with_prefix(tensors, "best.") or weights), state


def _with_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
