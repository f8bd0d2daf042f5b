"""How fast recordings become spectrograms: against what no program can save, librosa, a plot per file, and lhotse; and
what the stored number format costs.

    .venv/bin/pip install -c constraints.txt -e ".[bench]"      # lhotse, to measure against
    .venv/bin/python -m benchmarks.spectrograms [--data ../shared/data] [--recordings 656]

Recordings are PASCAL's set B; without them, 5 s of noise. Libraries that workers do not need are imported inside functions:
worker processes import this module.
"""

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from benchmarks.command import in_turn, run_benchmark, say, seconds_of
from benchmarks.recordings import pascal_b
from benchmarks.rows import Row, Target, absent, scored, timed
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.storage.shards import into_shards
from heartdata.storage.store import Store, sha256_file

CONFIG = SpectrogramConfig()
JOBS = 2
SIZES = {"recordings": (656, 12), "plots": (60, 2), "repeats": (3, 2)}
UNIT = "ms a recording"


def plot_each(files: list[Path], folder: Path) -> None:
    """A matplotlib plot per file, as tutorials do it."""
    import librosa
    import librosa.display
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for number, file in enumerate(files):
        sound, rate_hz = librosa.load(file)
        power_db = librosa.power_to_db(librosa.feature.melspectrogram(y=sound, sr=rate_hz), ref=np.max)
        figure = plt.figure(figsize=(4, 4))
        plt.axis("off")
        librosa.display.specshow(power_db, sr=rate_hz)
        plt.savefig(folder / f"{number}.png")
        plt.close(figure)


def plain_loop(files: list[Path]) -> None:
    """librosa.load, melspectrogram and power_to_db at our settings, one core."""
    import librosa

    c = CONFIG
    for file in files:
        sound, _ = librosa.load(file, sr=c.rate_hz)
        power = librosa.feature.melspectrogram(
            y=sound, sr=c.rate_hz, n_fft=c.fft_samples, win_length=c.window_samples, hop_length=c.hop_samples,
            n_mels=c.mel_bands, fmin=c.low_hz, fmax=c.high_hz,
        )  # fmt: skip
        librosa.power_to_db(power, ref=np.max, top_db=c.range_db)


