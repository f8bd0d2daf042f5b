"""What is installed: versions, and the revisions of the databases that Prefect and MLflow know."""

import importlib.metadata
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTIONS = ("heartbeat", "prefect", "mlflow", "fastai", "torchvision")


def version(name: str) -> str | None:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def why_not_imported(module: str) -> str:
    """Why a module cannot be imported, tried in a process of its own; empty where it can."""
    tried = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True)
    return (tried.stderr.strip().splitlines() or ["it ended without a word"])[-1] if tried.returncode else ""


def requirements() -> dict[str, list[str]]:
    """What each of DISTRIBUTIONS that is installed requires."""
    return {name: importlib.metadata.requires(name) or [] for name in DISTRIBUTIONS if version(name)}


def mlflow_revisions() -> list[str]:
    """Alembic's revisions of MLflow's database, newest first."""
    return _revisions(_folder("mlflow") / "store/db_migrations")


def prefect_revisions() -> list[str]:
    """Alembic's revisions of Prefect's SQLite database, newest first."""
    migrations = _folder("prefect") / "server/database/_migrations"
    return _revisions(migrations, migrations / "versions/sqlite")


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.origin:
        raise ModuleNotFoundError(f"{package} is not installed")
    return Path(spec.origin).parent


def _revisions(migrations: Path, versions: Path | None = None) -> list[str]:
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory(str(migrations), version_locations=[versions] if versions else None)
    return [script.revision for script in directory.walk_revisions()]
