"""One Parquet of what training sees; its content digest is the data set version."""

from heartdata.dataset.manifest import build_manifest
from heartdata.storage.schemas import ACCEPTED, MANIFEST, SPECTROGRAMS, SPLITS
from heartdata.storage.store import Artifact, Store
from tasks.engine.progress import track
from tasks.engine.stage import stage


@stage("manifest")
def manifest(accepted: Artifact, splits: Artifact, spectrograms: Artifact, store: Store) -> Artifact:
    """Join the stages' rows to schema MANIFEST; ``counts`` are those of the spectrograms."""
    with track("manifest") as advance:
        table = build_manifest(
            store.read_table(accepted, ACCEPTED),
            store.read_table(splits, SPLITS),
            store.read_table(spectrograms, SPECTROGRAMS),
        )
        artifact = store.write_table("manifest", table, MANIFEST, spectrograms.counts)
        advance(1, 1, f"data set version {artifact.digest[:12]}, {artifact.rows} recordings")
        return artifact
