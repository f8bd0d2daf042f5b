"""Seconds of inventory, measure and validate over recordings of CinC 2016's size, and of the suite over made rows.

    .venv/bin/python benchmarks/audit.py --recordings 3000 --rows 1000000

The first three lines are one flow on a running Prefect server: the first time, with nothing changed, and with ten new
recordings. Seconds are of this machine; the ratio of the last to the first two is what should hold anywhere.
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
from heartdata.storage.store import Store, conform
from tasks.engine import progress
from tasks.inventory import inventory
from tasks.measure import measure
from tasks.validate import accept, last_accepted, validate

DURATION_S = 20.0


@flow
def audit(source: TableSource, store: Store) -> int:
    """The stages before training."""
    recordings = inventory(source, store)
    facts = measure(recordings, MeasureConfig(), EngineConfig(), store)
    before = last_accepted(source, recordings, facts, ValidationConfig(), None, RegistryConfig(), store)
    checked = validate(recordings, facts, ValidationConfig(), None, before, store)
    return accept(checked, recordings, source, None, store).rows


def make_recordings(folder: Path, numbers: range) -> None:
    """Heart sounds of 20 s at 2 kHz, 16 bit, each of a heart of its own."""
    for number in numbers:
        rng = np.random.default_rng([1, number])
        sound = synthesize(Heart.draw("normal", rng), DURATION_S, 0, rng).samples[::2]
        soundfile.write(folder / f"{number:06d}.wav", sound, 2000, subtype="PCM_16")
    names = sorted(p.name for p in folder.glob("*.wav"))
    labels = ["normal" if i % 4 else "abnormal" for i in range(len(names))]
    pd.DataFrame({"path": names, "label": labels, "subject": names}).to_csv(folder / "table.csv", index=False)


def of_the_stages(recordings: int) -> list[tuple[str, float]]:
    """What was done, and its seconds."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, prefect_test_harness():
        root, store = Path(folder) / "recordings", Store(Path(folder) / "out").open()
        root.mkdir()
        make_recordings(root, range(recordings))
        source = TableSource(data=root / "table.csv")
        time.sleep(2.5)  # files just written are not believed unchanged
        for what in ("first time", "nothing changed", "nothing changed, again", "ten new"):
            if what == "ten new":
                make_recordings(root, range(recordings, recordings + 10))
            progress.begin()
            begin = time.perf_counter()
            audit(source, store)
            seconds = time.perf_counter() - begin
            stages = ", ".join(f"{stage} {s:.1f}" for stage, s in progress.seconds().items())
            rows.append((f"{recordings} recordings, {what} ({stages})", seconds))
    return rows


def of_the_suite(count: int) -> list[tuple[str, float]]:
    """The suite over ``count`` made metadata rows, one in a hundred with a fault."""
    rng = np.random.default_rng(0)
    ids = np.arange(count).astype(str)
    columns = {
        "recording_id": ids, "sha256": ids, "size_bytes": 80_044, "source": "made", "collection": "made", "extra": "{}",
        "subject": (np.arange(count) // 4).astype(str), "label": np.where(np.arange(count) % 4, "normal", "abnormal"),
    }  # fmt: skip
    facts = {
        "sha256": ids, "samples_sha256": ids, "format": "WAV/PCM_16", "rate_hz": 2000, "channels": 1, "frames": 40_000,
        "duration_s": np.where(rng.random(count) < 0.01, 0.5, 20.0), "missing_fraction": 0.0, "peak": 0.5,
        "rms": rng.uniform(0.01, 0.1, count), "dc_offset": 0.0, "clipped_fraction": 0.0, "silent_fraction": 0.0,
        "finite": True, "periodicity": rng.uniform(0.1, 1, count),
    }  # fmt: skip
    tables = []
    for values, schema in ((columns, RECORDINGS), (facts, FACTS)):
        frame = pd.DataFrame(values).reindex(columns=schema.names)
        tables.append(conform(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), schema, "made"))
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        result = run_suite(*tables, ValidationConfig(), Path(folder) / "docs")
        taken_s = time.perf_counter() - begin
    faulty = int((facts["duration_s"] < 1).sum())
    if result.quarantine.num_rows != faulty:
        raise SystemExit(f"{result.quarantine.num_rows} rows were quarantined, {faulty} are faulty")
    return [(f"suite over {count} rows, {faulty} quarantined", taken_s)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    chosen = parser.parse_args()
    rows = of_the_stages(chosen.recordings) if chosen.recordings else []
    rows += of_the_suite(chosen.rows) if chosen.rows else []
    console = Console()
    for what, seconds in rows:
        console.print(f"{seconds:7.1f} s  {what}", highlight=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"{peak:7.1f} GiB at most", highlight=False)


if __name__ == "__main__":
    main()
