"""A training's progress after its last whole epoch, as one safetensors file, so that a killed run can go on from it."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn


@dataclass
class Progress:
    """Rows of schema HISTORY so far, and the number and weights of the epoch that is kept (none before the first)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    kept_epoch: int | None = None
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    def exhausted(self, patience: int) -> bool:
        """Whether each of the last ``patience`` epochs was too bad to be kept."""
        return self.kept_epoch is not None and len(self.rows) - 1 - self.kept_epoch >= patience


@dataclass(frozen=True)
class ProgressFile:
    """``path`` holds one training's progress after its last whole epoch."""

    path: Path

    def write(self, progress: Progress, net: nn.Module, optimiser: Any) -> None:
        """Keep ``progress`` with the net's weights and what ``optimiser`` (a torch optimiser) remembers."""
        tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
        if progress.kept_epoch != len(progress.rows) - 1:  # else these are the net's
            tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
        for number, state in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
        told = {"rows": progress.rows, "kept_epoch": progress.kept_epoch}
        content = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            metadata={"progress": json.dumps(told)},
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(f".{os.getpid()}")
        unfinished.write_bytes(content)  # not synced: a lost one costs epochs, waiting for the disk costs each of them
        unfinished.replace(self.path)

    def read(self, net: nn.Module) -> tuple[Progress, dict[int, dict[str, torch.Tensor]]]:
        """What was written, its weights copied into ``net``, and the optimiser's state; empty where there is none."""
        try:
            with safe_open(self.path, framework="pt") as file:
                told = json.loads(file.metadata()["progress"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (FileNotFoundError, SafetensorError):
            return Progress(), {}
        net.load_state_dict(_below(tensors, "net."))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _below(tensors, "optimiser.").items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = tensor
        best = _below(tensors, "best.") or _below(tensors, "net.")
        return Progress(**told, best=best), state


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
