"""MLflow's database in a store."""

from pathlib import Path

from heartdata.storage.locks import exclusive
from tasks.registry.locations import FOLDER


def make_database(path: Path) -> None:
    """Make the database unless it is there: under another name, as MLflow makes its tables one by one.

    Two first runs at once would both make them, and a killed one would leave some.
    """
    if path.is_file():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with exclusive(path.with_name(f"{path.name}.lock")):
        if path.is_file():  # made while we waited
            return
        unfinished = path.with_name(f"{path.name}.tmp")
        for left in path.parent.glob(f"{unfinished.name}*"):  # by a process that was killed
            left.unlink()
        SqlAlchemyStore(f"sqlite:///{unfinished}", path.with_name(FOLDER).as_uri()).engine.dispose()
        unfinished.replace(path)