def lower_bound(files: list[Path]) -> None:
    """What no implementation can save: reading, resampling, and a bare transform of every frame."""
    for file in files:
        sound, rate_hz = soundfile.read(file, dtype="float32")
        padded = np.pad(soxr.resample(sound, rate_hz, CONFIG.rate_hz), CONFIG.fft_samples // 2)
        frames = np.lib.stride_tricks.sliding_window_view(padded, CONFIG.fft_samples)[:: CONFIG.hop_samples]
        np.fft.rfft(frames, axis=1)


def lhotse_way(files: list[Path], folder: Path, workers: ProcessPoolExecutor) -> None:
    """lhotse with two jobs and librosa's features at our settings, from the manifest of recordings on."""
    from lhotse import CutSet, LilcomChunkyWriter, Recording
    from lhotse.features.librosa_fbank import LibrosaFbank, LibrosaFbankConfig

    c = CONFIG
    cuts = CutSet.from_cuts(Recording.from_file(file).resample(c.rate_hz).to_cut() for file in files)
    extractor = LibrosaFbank(LibrosaFbankConfig(
        sampling_rate=c.rate_hz, fft_size=c.fft_samples, win_length=c.window_samples, hop_size=c.hop_samples,
        num_mel_bins=c.mel_bands, fmin=c.low_hz, fmax=c.high_hz,
    ))  # fmt: skip
    cuts.compute_and_store_features(
        extractor, folder / "features", JOBS, storage_type=LilcomChunkyWriter, executor=workers, progress_bar=False
    )


def on_two_cores(function: Callable[..., Any], items: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(JOBS) as threads:
        return list(threads.map(function, items))


def speed(what: str, files: list[Path], plots: int, repeats: int, scratch: Path) -> Iterator[Row]:
    """Milliseconds a recording of each way, in turn."""
    from heartdata.dataset.spectrogram_shards import render_shard
    from tasks.engine.workers import Workers

    folders = (scratch / f"store{n}" for n in range(1_000))
    shards, few = (into_shards((sha256_file(f), str(f)) for f in some) for some in (files, files[:40]))

    def ms_each(function: Callable[..., Any], *args: Any, count: int = len(files)) -> float:
        return 1e3 * seconds_of(function, *args) / count

    with Workers() as workers, ProcessPoolExecutor(JOBS, get_context("spawn")) as lhotse_workers:

        def ours(shards: list[Any]) -> None:
            store = Store(next(folders)).open()
            on_two_cores(lambda shard: workers.call(render_shard, shard, CONFIG, store), shards)

        def by_librosa() -> None:
            on_two_cores(lambda some: workers.call(plain_loop, some), [files[n::JOBS] for n in range(JOBS)])

        def bound() -> None:
            on_two_cores(lambda some: workers.call(lower_bound, some), [files[n::JOBS] for n in range(JOBS)])

        started_s = seconds_of(ours, few)
        ways = {
            "heartbeat": lambda: ms_each(ours, shards),
            "reading, resampling and a bare FFT, two workers": lambda: ms_each(bound),
            "`librosa.load`, `melspectrogram`, `power_to_db`, one core": lambda: ms_each(plain_loop, files),
            "the same in the two workers, nothing written": lambda: ms_each(by_librosa),
            "a matplotlib plot per file": lambda: ms_each(
                plot_each, files[:plots], scratch, count=min(plots, len(files))
            ),
        }
        lhotse, without = "lhotse, two jobs, librosa features", ""
        try:
            lhotse_way(files[:40], scratch / "warm", lhotse_workers)
        except ImportError:
            without = 'not installed, `pip install -c constraints.txt -e ".[bench]"`'
        else:
            ways[lhotse] = lambda: ms_each(lhotse_way, files, next(folders), lhotse_workers)
        plain_loop(files[:3])
        plot_each(files[:2], scratch)
        bound()
        by_librosa()
        seconds = in_turn(ways, repeats)
    measured, peers = f"log-mel of {what}, two workers, shards written", list(ways)[1:]
    for peer, least in zip(peers, (0.8, 4, None, 60, 5), strict=False):
        target = Target(least=least) if least else None
        yield timed(measured, UNIT, seconds["heartbeat"], peer, seconds[peer], target=target)
    if without:
        yield absent(measured, lhotse, without, Target(least=5))
    plain_s = [ms * len(files) / 1e3 for ms in seconds[peers[1]]]
    yield timed(
        f"starting the workers, once, and the first {len(files[:40])} recordings",
        "s",
        [started_s],
        f"the loop with librosa over all {len(files)}",
        plain_s,
    )


def storage(files: list[Path]) -> Iterator[Row]:
    """What float16 costs in decibels, beside a byte a value."""
    from heartdata.audio.decode import resample
    from heartdata.audio.spectrograms import mel_power_db

    config = SpectrogramConfig(normalise="none")
    errors: dict[str, list[float]] = {"float16": [], "uint8": []}
    deviations = []
    for file in files:
        sound, rate_hz = soundfile.read(file, dtype="float32")
        exact = mel_power_db(resample(sound, rate_hz, config.rate_hz), config)
        deviation = exact.std(axis=0)
        deviations.append(deviation.mean())
        normal = (exact - exact.mean(axis=0)) / np.maximum(deviation, 1e-3)
        low, high = normal.min(), normal.max()
        as_byte = np.rint((normal - low) / (high - low) * 255) / 255 * (high - low) + low
        for name, values in {"float16": normal.astype(np.float16).astype(np.float32), "uint8": as_byte}.items():
            errors[name].append(float(np.abs((values - normal) * deviation).max()))
    peer = "uint8, scaled to the file's range"
    what = f"largest error of float16 in a recording, where a band's deviation is {np.mean(deviations):.1f} dB"
    for which, of_all in (("median", np.median), ("highest", np.max)):
        half, byte = (float(of_all(each)) for each in errors.values())
        yield scored(f"{what}: {which} of {len(files)}", half, peer, byte, unit="dB", lower_is_better=True)


def measure(data: Path, recordings: int, plots: int, repeats: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="heartbeat-") as folder:
        what, files = pascal_b(data, recordings, Path(folder))
        yield from speed(what, files, plots, repeats, Path(folder))
        say("number formats")
        yield from storage(files[:200])


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
