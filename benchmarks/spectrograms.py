"""How fast recordings become spectrograms: against other ways, through Prefect, at scale, and when little is new.

    .venv/bin/pip install -c constraints.txt -e ".[bench]"      # lhotse, to measure against
    .venv/bin/python benchmarks/spectrograms.py ways --data ../shared/data/pascal/set_b
    .venv/bin/python benchmarks/spectrograms.py prefect --recordings 10000
    .venv/bin/python benchmarks/spectrograms.py scale --recordings 1000 10000 100000
    .venv/bin/python benchmarks/spectrograms.py nightly --recordings 10000
    .venv/bin/python benchmarks/spectrograms.py storage --data ../shared/data/pascal/set_b

Made recordings are 5 s of noise at 4 kHz. Seconds are of this machine, the ratios of one run are what should hold
anywhere. Heavy libraries are imported inside: worker processes import this module.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
TUTORIAL_FILES = 60
JOBS = 2


def timed(function: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    started_s = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - started_s, result


def make_recordings(folder: Path, numbers: range) -> list[Path]:
    """Noise, 5 s at 4 kHz, 16 bit, each file of its own; in folders of two classes as the table source wants them."""
    import numpy as np
    import soundfile

    paths = [folder / ("normal", "murmur")[number % 2] / f"{number:06d}.wav" for number in numbers]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    for number, path in zip(numbers, paths, strict=True):
        noise = np.random.default_rng([2, number]).normal(0, 0.1, 20_000).astype(np.float32)
        soundfile.write(path, noise, 4000, subtype="PCM_16")
    return paths


def tutorial(files: list[Path], folder: Path) -> None:
    """A picture a file, as the notebooks do it."""
    import librosa
    import librosa.display
    import matplotlib
    import numpy as np

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
    import numpy as np

    from heartdata.audio.spectrograms import SpectrogramConfig

    c = SpectrogramConfig()
    for file in files:
        sound, _ = librosa.load(file, sr=c.rate_hz)
        power = librosa.feature.melspectrogram(
            y=sound, sr=c.rate_hz, n_fft=c.fft_samples, win_length=c.window_samples, hop_length=c.hop_samples,
            n_mels=c.mel_bands, fmin=c.low_hz, fmax=c.high_hz,
        )  # fmt: skip
        librosa.power_to_db(power, ref=np.max, top_db=c.range_db)


def bound(files: list[Path]) -> None:
    """What cannot be saved: reading, resampling, and a bare transform of every frame."""
    import numpy as np
    import soundfile
    import soxr

    from heartdata.audio.spectrograms import SpectrogramConfig

    c = SpectrogramConfig()
    for file in files:
        sound, rate_hz = soundfile.read(file, dtype="float32")
        padded = np.pad(soxr.resample(sound, rate_hz, c.rate_hz), c.fft_samples // 2)
        np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, c.fft_samples)[:: c.hop_samples], axis=1)


def on_two_cores(function: Callable[[list[Path]], None], files: list[Path], workers: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(JOBS) as threads:
        list(threads.map(lambda part: workers.call(function, part), [files[n::JOBS] for n in range(JOBS)]))


def sharded(files: list[Path]) -> list[Any]:
    """The shards of files, which the inventory has hashed."""
    from heartdata.storage.shards import into_shards
    from heartdata.storage.store import sha256_file

    return into_shards((sha256_file(file), str(file)) for file in files)


def render(shards: list[Any], folder: Path, workers: Any) -> None:
    """Ours without Prefect: shards to a new store in ``folder``."""
    from concurrent.futures import ThreadPoolExecutor

    from heartdata.audio.spectrograms import SpectrogramConfig
    from heartdata.dataset.spectrogram_shards import render_shard
    from heartdata.storage.store import Store

    store = Store(folder).open()
    with ThreadPoolExecutor(JOBS) as threads:
        list(threads.map(lambda shard: workers.call(render_shard, shard, SpectrogramConfig(), store), shards))


def lhotse_way(files: list[Path], folder: Path) -> None:
    """lhotse with two jobs and librosa's features at our settings, from the manifest of recordings on."""
    from lhotse import CutSet, LilcomChunkyWriter, Recording
    from lhotse.features.librosa_fbank import LibrosaFbank, LibrosaFbankConfig

    from heartdata.audio.spectrograms import SpectrogramConfig

    c = SpectrogramConfig()
    cuts = CutSet.from_cuts(Recording.from_file(file).resample(c.rate_hz).to_cut() for file in files)
    extractor = LibrosaFbank(LibrosaFbankConfig(
        sampling_rate=c.rate_hz, fft_size=c.fft_samples, win_length=c.window_samples, hop_size=c.hop_samples,
        num_mel_bins=c.mel_bands, fmin=c.low_hz, fmax=c.high_hz,
    ))  # fmt: skip
    cuts.compute_and_store_features(extractor, folder / "features", num_jobs=JOBS, storage_type=LilcomChunkyWriter)


