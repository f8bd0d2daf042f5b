"""The process of `heartbeat up` that serves the deployments: ``python -m flows.local.runner``, its settings on stdin.

Settings may hold passwords, which `ps` would show as arguments. Its flow runs are processes of its own group, so they end
with it (see `flows.local.guard`).
"""

import os
import shutil
import sys
import tempfile

from heartdata.config import RunConfig
from heartdata.storage.store import Store


def main() -> None:
    """Serve until the process is killed. Expects a running server at PREFECT_API_URL."""
    config = RunConfig.model_validate_json(sys.stdin.read())
    from prefect import serve

    from flows.deployments import served_deployments
    from tasks.engine.failure_notice import SERVED_STORE

    store = Store(config.store)
    os.environ[SERVED_STORE] = store.uri
    # Prefect keeps an empty folder for each start in /tmp/runner_storage, which belongs to the user who was there first
    tempfile.tempdir = str(store.workpath("prefect"))
    shutil.rmtree(store.workpath("prefect/runner_storage"), ignore_errors=True)

    # each deployment has a limit of its own; runs that waited here instead would not be cancelled by the server
    deployments = served_deployments(config)
    serve(*deployments, pause_on_shutdown=False, print_starting_message=False, limit=len(deployments))


if __name__ == "__main__":
    main()
