"""Environment variables and logging for Prefect and MLflow, set before either is imported."""

import atexit
import getpass
import logging
import os
import shutil
import tempfile
import warnings
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from platformdirs import user_cache_path

from flows.local.guard import LOG_BYTES
from flows.local.network import direct_loopback
from heartdata.storage.store import Store

CACHES = {
    "NUMBA_CACHE_DIR": "numba",
    "MPLCONFIGDIR": "matplotlib",
    "TORCH_HOME": "torch",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "HF_HOME": "huggingface",
}
# torch's idle threads wait in a loop, by libgomp's default for milliseconds, which they take from other processes: see
# benchmarks/threads.py
SPIN_COUNT = "3000"


def prepare_environment(store: Store, verbose: bool = False) -> Path:
    """Keep Prefect's files in the local folder of ``store``, and Prefect and MLflow quiet and offline; returns the log file.

    Variables that the user has set stay as they are.
    """
    defaults = {
        "HEARTBEAT_STORE": store.uri,
        "PREFECT_HOME": str(store.root / "prefect"),
        "PREFECT_LOCAL_STORAGE_PATH": str(store.root / "results"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # never a server that nobody started
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",  # in its home
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # of 90 days ago
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "NOTSET" if verbose else "CRITICAL",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_CONFIGURE_LOGGING": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "TQDM_DISABLE": "1",
        "PYTHONSAFEPATH": "1",  # or servers and workers import a signal.py of the current folder as Python's own
    }
    if "OMP_WAIT_POLICY" not in os.environ:
        defaults["GOMP_SPINCOUNT"] = SPIN_COUNT
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    writable_caches(store.root / "caches")
    direct_loopback()
    (store.root / "prefect").mkdir(exist_ok=True)
    return _log_to_file(store.root / "logs")


def writable_caches(folder: Path | None = None) -> None:
    """Let libraries keep their caches below ``folder`` where the user's cache folder cannot be written.

    So it is for a user without a home, as in ``docker run --user``. None: a folder that is removed at exit.
    """
    usual = user_cache_path()
    if not usual.is_absolute() or not _can_write(usual):  # "~/.cache" for a user whom the system does not know
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="heartbeat-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ.setdefault("HOME", str(folder))
        for name, cache in CACHES.items():
            os.environ.setdefault(name, str(folder / cache))
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid-{os.getuid()}"  # what torch and MLflow ask for


def _can_write(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _log_to_file(folder: Path) -> Path:
    """Log every record and warning of this process to a file, to keep the terminal readable."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}.log"
    handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.raiseExceptions = False  # or a log that cannot be sent or written is reported in the terminal, line by line
    logging.captureWarnings(True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    warnings.simplefilter("default")
    return path
