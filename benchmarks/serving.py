"""How fast a model answers: in Python, over HTTP, several at once, and with Grad-CAM; beside MLflow's own ways to serve it,
ONNX Runtime, and captum.

    python -m benchmarks.serving [--repetitions 50]

One 10 s recording (4 kHz, WAV) and a network of random weights, whose speed is that of any other; warm.
"""

import base64
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.command import in_turn, run_benchmark, say, seconds_of
from benchmarks.processes import PROJECT
from benchmarks.rows import Row, Target, absent, timed

if TYPE_CHECKING:
    from heartdata.serving.predictor import Predictor

AT_ONCE, WIDTH, DURATION_S = 16, 128, 10
SIZES = {"repetitions": (50, 2), "rounds": (4, 1)}
SERVED_MODEL = PROJECT / "mlflow" / "served_model.py"
ONE = f"a {DURATION_S} s recording"
SERVER = "from benchmarks.serving import serve; serve({!r}, {})"


def recording() -> bytes:
    """A synthetic recording as a WAV file."""
    import soundfile

    from heartdata.audio.synthesis import RATE_HZ, Heart, synthesize

    rng, file = np.random.default_rng(0), io.BytesIO()
    sound = synthesize(Heart.draw("murmur", rng), DURATION_S, 0, rng)
    soundfile.write(file, sound.samples, RATE_HZ, format="WAV")
    return file.getvalue()


def save_model(folder: Path) -> Path:
    """Random weights as `heartbeat export` writes a model, and as an MLflow model in ``folder``/mlflow."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    import heartdata
    from heartdata.audio.spectrograms import SpectrogramConfig
    from heartdata.serving.model_config import ModelConfig
    from heartdata.training.network import build_net, weights_bytes
    from heartdata.versions import PREPROCESSING

    config = ModelConfig(
        classes=("murmur", "normal"), width=WIDTH, spectrogram=SpectrogramConfig(), preprocessing=PREPROCESSING,
        dataset_version="0", init="random",
    )  # fmt: skip
    weights, settings = folder / "weights.safetensors", folder / "config.json"
    weights.write_bytes(weights_bytes(build_net(len(config.classes))))
    settings.write_text(config.model_dump_json())
    mlflow.pyfunc.save_model(
        folder / "mlflow", python_model=str(SERVED_MODEL), artifacts={"weights": str(weights), "config": str(settings)},
        code_paths=[str(Path(heartdata.__file__).parent)],
        signature=ModelSignature(Schema([ColSpec(DataType.binary, "audio")])),
        pip_requirements=["mlflow"],
    )  # fmt: skip
    return folder


def load(folder: Path) -> "Predictor":
    from heartdata.serving.predictor import Predictor

    return Predictor.load(folder / "weights.safetensors", folder / "config.json")


def ms(work: Callable[..., object], *args: object) -> float:
    return 1e3 * seconds_of(work, *args)


def in_python(folder: Path, repetitions: int) -> Iterator[Row]:
    """`Predictor.predict` and `explain` in this process, beside MLflow's pyfunc, ONNX Runtime and captum."""
    import mlflow
    import pandas as pd
    import torch
    from captum.attr import LayerGradCam

    from heartdata.audio.decode import decode
    from heartdata.dataset.windows import as_images, scoring_views
    from heartdata.serving.explain import explain

    predictor, content = load(folder), recording()
    pyfunc = mlflow.pyfunc.load_model(str(folder / "mlflow"))
    frame = pd.DataFrame({"audio": [content]})

    def windows() -> torch.Tensor:
        spectrogram = predictor.prepare(decode(content)).spectrogram  # with checks and beats, as in `predict`
        return as_images(np.stack(scoring_views(spectrogram, WIDTH, "windows")))

    images = windows().to(memory_format=torch.channels_last)
    grad_cam = LayerGradCam(predictor.net, predictor.net.get_submodule("layer4"))

    def bare() -> None:
        with torch.inference_mode():
            predictor.net(images)

    peers: dict[str, Callable[[], object]] = {
        "MLflow's pyfunc": lambda: pyfunc.predict(frame),
        "the network alone": bare,
    }
    onnx = "the network under ONNX Runtime instead"
    try:
        import onnxruntime

        from heartdata.serving.export import onnx_bytes
    except ImportError:
        yield absent(
            f"`Predictor.predict`, {ONE}", onnx, 'not installed, `pip install -c constraints.txt -e ".[onnx]"`'
        )
    else:
        session = onnxruntime.InferenceSession(onnx_bytes(predictor))
        peers[onnx] = lambda: session.run(None, {"windows": windows().numpy()})[0].mean(axis=0)
    captum = "captum's Grad-CAM of the last stage, on windows in memory"
    works = {
        "predict": lambda: predictor.predict([content]), **peers, "explain": lambda: explain(predictor, content),
        captum: lambda: grad_cam.attribute(images, target=0),
    }  # fmt: skip
    ways = {name: (lambda work=work: ms(work)) for name, work in works.items()}
    times = in_turn(ways, repetitions, warm_ups=3)
    for number, peer in enumerate(peers):
        target = None if number else Target(of="heartbeat", most=60)
        yield timed(f"`Predictor.predict`, {ONE}", "ms", times["predict"], peer, times[peer], target=target)
    most = Target(of="heartbeat", most=300)
    yield timed(f"`explain`, {ONE}, with its prediction", "ms", times["explain"], captum, times[captum], target=most)


