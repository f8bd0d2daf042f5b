"""What earlier versions of a model were trained and tested on."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from heartdata.config import RegistryConfig
from heartdata.dataset.provenance import upgrade_schema
from heartdata.dataset.splits import subjects_that_changed_part
from heartdata.errors import StoreError
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Artifact, Store, read_parquet
from tasks.registry.client import CHAMPION, connect, is_empty

ACCEPTED_TAG, SERIES_TAG = "heartbeat.accepted", "heartbeat.series"  # the accepted recordings, and their record's name

PROVENANCE_FOLDER = "provenance"  # of a run in MLflow
PROVENANCE_FOLDERS = (PROVENANCE_FOLDER, "heard")  # registered versions have one of these


def recordings_trained_on(run_id: str | None) -> pa.Table | None:
    """What a registered version was trained on (schema TRAINED_ON), if its run says so."""
    import mlflow

    folders = PROVENANCE_FOLDERS if run_id else ()
    tables = [file for name in folders for file in mlflow.artifacts.list_artifacts(run_id=run_id, artifact_path=name)]
    if not tables:
        return None
    with TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=tables[0].path, dst_path=folder)
        return upgrade_schema(read_parquet(Path(path)))


def accepted_for_champion(config: RegistryConfig, series: str, store: Store) -> Artifact | None:
    """The accepted recordings from which the champion was trained, if it is of the same ``series``.

    None as well when the registry cannot be reached: registration reports that.
    """
    if is_empty(config, store):
        return None
    from mlflow.exceptions import MlflowException

    try:
        tags = connect(config, store).get_model_version_by_alias(config.model_name, CHAMPION).tags
    except MlflowException:
        return None
    return Artifact.model_validate_json(tags[ACCEPTED_TAG]) if tags.get(SERIES_TAG) == series else None


def note_if_test_set_changed(manifest: Artifact, registry: RegistryConfig, version: int, store: Store) -> str:
    """A note if the version before ``version`` was tested on other subjects; empty if not, or if it is not known."""
    from mlflow.exceptions import MlflowException

    try:
        previous = connect(registry, store).get_model_version(registry.model_name, str(version - 1))
        digest = previous.tags["dataset_version"]
        earlier = store.read_frame(Artifact(name=f"manifest/{digest[:20]}.parquet", digest=digest, rows=0), MANIFEST)
    except (MlflowException, KeyError, OSError, StoreError):
        return ""
    entered, left = subjects_that_changed_part(earlier, store.read_frame(manifest, MANIFEST))
    if not entered and not left:
        return ""
    return (
        f"Scores do not compare with those of version {version - 1}: {entered} of the held-out subjects were not held out "
        f"then, and {left} that were are not now; split.strategy=hash keeps the test part the same"
    )
