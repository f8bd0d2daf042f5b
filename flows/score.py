"""The flow `score`: predictions of a registered model for every recording of a folder or table."""

from pathlib import Path

from prefect import flow
from prefect.utilities.annotations import quote

from heartdata.config import RunConfig
from heartdata.serving.formats import check_format
from heartdata.sources.table import UnlabelledSource
from tasks import score as tasks
from tasks.engine.failure_notice import log_errors_once, open_store
from tasks.inventory import inventory
from tasks.results import Scored


@flow(name="score")
def score(config: RunConfig = RunConfig(), *, data: str, out: str, model: str | None = None) -> Scored:
    """Predict the recordings of ``data``, a folder or table, and write them to ``out`` (.csv, .parquet or .json).

    Only contents that the model has not predicted before are computed. Of ``config``, the settings of a table, the
    registry and the store are used.
    """
    log_errors_once()
    check_format(Path(out))
    store = open_store(config.store)
    loaded = tasks.scoring_model(model, config.registry, store)
    recordings = inventory(UnlabelledSource.at(data, config.source), store)
    return tasks.score(recordings, out, quote(loaded), store)