@contextlib.contextmanager
def server(command: list[str], address: str, wait_s: float = 300) -> Iterator[None]:
    """A server in a process of its own, ready."""
    from flows.local.servers import is_healthy

    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + wait_s
        while not is_healthy(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[1:4]} did not start")
            time.sleep(0.1)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait()


def over_http(folder: Path, repetitions: int, rounds: int) -> Iterator[Row]:
    """`heartbeat serve` beside `mlflow models serve`, one request at a time and several at once."""
    import httpx

    from flows.local.servers import free_port

    ours, mlflows, content = free_port(), free_port(), recording()
    serve_mlflow = [
        "mlflow",
        "models",
        "serve",
        "-m",
        str(folder / "mlflow"),
        "--env-manager",
        "local",
        "-p",
        str(mlflows),
    ]
    as_json = {"dataframe_records": [{"audio": base64.b64encode(content).decode()}]}
    say("starting heartbeat's server and MLflow's")
    with (
        server([sys.executable, "-c", SERVER.format(str(folder), ours)], f"http://127.0.0.1:{ours}/health"),
        server([sys.executable, "-m", *serve_mlflow], f"http://127.0.0.1:{mlflows}/health"),
        httpx.Client(timeout=60, limits=httpx.Limits(max_connections=AT_ONCE)) as client,
        ThreadPoolExecutor(AT_ONCE) as clients,
    ):

        def ask(path: str, _: object = None) -> None:
            url, headers = f"http://127.0.0.1:{ours}{path}", {"content-type": "audio/wav"}
            client.post(url, content=content, headers=headers).raise_for_status()

        def ask_mlflow(_: object = None) -> None:
            client.post(f"http://127.0.0.1:{mlflows}/invocations", json=as_json).raise_for_status()

        def each_second(work: Callable[[Any], None]) -> float:
            count = 4 * AT_ONCE
            return count / seconds_of(lambda: list(clients.map(work, range(count))))

        serving, explaining = "`mlflow models serve`", "a prediction from the same server"
        ways = {
            "/predict": lambda: ms(ask, "/predict"),
            serving: lambda: ms(ask_mlflow),
            "/explain": lambda: ms(ask, "/explain"),
        }
        times = in_turn(ways, repetitions, warm_ups=3)
        yield timed(
            f"`POST /predict`, {ONE}",
            "ms",
            times["/predict"],
            serving,
            times[serving],
            target=Target(of="heartbeat", most=150),
        )
        yield timed(
            f"`POST /explain`, {ONE}", "ms", times["/explain"], explaining, times["/predict"],
            target=Target(of="heartbeat", most=300),
        )  # fmt: skip
        ways = {"ours": lambda: each_second(lambda _: ask("/predict")), serving: lambda: each_second(ask_mlflow)}
        rates = in_turn(ways, rounds, warm_ups=1)
        yield timed(
            f"`POST /predict`, {AT_ONCE} at once", "recordings/s", rates["ours"], serving, rates[serving],
            higher_is_better=True, target=Target(of="heartbeat", least=20),
        )  # fmt: skip


def serve(folder: str, port: int) -> None:
    """What `heartbeat serve` runs, without a registry."""
    import torch
    import uvicorn

    from flows.http.app import create_app
    from flows.http.limits import Limits

    torch.set_num_threads(1)
    uvicorn.run(create_app(load(Path(folder)), "models:/benchmark/1", Limits()), port=port, log_config=None)


def measure(repetitions: int, rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="heartbeat-") as folder:
        say("saving a model for MLflow")
        model = save_model(Path(folder))
        say("in Python")
        yield from in_python(model, repetitions)
        yield from over_http(model, repetitions, rounds)


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
