"""`heartbeat settings`: every setting with its value and its meaning."""

import json

import typer

from heartdata.config import RunConfig
from heartdata.errors import ConfigError
from heartdata.settings import describe_settings


def show_settings(config: RunConfig, prefix: str) -> None:
    """Print the settings whose names begin with ``prefix``, as typed after --set. Raises `ConfigError` if none does."""
    rows = list(describe_settings(config))
    matching = [row for row in rows if row[0].startswith(prefix)]
    if not matching:
        sections = ", ".join(dict.fromkeys(name.partition(".")[0] for name, *_ in rows))
        raise ConfigError(f"no setting begins with {prefix!r}; the sections are {sections}")
    for name, value, meaning in matching:
        typed = f"{name}={json.dumps(value, default=str)}"
        typer.echo(f"{typed:<60}  # {meaning}" if meaning else typed)
