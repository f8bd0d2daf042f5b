"""The deployments that prefect.yaml defines, as `heartbeat up` serves them."""

from pathlib import Path
from typing import Any

from heartdata.config import RunConfig
from heartdata.config_file import parse_yaml
from heartdata.errors import ConfigError

PROJECT = Path(__file__).parents[1]


def _definition(flow: str) -> dict[str, Any]:
    """The deployment of ``flow`` that prefect.yaml defines. Raises `ConfigError`."""
    try:
        project = parse_yaml((PROJECT / "prefect.yaml").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"prefect.yaml cannot be read: {error}") from error
    (deployment,) = (each for each in project["deployments"] if each["entrypoint"].endswith(f":{flow}"))
    return deployment


def nightly_settings() -> dict[str, Any]:
    """The nightly run's settings in prefect.yaml. Raises `ConfigError`."""
    settings = (_definition("heartbeat").get("parameters") or {}).get("config") or {}
    if not isinstance(settings, dict):
        raise ConfigError("parameters.config in prefect.yaml must be a mapping, such as {training: {epochs: 3}}")
    return settings


def nightly_deployment(config: RunConfig) -> Any:
    """The deployment that prefect.yaml defines, with ``config`` as its parameter."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.schedules import Cron

    from flows.pipeline import heartbeat

    defined = _definition("heartbeat")
    return heartbeat.to_deployment(
        name=defined["name"],
        description=defined["description"],
        tags=defined["tags"],
        parameters={"config": config.model_dump(mode="json")},
        schedules=[Cron(s["cron"], timezone=s["timezone"], active=s["active"]) for s in defined["schedules"]],
        concurrency_limit=ConcurrencyLimitConfig(**defined["concurrency_limit"]),
    )


def scoring_deployment(config: RunConfig) -> Any:
    """The deployment of the flow `score` that prefect.yaml defines, with the registry and store of ``config``."""
    from flows.score import score

    defined = _definition("score")
    named = config.model_dump(mode="json", include={"registry", "store"})
    return score.to_deployment(
        name=defined["name"],
        description=defined["description"],
        tags=defined["tags"],
        parameters={"config": named},
    )
