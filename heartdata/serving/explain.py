"""Why a model predicts what it predicts: where in time and frequency a recording speaks for a class.

Grad-CAM (Selvaraju et al., ICCV 2017) without its averaging of gradients over the map (HiResCAM, Draelos and Carin 2020,
arXiv:2011.08891), as the last layer has one cell for all frequencies and 32 columns: activation times gradient of the
log-odds in each cell of the first three stages. docs/serving.md says how the layers were chosen.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerGradientXActivation
from torch import nn
from torch.nn import functional

from heartdata.audio.beats import Beats
from heartdata.audio.decode import decode
from heartdata.dataset.windows import as_images, scoring_views, window_starts
from heartdata.errors import BadAudio, ConfigError
from heartdata.serving.predictor import Prediction, Predictor, Recording

LAYERS = {"layer1": 4, "layer2": 8, "layer3": 16}  # spectrogram columns, and mel bands, from cell to cell
BATCH_WINDOWS = 32  # with what the gradients need, 200 MB
LEAST = 0.05  # of the strongest evidence for or against: if all is below, nothing speaks for the class


@dataclass(frozen=True)
class Explanation:
    """A prediction with what it rests on.

    ``probability``: of the predicted label. ``samples``: the mono signal, shape (n,), at ``rate_hz``; ``spectrogram`` and ``relevance`` (0-1): shape
    (columns, mel_bands), one column every ``hop_s``.
    """

    prediction: Prediction
    explained: str
    samples: np.ndarray
    rate_hz: int
    spectrogram: np.ndarray
    relevance: np.ndarray
    beats: Beats | None
    probability: float


def explain(predictor: Predictor, content: bytes | Recording, label: str | None = None) -> Explanation:
    """What speaks for class ``label`` (None: the predicted one) in an audio file: ``content`` as of `Predictor.predict`.

    Raises `BadAudio` where there is no prediction, `ConfigError` for a class that the model does not know.
    """
    recording = content if isinstance(content, Recording) else predictor.prepare(decode(content))
    (prediction,) = predictor.predict([recording])
    if isinstance(prediction, BadAudio):
        raise prediction
    explained = label or prediction.label
    return Explanation(
        prediction, explained, recording.samples, recording.rate_hz, recording.spectrogram,
        relevance(predictor, recording.spectrogram, explained), recording.beats,
        probability=prediction.probabilities[predictor.config.classes.index(prediction.label)],
    )  # fmt: skip


def relevance(predictor: Predictor, spectrogram: np.ndarray, label: str) -> np.ndarray:
    """How much each cell of a spectrogram (columns, mel_bands) speaks for class ``label``: same shape, in 0-1.

    1 is the strongest evidence for or against the class in any cell; all is 0 where hardly anything speaks for it.
    """
    config = predictor.config
    if label not in config.classes:
        raise ConfigError(f"the model knows no class {label}: choose one of {', '.join(config.classes)}")
    views = scoring_views(spectrogram, config.width, config.view)
    # of its own, with the same weights: hooks on a network that serves would see the recordings of other threads
    net = copy.deepcopy(
        predictor.net, {id(shared): shared for shared in (*predictor.net.parameters(), *predictor.net.buffers())}
    )
    batches = [
        _evidence(net, np.stack(views[at : at + BATCH_WINDOWS]), config.classes.index(label))
        for at in range(0, len(views), BATCH_WINDOWS)
    ]
    maps = np.zeros((len(views), config.width, spectrogram.shape[1]))
    for of_layer in map(torch.cat, zip(*batches, strict=True)):
        strongest = float(of_layer.abs().max())
        if strongest > 0:
            maps += of_layer.numpy() / strongest / len(LAYERS)
    over_time = np.clip(_over_time(maps, len(spectrogram), config.view), 0, 1)
    return over_time if over_time.max() >= LEAST else np.zeros_like(over_time)


def _evidence(net: nn.Module, windows: np.ndarray, number: int) -> list[torch.Tensor]:
    """For each of LAYERS, the evidence for class ``number``, negative if against: shape as ``windows``, on the CPU."""

    def log_odds(images: torch.Tensor) -> torch.Tensor:
        outputs = net(images)
        others = torch.arange(outputs.shape[1], device=outputs.device) != number
        return outputs[:, number] - outputs[:, others].logsumexp(1)

    members = [f"members.{i}." for i in range(len(getattr(net, "members", ())))] or [""]
    layers = [net.get_submodule(member + name) for name in LAYERS for member in members]
    device = next(net.parameters()).device
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
    ):
        images = as_images(windows).to(device, memory_format=torch.channels_last).requires_grad_()
        cells = LayerGradientXActivation(log_odds, layers).attribute(images)
    each = [part.detach().sum(1, keepdim=True).cpu() for part in cells]
    of_layers = [sum(each[i : i + len(members)]) for i in range(0, len(each), len(members))]
    return [
        _upsampled(of_layer, stride, images.shape[2:])[:, 0].transpose(1, 2)
        for of_layer, stride in zip(of_layers, LAYERS.values(), strict=True)
    ]


def _upsampled(cells: torch.Tensor, stride: int, size: torch.Size) -> torch.Tensor:
    """``cells`` (n, 1, rows, columns) interpolated to ``size``; the centre of cell i is at i * stride, the last ones repeat."""
    inner = [(count - 1) * stride + 1 for count in cells.shape[2:]]
    between = functional.interpolate(cells, inner, mode="bilinear", align_corners=True)
    return functional.pad(between, (0, size[1] - inner[1], 0, size[0] - inner[0]), mode="replicate")


def _over_time(maps: np.ndarray, columns: int, view: str) -> np.ndarray:
    """The mean over the windows at each column of the recording: ``maps`` (windows, width, mel_bands) to (columns, mel_bands)."""
    width = maps.shape[1]
    if view == "whole":
        at = np.linspace(0, columns - 1, width)
        return np.stack([np.interp(np.arange(columns), at, band) for band in maps[0].T], axis=1)
    total, count = np.zeros((columns, maps.shape[2])), np.zeros((columns, 1))
    for start, of_window in zip(window_starts(columns, width), maps, strict=True):
        covered = np.arange(start, start + width) % columns
        np.add.at(total, covered, of_window)
        np.add.at(count, covered, 1)
    return total / count
