"""The flow `prune` says what it freed, and leaves a database that other flows share to its server."""

import os
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from flows.prune import prune
from heartdata.config import RunConfig
from heartdata.storage.store import Store


@pytest.mark.usefixtures("prefect_server")
def test_what_was_freed_is_said_and_published(store: Store, tmp_path: Path):
    with store.writing("splits/old.parquet") as file:
        file.write(bytes(300_000))
    os.utime(store.workpath("splits/old.parquet"), (1e9, 1e9))
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: tmp_path / "results"}):
        said = prune(RunConfig.model_validate({"store": str(store.root)}))
    assert said == "0 versions or runs and 1 files of 0.3 MB removed: the store held 0.3 MB and holds 0.0 MB"
    assert not store.exists("splits/old.parquet")
    with get_client(sync_client=True) as client:
        descriptions = [
            artifact.description
            for artifact in client.read_artifacts(
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["heartbeat-prune"]))
            )
        ]
    assert said in descriptions
