"""What earlier versions of a model were trained and tested on."""

from heartdata.config import RegistryConfig
from heartdata.dataset.splits import subjects_that_changed_part
from heartdata.errors import StoreError
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Artifact, Store
from tasks.registry.client import CHAMPION, connect, is_empty

ACCEPTED_TAG, SERIES_TAG = "heartbeat.accepted", "heartbeat.series"  # the accepted recordings, and their record's name


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
