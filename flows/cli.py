"""The command `heartbeat`. Heavy libraries load inside the commands, so `--help` answers at once."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="heartbeat",
    help="From raw heart-sound recordings to a classifier a researcher can trust. Research use; not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

SourceOption = Annotated[str, typer.Option(help="demo | pascal | table")]
DataOption = Annotated[str | None, typer.Option(help="the folder or table of recordings")]
ConfigOption = Annotated[Path | None, typer.Option(help="a YAML file of settings")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="a setting, such as training.epochs=3; repeatable")]
StoreOption = Annotated[Path, typer.Option(help="output folder", envvar="HEARTBEAT_STORE")]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="show Prefect's own log in the terminal")]


@app.command()
def run(
    source: SourceOption = "demo",
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = Path("out"),
    verbose: VerboseOption = False,
) -> None:
    """Run the whole pipeline in the foreground and show what came of it."""
    from flows.run import run_pipeline

    run_pipeline(_run_config(source, data, config, changes, store), verbose)


@app.command()
def up(
    source: SourceOption = "demo",
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = Path("out"),
    prefect_port: Annotated[int, typer.Option(help="port of the Prefect server and UI")] = 4200,
    mlflow_port: Annotated[int, typer.Option(help="port of the MLflow UI")] = 5000,
) -> None:
    """Start the Prefect server, what executes deployments, and the MLflow UI; Ctrl-C stops all."""
    from flows.up import serve_all

    serve_all(_run_config(source, data, config, changes, store), prefect_port, mlflow_port)


def _run_config(source: str, data: str | None, config: Path | None, changes: list[str] | None, store: Path):
    from heartdata.config import build_config, parse_change

    values = {"store": str(store.expanduser().resolve())}
    values |= dict(parse_change(change) for change in changes or [])
    return build_config(source, str(Path(data).expanduser().resolve()) if data else None, config, values)


def main() -> None:
    """Entry point: a fault that the user can mend is one sentence on stderr and exit status 2, never a stack trace."""
    from heartdata.errors import HeartbeatError

    try:
        app()
    except HeartbeatError as error:
        typer.secho("heartbeat: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(str(error), err=True)
        sys.stderr.flush()
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("heartbeat: stopped; run again to go on from the last finished stage", err=True)
        os._exit(130)


if __name__ == "__main__":
    main()
