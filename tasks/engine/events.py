"""Events of heartbeat's own, which automations in Prefect react to."""

import os
from typing import Any

CHAMPION_CHANGED = "heartbeat.champion.changed"


def emit(event: str, resource: str, payload: dict[str, Any]) -> None:
    """Send an event to the Prefect server of PREFECT_API_URL, which every flow run has. Never raises.

    Without one, as in a command while nothing is served, Prefect would start a server.
    """
    if os.environ.get("PREFECT_API_URL"):
        from prefect.events import emit_event

        emit_event(event, {"prefect.resource.id": resource, "prefect.resource.name": resource}, payload=payload)
