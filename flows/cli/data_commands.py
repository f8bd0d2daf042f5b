"""The commands `heartbeat data ...`."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import ConfigOption, DataOption, SetOption, SourceOption, run_config

datasets = typer.Typer(help="List, fetch and inspect data sets.", no_args_is_help=True)
FolderOption = Annotated[Path, typer.Option("--to", "--data-folder", help="Folder that holds the data sets.")]


@datasets.command("list")
def list_data(to: FolderOption = Path("data")) -> None:
    """List the known public data sets, and which are downloaded."""
    from flows.cli.fetch import list_sets

    list_sets(to)


@datasets.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Name from `heartbeat data list`.")],
    to: FolderOption = Path("data"),
    only: Annotated[list[str] | None, typer.Option(help="Fetch only this folder, e.g. training-b. Repeatable.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Mirror of PhysioNet's files.", show_default="$HEARTBEAT_PHYSIONET_URL")
    ] = None,
) -> None:
    """Download what is missing of a data set, and verify its checksums where the publisher has some."""
    from flows.cli.fetch import fetch_set

    fetch_set(name, to, only or (), base_url)


@datasets.command()
def inspect(
    source: SourceOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    out: Annotated[Path, typer.Option(help="Folder for the plots.")] = Path("out/inspect"),
    each: Annotated[int, typer.Option(min=1, max=12, help="Recordings to draw per class.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed that chooses them.")] = 0,
) -> None:
    """Measure recordings and plot some of each class, without training."""
    from flows.cli.inspect import inspect_source

    inspect_source(run_config(source, data, config, changes), out, each, seed)