def ways(data: Path | None, scratch: Path) -> list[dict[str, object]]:
    """Milliseconds a recording of each way, and how many times ours it takes."""
    from tasks.engine.workers import Workers

    files = sorted(data.rglob("*.wav")) if data else make_recordings(scratch / "made", range(600))
    with Workers() as workers:
        started_s, _ = timed(render, sharded(files[:40]), scratch / "start", workers)
        on_two_cores(bound, files[:40], workers)
        shards = sharded(files)
        ours_s = min(timed(render, shards, scratch / f"ours{n}", workers)[0] for n in range(3)) / len(files)
        bound_s = min(timed(on_two_cores, bound, files, workers)[0] for _ in range(3)) / len(files)
    plain_loop(files[:3])
    plain_s = timed(plain_loop, files)[0] / len(files)
    tutorial(files[:2], scratch)
    tutorial_s = timed(tutorial, files[:TUTORIAL_FILES], scratch)[0] / TUTORIAL_FILES
    seconds = {
        "heartbeat, two workers, shards written": ours_s,
        "bound: reading, resampling, bare FFT, two workers": bound_s,
        "librosa.load, melspectrogram, power_to_db, one core": plain_s,
        "tutorial: a matplotlib picture a file": tutorial_s,
    }
    try:
        timed(lhotse_way, files[:40], scratch / "warm")
        seconds["lhotse, two jobs, librosa features"] = timed(lhotse_way, files, scratch / "lhotse")[0] / len(files)
    except ImportError:
        seconds["lhotse, two jobs (not installed: see above)"] = float("nan")
    rows: list[dict[str, object]] = [
        {"way": w, "ms a recording": f"{1e3 * s:.2f}", "times ours": f"{s / ours_s:.2f}"} for w, s in seconds.items()
    ]
    return [*rows, {"way": f"workers' start: {started_s:.1f} s once", "ms a recording": "", "times ours": ""}]


def without_prefect(recordings: Any, splits: Any, store: Any) -> None:
    """What the stage does, by the same functions in as many threads: the look for what stands, the shards, the table."""
    from concurrent.futures import ThreadPoolExecutor

    from heartdata.audio.spectrograms import SpectrogramConfig
    from heartdata.storage.schemas import SPLITS
    from tasks.measure import file_shards
    from tasks.spectrograms import find_spectrograms, gather_spectrograms, spectrogram_shard

    config = SpectrogramConfig()
    shards = file_shards(recordings, store, set(store.read_table(splits, SPLITS).column("sha256").to_pylist()))
    assert not any(find_spectrograms.fn(shards, config, store))
    with ThreadPoolExecutor(JOBS) as threads:
        made = list(threads.map(lambda shard: spectrogram_shard.fn(shard, config, store), shards))
    gather_spectrograms.fn(made, made, 1.0, store)


