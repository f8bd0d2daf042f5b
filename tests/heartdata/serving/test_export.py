"""An exported folder: it loads, its description suffices to repeat each step, and its ONNX gives the same probabilities."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch
from helpers import REAL, needs_pascal, use_small_network
from safetensors.numpy import load_file
from safetensors.torch import save_file
from scipy.special import softmax

from heartdata.audio.channels import choose
from heartdata.audio.decode import decode
from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.dataset.windows import as_images, scoring_views
from heartdata.errors import BadAudio, HeartbeatError
from heartdata.scoring.calibration import Calibration
from heartdata.serving.export import export, onnx_bytes
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor
from heartdata.training.network import Ensemble, build_net
from heartdata.versions import PREPROCESSING


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch):
    use_small_network(monkeypatch)


def predictor(members: int = 1, **changes: Any) -> Predictor:
    torch.manual_seed(0)
    calibration = Calibration(temperature=1.4, class_weights=(1.0, 0.7, 2.0), unsure_below=0.5)
    config = ModelConfig.model_validate({
        "classes": ("murmur", "normal", "other"), "members": members, "width": 64, "spectrogram": SpectrogramConfig(),
        "preprocessing": PREPROCESSING, "dataset_version": "0", "init": "random", "calibration": calibration, **changes,
    })  # fmt: skip
    nets = [build_net(3) for _ in range(members)]
    net = nets[0] if members == 1 else Ensemble(nets)
    return Predictor(net.eval().to(memory_format=torch.channels_last), config)


def files_of(model: Predictor, folder: Path) -> tuple[Path, Path]:
    tensors = {name: tensor.contiguous() for name, tensor in model.net.state_dict().items()}
    save_file(tensors, folder / "w.safetensors")
    (folder / "c.json").write_text(model.config.model_dump_json())
    return folder / "w.safetensors", folder / "c.json"


CONFIGS = [
    {},
    {"spectrogram": SpectrogramConfig(rate_hz=1000, fft_samples=101, window_s=0.08, hop_s=0.021, high_hz=400)},
    {"spectrogram": SpectrogramConfig(normalise="recording", range_db=60, mel_bands=20), "view": "whole"},
    {"spectrogram": SpectrogramConfig(normalise="none"), "width": 128, "measure": MeasureConfig(channel=2)},
    {"calibration": Calibration(temperature=2.0, class_bias=(0.0, 1.0, -1.0))},
]


@pytest.mark.parametrize("changes", CONFIGS)
def test_the_description_suffices_to_repeat_each_step(changes: dict, tmp_path: Path):
    """The steps of README.md in numpy, with the numbers of its files."""
    model = predictor(**changes)
    export(*files_of(model, tmp_path), tmp_path / "m", "models:/x/1", "# Card")
    text = (tmp_path / "m" / "README.md").read_text()
    given, expected = load_file(tmp_path / "m/preprocessing.safetensors"), load_file(tmp_path / "m/example.safetensors")
    samples, rate_hz = soundfile.read(tmp_path / "m/example.wav", always_2d=True)
    target_hz = int(re.search(r"Resample to (\d+) Hz", text)[1])
    mono = soxr.resample(samples[:, -1], rate_hz, target_hz, quality="HQ")
    assert np.allclose(mono, expected["samples"], atol=1e-5)

    pad, window, start, hop = map(int, re.search(
        r"Put (\d+) zeros .* is the (\d+) samples from position (\d+) \+ (\d+) k", text).groups())  # fmt: skip
    last = (len(mono) + int(re.search(r"floor\(\(n \+ (-?\d+)\)", text)[1])) // hop
    padded, fft = np.pad(mono, pad), int(re.search(r"zeros to (\d+) samples", text)[1])
    frames = np.stack([padded[start + hop * k : start + hop * k + window] for k in range(last + 1)])
    power = np.abs(np.fft.rfft(frames * given["hann_window"], fft)) ** 2 @ given["mel_filters"].T
    db = 10 * np.log10(np.maximum(power, 1e-10))
    db = np.maximum(db - db.max(), float(re.search(r"values below (-\d+)", text)[1]))
    if "From each band" in text:
        db = (db - db.mean(0)) / np.maximum(db.std(0), 1e-3)
    elif "over the whole recording, and divide" in text:
        db = (db - db.mean()) / max(db.std(), 1e-3)
    assert db.shape == expected["spectrogram"].shape
    assert np.allclose(db.astype(np.float16), expected["spectrogram"], rtol=2e-3, atol=4e-3)

    probabilities = expected["window_probabilities"].mean(0)
    assert np.allclose(probabilities, expected["network_probabilities"], atol=1e-6)
    bias = re.search(r"add \[(.*?)\]", text)
    temperature = float(re.search(r"temperature ([\d.]+)", text)[1].rstrip("."))
    scaled = softmax(np.log(probabilities) / temperature + (np.fromstring(bias[1], sep=",") if bias else 0))
    assert np.allclose(scaled, expected["probabilities"], atol=1e-6)
    if changes.get("view") != "whole":
        width = model.config.width
        assert len(expected["window_probabilities"]) == 1 + -(-(len(db) - width) // (width // 2))
    (prediction,) = Predictor.load(tmp_path / "m/weights.safetensors", tmp_path / "m/config.json").predict(
        [(tmp_path / "m/example.wav").read_bytes()]
    )
    assert not isinstance(prediction, BadAudio)
    assert np.allclose(prediction.probabilities, expected["probabilities"], atol=1e-5)
    assert f"`example.wav`: {prediction.label}" in text
    assert (tmp_path / "m/MODEL_CARD.md").read_text() == "# Card"
    for exported, original in (("weights.safetensors", "w.safetensors"), ("config.json", "c.json")):
        assert (tmp_path / "m" / exported).read_bytes() == (tmp_path / original).read_bytes()


@pytest.mark.parametrize("members", [1, 2])
def test_onnx_gives_the_same_probabilities(members: int, tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = predictor(members)
    export(*files_of(model, tmp_path), tmp_path / "m", "models:/x/1", "", onnx=True)
    assert "model.onnx" in (tmp_path / "m/README.md").read_text()
    session = onnxruntime.InferenceSession(tmp_path / "m/model.onnx")
    config = ModelConfig.model_validate_json(session.get_modelmeta().custom_metadata_map["heartbeat.config"])
    assert config == model.config
    for count in (1, 5):
        windows = np.random.default_rng(0).normal(size=(count, 1, 32, 64)).astype(np.float32)
        (found,) = session.run(None, {"windows": windows})
        with torch.inference_mode():
            expected = model.net(torch.from_numpy(windows)).softmax(1).numpy()
        assert np.abs(found - expected).max() < 1e-4


@pytest.mark.data
@needs_pascal
def test_onnx_gives_the_same_probabilities_for_real_recordings(tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = predictor()
    session = onnxruntime.InferenceSession(onnx_bytes(model))
    for path in sorted((REAL / "pascal").rglob("*.wav"))[:40:8]:
        audio = decode(path.read_bytes())
        spectrogram = log_mel(choose(audio, "mix").mono, audio.rate_hz, model.config.spectrogram)
        windows = as_images(np.stack(scoring_views(spectrogram, 64, "windows"))).numpy()
        (found,) = session.run(None, {"windows": windows})
        (expected,) = model.probabilities([spectrogram])
        assert np.abs(found.mean(0) - expected).max() < 1e-4


def test_export_into_a_folder_with_files_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(HeartbeatError, match="is not empty: name a folder that is new or empty"):
        export(*files_of(predictor(), tmp_path), tmp_path, "models:/x/1", "")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c.json", "notes.txt", "w.safetensors"]


def test_without_onnx_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(HeartbeatError, match="pip install onnx onnxruntime onnxscript"):
        export(*files_of(predictor(), tmp_path), tmp_path / "m", "models:/x/1", "", onnx=True)
    assert not (tmp_path / "m").exists()
