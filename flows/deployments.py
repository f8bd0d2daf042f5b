"""The deployments that prefect.yaml defines, as `heartbeat up` serves them."""

import pkgutil
from pathlib import Path
from typing import Any

from heartdata.config import RunConfig
from heartdata.config_file import parse_yaml
from heartdata.errors import ConfigError
from heartdata.settings import flatten

PROJECT = Path(__file__).parents[1]
NIGHTLY = "flows/pipeline.py:heartbeat"


def _definitions() -> list[dict[str, Any]]:
    """The deployments in prefect.yaml. Raises `ConfigError`."""
    try:
        project = parse_yaml((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"prefect.yaml cannot be read: {error}") from error
    return project["deployments"]


def nightly_settings() -> dict[str, Any]:
    """The nightly run's settings in prefect.yaml. Raises `ConfigError`."""
    (nightly,) = (each for each in _definitions() if each["entrypoint"] == NIGHTLY)
    settings = (nightly.get("parameters") or {}).get("config") or {}
    if not isinstance(settings, dict):
        raise ConfigError("parameters.config in prefect.yaml must be a mapping, such as {training: {epochs: 3}}")
    if "notice" in settings:
        raise ConfigError(
            "parameters.config.notice in prefect.yaml would show the webhook's address to everybody who sees the deployment: "
            "set HEARTBEAT_WEBHOOK_URL instead"
        )
    return settings


def served_deployments(config: RunConfig) -> list[Any]:
    """All deployments in prefect.yaml, with ``config`` in place of the settings there; the nightly one is the first."""
    return [_deployment(each, config) for each in _definitions()]


def _deployment(defined: dict[str, Any], config: RunConfig) -> Any:
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.schedules import Cron

    flow = pkgutil.resolve_name(defined["entrypoint"].replace(".py:", ":").replace("/", "."))
    prunes = flow.name == "prune" and config.retention.nightly
    return flow.to_deployment(
        name=defined["name"],
        description=defined["description"],
        tags=defined["tags"],
        parameters=_parameters(flow.name, config),
        schedules=[
            Cron(s["cron"], timezone=s["timezone"], active=s["active"] or prunes) for s in defined.get("schedules", [])
        ],
        concurrency_limit=ConcurrencyLimitConfig(**defined["concurrency_limit"]),
    )


def _parameters(flow: str, config: RunConfig) -> dict[str, Any]:
    """What is given to each run of ``flow``. A study has its own settings, and `score` those of the model."""
    place = config.model_dump(mode="json", include={"registry", "store"})
    if flow == "study":
        return {"settings": flatten(place)}
    return {"config": place if flow == "score" else config.model_dump(mode="json")}