def through_prefect(recordings: list[int], scratch: Path) -> list[dict[str, object]]:
    """The stage as a flow on a running server, and the same work without Prefect."""
    import resource

    from prefect import flow
    from prefect.testing.utilities import prefect_test_harness

    from heartdata.audio.spectrograms import SpectrogramConfig
    from heartdata.config import EngineConfig
    from heartdata.storage.schemas import RECORDINGS, SPLITS
    from heartdata.storage.shards import shard_count
    from heartdata.storage.store import Store, sha256_file, table_from_rows
    from tasks.engine.workers import Workers
    from tasks.spectrograms import spectrograms

    def listed(files: list[Path], store: Store) -> tuple[Any, Any]:
        rows = [{"recording_id": f.name, "uri": str(f), "sha256": sha256_file(f)} for f in files]
        splits = [{"recording_id": row["recording_id"], "sha256": row["sha256"]} for row in rows]
        return (
            store.write_table("recordings", table_from_rows(rows, RECORDINGS), RECORDINGS),
            store.write_table("splits", table_from_rows(splits, SPLITS), SPLITS),
        )

    @flow(validate_parameters=False)
    def stage(recordings: Any, splits: Any, store: Any) -> float:
        return timed(spectrograms, recordings, splits, SpectrogramConfig(), EngineConfig(workers=JOBS), store)[0]

    rows: list[dict[str, object]] = []
    with prefect_test_harness(server_startup_timeout=120):
        few = Store(scratch / "s0").open()
        stage(*listed(make_recordings(scratch / "few", range(600)), few), few)
        for number in recordings:
            files = make_recordings(scratch / str(number), range(number))
            direct_s = []
            for name in ("warm", "direct"):
                store = Store(scratch / name).open()
                with Workers():
                    direct_s.append(timed(without_prefect, *listed(files, store), store)[0])
                shutil.rmtree(scratch / name)
            store = Store(scratch / f"p{number}").open()
            flow_s = stage(*listed(files, store), store)
            rows.append({
                "recordings": number, "tasks": shard_count(number), "without Prefect s": f"{direct_s[-1]:.1f}",
                "stage s": f"{flow_s:.1f}", "Prefect's share": f"{flow_s / direct_s[-1] - 1:+.0%}",
                "recordings a second": f"{number / flow_s:.0f}",
                "parent's peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            })  # fmt: skip
            for folder in (str(number), f"p{number}"):
                shutil.rmtree(scratch / folder)
    return rows


def nightly(number: int, scratch: Path) -> list[dict[str, object]]:
    """The whole preparation: the first time, with nothing changed, with ten new; and batches of random crops.

    Beside it the start of Prefect itself: a flow that does nothing, on the same server.
    """
    from prefect import flow
    from prefect.testing.utilities import prefect_test_harness

    from flows.pipeline import prepare
    from heartdata.config_file import build_config
    from heartdata.dataset.windows import Windows
    from heartdata.storage.schemas import MANIFEST
    from heartdata.storage.store import Store
    from heartdata.training.recipe import TrainingConfig

    make_recordings(scratch / "data", range(number))
    config = build_config("table", str(scratch / "data"), changes={
        "store": str(scratch / "out"), "validation.max_quarantined_fraction": 1.0, "engine.workers": JOBS,
        "validation.near_duplicates": False,
    })  # fmt: skip
    rows: list[dict[str, object]] = []
    with prefect_test_harness(server_startup_timeout=120):
        first_s, dataset = timed(prepare, config)
        start_s, _ = timed(flow(lambda: None, name="nothing"))
        same_s, _ = timed(prepare, config)
        make_recordings(scratch / "data", range(number, number + 10))
        ten_s, _ = timed(prepare, config)
    measured = (("first", first_s), ("Prefect's own start", start_s), ("nothing changed", same_s), ("ten new", ten_s))
    for what, s in measured:
        rows.append({"what": what, "seconds": f"{s:.2f}", "of the first": f"{s / first_s:.1%}"})
    import numpy as np

    store = Store(config.store)
    table = store.read_frame(dataset, MANIFEST)
    windows = Windows(table, sorted(table["label"].unique()), store, TrainingConfig().width, random=True)
    draw = np.random.default_rng(0)
    batches = sorted(timed(windows.batch, draw.integers(0, len(windows), 64))[0] for _ in range(300))
    rows.append({"what": "batch of 64 random crops, median", "seconds": f"{batches[150]:.4f}", "of the first": ""})
    return rows


def storage(data: Path | None, scratch: Path) -> list[dict[str, object]]:
    """What each number format costs in bytes and in decibels."""
    import numpy as np
    import soundfile

    from heartdata.audio.decode import resample
    from heartdata.audio.spectrograms import SpectrogramConfig, log_mel, mel_power_db

    files = sorted(data.rglob("*.wav"))[:200] if data else make_recordings(scratch / "made", range(200))
    c, errors, spread = SpectrogramConfig(normalise="none"), {}, []
    for file in files:
        sound, rate_hz = soundfile.read(file, dtype="float32")
        exact = mel_power_db(resample(sound, rate_hz, c.rate_hz), c)
        deviation = exact.std(axis=0)
        spread.append(deviation.mean())
        normal = (exact - exact.mean(axis=0)) / np.maximum(deviation, 1e-3)
        low, high = normal.min(), normal.max()
        kept = {
            "float32": normal, "float16": normal.astype(np.float16).astype(np.float32),
            "uint8": np.rint((normal - low) / (high - low) * 255) / 255 * (high - low) + low,
        }  # fmt: skip
        for name, values in kept.items():
            errors.setdefault(name, []).append(np.abs((values - normal) * deviation).max())
    assert log_mel(sound, rate_hz, SpectrogramConfig()).dtype == np.float16
    size = {"float32": 4, "float16": 2, "uint8": 1}
    return [
        {"format": name, "bytes a value": size[name], "largest error dB, median file": f"{np.median(e):.4f}",
         "worst file": f"{max(e):.4f}", "a band's deviation dB": f"{np.mean(spread):.1f}"} for name, e in errors.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ways", "prefect", "scale", "nightly", "storage"])
    parser.add_argument("--data", type=Path, default=None, help="a folder of .wav files; else made ones")
    parser.add_argument("--recordings", type=int, nargs="+", default=[10_000])
    arguments = parser.parse_args()
    from rich.console import Console
    from rich.table import Table

    with tempfile.TemporaryDirectory(prefix="heartbeat-") as folder:
        scratch = Path(folder)
        if arguments.what in ("ways", "storage"):
            rows = {"ways": ways, "storage": storage}[arguments.what](arguments.data, scratch)
        elif arguments.what == "nightly":
            rows = nightly(arguments.recordings[0], scratch)
        else:
            rows = through_prefect(arguments.recordings, scratch)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
