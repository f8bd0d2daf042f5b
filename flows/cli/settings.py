"""`heartbeat settings`: every setting with its value and its meaning."""

import json
from pathlib import Path
from typing import Any

import typer

from heartdata.config import RunConfig
from heartdata.errors import ConfigError
from heartdata.settings import describe_settings
from heartdata.sources import SOURCES, needs_data

REQUIRED = Path("(required)")


def without_data(source: str | None) -> dict[str, Any]:
    """Values that stand in for the data of a source, of which only the settings are to be shown."""
    return {"source": {"name": source, "data": REQUIRED}} if source in SOURCES and needs_data(source) else {}


def show_settings(config: RunConfig, prefix: str) -> None:
    """Print the settings whose names begin with ``prefix``, as typed after --set. Raises `ConfigError` if none does."""
    rows = list(describe_settings(config))
    matching = [row for row in rows if row[0].startswith(prefix)]
    if not matching:
        sections = ", ".join(dict.fromkeys(name.partition(".")[0] for name, *_ in rows))
        raise ConfigError(f"no setting begins with {prefix!r}; the sections are {sections}")
    for name, value, meaning in matching:
        typed = f"{name} {REQUIRED}" if value == REQUIRED else f"{name}={json.dumps(value, default=str)}"
        typer.echo(f"{typed:<60}  # {meaning}" if meaning else typed)
