"""What the pages share: recordings, a trained backbone, tables, plots, and the lines that say how a page was made.

Set by the environment: HEARTBEAT_DATA, a folder with pascal/, cinc2016/ and circor2022/ (else ../shared/data beside the
checkout, else synthetic recordings); HEARTBEAT_BACKBONE, the weights of `heartbeat pretrain` as a .safetensors file;
HEARTBEAT_STUDIES, the folder in which `heartbeat study` leaves its tables (else out/latest);
HEARTBEAT_TUTORIAL_SMALL=1 for a run of seconds that only shows that the code works.
"""

import io
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from IPython import get_ipython
from IPython.display import Image, Markdown, display
from torch import nn
from torchvision.models import ResNet34_Weights

from heartdata.audio.decode import decode
from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.audio.synthesis import (
    CLASSES,
    EXTRA_SOUND,
    RATE_HZ,
    Heart,
    simulate_device,
    synthesize,
    with_random_variation,
)
from heartdata.dataset.windows import as_images, window
from heartdata.errors import ConfigError
from heartdata.machine import processor
from heartdata.markdown import markdown_table
from heartdata.sources.pascal import PascalSource
from heartdata.training.network import build_net, first_member, imagenet_weights, read_weights

matplotlib.use("agg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).parents[2]
SMALL = os.environ.get("HEARTBEAT_TUTORIAL_SMALL") == "1"
DATA = Path(os.environ.get("HEARTBEAT_DATA") or ROOT.parent / "shared" / "data")
WEIGHTS = os.environ.get("HEARTBEAT_BACKBONE", "")
STUDIES = Path(os.environ.get("HEARTBEAT_STUDIES") or ROOT / "out" / "latest")
SPECTROGRAM = SpectrogramConfig()
COLUMN_MS = 1000 * SPECTROGRAM.hop_s
WIDTH = 128  # columns in a window
IMAGENET_FILE = Path(torch.hub.get_dir(), "checkpoints", Path(ResNet34_Weights.IMAGENET1K_V1.url).name)
DPI = 80 if SMALL else 110


def data_folder(name: str) -> Path | None:
    """The folder of a public data set (pascal, cinc2016, circor2022); None where there is none."""
    return DATA / name if (DATA / name).is_dir() else None


@dataclass(frozen=True)
class Recording:
    """``samples``: mono float32, shape (n,)."""

    name: str
    label: str
    samples: np.ndarray
    rate_hz: int

    @property
    def spectrogram(self) -> np.ndarray:
        """The normalised log-mel spectrogram, shape (columns, mel_bands)."""
        return log_mel(self.samples, self.rate_hz, SPECTROGRAM).astype(np.float32)


RECORDINGS = (
    "recordings of PASCAL's set B (Bentley et al. 2011)"
    if data_folder("pascal")
    else "synthetic recordings: there were no real ones"
)


def recordings(label: str, count: int, min_duration_s: float = 5.0) -> list[Recording]:
    """The first ``count`` recordings of PASCAL's set B with a label, normal or murmur; synthetic ones without the set."""
    if (folder := data_folder("pascal")) is None:
        return [synthetic(label, 8.0, seed) for seed in range(count)]
    rows = PascalSource(data=str(folder), sets=("set_b",)).listing(folder).recordings
    chosen: list[Recording] = []
    for row in sorted(rows, key=lambda row: row.recording_id):
        if row.label == label and "noisy" not in row.extra and len(chosen) < count:
            audio = decode(Path(row.path).read_bytes())
            if len(audio.mono) >= min_duration_s * audio.rate_hz:
                chosen.append(Recording(Path(row.path).name, label, audio.mono, audio.rate_hz))
    return chosen


def synthetic(kind: str, duration_s: float, seed: int, device: bool = False) -> Recording:
    """One synthetic recording of a class of heartdata.audio.synthesis; ``device``: varied, as for pretraining."""
    rng = np.random.default_rng([seed, *kind.encode()])
    heart = Heart.draw(kind, rng)
    sound = synthesize(with_random_variation(heart, rng) if device else heart, duration_s, 0, rng).samples
    sound = simulate_device(sound, kind != "artifact", rng) if device else sound
    return Recording(f"synthetic {kind} {seed}", kind, sound, RATE_HZ)


def images(recorded: Sequence[Recording]) -> torch.Tensor:
    """The first window of each recording as the network gets it: float32, shape (n, 1, mel_bands, WIDTH)."""
    return as_images(np.stack([window(one.spectrogram, 0, WIDTH) for one in recorded]))


@dataclass(frozen=True)
class Backbone:
    """A trained resnet34 in evaluation mode, its classes, and one sentence on how it was trained."""

    net: nn.Module
    classes: tuple[str, ...]
    origin: str


@lru_cache(maxsize=1)
def backbone() -> Backbone:
    """The network of HEARTBEAT_BACKBONE; without it one that was trained for a moment on synthetic recordings."""
    classes = tuple(sorted((*CLASSES, EXTRA_SOUND)))
    if WEIGHTS:
        weights = first_member(read_weights(Path(WEIGHTS)))
        outputs = len(weights["fc.weight"])
        names = classes if outputs == len(classes) else tuple(f"class {number}" for number in range(outputs))
        net = build_net(outputs)
        net.load_state_dict(weights)
        return Backbone(net.eval(), names, "the weights of `heartbeat pretrain` (synthetic recordings)")
    steps, batch = (2, 8) if SMALL else (80, 16)
    sounds = [synthetic(classes[i % len(classes)], 4.2, i, device=True) for i in range(batch * min(steps, 20))]
    windows, labels = images(sounds), torch.tensor([classes.index(sound.label) for sound in sounds])
    torch.manual_seed(0)
    net = build_net(len(classes))
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    for _ in range(steps):
        drawn = torch.randint(len(windows), (batch,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(windows[drawn]), labels[drawn]).backward()
        optimiser.step()
    origin = f"a network trained for a moment only ({steps} steps of {batch} synthetic recordings), as HEARTBEAT_BACKBONE is not set"
    return Backbone(net.eval(), classes, origin)


def imagenet_on_disk() -> dict[str, torch.Tensor] | None:
    """ImageNet's weights if they are in torch's cache and the run is not a small one; nothing is downloaded."""
    try:
        return imagenet_weights() if IMAGENET_FILE.is_file() and not SMALL else None
    except ConfigError:  # another file of that name
        return None


def say(markdown: str) -> None:
    """Show text with computed numbers in it."""
    if get_ipython():
        display(Markdown(markdown))


def table(rows: Sequence[dict[str, Any]]) -> None:
    """Show rows with the same keys as a table."""
    say(markdown_table(rows))


def show(figure: plt.Figure, text: str) -> None:
    """Show a plot; ``text`` is what is read where it cannot be seen."""
    png = io.BytesIO()
    figure.savefig(png, dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    if get_ipython():
        display(Image(png.getvalue(), alt=text))


def draw(axes: plt.Axes, image: Any, title: str, **options: Any) -> Any:
    """Draw one (mel_bands, columns) array over time and mel bands; returns what a colour bar needs."""
    drawn = axes.imshow(image, origin="lower", aspect="auto", interpolation="nearest", **options)
    axes.set(title=title, xlabel=f"column ({COLUMN_MS:.0f} ms each)", ylabel="mel band")
    return drawn


def footer(page: int, *remarks: str) -> None:
    """Show by which command, on what and when the page was made; ``remarks``: what else its figures depend on."""
    backbone_set = f"HEARTBEAT_BACKBONE={'/'.join(Path(WEIGHTS).parts[-2:])} " if WEIGHTS else ""
    command = f"{'HEARTBEAT_TUTORIAL_SMALL=1 ' if SMALL else ''}{backbone_set}make tutorial ONLY={page}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "librosa", "numpy"))
    lines = [
        f"Made by `{command}` on {datetime.now(UTC):%Y-%m-%d}.",
        f"{processor()}, {os.cpu_count()} cores, torch threads: {torch.get_num_threads()}; Python {platform.python_version()}, {packages}.",
        *remarks,
    ]
    say("---\n\n" + "\n".join(f"- {line}" for line in lines))
