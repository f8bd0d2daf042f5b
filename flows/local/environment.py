"""Environment variables and logging for Prefect and MLflow, set before either is imported."""

import logging
import os
import warnings
from datetime import UTC, datetime
from pathlib import Path

from heartdata.storage.store import Store

# torch's idle threads wait in a loop, by libgomp's default for milliseconds, which they take from other processes: see
# benchmarks/threads.py
SPIN_COUNT = "10000"


def prepare_environment(store: Store, verbose: bool = False) -> Path:
    """Keep Prefect's files in the local folder of ``store``, and Prefect and MLflow quiet and offline; returns the log file.

    Variables that the user has set stay as they are.
    """
    defaults = {
        "HEARTBEAT_STORE": store.uri,
        "PREFECT_HOME": str(store.root / "prefect"),
        "PREFECT_LOCAL_STORAGE_PATH": str(store.root / "results"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "NOTSET" if verbose else "CRITICAL",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "TQDM_DISABLE": "1",
    }
    if "OMP_WAIT_POLICY" not in os.environ:
        defaults["GOMP_SPINCOUNT"] = SPIN_COUNT
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    (store.root / "prefect").mkdir(exist_ok=True)
    return _log_to_file(store.root / "logs")


def _log_to_file(folder: Path) -> Path:
    """Log every record and warning of this process to a file, to keep the terminal readable."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    warnings.simplefilter("default")
    return path
