"""Events of heartbeat's own, which automations in Prefect react to."""

import os
from typing import Any

CHAMPION_CHANGED = "heartbeat.champion.changed"


def emit(event: str, resource: str, payload: dict[str, Any]) -> None:
    """Send an event to the Prefect server of this flow run, or else to that of PREFECT_API_URL. Never raises.

    Without either, as in a command while nothing is served, there is nobody to send it to: Prefect would start a server.
    """
    from prefect.context import FlowRunContext
    from prefect.events import emit_event

    if FlowRunContext.get() or os.environ.get("PREFECT_API_URL"):
        emit_event(event, {"prefect.resource.id": resource, "prefect.resource.name": resource}, payload=payload)
