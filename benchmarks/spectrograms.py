"""How fast recordings become spectrograms: against other ways, through Prefect, at scale, and when little is new.

    .venv/bin/pip install -c constraints.txt -e ".[bench]"      # lhotse, to measure against
    .venv/bin/python benchmarks/spectrograms.py ways --data ../shared/data/pascal/set_b
    .venv/bin/python benchmarks/spectrograms.py scale --recordings 1000 10000 100000
    .venv/bin/python benchmarks/spectrograms.py nightly --recordings 10000 100000
    .venv/bin/python benchmarks/spectrograms.py storage --data ../shared/data/pascal/set_b

Without --data, recordings are 5 s of noise at 4 kHz. Seconds are of this machine; the ratios of one run should hold
anywhere. Libraries that workers do not need are imported inside functions: worker processes import this module.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.storage.shards import into_shards, shard_count
from heartdata.storage.store import Store, sha256_file, table_from_rows

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
CONFIG = SpectrogramConfig()
TUTORIAL_FILES = 60
JOBS = 2
Row = dict[str, object]


def seconds_of(function: Callable[..., Any], *args: Any) -> float:
    started_s = time.perf_counter()
    function(*args)
    return time.perf_counter() - started_s


def on_two_cores(function: Callable[..., Any], items: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(JOBS) as threads:
        return list(threads.map(function, items))


def noise_recordings(folder: Path, numbers: range) -> list[Path]:
    """5 s of noise at 4 kHz, 16 bit, one file each; in folders of two classes as the table source expects them."""
    paths = [folder / ("normal", "murmur")[number % 2] / f"{number:06d}.wav" for number in numbers]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    for number, path in zip(numbers, paths, strict=True):
        noise = np.random.default_rng([2, number]).normal(0, 0.1, 20_000).astype(np.float32)
        soundfile.write(path, noise, 4000, subtype="PCM_16")
    return paths


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


def lhotse_way(files: list[Path], folder: Path) -> None:
    """lhotse with two jobs and librosa's features at our settings, from the manifest of recordings on."""
    from lhotse import CutSet, LilcomChunkyWriter, Recording
    from lhotse.features.librosa_fbank import LibrosaFbank, LibrosaFbankConfig

    c = CONFIG
    cuts = CutSet.from_cuts(Recording.from_file(file).resample(c.rate_hz).to_cut() for file in files)
    extractor = LibrosaFbank(LibrosaFbankConfig(
        sampling_rate=c.rate_hz, fft_size=c.fft_samples, win_length=c.window_samples, hop_size=c.hop_samples,
        num_mel_bins=c.mel_bands, fmin=c.low_hz, fmax=c.high_hz,
    ))  # fmt: skip
    cuts.compute_and_store_features(extractor, folder / "features", num_jobs=JOBS, storage_type=LilcomChunkyWriter)


def ways(files: list[Path], scratch: Path) -> list[Row]:
    """Milliseconds a recording of each way, and how many times ours it takes."""
    from heartdata.dataset.spectrogram_shards import render_shard
    from tasks.engine.workers import Workers

    def shards_of(files: list[Path]) -> list[Any]:
        return into_shards((sha256_file(file), str(file)) for file in files)  # the inventory has hashed them

    with Workers() as workers:

        def ours(shards: list[Any], folder: Path) -> None:
            store = Store(folder).open()
            on_two_cores(lambda shard: workers.call(render_shard, shard, CONFIG, store), shards)

        def bound(files: list[Path]) -> None:
            on_two_cores(lambda some: workers.call(lower_bound, some), [files[n::JOBS] for n in range(JOBS)])

        start_s = seconds_of(ours, shards_of(files[:40]), scratch / "start")
        bound(files[:40])
        shards = shards_of(files)
        ours_s = min(seconds_of(ours, shards, scratch / f"ours{n}") for n in range(3)) / len(files)
        bound_s = min(seconds_of(bound, files) for _ in range(3)) / len(files)
    plain_loop(files[:3])
    plot_each(files[:2], scratch)
    seconds = {
        "heartbeat, two workers, shards written": ours_s,
        "bound: reading, resampling, bare FFT, two workers": bound_s,
        "librosa.load, melspectrogram, power_to_db, one core": seconds_of(plain_loop, files) / len(files),
        "tutorial: a matplotlib plot per file": seconds_of(plot_each, files[:TUTORIAL_FILES], scratch) / TUTORIAL_FILES,
    }
    try:
        lhotse_way(files[:40], scratch / "warm")
        seconds["lhotse, two jobs, librosa features"] = seconds_of(lhotse_way, files, scratch / "lhotse") / len(files)
    except ImportError:
        seconds["lhotse, two jobs (not installed: see above)"] = float("nan")
    rows: list[Row] = [
        {"way": w, "ms a recording": f"{1e3 * s:.2f}", "times ours": f"{s / ours_s:.2f}"} for w, s in seconds.items()
    ]
    return [*rows, {"way": f"workers' start: {start_s:.1f} s once", "ms a recording": "", "times ours": ""}]


