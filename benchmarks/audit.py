"""Inventory, measure, near-duplicates and validate over as many recordings as CinC 2016: beside the same functions in a plain
loop, and when little or nothing is new; and the checks over a million rows.

    python -m benchmarks.audit [--recordings 3000] [--rows 1000000]

Recordings are synthetic. All in one flow on a running Prefect server, whose flows end at whole seconds.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import soundfile
from prefect import flow
from prefect.testing.utilities import prefect_test_harness

from benchmarks.command import in_turn, peak_memory_mib, run_benchmark, say, seconds_of
from benchmarks.rows import Row, Target, scored, timed
from heartdata.audio.measurements import MeasureConfig, measure_file, sound_reader
from heartdata.audio.synthesis import Heart, synthesize
from heartdata.checks.near_duplicates import near_duplicates
from heartdata.checks.suite import RecordingBounds, ValidationConfig
from heartdata.checks.validation import validate as run_suite
from heartdata.checks.waveforms import confirm
from heartdata.config import EngineConfig, RegistryConfig
from heartdata.dataset.inventory import take_inventory
from heartdata.sources import TableSource
from heartdata.storage.schemas import FACTS, RECORDINGS
from heartdata.storage.store import Store, table_from_rows
from tasks.engine import progress
from tasks.inventory import inventory
from tasks.measure import measure as measure_stage
from tasks.near_duplicates import find_near_duplicates
from tasks.validate import accept, last_accepted, validate

SIZES = {"recordings": (3000, 24), "rows": (1_000_000, 2000), "repeats": (3, 1)}
DURATION_S = 20.0


@flow
def audit(source: TableSource, store: Store) -> int:
    """The stages before training."""
    recordings = inventory(source, store)
    facts = measure_stage(recordings, MeasureConfig(), EngineConfig(), store)
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


def plain_loop(source: TableSource, folder: Path) -> None:
    """The functions that the flow's tasks call, one after the other in this thread."""
    recordings, _ = take_inventory(source, folder)
    files = recordings.select(["uri", "sha256"]).to_pylist()
    facts = table_from_rows([measure_file(row["uri"], row["sha256"], MeasureConfig()) for row in files], FACTS)
    search = near_duplicates(facts.to_pandas(), ValidationConfig().near_duplicate_similarity)
    pairs = confirm(search.pairs, sound_reader(recordings, MeasureConfig()))
    run_suite(recordings, facts, ValidationConfig(), folder / "docs", pairs=pairs)


def of_recordings(count: int, repeats: int) -> Iterator[Row]:
    """The flow for the first time, with nothing changed and with ten new recordings."""
    say("starting Prefect's server")
    with tempfile.TemporaryDirectory() as folder, prefect_test_harness(server_startup_timeout=300):
        root, store = Path(folder) / "recordings", Store(Path(folder) / "out").open()
        root.mkdir()
        write_recordings(root, range(count))
        source = TableSource(data=root / "table.csv")
        time.sleep(2.5)  # files just written are hashed again, as their times may not show a change yet

        def audit_s() -> float:
            progress.begin()
            return seconds_of(audit, source, store)

        present = count

        def ten_new_s() -> float:
            nonlocal present
            write_recordings(root, range(present, present + 10))
            present += 10
            return audit_s()

        few = Path(folder) / "few"
        few.mkdir()
        write_recordings(few, range(20))
        plain_loop(TableSource(data=few / "table.csv"), Path(folder) / "warm-up")  # numba compiles
        say("the first time")
        first_s = audit_s()
        stages = ", ".join(f"{stage} {s:.1f}" for stage, s in progress.seconds().items())
        say("a plain loop over the same functions")
        loop_s = seconds_of(plain_loop, source, Path(folder) / "loop")
        audit_s()  # what was hashed is known from now on
        later_s = in_turn({"nothing": audit_s, "ten": ten_new_s}, repeats)
    what = f"{count:,} recordings of {DURATION_S:g} s"
    yield timed(
        f"{what}, the first time ({stages})", "s", [first_s], "the same functions in a plain loop", [loop_s],
        target=Target(of="heartbeat", most=30),
    )  # fmt: skip
    peer = "the first time, in full"
    yield timed(
        f"{what}, nothing changed", "s", later_s["nothing"], peer, [first_s], target=Target(of="heartbeat", most=3)
    )
    yield timed(f"{what}, ten new", "s", later_s["ten"], peer, [first_s])


def of_rows(count: int) -> Iterator[Row]:
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
        began_s = time.perf_counter()
        result = run_suite(recordings, facts, ValidationConfig(), Path(folder) / "docs")
        ours_s = time.perf_counter() - began_s
    memory_gib = peak_memory_mib() / 1024
    if result.quarantine.num_rows != too_short.sum():
        raise SystemExit(f"{result.quarantine.num_rows} rows were quarantined, {too_short.sum()} are too short")
    peer_s = seconds_of(bare_comparisons, frame)
    what = f"the checks over {count:,} rows, {too_short.sum():,} of them quarantined"
    yield timed(
        f"{what}, with reasons and Data Docs", "s", [ours_s], "five of the bounds as comparisons in pandas", [peer_s],
        target=Target(of="heartbeat", most=60),
    )  # fmt: skip
    table_gib = frame.memory_usage(deep=True).sum() / 2**30
    yield scored(
        f"{what}, memory at most", memory_gib, "the table in pandas", float(table_gib), unit="GiB", lower_is_better=True,
        target=Target(of="heartbeat", most=4),
    )  # fmt: skip


def bare_comparisons(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that fail bounds of the suite, without saying why."""
    bounds = RecordingBounds()
    fails = (
        frame["duration_s"].lt(bounds.min_duration_s)
        | frame["duration_s"].gt(bounds.max_duration_s)
        | frame["clipped_fraction"].gt(bounds.max_clipped_fraction)
        | frame["rate_hz"].lt(bounds.min_rate_hz)
        | frame["sha256"].duplicated()
    )
    return frame[fails]


def measure(recordings: int, rows: int, repeats: int) -> Iterator[Row]:
    say(f"the checks over {rows:,} rows")
    yield from of_rows(rows)  # first, as memory is the highest of the process
    yield from of_recordings(recordings, repeats)


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
