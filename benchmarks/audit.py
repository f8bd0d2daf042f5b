"""Seconds of inventory, measure and validate over as many recordings as CinC 2016, and of the suite over a million rows.

    .venv/bin/python benchmarks/audit.py --recordings 3000 --rows 1000000

The first four lines are one flow: the first time, twice with nothing changed, and with ten new recordings. Seconds are of
this machine; their ratios should hold anywhere.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import soundfile
from prefect import flow
from prefect.testing.utilities import prefect_test_harness
from rich.console import Console

from heartdata.audio.measurements import MeasureConfig
from heartdata.audio.synthesis import Heart, synthesize
from heartdata.checks.suite import ValidationConfig
from heartdata.checks.validation import validate as run_suite
from heartdata.config import EngineConfig, RegistryConfig
from heartdata.sources import TableSource
from heartdata.storage.schemas import FACTS, RECORDINGS
from heartdata.storage.store import Store
from tasks.engine import progress
from tasks.inventory import inventory
from tasks.measure import measure
from tasks.near_duplicates import find_near_duplicates
from tasks.validate import accept, last_accepted, validate

DURATION_S = 20.0


@flow
def audit(source: TableSource, store: Store) -> int:
    """The stages before training."""
    recordings = inventory(source, store)
    facts = measure(recordings, MeasureConfig(), EngineConfig(), store)
    before = last_accepted(source, recordings, facts, ValidationConfig(), None, RegistryConfig(), store)
    similarity = ValidationConfig().near_duplicate_similarity
    pairs = find_near_duplicates(recordings, facts, similarity, MeasureConfig(), store)
    checked = validate(recordings, facts, pairs, ValidationConfig(), None, before, store)
    return accept(checked, recordings, source, None, store).rows


def write_recordings(folder: Path, numbers: range) -> None:
    """Synthetic heart sounds of 20 s at 2 kHz, 16 bit, each of another heart; and the table of all in ``folder``."""
    for number in numbers:
        rng = np.random.default_rng([1, number])
        sound = synthesize(Heart.draw("normal", rng), DURATION_S, 0, rng).samples[::2]
        soundfile.write(folder / f"{number:06d}.wav", sound, 2000, subtype="PCM_16")
    names = sorted(p.name for p in folder.glob("*.wav"))
    labels = ["normal" if i % 4 else "abnormal" for i in range(len(names))]
    pd.DataFrame({"path": names, "label": labels, "subject": names}).to_csv(folder / "table.csv", index=False)


def time_stages(recordings: int) -> list[tuple[str, float]]:
    """What was run, and its seconds."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, prefect_test_harness():
        root, store = Path(folder) / "recordings", Store(Path(folder) / "out").open()
        root.mkdir()
        write_recordings(root, range(recordings))
        source = TableSource(data=root / "table.csv")
        time.sleep(2.5)  # files just written are hashed again, as their times may not show a change yet
        for run in ("first time", "nothing changed", "nothing changed, again", "ten new"):
            if run == "ten new":
                write_recordings(root, range(recordings, recordings + 10))
            progress.begin()
            begin = time.perf_counter()
            audit(source, store)
            seconds = time.perf_counter() - begin
            stages = ", ".join(f"{stage} {s:.1f}" for stage, s in progress.seconds().items())
            rows.append((f"{recordings} recordings, {run} ({stages})", seconds))
    return rows


def time_suite(count: int) -> tuple[str, float]:
    """The suite over ``count`` rows without audio, of which one in a hundred has a fault."""
    rng, number = np.random.default_rng(0), np.arange(count)
    ids = number.astype(str)
    too_short = rng.random(count) < 0.01
    frame = pd.DataFrame({
        "recording_id": ids, "sha256": ids, "samples_sha256": ids, "size_bytes": 80_044, "source": "synthetic",
        "collection": "synthetic", "extra": "{}", "subject": (number // 4).astype(str),
        "label": np.where(number % 4, "normal", "abnormal"), "format": "WAV/PCM_16", "rate_hz": 2000, "channels": 1,
        "frames": 40_000, "duration_s": np.where(too_short, 0.5, 20.0), "missing_fraction": 0.0, "peak": 0.5,
        "rms": rng.uniform(0.01, 0.1, count), "dc_offset": 0.0, "clipped_fraction": 0.0, "silent_fraction": 0.0,
        "finite": True, "periodicity": rng.uniform(0.1, 1, count),
    })  # fmt: skip
    recordings, facts = (
        pa.Table.from_pandas(frame.reindex(columns=schema.names), schema=schema, preserve_index=False)
        for schema in (RECORDINGS, FACTS)
    )
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        result = run_suite(recordings, facts, ValidationConfig(), Path(folder) / "docs")
        seconds = time.perf_counter() - begin
    if result.quarantine.num_rows != too_short.sum():
        raise SystemExit(f"{result.quarantine.num_rows} rows were quarantined, {too_short.sum()} are too short")
    return f"suite over {count} rows, {too_short.sum()} quarantined", seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    chosen = parser.parse_args()
    rows = time_stages(chosen.recordings) if chosen.recordings else []
    rows += [time_suite(chosen.rows)] if chosen.rows else []
    console = Console(highlight=False)
    for run, seconds in rows:
        console.print(f"{seconds:7.1f} s  {run}")
    console.print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:7.1f} GiB at most")


if __name__ == "__main__":
    main()
