"""A model as a folder that other programs can use: weights, configuration, ONNX, preprocessing described, an example."""

import copy
import io
from pathlib import Path

import numpy as np
import soundfile
import torch
from jinja2 import Environment
from safetensors.numpy import save as save_arrays
from torch import nn

from heartdata.audio.channels import Channel, choose
from heartdata.audio.decode import decode, resample
from heartdata.audio.spectrograms import MIN_DEVIATION_DB, hann_window, log_mel, mel_filters
from heartdata.audio.synthesis import RATE_HZ, Heart, synthesize
from heartdata.dataset.windows import scoring_views
from heartdata.errors import HeartbeatError
from heartdata.scoring.calibration import apply_calibration, decide
from heartdata.serving.predictor import Predictor
from heartdata.training.features import outputs_of

README = Path(__file__).with_suffix(".md")
EXAMPLE_MAX_S = 60.0


def export(weights: Path, config: Path, folder: Path, name: str, card: str, onnx: bool = False) -> list[Path]:
    """Write the model of the files ``weights`` and ``config`` to ``folder``, which is new or empty; returns the files.

    ``name``: the model's, for people; ``card``: its model card (Markdown). Raises `HeartbeatError`.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise HeartbeatError(f"{folder} is not empty: name a folder that is new or empty")
    predictor = Predictor.load(weights, config)
    wav, steps = _example(predictor)
    rendering = predictor.config.spectrogram
    arrays = {"hann_window": hann_window(rendering), "mel_filters": mel_filters(rendering)}
    files = {
        "weights.safetensors": weights.read_bytes(),
        "config.json": config.read_bytes(),
        **({"model.onnx": onnx_bytes(predictor)} if onnx else {}),
        "preprocessing.safetensors": save_arrays(arrays),
        "example.wav": wav,
        "example.safetensors": save_arrays(steps),
        "MODEL_CARD.md": card.encode(),
        "README.md": _readme(predictor, name, steps, onnx).encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return [folder / file for file in files]


class _Probabilities(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return self.net(windows).softmax(1)


def onnx_bytes(predictor: Predictor) -> bytes:
    """The network with its softmax as ONNX: ``windows`` (n, 1, mel_bands, width) to ``probabilities`` (n, classes).

    The configuration is in its metadata as ``heartbeat.config``. Raises `HeartbeatError` without the packages of the
    extra ``onnx``.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise HeartbeatError(
            f"ONNX needs a package that is not installed ({error.name}): pip install onnx onnxruntime onnxscript"
        ) from error
    config = predictor.config
    net = _Probabilities(copy.deepcopy(predictor.net).cpu().to(memory_format=torch.contiguous_format)).eval()
    windows = torch.zeros(2, 1, config.spectrogram.mel_bands, config.width)
    program = torch.onnx.export(
        net, (windows,), dynamo=True, verbose=False, input_names=["windows"], output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
    )  # fmt: skip
    if program is None:
        raise HeartbeatError("torch exported no ONNX program: export without --onnx")
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"heartbeat.config": config.model_dump_json()})
    return proto.SerializeToString()


def _example(predictor: Predictor) -> tuple[bytes, dict[str, np.ndarray]]:
    """A synthetic recording as a WAV file, and the result of each step of its classification."""
    config, rng = predictor.config, np.random.default_rng(0)
    duration_s = min(EXAMPLE_MAX_S, max(3.0, 1.7 * config.width * config.spectrogram.hop_s))
    mono = synthesize(Heart.draw("murmur", rng), duration_s, 0, rng).samples
    channel = config.measure.channel
    file = io.BytesIO()
    soundfile.write(file, np.tile(mono[:, None], channel if isinstance(channel, int) else 1), RATE_HZ, format="WAV")
    audio = decode(file.getvalue())
    mono = choose(audio, channel).mono
    spectrogram = log_mel(mono, audio.rate_hz, config.spectrogram)
    (outputs,) = outputs_of(predictor.net, [scoring_views(spectrogram, config.width, config.view)])
    (network,) = predictor.probabilities([spectrogram])
    steps = {
        "samples": resample(mono, audio.rate_hz, config.spectrogram.rate_hz),
        "spectrogram": spectrogram,
        "window_probabilities": outputs.softmax(1).numpy(),
        "network_probabilities": network,
        "probabilities": apply_calibration(network[None], config.calibration)[0],
    }
    return file.getvalue(), {name: np.ascontiguousarray(array) for name, array in steps.items()}


def _readme(predictor: Predictor, name: str, steps: dict[str, np.ndarray], onnx: bool) -> str:
    config = predictor.config
    spectrogram = config.spectrogram
    environment = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)
    environment.filters["num"] = "{:g}".format
    pad, calibration, classes = spectrogram.fft_samples // 2, config.calibration, list(config.classes)
    (label,) = decide(steps["probabilities"][None], classes, calibration.class_weights)
    unsure = steps["probabilities"][classes.index(label)] < calibration.unsure_below
    return environment.from_string(README.read_text(encoding="utf-8")).render(
        name=name, c=config, s=spectrogram, k=calibration, onnx=onnx, pad=pad,
        before=(spectrogram.fft_samples - spectrogram.window_samples) // 2,
        min_deviation=f"{MIN_DEVIATION_DB:g}", channel=_channel_rule(config.measure.channel),
        label=label, unsure=unsure, probabilities=steps["probabilities"],
    )  # fmt: skip


def _channel_rule(channel: Channel) -> str:
    """What becomes of several channels, in a sentence."""
    if channel == "mix":
        return "Of several channels take the mean."
    if channel == "most_heart_like":
        return (
            "A recording of one channel is used as it is; of several take the mean where they are alike, else the one most "
            "like a heart (`heartdata/audio/channels.py`)."
        )
    return f"Take channel {1 if channel == 'first' else channel}, counted from 1."
