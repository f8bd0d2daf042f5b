"""The commands that keep the nightly run going: up, status, doctor, prune, backup, restore, upgrade."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import ConfigOption, DataOption, SetOption, SourceOption, StoreOption, run_config

operations = typer.Typer()
YesOption = Annotated[bool, typer.Option("--yes", help="Do it; otherwise only show what would be done.")]


@operations.command()
def up(
    source: SourceOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect server and UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")] = 5000,
) -> None:
    """Serve the nightly run, the Prefect UI and the MLflow UI until Ctrl-C."""
    from flows.cli.up import serve_all
    from flows.deployments import nightly_settings

    serve_all(run_config(source, data, config, changes, store, nightly_settings()), prefect_port, mlflow_port)


@operations.command()
def status(
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """Show the servers, the schedule, the last run and why it ended so, the champion, and the disk."""
    from flows.cli.status import show_status

    show_status(run_config(config=config, store=store), as_json)


@operations.command()
def doctor(store: StoreOption = None, config: ConfigOption = None) -> None:
    """Check versions, ports, store, disk, memory, locks and runs, and say how to mend what is wrong."""
    from flows.cli.doctor import examine

    examine(run_config(config=config, store=store))


@operations.command()
def prune(
    store: StoreOption = None, config: ConfigOption = None, changes: SetOption = None, yes: YesOption = False
) -> None:
    """Remove what the settings `retention` do not keep: old versions, spectrograms, runs, results, logs and reports."""
    from flows.cli.prune import prune_store

    prune_store(run_config(config=config, changes=changes, store=store), remove=yes)


@operations.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Archive to write, such as heartbeat-backup.tar.")],
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the databases, the registry with its models, and the decisions to one file; not the recordings."""
    from flows.cli.backup import write_backup

    write_backup(file, run_config(config=config, store=store))


@operations.command()
def restore(
    file: Annotated[Path, typer.Argument(help="Archive that `heartbeat backup` wrote.")], store: StoreOption = None
) -> None:
    """Make a store from a backup, in a folder that is new or empty."""
    from flows.cli.backup import restore_backup

    restore_backup(file, run_config(store=store))


@operations.command()
def upgrade(store: StoreOption = None, config: ConfigOption = None) -> None:
    """Upgrade a store, and its databases of Prefect and MLflow, to the installed versions, after a backup."""
    from flows.cli.upgrade import upgrade_store

    upgrade_store(run_config(config=config, store=store))
