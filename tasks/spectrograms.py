"""Log-mel spectrograms of the recordings that the split uses, in parallel over shards."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pyarrow as pa
from prefect.utilities.annotations import quote

from heartdata.audio.channels import DEFAULT, Channel
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.config import EngineConfig
from heartdata.dataset.spectrogram_shards import RenderedShard, count_missing, index_name, load_if_intact, render_shard
from heartdata.storage.schemas import SPECTROGRAMS, SPLITS
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store, content_digest
from tasks.engine.fan_out import compute, fan_out
from tasks.engine.stage import stage, uncached_task
from tasks.measure import file_shards
from tasks.results import SpectrogramShard


@stage("spectrogram shard", timeout_s=None)
def spectrogram_shard(
    shard: Shard, config: SpectrogramConfig, store: Store, channel: Channel = DEFAULT
) -> SpectrogramShard:
    """Render one shard (schema SPECTROGRAMS, and a ``.npy`` file)."""
    return _result(compute(count_missing(shard, config, store, channel), render_shard, shard, config, store, channel))


def _result(shard: RenderedShard) -> SpectrogramShard:
    rows, sha256 = shard.index.num_rows, shard.index["shard_sha256"][0].as_py()
    return SpectrogramShard(
        index=Artifact(name=index_name(shard.name), digest=content_digest(shard.index), rows=rows),
        array=Artifact(name=shard.name, digest=sha256, rows=rows),
        rendered=shard.rendered,
        audio_s=shard.audio_s,
    )


@uncached_task("find spectrograms")
def find_spectrograms(
    shards: Sequence[Shard], config: SpectrogramConfig, store: Store, channel: Channel = DEFAULT
) -> list[SpectrogramShard | None]:
    """The shards that the store has already, by their checksums; None for those to render."""
    with ThreadPoolExecutor() as pool:
        existing = pool.map(lambda shard: load_if_intact(shard, config, store, channel), shards)
        return [None if shard is None else _result(shard) for shard in existing]


@uncached_task("gather spectrograms")
def gather_spectrograms(
    shards: Sequence[SpectrogramShard], fresh: Sequence[SpectrogramShard], seconds: float, store: Store
) -> Artifact:
    """All shards' index rows as one table; ``counts`` says how fast the fresh ones were rendered."""
    tables = [store.read_table(shard.index, SPECTROGRAMS) for shard in shards]
    audio_s = sum(shard.audio_s for shard in fresh)
    counts: dict[str, int | float | str] = {"rendered": sum(shard.rendered for shard in fresh), "audio_s": audio_s}
    if audio_s:
        counts |= {"seconds": seconds, "audio_s_per_s": audio_s / seconds}
    return store.write_table("spectrograms", pa.concat_tables(tables).sort_by("sha256"), SPECTROGRAMS, counts)


def spectrograms(
    recordings: Artifact, splits: Sequence[Artifact], config: SpectrogramConfig, engine: EngineConfig, store: Store,
    channel: Channel = DEFAULT,
) -> Artifact:  # fmt: skip
    """The spectrogram index (schema SPECTROGRAMS) of every recording in one of ``splits``, inside a flow."""
    wanted = {sha256 for one in splits for sha256 in store.read_table(one, SPLITS).column("sha256").to_pylist()}
    shards = file_shards(recordings, store, wanted)
    started_s = monotonic()
    existing = find_spectrograms(quote(shards), config, store, channel)
    rendered = fan_out(
        spectrogram_shard, shards, existing, "spectrograms", engine, config=config, store=store, channel=channel
    )
    return gather_spectrograms(quote(rendered.results), quote(rendered.fresh), monotonic() - started_s, store)
