"""The whole preparation as flows on a running Prefect server: Prefect's share, growth, and nights with little or nothing new.

    .venv/bin/python -m benchmarks.preparation [--recordings 10000] [--many 100000]

Recordings are 5 s of noise at 4 kHz. Seconds are beyond Prefect's own start, that is a flow that does nothing. As in
`heartbeat run` with a temporary server, flows have no heartbeat, whose thread ends at whole seconds only.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.command import in_turn, peak_memory_mib, run_benchmark, say, seconds_of
from benchmarks.recordings import noise_recordings
from benchmarks.rows import Row, Target, scored, timed
from benchmarks.spectrograms import CONFIG, JOBS, on_two_cores
from heartdata.storage.shards import shard_count
from heartdata.storage.store import Store, sha256_file, table_from_rows

SIZES = {"recordings": (10_000, 40), "many": (100_000, 80), "repeats": (3, 1)}
SAMPLES = 20_000  # of a recording, two bytes each


def without_prefect(recordings: Any, splits: Any, store: Any) -> None:
    """The same functions as in the stage in as many threads: find intact shards, render the others, write the table."""
    from heartdata.storage.schemas import SPLITS
    from tasks.measure import file_shards
    from tasks.spectrograms import find_spectrograms, gather_spectrograms, spectrogram_shard

    shards = file_shards(recordings, store, set(store.read_table(splits, SPLITS).column("sha256").to_pylist()))
    assert not any(find_spectrograms.fn(shards, CONFIG, store))
    rendered = on_two_cores(lambda shard: spectrogram_shard.fn(shard, CONFIG, store), shards)
    gather_spectrograms.fn(rendered, rendered, 1.0, store)


def share_of_prefect(count: int, repeats: int, scratch: Path) -> Row:
    """The stage as a flow, and the same work without Prefect, in turn; each time in a new store."""
    from prefect import flow

    from heartdata.config import EngineConfig
    from heartdata.storage.schemas import RECORDINGS, SPLITS
    from tasks.engine.workers import Workers
    from tasks.spectrograms import spectrograms

    files = noise_recordings(scratch / "stage", range(count))
    rows = [{"recording_id": f.name, "uri": str(f), "sha256": sha256_file(f)} for f in files]
    stores = (scratch / f"store{n}" for n in range(1_000))

    def opened() -> tuple[Any, Any, Store]:
        store = Store(next(stores)).open()
        splits = [{"recording_id": row["recording_id"], "sha256": row["sha256"]} for row in rows]
        return (
            store.write_table("recordings", table_from_rows(rows, RECORDINGS), RECORDINGS),
            store.write_table("splits", table_from_rows(splits, SPLITS), SPLITS),
            store,
        )

    @flow(validate_parameters=False)
    def stage_s(recordings: Any, splits: Any, store: Any) -> float:
        return seconds_of(spectrograms, recordings, [splits], CONFIG, EngineConfig(workers=JOBS), store)

    def direct_s() -> float:
        with Workers():
            return seconds_of(without_prefect, *opened())

    seconds = in_turn({"as a stage": lambda: stage_s(*opened()), "without Prefect": direct_s}, repeats, warm_ups=1)
    return timed(
        f"spectrograms of {count:,} recordings as a stage of {shard_count(count)} tasks (at most 20 % more)", "s",
        seconds["as a stage"], "the same functions in threads, without Prefect", seconds["without Prefect"],
        target=Target(least=1 / 1.2),
    )  # fmt: skip


def nights(count: int, repeats: int, scratch: Path) -> tuple[float, dict[str, list[float]], float]:
    """Seconds of a first preparation; of later ones, with nothing changed and with ten new; and the peak memory in MiB."""
    from prefect import flow

    from flows.pipeline import prepare
    from heartdata.config_file import build_config

    data, out = scratch / f"data{count}", scratch / f"out{count}"
    noise_recordings(data, range(count))
    changes = {"store": str(out), "validation.max_quarantined_fraction": 1.0, "engine.workers": JOBS}
    config = build_config("table", str(data), changes=changes)
    nothing = flow(lambda: None, name="nothing")
    nothing()
    start_s = min(seconds_of(nothing) for _ in range(3))
    say(f"{count} recordings, the first time")
    first_s = seconds_of(prepare, config) - start_s
    present = count

    def ten_new_s() -> float:
        nonlocal present
        noise_recordings(data, range(present, present + 10))
        present += 10
        return seconds_of(prepare, config) - start_s

    ways = {"nothing changed": lambda: seconds_of(prepare, config) - start_s, "ten new": ten_new_s}
    later_s = in_turn(ways, repeats)
    shutil.rmtree(data)
    shutil.rmtree(out)
    return first_s, later_s, peak_memory_mib()


def later_rows(count: int, first_s: float, later_s: dict[str, list[float]], most_s: float) -> Iterator[Row]:
    peer = "the first time, in full"
    nothing = Target(of="heartbeat", most=most_s)
    yield timed(
        f"{count:,} recordings, nothing changed", "s", later_s["nothing changed"], peer, [first_s], target=nothing
    )
    twentieth = Target(least=20) if count < 100_000 else None
    yield timed(f"{count:,} recordings, ten new", "s", later_s["ten new"], peer, [first_s], target=twentieth)


def measure(recordings: int, many: int, repeats: int) -> Iterator[Row]:
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    say("starting Prefect's server")
    no_heartbeat = temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})
    with (
        tempfile.TemporaryDirectory(prefix="heartbeat-") as folder,
        prefect_test_harness(server_startup_timeout=300),
        no_heartbeat,
    ):
        yield share_of_prefect(recordings, repeats, Path(folder))
        nights(20, 1, Path(folder))  # imports
        few_s, later_s, _ = nights(recordings, repeats, Path(folder))
        yield from later_rows(recordings, few_s, later_s, 5)
        many_s, later_s, memory_mib = nights(many, 1, Path(folder))
        yield from later_rows(many, many_s, later_s, 10)
        times = many / recordings
        yield timed(
            f"{many:,} recordings, the first time (at most 12 times {recordings:,})", "s", [many_s],
            f"{times:g} times the seconds of {recordings:,}", [times * few_s], target=Target(least=10 / 12),
        )  # fmt: skip
        yield scored(
            f"memory of the process, without its workers, for {many:,} recordings, at most", memory_mib,
            "their samples in 16 bits", 2 * SAMPLES * many / 2**20, unit="MiB", lower_is_better=True, target=Target(of="heartbeat", most=3072),
        )  # fmt: skip


if __name__ == "__main__":
    run_benchmark(__doc__, measure, SIZES)
