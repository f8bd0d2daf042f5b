"""`heartbeat serve` and `mlflow models serve`: real files of each format have the probabilities that evaluation measures."""

import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from helpers import REAL, beats, free_port, wait_until

from flows.cli.serve import _listening, serve_model
from flows.http.limits import Limits
from flows.local.servers import is_healthy
from heartdata.audio import ffmpeg
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.config import RegistryConfig, RunConfig
from heartdata.dataset.spectrogram_shards import render_shard
from heartdata.errors import HeartbeatError
from heartdata.scoring.calibration import Calibration, apply_temperature
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import predict_probabilities
from heartdata.storage.shards import Shard
from heartdata.storage.store import Store
from heartdata.training.network import build_net, weights_bytes
from heartdata.versions import PREPROCESSING
from tasks.registry.client import connect, load_model
from tasks.registry.model_version import log_model
from tasks.results import TrainedModel

PROJECT = Path(__file__).parents[3]
CLASSES = ["murmur", "normal"]
TIMEOUT_S = 150
FORMATS = {
    "pcm16.wav": {"subtype": "PCM_16"},
    "pcm24.wav": {"subtype": "PCM_24"},
    "float.wav": {"subtype": "FLOAT"},
    "mu-law.wav": {"subtype": "ULAW"},
    "a.flac": {},
    "a.ogg": {"format": "OGG", "subtype": "VORBIS"},
    "a.mp3": {"format": "MP3"},
    "a.aiff": {"format": "AIFF"},
}


def test_an_address_that_cannot_be_used_is_refused_in_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HeartbeatError, match=f"cannot listen at 127.0.0.1 port {port} .*in use.*--port"):
            _listening("127.0.0.1", port)
    with pytest.raises(HeartbeatError, match=r"cannot listen at no\.such\.host\.invalid"):
        _listening("no.such.host.invalid", port)


def test_there_must_be_a_model(tmp_path: Path):
    with pytest.raises(HeartbeatError, match="no model is registered in .*: run `heartbeat run` first"):
        serve_model(None, "127.0.0.1", free_port(), Limits(), RunConfig(store=str(tmp_path)))


