"""The options that several commands have, and the configuration that they make."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from heartdata.config import RunConfig

# The default None means "not given": the defaults are in heartdata.config.
SourceOption = Annotated[
    str | None,
    typer.Option(help="Data source: demo, pascal, cinc2016, circor2022, table or mix.", show_default="demo"),
]
DataOption = Annotated[str | None, typer.Option(help="Folder, archive or table of recordings.")]
ConfigOption = Annotated[Path | None, typer.Option(help="YAML file of settings.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting, e.g. training.epochs=3. Repeatable.")
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        help="Output folder, or a URI such as s3://bucket/name.", show_default="$HEARTBEAT_STORE, otherwise out"
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="Show Prefect's log in the terminal.")]


def options_typed(source: str | None, data: str | None, config: Path | None, changes: list[str] | None) -> list[str]:
    """The options that were given, as they were typed."""
    given = [("--source", source), ("--data", data), ("--config", config), *(("--set", text) for text in changes or [])]
    return [text for option, value in given if value is not None for text in (option, str(value))]


def run_config(
    source: str | None = None,
    data: str | None = None,
    config: Path | None = None,
    changes: list[str] | None = None,
    store: str | None = None,
    base: dict[str, Any] | None = None,
) -> "RunConfig":
    """The options laid over the file ``config``, laid over ``base``. Raises `ConfigError`."""
    from heartdata.config_file import build_config
    from heartdata.storage.store import Store

    built = build_config(source, absolute(data), config, dict_of(changes, store), base)
    return built.model_copy(update={"store": Store(built.store).uri})


def dict_of(changes: list[str] | None, store: str | None) -> dict[str, Any]:
    """The values of ``--set key=value`` and ``--store`` by dotted key. Raises `ConfigError`."""
    from heartdata.config_file import parse_change

    return ({} if store is None else {"store": store}) | dict(parse_change(change) for change in changes or [])


def absolute(data: str | None) -> str | None:
    """The value of ``--data`` as an absolute path. Raises `HeartbeatError`."""
    from flows.cli.outputs import expanded

    return str(expanded(Path(data)).resolve()) if data else None
