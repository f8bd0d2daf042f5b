"""How fast a model answers: in Python, over HTTP, many at once, with Grad-CAM, and under ONNX Runtime.

`python benchmarks/serving.py` prints medians for one 10 s recording (4 kHz, WAV) and a network of random weights, whose
speed is that of any other, and whether each is within its bound for 2 cores. The machine must be idle otherwise.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from heartdata.serving.predictor import Predictor

AT_ONCE, WIDTH, DURATION_S = 16, 128, 10
PER_SECOND = 20  # recordings, at least


def recording() -> bytes:
    """A synthetic recording as a WAV file."""
    import soundfile

    from heartdata.audio.synthesis import RATE_HZ, Heart, synthesize

    rng, file = np.random.default_rng(0), io.BytesIO()
    sound = synthesize(Heart.draw("murmur", rng), DURATION_S, 0, rng)
    soundfile.write(file, sound.samples, RATE_HZ, format="WAV")
    return file.getvalue()


def random_predictor() -> "Predictor":
    """A predictor of random weights on the usual device."""
    import torch

    from heartdata.audio.spectrograms import SpectrogramConfig
    from heartdata.serving.model_config import ModelConfig
    from heartdata.serving.predictor import Predictor
    from heartdata.training.network import build_net, computing_device

    config = ModelConfig(
        classes=("murmur", "normal"), width=WIDTH, spectrogram=SpectrogramConfig(), dataset_version="0", init="random"
    )
    net = build_net(len(config.classes)).eval().to(computing_device()).to(memory_format=torch.channels_last)
    return Predictor(net, config)


def median_ms(work: Callable[[], object], repetitions: int) -> float:
    """The median time of ``work``, after a warm-up."""
    times = []
    for _ in range(repetitions + 3):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[3:])


def in_python(repetitions: int) -> dict[str, float]:
    """Milliseconds of `Predictor.predict`, of `explain`, and of the prediction with its network under ONNX Runtime."""
    from heartdata.audio.decode import decode
    from heartdata.dataset.windows import as_images, scoring_views
    from heartdata.serving.explain import explain

    predictor, content = random_predictor(), recording()
    times = {
        "Python": median_ms(lambda: predictor.predict([content]), repetitions),
        "Python, Grad-CAM": median_ms(lambda: explain(predictor, content), repetitions),
    }
    try:
        import onnxruntime

        from heartdata.serving.export import onnx_bytes
    except ImportError:
        return times
    session = onnxruntime.InferenceSession(onnx_bytes(predictor))

    def by_onnx() -> np.ndarray:
        spectrogram = predictor.prepare(decode(content)).spectrogram  # with checks and beats, as in Python
        windows = as_images(np.stack(scoring_views(spectrogram, WIDTH, "windows"))).numpy()
        return session.run(None, {"windows": windows})[0].mean(axis=0)

    return {**times, "Python, network under ONNX Runtime": median_ms(by_onnx, repetitions)}


def over_http(repetitions: int) -> tuple[dict[str, float], float]:
    """Milliseconds of requests to a server in a process of its own, and its recordings a second, AT_ONCE at once."""
    import httpx

    from flows.local.servers import free_port, is_healthy

    port, content = free_port(), recording()
    server = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    try:
        while not is_healthy(f"http://127.0.0.1:{port}/health"):
            if server.poll() is not None:
                raise SystemExit("the server did not start")
            time.sleep(0.1)
        headers = {"content-type": "audio/wav"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:

            def ask(path: str) -> None:
                client.post(path, content=content).raise_for_status()

            times = {
                "HTTP": median_ms(lambda: ask("/predict"), repetitions),
                "HTTP, Grad-CAM": median_ms(lambda: ask("/explain"), repetitions),
            }
            with ThreadPoolExecutor(AT_ONCE) as clients:
                list(clients.map(ask, ["/predict"] * AT_ONCE))
                began, count = time.perf_counter(), max(5 * AT_ONCE, 4 * repetitions)
                list(clients.map(ask, ["/predict"] * count))
                return times, count / (time.perf_counter() - began)
    finally:
        server.terminate()
        server.wait()


def serve(port: int) -> None:
    """What `heartbeat serve` runs, without a registry."""
    import torch
    import uvicorn

    from flows.http.app import create_app
    from flows.http.limits import Limits

    torch.set_num_threads(1)
    uvicorn.run(create_app(random_predictor(), "models:/benchmark/1", Limits()), port=port, log_config=None)


def verdict(is_within: bool) -> str:
    return "pass" if is_within else "MISS"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=50)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    times, (of_http, per_second) = in_python(options.repetitions), over_http(options.repetitions)
    limits = {"Python": 60, "HTTP": 150, "Python, Grad-CAM": 300, "HTTP, Grad-CAM": 300}
    title = f"One {DURATION_S} s recording, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    table = Table("", "median", "bound", "", title=title)
    for name, milliseconds in {**times, **of_http}.items():
        most = limits.get(name)
        bound = (f"at most {most} ms", verdict(milliseconds <= most)) if most else ()
        table.add_row(name, f"{milliseconds:.0f} ms", *bound)
    table.add_row(
        f"HTTP, {AT_ONCE} at once",
        f"{per_second:.0f} a second",
        f"at least {PER_SECOND}",
        verdict(per_second >= PER_SECOND),
    )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