def test_what_is_served_while_there_is_no_champion_is_said(tmp_path: Path, monkeypatch):
    def noted(text: str) -> None:
        raise HeartbeatError(f"noted: {text}")  # far enough

    for name, value in {
        "refuse_empty_registry": lambda *_: None,
        "prepare_environment": lambda _: tmp_path,
        "find_version": lambda *_: ("models:/heartbeat/1", "heartbeat has no champion"),
        "note": noted,
        "signal.signal": lambda *_: None,
    }.items():
        monkeypatch.setattr(f"flows.cli.serve.{name}", value)
    with pytest.raises(HeartbeatError, match="noted: heartbeat has no champion"):
        serve_model(None, "127.0.0.1", free_port(), Limits(), RunConfig(store=str(tmp_path)))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """One real recording, or a synthetic one where there are none, in each format."""
    folder = tmp_path_factory.mktemp("recordings")
    real = next((REAL / "circor2022").rglob("*.wav"), None) if REAL.is_dir() else None
    samples, rate_hz = soundfile.read(real) if real else (beats(duration_s=8), 4000)
    rates = {".mp3": 2 * rate_hz}  # MP3 has no rate of 4,000 Hz
    for name, options in FORMATS.items():
        rate = rates.get(Path(name).suffix, rate_hz)
        soundfile.write(folder / name, np.repeat(samples, rate // rate_hz), rate, **options)
    if ffmpeg.is_installed():
        command = ["ffmpeg", "-loglevel", "error", "-i", folder / "pcm16.wav", folder / "a.m4a"]
        subprocess.run(command, check=True)
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """A store whose registry has one model, a champion of random weights."""
    store = Store(tmp_path_factory.mktemp("store")).open()
    torch.manual_seed(0)
    config = ModelConfig(
        classes=tuple(CLASSES), width=64, spectrogram=SpectrogramConfig(), preprocessing=PREPROCESSING,
        dataset_version="0", init="random", calibration=Calibration(temperature=1.7),
    )  # fmt: skip
    files = {
        "weights": store.write_bytes("train", ".safetensors", weights_bytes(build_net(2))),
        "config": store.write_bytes("train", ".json", config.model_dump_json().encode()),
        "history": store.write_bytes("train", ".parquet", b"of no use here"),
    }
    model = TrainedModel(**files, kept_epoch=0, classes=tuple(CLASSES), init="random", precision="float32")
    client = connect(RegistryConfig(), store)
    experiment = client.create_experiment("served", store.workpath("mlflow-artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        mlflow.register_model(log_model(model, store).model_uri, "heartbeat")
    client.set_registered_model_alias("heartbeat", "champion", 1)
    return store


@pytest.fixture(scope="module")
def evaluated(recordings: Path, store: Store) -> dict[str, list[float]]:
    """The probabilities of each file by the way of evaluation: rendered to a shard, read from it, calibrated."""
    names = {hashlib.sha256(file.read_bytes()).hexdigest(): file.name for file in sorted(recordings.iterdir())}
    predictor = load_model("models:/heartbeat/1", RegistryConfig(), store)[1]
    shard = Shard(0, tuple((sha256, str(recordings / name)) for sha256, name in names.items()))
    rows = render_shard(shard, predictor.config.spectrogram, store).index.to_pandas()
    probabilities = apply_temperature(
        predict_probabilities(predictor, rows, store), predictor.config.calibration.temperature
    )
    return dict(zip([names[sha256] for sha256 in rows["sha256"]], probabilities.tolist(), strict=True))


@pytest.fixture
def serving(store: Store, request) -> Iterator[tuple[subprocess.Popen, str, Path]]:
    """A server of the champion: the process, its address and its output. The parameter: its command."""
    port, log = free_port(), store.workpath(f"{time.monotonic_ns()}.log")
    environment = os.environ | {
        "PYTHONPATH": str(PROJECT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{store.workpath('mlflow.db')}",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = [part.format(store=store.root, port=port) for part in request.param]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=output, stderr=output, env=environment, cwd=store.root,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: process.poll() is not None or is_healthy(f"http://127.0.0.1:{port}/health"), "the server")
        assert process.poll() is None, log.read_text()
        yield process, f"http://127.0.0.1:{port}", log
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


HEARTBEAT = [
    "flows.cli.main",
    "serve",
    "--store",
    "{store}",
    "--port",
    "{port}",
    "--model",
    "models:/heartbeat@champion",
]
MLFLOW = ["mlflow", "models", "serve", "-m", "models:/heartbeat@champion", "--env-manager", "local", "-p", "{port}"]


@pytest.mark.slow
@pytest.mark.parametrize("serving", [HEARTBEAT], indirect=True)
def test_heartbeat_serve_gives_the_numbers_of_evaluation(serving, recordings: Path, evaluated: dict):
    process, address, log = serving
    said = log.read_text()
    for expected in ("models:/heartbeat/1, classes murmur, normal", f"Try it       {address}", f"{address}/docs"):
        assert expected in said
    files = [("file", (name, (recordings / name).read_bytes())) for name in evaluated]
    encoded = {"audio": [base64.b64encode((recordings / name).read_bytes()).decode() for name in evaluated]}
    for body in ({"files": files}, {"json": encoded}):
        answers = httpx.post(f"{address}/predict", timeout=TIMEOUT_S, **body).json()
        assert answers["model"] == {"name": "heartbeat", "version": "1"}
        for name, answer in zip(evaluated, answers["predictions"], strict=True):
            assert list(answer["probabilities"].values()) == pytest.approx(evaluated[name], abs=1e-5), name
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert log.read_text().endswith("Stopped.\n")
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("serving", [MLFLOW], indirect=True)
def test_mlflow_models_serve_gives_the_numbers_of_evaluation(serving, recordings: Path, evaluated: dict):
    _, address, _ = serving
    rows = [{"audio": base64.b64encode((recordings / name).read_bytes()).decode()} for name in evaluated]
    response = httpx.post(f"{address}/invocations", json={"dataframe_records": rows}, timeout=TIMEOUT_S)
    assert response.status_code == 200, response.text
    predictions = pd.DataFrame(response.json()["predictions"])
    assert predictions[["p_murmur", "p_normal"]].to_numpy() == pytest.approx(
        np.array(list(evaluated.values())), abs=1e-5
    )
