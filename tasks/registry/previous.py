"""What the version registered before was tested on: whether its scores compare with those of now."""

from heartdata.config import RegistryConfig
from heartdata.dataset.splits import subjects_that_changed_part
from heartdata.errors import StoreError
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Artifact, Store
from tasks.registry.client import connect


def note_if_test_set_changed(manifest: Artifact, registry: RegistryConfig, version: int, store: Store) -> str:
    """A note where subjects changed sides since the version before ``version``; empty where none did, or none knows."""
    from mlflow.exceptions import MlflowException

    try:
        before = connect(registry, store).get_model_version(registry.model_name, str(version - 1))
        digest = before.tags["dataset_version"]
        earlier = store.read_frame(Artifact(name=f"manifest/{digest[:20]}.parquet", digest=digest, rows=0), MANIFEST)
    except (MlflowException, KeyError, OSError, StoreError):
        return ""
    entered, left = subjects_that_changed_part(earlier, store.read_frame(manifest, MANIFEST))
    if not entered and not left:
        return ""
    return (
        f"Scores do not compare with those of version {version - 1}: {entered} of the held-out subjects were not held out "
        f"then, {left} that were are not now; split.strategy=hash keeps them apart for good"
    )
