"""Stage 5: log-mel spectrograms of the recordings that the split uses, in parallel over shards."""

import pyarrow as pa
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict

from heartdata.schemas import SPECTROGRAMS, SPLITS
from heartdata.shards import Shard
from heartdata.spectrograms import VERSION, SpectrogramConfig, render_shard
from heartdata.store import Artifact, Store, table_from_rows
from tasks.fanout import WORKERS, fan_out
from tasks.measure import file_shards
from tasks.stage import stage


class Rendered(BaseModel):
    """One shard: its index rows and its array file."""

    model_config = ConfigDict(frozen=True)

    index: Artifact
    array: Artifact


@stage("spectrogram shard", VERSION, timeout_s=None)
def spectrogram_shard(shard: Shard, config: SpectrogramConfig, store: Store) -> Rendered:
    """Render one shard (schema SPECTROGRAMS, and a ``.npy`` file)."""
    name = f"spectrograms/v{VERSION}-{config.digest()[:12]}/{shard.number:04d}-{shard.digest()[:16]}.npy"
    rows = render_shard(name, shard.recordings, config, store)
    index = store.write_table("spectrograms/index", table_from_rows(rows, SPECTROGRAMS), SPECTROGRAMS)
    return Rendered(index=index, array=Artifact(name=name, digest=rows[0]["shard_sha256"], rows=len(rows)))


@task(name="gather spectrograms", cache_policy=NO_CACHE, retries=2)
def gather_spectrograms(parts: list[Rendered], store: Store) -> Artifact:
    """All shards' index rows as one table."""
    tables = [store.read_table(part.index, SPECTROGRAMS) for part in parts]
    return store.write_table("spectrograms", pa.concat_tables(tables).sort_by("sha256"), SPECTROGRAMS)


@flow(
    name="spectrograms",
    validate_parameters=False,
    task_runner=ThreadPoolTaskRunner(max_workers=WORKERS),
    flow_run_name="spectrograms",
)
def spectrograms(recordings: Artifact, splits: Artifact, config: SpectrogramConfig, store: Store) -> Artifact:
    """The spectrogram index (schema SPECTROGRAMS) of every recording in ``splits``."""
    wanted = set(store.read_table(splits, SPLITS).column("sha256").to_pylist())
    shards = file_shards(recordings, store, wanted)
    parts = fan_out(spectrogram_shard, shards, "spectrograms", config=config, store=store)
    return gather_spectrograms(parts, store)
