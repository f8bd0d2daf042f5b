"""Stage 5: log-mel spectrograms of the recordings that the split uses, in parallel over shards."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pyarrow as pa
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.annotations import quote

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.config import EngineConfig
from heartdata.dataset.spectrogram_shards import RenderedShard, count_missing, index_name, load_if_intact, render_shard
from heartdata.storage.schemas import SPECTROGRAMS, SPLITS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store, content_digest
from tasks.engine.fan_out import compute, fan_out, task_runner
from tasks.engine.stage import is_transient, stage
from tasks.measure import file_shards
from tasks.results import Rendered


@stage("spectrogram shard", timeout_s=None)
def spectrogram_shard(shard: Shard, config: SpectrogramConfig, store: Store) -> Rendered:
    """Render one shard (schema SPECTROGRAMS, and a ``.npy`` file)."""
    return _rendered(compute(count_missing(shard, config, store), render_shard, shard, config, store))


def _rendered(made: RenderedShard) -> Rendered:
    rows, sha256 = made.index.num_rows, made.index["shard_sha256"][0].as_py()
    return Rendered(
        index=Artifact(name=index_name(made.name), digest=content_digest(made.index), rows=rows),
        array=Artifact(name=made.name, digest=sha256, rows=rows),
        rendered=made.rendered,
        audio_s=made.audio_s,
    )


@task(name="find spectrograms", cache_policy=NO_CACHE, retries=2, retry_condition_fn=is_transient)
def find_spectrograms(shards: Sequence[Shard], config: SpectrogramConfig, store: Store) -> list[Rendered | None]:
    """What lies whole and undamaged in the store already, a checksum each; None where a shard is to be rendered."""

    def found(shard: Shard) -> Rendered | None:
        there = load_if_intact(shard, config, store)
        return None if there is None else _rendered(there)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(found, shards))


@task(name="gather spectrograms", cache_policy=NO_CACHE, retries=2)
def gather_spectrograms(parts: Sequence[Rendered], fresh: Sequence[Rendered], seconds: float, store: Store) -> Artifact:
    """All shards' index rows as one table; ``counts`` says how fast the fresh ones were made."""
    tables = [store.read_table(part.index, SPECTROGRAMS) for part in parts]
    audio_s = sum(part.audio_s for part in fresh)
    counts: dict[str, int | float | str] = {"rendered": sum(part.rendered for part in fresh), "audio_s": audio_s}
    if audio_s:
        counts |= {"seconds": seconds, "audio_s_per_s": audio_s / seconds}
    return store.write_table("spectrograms", pa.concat_tables(tables).sort_by("sha256"), SPECTROGRAMS, counts)


def spectrograms(
    recordings: Artifact, splits: Sequence[Artifact], config: SpectrogramConfig, engine: EngineConfig, store: Store
) -> Artifact:
    """The spectrogram index (schema SPECTROGRAMS) of every recording in one of ``splits``."""
    return _spectrograms.with_options(task_runner=task_runner(engine))(recordings, splits, config, engine, store)


@flow(name="spectrograms", validate_parameters=False, flow_run_name="spectrograms")
def _spectrograms(
    recordings: Artifact, splits: Sequence[Artifact], config: SpectrogramConfig, engine: EngineConfig, store: Store
) -> Artifact:
    wanted = {sha256 for part in splits for sha256 in store.read_table(part, SPLITS).column("sha256").to_pylist()}
    shards = file_shards(recordings, store, wanted)
    started_s = monotonic()
    there = find_spectrograms(quote(shards), config, store)
    parts = fan_out(spectrogram_shard, shards, there, "spectrograms", engine, config=config, store=store)
    return gather_spectrograms(quote(parts.results), quote(parts.fresh), monotonic() - started_s, store)
