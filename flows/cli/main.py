"""The command `heartbeat`. Heavy libraries load inside the commands, so `--help` answers at once."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from heartdata.config import RunConfig


class Stoppable(TyperGroup):
    """Commands that Ctrl-C ends with a sentence (typer itself would end them without one)."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("heartbeat: stopped; run again to go on from the last finished stage", err=True)
            sys.stdout.flush()
            os._exit(130)  # threads at work would hold the process up


app = typer.Typer(
    cls=Stoppable,
    name="heartbeat",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
datasets = typer.Typer(
    help="Public data sets: list them, fetch them; a quick look at recordings.", no_args_is_help=True
)
app.add_typer(datasets, name="data")

# None is what was not typed: heartdata.config alone says what holds then.
SourceOption = Annotated[
    str | None, typer.Option(help="demo | pascal | cinc2016 | circor2022 | table | mix", show_default="demo")
]
DataOption = Annotated[str | None, typer.Option(help="the folder or table of recordings")]
ConfigOption = Annotated[Path | None, typer.Option(help="a YAML file of settings")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="a setting, such as training.epochs=3; repeatable")]
StoreOption = Annotated[
    str | None,
    typer.Option(help="output folder, or a URI such as s3://bucket/name", show_default="$HEARTBEAT_STORE, else out"),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", help="show Prefect's own log in the terminal")]
FolderOption = Annotated[Path, typer.Option("--to", "--data-folder", help="the folder that data sets are kept in")]
OnlyOption = Annotated[list[str] | None, typer.Option(help="fetch this part alone, such as training-b; repeatable")]
BaseOption = Annotated[
    str | None, typer.Option(help="a mirror of PhysioNet's files", show_default="$HEARTBEAT_PHYSIONET_URL")
]
PrefectPort = Annotated[int, typer.Option(min=1, max=65535, help="port of the Prefect server and UI")]
MlflowPort = Annotated[int, typer.Option(min=1, max=65535, help="port of the MLflow UI")]


def told_version(wanted: bool) -> None:
    """Say the version and end."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"heartbeat {version('heartbeat')}")
        raise typer.Exit


@app.callback()
def everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=told_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """From raw heart-sound recordings to a classifier a researcher can trust. Research use; not a medical device."""


@app.command()
def run(
    source: SourceOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Run the whole pipeline in the foreground and show what came of it."""
    from flows.cli.run import run_pipeline

    run_pipeline(run_config(source, data, config, changes, store), verbose)


@app.command()
def pretrain(
    source: SourceOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Train weights that others can start from: on made sounds, as heartbeat-backbone@champion; on the recordings of
    another source, as heartbeat-backbone-SOURCE@champion.
    """
    from flows.cli.run import run_pipeline
    from heartdata.training.pretraining import pretraining_settings

    named = run_config(source, data, config, changes, store, pretraining_settings("demo")).source.name
    run_pipeline(run_config(source, data, config, changes, store, pretraining_settings(named)), verbose)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="a name that `heartbeat study list` shows")],
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=100, help="repetitions, instead of the study's own")] = None,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(help="also write the page and plots here, such as docs/results")] = None,
    verbose: VerboseOption = False,
) -> None:
    """Score the recipe under a protocol that a reviewer accepts: every fold trained, baselines beside it."""
    from flows.cli.study import list_studies, run_study

    if name == "list":
        list_studies()
    else:
        run_study(name, absolute(data), config, dict_of(changes, store), seeds, out, verbose)


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(help="audio files, or folders of them")],
    model: Annotated[
        str | None, typer.Option(help="as models:/heartbeat@challenger", show_default="the only one there is")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="a CSV to write: the probability of every class, too")] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Say what a registered model answers for audio files: label, whether it is unsure, probability."""
    from flows.cli.predict import predict_files

    predict_files(paths, model, out, run_config(config=config, store=store))


@app.command()
def up(
    source: SourceOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    prefect_port: PrefectPort = 4200,
    mlflow_port: MlflowPort = 5000,
) -> None:
    """Start the Prefect server, what executes deployments, and the MLflow UI; Ctrl-C stops all."""
    from flows.cli.up import nightly_settings, serve_all

    serve_all(run_config(source, data, config, changes, store, nightly_settings()), prefect_port, mlflow_port)


@app.command()
def settings(
    section: Annotated[str, typer.Argument(help="only those that begin so, such as training")] = "",
    source: SourceOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
) -> None:
    """Show every setting as it is typed after --set, with its value for this source, and what it means."""
    from heartdata.errors import ConfigError
    from heartdata.settings import described

    asked = run_config(source, data or (None if source in (None, "demo", "mix") else "."), config, changes)
    known = list(described(asked))
    shown = [row for row in known if row[0].startswith(section)]
    if not shown:
        sections = ", ".join(dict.fromkeys(name.partition(".")[0] for name, *_ in known))
        raise ConfigError(f"no setting begins with {section!r}; the sections are {sections}")
    for name, value, meaning in shown:
        typed = f"{name}={json.dumps(value, default=str)}"
        typer.echo(f"{typed:<60}  # {meaning}" if meaning else typed)


@datasets.command("list")
def list_data(to: FolderOption = Path("data")) -> None:
    """Show what public data sets are known, and which of them are here."""
    from flows.cli.data import list_sets

    list_sets(to)


@datasets.command()
def fetch(
    name: Annotated[str, typer.Argument(help="a name that `heartbeat data list` shows")],
    to: FolderOption = Path("data"),
    only: OnlyOption = None,
    base_url: BaseOption = None,
) -> None:
    """Download a data set, or what is missing of it, checked against PhysioNet's checksums; Kaggle publishes none."""
    from flows.cli.data import fetch_set

    fetch_set(name, to, only or (), base_url)


@datasets.command()
def inspect(
    source: SourceOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    out: Annotated[Path, typer.Option(help="where plots are written")] = Path("out/inspect"),
    each: Annotated[int, typer.Option(min=1, max=12, help="recordings drawn of each class")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="chooses which")] = 0,
) -> None:
    """Measure recordings and draw some of each class, without training."""
    from flows.cli.data import inspect_source

    inspect_source(run_config(source, data, config, changes), out, each, seed)


@datasets.command()
def prune(
    store: StoreOption = None,
    config: ConfigOption = None,
    keep: Annotated[int, typer.Option(min=1, help="the newest data sets whose spectrograms stay")] = 10,
    yes: Annotated[bool, typer.Option("--yes", help="remove; without it, only what would be removed is shown")] = False,
) -> None:
    """Remove spectrograms that neither the newest data sets nor those of registered models need."""
    from flows.cli.prune import prune_store

    prune_store(run_config(config=config, store=store), keep, yes)


def run_config(
    source: str | None = None,
    data: str | None = None,
    config: Path | None = None,
    changes: list[str] | None = None,
    store: str | None = None,
    base: dict[str, Any] | None = None,
) -> "RunConfig":
    """What was typed, laid over the file ``config``, laid over ``base``. Raises `ConfigError`."""
    from heartdata.config_file import build_config
    from heartdata.storage.store import Store

    built = build_config(source, absolute(data), config, dict_of(changes, store), base)
    return built.model_copy(update={"store": Store(built.store).uri})


def dict_of(changes: list[str] | None, store: str | None) -> dict[str, Any]:
    """What was typed as ``--set key=value`` and ``--store``: dotted keys to values. Raises `ConfigError`."""
    from heartdata.config_file import parse_change

    return ({} if store is None else {"store": store}) | dict(parse_change(change) for change in changes or [])


def absolute(data: str | None) -> str | None:
    """A typed path, whatever folder the work is done in. Raises `HeartbeatError`."""
    from flows.cli.outputs import expanded

    return str(expanded(Path(data)).resolve()) if data else None


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


if __name__ == "__main__":
    main()
