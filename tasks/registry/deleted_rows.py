"""What MLflow's database keeps of removed versions, marked as deleted; removed as `mlflow gc` does, but only what is ours."""

from typing import Any

from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.registry.client import KEY_TAG, connect, is_empty
from tasks.registry.pruning import PRUNED_TAG


def remove_deleted_rows(config: RegistryConfig, store: Store) -> bool:
    """Remove the rows of the runs, models and versions that pruning has deleted; False where only MLflow's server can.

    Where it is interrupted, the next call removes the rest. Raises `MlflowException`.
    """
    if is_empty(config, store):
        return True
    connect(config, store)
    from mlflow.entities import ViewType
    from mlflow.tracking._tracking_service.utils import _get_store

    tracking = _get_store()
    if not hasattr(tracking, "ManagedSessionMaker"):  # a server, or a store of the user's
        return False
    experiments = [each.experiment_id for each in tracking.search_experiments(view_type=ViewType.ALL)]
    while runs := tracking.search_runs(experiments, f"tags.`{PRUNED_TAG}` = 'yes'", ViewType.DELETED_ONLY):
        for run in runs:
            _remove_run(tracking, run.info.run_id)
    _remove_tags_of_versions(tracking)
    return True


def _remove_run(tracking: Any, run_id: str) -> None:
    """Remove a run with its models, its links to models and data sets, and the data sets that it alone names."""
    from mlflow.store.tracking.dbmodels.models import SqlDataset, SqlInput, SqlInputTag, SqlLoggedModel
    from sqlalchemy import or_

    with tracking.ManagedSessionMaker(read_only=False) as session:
        for model in session.query(SqlLoggedModel).filter(SqlLoggedModel.source_run_id == run_id):
            session.delete(model)
        links = (
            session.query(SqlInput).filter(or_(SqlInput.source_id == run_id, SqlInput.destination_id == run_id)).all()
        )
        data_sets = [link.source_id for link in links if link.source_type == "DATASET"]
        names = [link.input_uuid for link in links]
        for table in (SqlInputTag, SqlInput):
            session.query(table).filter(table.input_uuid.in_(names)).delete(synchronize_session=False)
        named = session.query(SqlInput.source_id).filter(SqlInput.source_type == "DATASET")
        unnamed = session.query(SqlDataset).filter(
            SqlDataset.dataset_uuid.in_(data_sets), SqlDataset.dataset_uuid.not_in(named)
        )
        unnamed.delete(synchronize_session=False)
    tracking._hard_delete_run(run_id)


def _remove_tags_of_versions(tracking: Any) -> None:
    """Remove the tags of our deleted versions; their rows stay, or their numbers would be given again."""
    from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlModelVersionTag

    with tracking.ManagedSessionMaker(read_only=False) as session:
        deleted = session.query(SqlModelVersion.name, SqlModelVersion.version).filter(
            SqlModelVersion.current_stage == STAGE_DELETED_INTERNAL
        )
        for name, version in deleted.all():
            tags = session.query(SqlModelVersionTag).filter_by(name=name, version=version)
            if tags.filter_by(key=KEY_TAG).first():
                tags.delete(synchronize_session=False)
