"""Whether a changed data set is trained on in this run, or waits for more."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from heartdata.config import RunConfig
from heartdata.dataset.retraining import RetrainConfig, count_new
from heartdata.errors import StoreError
from heartdata.markdown import escape
from heartdata.settings import sha256_json
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Artifact, Store
from tasks.engine.failure_notice import put_notice
from tasks.engine.progress import track
from tasks.engine.stage import uncached_task
from tasks.registry.client import CHALLENGER, RECIPE_TAG, connect, is_empty


def recipe_digest(config: RunConfig) -> str:
    """Digest of the settings that make another model of the same recordings."""
    parts = (config.split, config.spectrogram, config.measure, config.training, config.decision)
    return sha256_json([part.digest() for part in parts])


@dataclass(frozen=True)
class Waiting:
    """Why nothing was trained, and where the page is that says so to people."""

    reason: str
    page: str


@uncached_task("retrain")
def what_waits(manifest: Artifact, config: RunConfig, store: Store) -> Waiting | None:
    """Why this data set is not trained on; None when it is.

    It is when it is that of the challenger, when that was made with other settings or cannot be compared, and when
    enough is new by ``config.retrain``.
    """
    if is_empty(config.registry, store):
        return None
    from mlflow.exceptions import MlflowException

    try:
        last = connect(config.registry, store).get_model_version_by_alias(config.registry.model_name, CHALLENGER)
        digest, recipe = last.tags["dataset_version"], last.tags[RECIPE_TAG]
        earlier = store.read_frame(Artifact(name=f"manifest/{digest[:20]}.parquet", digest=digest, rows=0), MANIFEST)
    except (MlflowException, KeyError, OSError, pa.ArrowException, StoreError):
        return None
    if digest == manifest.digest or recipe != recipe_digest(config):
        return None
    trained = datetime.fromtimestamp(last.creation_timestamp / 1000, UTC)
    age_days = (datetime.now(UTC) - trained).total_seconds() / 86_400
    recordings, subjects = count_new(earlier, store.read_frame(manifest, MANIFEST))
    with track("retrain") as advance:
        enough = is_enough(config.retrain, recordings, subjects, age_days)
        advance(1, 1, f"{recordings} new recordings, {subjects} new subjects" + ("" if enough else ": not yet"))
    if enough:
        return None
    bounds = ", ".join(f"retrain.{name} = {value}" for name, value in config.retrain if value)
    reason = (
        f"Nothing was trained: since {last.name} version {last.version} of {trained:%Y-%m-%d}, {recordings} recordings and "
        f"{subjects} subjects are new and wait ({bounds})"
    )
    title = f"# The last run trained nothing: source {config.source.name}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    notice = f"{title}\n\n> {escape(reason)}\n\n"
    put_notice(notice, store.workpath("latest"))
    if FlowRunContext.get():
        create_markdown_artifact(notice, key="heartbeat-summary", description="What waits for the next training")
    return Waiting(reason, str(store.workpath("latest/summary.md")))


def is_enough(config: RetrainConfig, recordings: int, subjects: int, age_days: float) -> bool:
    """Whether so many new recordings and subjects are trained on, ``age_days`` after the last model."""
    if config.max_age_days is not None and age_days >= config.max_age_days:
        return True
    return recordings >= config.min_new_recordings and subjects >= config.min_new_subjects
