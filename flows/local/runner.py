"""The process of `heartbeat up` that serves the deployments: ``python -m flows.local.runner``, its settings on stdin.

Settings may hold passwords, which `ps` would show as arguments. Its flow runs are processes of its own group, so they end
with it (see `flows.local.guard`).
"""

import os
import sys

from heartdata.config import RunConfig
from heartdata.storage.store import Store


def main() -> None:
    """Serve until the process is killed. Expects a running server at PREFECT_API_URL."""
    config = RunConfig.model_validate_json(sys.stdin.read())
    from prefect import serve

    from flows.deployments import served_deployments
    from tasks.engine.failure_notice import SERVED_STORE

    os.environ[SERVED_STORE] = Store(config.store).uri

    # each deployment has a limit of its own; runs that waited here instead would not be cancelled by the server
    deployments = served_deployments(config)
    serve(*deployments, pause_on_shutdown=False, print_starting_message=False, limit=len(deployments))


if __name__ == "__main__":
    main()
