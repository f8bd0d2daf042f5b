"""Decode and measure every file once, in parallel over shards."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from prefect.utilities.annotations import quote

from heartdata.audio.measurements import MeasureConfig, are_final, load_if_intact, load_known_facts, measure_recordings
from heartdata.config import EngineConfig
from heartdata.storage.schemas import FACTS, RECORDINGS
from heartdata.storage.shards import Shard, into_shards
from heartdata.storage.store import Artifact, Store
from tasks.engine.fan_out import compute, fan_out
from tasks.engine.stage import files_intact, stage, uncached_task


def _is_final(facts: Artifact, store: Store) -> bool:
    return files_intact(facts, store) and are_final(store.read_table(facts, FACTS))


@stage("measure shard", timeout_s=None, valid=_is_final)
def measure_shard(shard: Shard, config: MeasureConfig, store: Store) -> Artifact:
    """The facts (schema FACTS) of one shard's files; a file that cannot be decoded becomes a row with its error."""
    new = len(shard.recordings) - len(load_known_facts(shard, config, store))
    return compute(new, measure_recordings, shard, config, store)


def file_shards(recordings: Artifact, store: Store, wanted: set[str] | None = None) -> list[Shard]:
    """The recordings' distinct files (those with a sha256 in ``wanted``, or all) in shards."""
    table = store.read_table(recordings, RECORDINGS).select(["sha256", "uri"]).to_pylist()
    pairs = [(row["sha256"], row["uri"]) for row in table if row["sha256"] is not None]
    return into_shards(p for p in pairs if wanted is None or p[0] in wanted)


@uncached_task("find facts")
def find_facts(shards: Sequence[Shard], config: MeasureConfig, store: Store) -> list[Artifact | None]:
    """The facts of each shard that the store has already; None for those to measure."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda shard: load_if_intact(shard, config, store), shards))


@uncached_task("gather facts")
def gather_facts(shards: Sequence[Artifact], store: Store) -> Artifact:
    """All shards' facts as one table."""
    tables = [store.read_table(shard, FACTS) for shard in shards]
    return store.write_table("facts", pa.concat_tables([FACTS.empty_table(), *tables]).sort_by("sha256"), FACTS)


def measure(recordings: Artifact, config: MeasureConfig, engine: EngineConfig, store: Store) -> Artifact:
    """The facts of every distinct file of ``recordings`` (schema FACTS), inside a flow."""
    shards = file_shards(recordings, store)
    existing = find_facts(quote(shards), config, store)
    measured = fan_out(measure_shard, shards, existing, "measure", engine, config=config, store=store)
    return gather_facts(quote(measured.results), store)
