"""What the Prefect server does by itself: mark runs whose process has died as crashed, and tell people by a webhook."""

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flows.deployments import nightly_settings
from heartdata.config import NoticeConfig
from tasks.databases import FLOWS
from tasks.engine import events
from tasks.engine.flow_runs import OWN_ERRORS

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

BLOCK = "heartbeat-notices"  # holds the webhook's address, encrypted
DEPLOYED = "heartbeat.deployed"
NOTICES = ("heartbeat: run failed or data refused", "heartbeat: champion changed", "heartbeat: no run for two nights")

Labels = dict[str, str | list[str]]
OF_A_RUN: Labels = {"prefect.resource.id": "prefect.flow-run.*"}
OF_A_DEPLOYMENT: Labels = {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.heartbeat"}
NIGHTLY: list[Any] = [
    {"prefect.resource.role": "flow", "prefect.resource.name": "heartbeat"},
    {"prefect.resource.role": "deployment", "prefect.resource.name": "full-pipeline"},
]
# Three times the 180 s between two heartbeats of a run, Prefect's default, and a minute for a server that starts again
SILENCE = timedelta(minutes=10)
NO_RUN = timedelta(hours=50)  # two nights, and time for the second run to finish
REASON_LENGTH = 1000

# Each notice sets `kind`, `run` and `reason` first. Slack and its likes show `text`, in which & < > are escaped.
PAYLOAD = (
    "{% set reason = reason|default('', true)|truncate(" + str(REASON_LENGTH) + ") %}"
    "{% set link = flow_run|ui_url %}"
    "{% set text = 'heartbeat: ' ~ kind ~ (' (' ~ run ~ ')' if run else '') ~ ': ' ~ reason %}"
    "{% set text = text|replace('&', '&amp;')|replace('<', '&lt;')|replace('>', '&gt;') %}"
    '{"text": {{ (text ~ (" " ~ link if link else ""))|tojson }}, "event": {{ kind|tojson }}, '
    '"flow_run": {{ run|default(none)|tojson }}, "reason": {{ reason|tojson }}, "link": {{ link|tojson }}}'
)
# A refusal is a failure to Prefect: one event, so one notice
ENDED = (
    "{% set run = event.resource['prefect.resource.name'] %}"
    "{% set reason = event.resource['prefect.state-message']"
    "|replace('Flow run encountered an exception: ', '') %}"
    "{% set refused = reason.startswith('DataRefused: ') %}"
    "{% set reason = reason" + "".join(f".removeprefix('{name}: ')" for name in OWN_ERRORS) + " %}"
    "{% set kind = 'data refused' if refused else 'run ' ~ event.resource['prefect.state-type']|lower %}"
)
CHANGED = (
    "{% set kind = 'champion changed' %}{% set run = flow_run.name %}{% set move = event.payload %}"
    "{% set reason = move.model ~ ' version ' ~ move.after ~ ' in place of ' ~ (move.before or 'none') ~ ', by ' ~ move.by ~ ': ' "
    "~ move.reason %}"
)
MISSING = (
    "{% set kind = 'no run' %}{% set run = flow_run.name %}"
    "{% set reason = 'heartbeat/full-pipeline has not completed a run since ' ~ event.occurred.strftime('%Y-%m-%d %H:%M UTC') %}"
)


def install(notice: NoticeConfig) -> str:
    """Create or update heartbeat's automations on the Prefect server; without an address, remove those that send notices, and
    the block that holds the last address.

    Returns a sentence for people.
    """
    from prefect.blocks.webhook import Webhook
    from prefect.client.orchestration import get_client
    from prefect.events import emit_event
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        _put(crash_zombies(), client)
        if notice.webhook_url is None:
            for name in NOTICES:
                _remove(name, client)
            with suppress(ObjectNotFound):
                webhook_id = client.read_block_document_by_name(BLOCK, "webhook").id
                client.delete_block_document(webhook_id)
            return "no notices are sent, since HEARTBEAT_WEBHOOK_URL is not set"
        values = {"url": notice.webhook_url, "headers": {"Content-Type": "application/json"}}
        webhook: Any = Webhook.model_validate(values)
        for automation in notices(webhook.save(BLOCK, overwrite=True, _sync=True)):
            _put(automation, client)
    related = [{"prefect.resource.id": DEPLOYED, **labels} for labels in NIGHTLY]
    emit_event(DEPLOYED, {"prefect.resource.id": DEPLOYED}, related=related)
    return "notices are sent to the webhook"


def deploy() -> None:
    """`install` as a step of `prefect deploy`, which prefect.yaml names."""
    nightly_settings()  # refuses an address there
    print(install(NoticeConfig()))  # noqa: T201


def crash_zombies() -> "AutomationCore":
    """A run without a heartbeat for SILENCE, whose process or machine has died, becomes Crashed and frees its slot."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    message = f"no heartbeat for {SILENCE.total_seconds():.0f} s: its process has died"
    heartbeat, ends = "prefect.flow-run.heartbeat", ("Completed", "Failed", "Cancelled", "Crashed")
    return AutomationCore(
        name="heartbeat: crash zombies",
        description=f"Marks runs as crashed that have sent no {heartbeat} for {SILENCE.total_seconds():.0f} s",
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{state}" for state in ends)},
            match=OF_A_RUN,
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": sorted(FLOWS)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[ChangeFlowRunState.model_validate({"state": StateType.CRASHED, "message": message})],
    )


def notices(block: UUID) -> list["AutomationCore"]:
    """The automations that post to the webhook of ``block``."""
    from prefect.events.actions import CallWebhook
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    ended = EventTrigger(
        expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
        match=OF_A_RUN,
        match_related=OF_A_DEPLOYMENT,
        posture=Posture.Reactive,
    )
    changed = EventTrigger(expect={events.CHAMPION_CHANGED}, posture=Posture.Reactive)
    completed = "prefect.flow-run.Completed"  # each one starts the time anew; a deployment only where none has
    missing = EventTrigger(
        after={completed, DEPLOYED}, expect={completed}, match_related=NIGHTLY, posture=Posture.Proactive, within=NO_RUN
    )
    each = zip(NOTICES, (ended, changed, missing), (ENDED, CHANGED, MISSING), strict=True)
    return [
        AutomationCore(
            name=name, trigger=trigger, actions=[CallWebhook(block_document_id=block, payload=fields + PAYLOAD)]
        )
        for name, trigger, fields in each
    ]


def _put(wanted: "AutomationCore", client: Any) -> None:
    """Make ``wanted`` the only automation of its name. One that is equal is left alone: a new one restarts its clock."""
    compared = {"trigger", "actions"}  # not whether somebody has paused it
    present = client.read_automations_by_name(wanted.name)
    if [each.model_dump(include=compared) for each in present] != [wanted.model_dump(include=compared)]:
        _remove(wanted.name, client)
        client.create_automation(wanted)


def _remove(name: str, client: Any) -> None:
    for automation in client.read_automations_by_name(name):
        client.delete_automation(automation.id)