def without_prefect(recordings: Any, splits: Any, store: Any) -> None:
    """The same functions as in the stage in as many threads: find intact shards, render the others, write the table."""
    from heartdata.storage.schemas import SPLITS
    from tasks.measure import file_shards
    from tasks.spectrograms import find_spectrograms, gather_spectrograms, spectrogram_shard

    shards = file_shards(recordings, store, set(store.read_table(splits, SPLITS).column("sha256").to_pylist()))
    assert not any(find_spectrograms.fn(shards, CONFIG, store))
    rendered = on_two_cores(lambda shard: spectrogram_shard.fn(shard, CONFIG, store), shards)
    gather_spectrograms.fn(rendered, rendered, 1.0, store)


def scale(counts: list[int], scratch: Path) -> list[Row]:
    """The stage as a flow on a running server, and the same work without Prefect."""
    import resource

    from prefect import flow
    from prefect.testing.utilities import prefect_test_harness

    from heartdata.config import EngineConfig
    from heartdata.storage.schemas import RECORDINGS, SPLITS
    from tasks.engine.workers import Workers
    from tasks.spectrograms import spectrograms

    def tables(files: list[Path], store: Store) -> tuple[Any, Any]:
        rows = [{"recording_id": f.name, "uri": str(f), "sha256": sha256_file(f)} for f in files]
        splits = [{"recording_id": row["recording_id"], "sha256": row["sha256"]} for row in rows]
        return (
            store.write_table("recordings", table_from_rows(rows, RECORDINGS), RECORDINGS),
            store.write_table("splits", table_from_rows(splits, SPLITS), SPLITS),
        )

    @flow(validate_parameters=False)
    def stage_s(recordings: Any, splits: Any, store: Any) -> float:
        return seconds_of(spectrograms, recordings, [splits], CONFIG, EngineConfig(workers=JOBS), store)

    rows: list[Row] = []
    with prefect_test_harness(server_startup_timeout=120):
        warm_up = Store(scratch / "warm-up").open()
        stage_s(*tables(noise_recordings(scratch / "few", range(600)), warm_up), warm_up)
        for count in counts:
            files = noise_recordings(scratch / str(count), range(count))
            for name in ("warm", "direct"):
                store = Store(scratch / name).open()
                with Workers():
                    direct_s = seconds_of(without_prefect, *tables(files, store), store)
                shutil.rmtree(scratch / name)
            store = Store(scratch / f"flow{count}").open()
            flow_s = stage_s(*tables(files, store), store)
            rows.append({
                "recordings": count, "tasks": shard_count(count), "without Prefect s": f"{direct_s:.1f}",
                "stage s": f"{flow_s:.1f}", "Prefect's share": f"{flow_s / direct_s - 1:+.0%}",
                "recordings a second": f"{count / flow_s:.0f}",
                "parent's peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            })  # fmt: skip
            for folder in (str(count), f"flow{count}"):
                shutil.rmtree(scratch / folder)
    return rows


def nightly(counts: list[int], scratch: Path) -> list[Row]:
    """The whole preparation, near-duplicates included: the first time, with nothing changed, with ten new.

    Beside it the start of Prefect itself: a flow that does nothing, on the same server. As in `heartbeat run` with a
    temporary server, flows have no heartbeat, whose thread ends at whole seconds only.
    """
    import resource

    from prefect import flow
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    from flows.pipeline import prepare
    from heartdata.config_file import build_config

    rows: list[Row] = []
    no_heartbeat = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with prefect_test_harness(server_startup_timeout=120), no_heartbeat:
        nothing = flow(lambda: None, name="nothing")
        nothing()
        for count in counts:
            data = scratch / f"data{count}"
            noise_recordings(data, range(count))
            changes = {
                "store": str(scratch / f"out{count}"),
                "validation.max_quarantined_fraction": 1.0,
                "engine.workers": JOBS,
            }
            config = build_config("table", str(data), changes=changes)
            start_s = min(seconds_of(nothing) for _ in range(3))
            seconds = {"first": seconds_of(prepare, config), "nothing changed": seconds_of(prepare, config)}
            noise_recordings(data, range(count, count + 10))
            seconds["ten new"] = seconds_of(prepare, config)
            first_s = seconds["first"] - start_s
            rows += [
                {"recordings": count, "what": what, "seconds": f"{s:.1f}", "beyond Prefect's own start": f"{s - start_s:.1f}",
                 "share of the first": f"{(s - start_s) / first_s:.1%}",
                 "parent's peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
                for what, s in seconds.items()
            ]  # fmt: skip
            shutil.rmtree(data)
            shutil.rmtree(scratch / f"out{count}")
        rows.append(
            {"recordings": 0, "what": "Prefect's own start: a flow that does nothing", "seconds": f"{start_s:.1f}"}
        )
    return [{**dict.fromkeys(rows[0], ""), **row} for row in rows]


def storage(files: list[Path]) -> list[Row]:
    """What each number format costs in bytes and in decibels."""
    from heartdata.audio.decode import resample
    from heartdata.audio.spectrograms import mel_power_db

    config = SpectrogramConfig(normalise="none")
    errors: dict[str, list[float]] = {}
    deviations = []
    for file in files[:200]:
        sound, rate_hz = soundfile.read(file, dtype="float32")
        exact = mel_power_db(resample(sound, rate_hz, config.rate_hz), config)
        deviation = exact.std(axis=0)
        deviations.append(deviation.mean())
        normal = (exact - exact.mean(axis=0)) / np.maximum(deviation, 1e-3)
        low, high = normal.min(), normal.max()
        stored = {
            "float32": normal, "float16": normal.astype(np.float16).astype(np.float32),
            "uint8": np.rint((normal - low) / (high - low) * 255) / 255 * (high - low) + low,
        }  # fmt: skip
        for name, values in stored.items():
            errors.setdefault(name, []).append(np.abs((values - normal) * deviation).max())
    return [
        {"format": name, "bytes a value": np.dtype(name).itemsize, "largest error dB, median file": f"{np.median(e):.4f}",
         "worst file": f"{max(e):.4f}", "a band's deviation dB": f"{np.mean(deviations):.1f}"} for name, e in errors.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ways", "scale", "nightly", "storage"])
    parser.add_argument("--data", type=Path, default=None, help="a folder of .wav files; else noise")
    parser.add_argument("--recordings", type=int, nargs="+", default=[10_000])
    args = parser.parse_args()
    from rich.console import Console
    from rich.table import Table

    with tempfile.TemporaryDirectory(prefix="heartbeat-") as folder:
        scratch = Path(folder)
        if args.what in ("scale", "nightly"):
            rows = (scale if args.what == "scale" else nightly)(args.recordings, scratch)
        else:
            files = sorted(args.data.rglob("*.wav")) if args.data else noise_recordings(scratch / "noise", range(600))
            rows = ways(files, scratch) if args.what == "ways" else storage(files)
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
