"""The command `heartbeat`: its options and commands. Each command loads its own file, so that `--help` is fast."""

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from heartdata.config import RunConfig


class Stoppable(TyperGroup):
    """Commands that end with a sentence on Ctrl-C; typer would end them without one."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo(
                "heartbeat: stopped; run again to resume (training continues from its last complete epoch)", err=True
            )
            sys.stdout.flush()
            os._exit(130)  # a normal exit would wait for worker threads


app = typer.Typer(cls=Stoppable, name="heartbeat", no_args_is_help=True, pretty_exceptions_enable=False)
datasets = typer.Typer(help="List, fetch and inspect data sets; prune the store.", no_args_is_help=True)
app.add_typer(datasets, name="data")
champions = typer.Typer(help="Show, choose and take back the champion of a model.", no_args_is_help=True)
app.add_typer(champions, name="champion")

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
FolderOption = Annotated[Path, typer.Option("--to", "--data-folder", help="Folder that holds the data sets.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"heartbeat {version('heartbeat')}")
        raise typer.Exit


@app.callback()
def heartbeat(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
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
    """Run the whole pipeline and show the results."""
    from flows.cli.run import run_pipeline

    typed = options_typed(source, data, config, changes)
    run_pipeline(run_config(source, data, config, changes, store), verbose, typed)


@app.command()
def pretrain(
    source: SourceOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Train a backbone for other models to start from.

    Registered as heartbeat-backbone (synthetic recordings) or heartbeat-backbone-SOURCE, alias champion.
    """
    from flows.cli.run import run_pipeline
    from heartdata.training.pretraining import pretraining_settings

    source_name = run_config(source, data, config, changes, store, pretraining_settings("demo")).source.name
    settings = run_config(source, data, config, changes, store, pretraining_settings(source_name))
    run_pipeline(settings, verbose, options_typed(source, data, config, changes))


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="Name of a study, or `list` to show them all.")],
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=100, help="Number of repetitions.", show_default="the study's own")
    ] = None,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(help="Also copy the report here, e.g. docs/results.")] = None,
    verbose: VerboseOption = False,
) -> None:
    """Cross-validate the training recipe under a published protocol, next to baselines."""
    from flows.cli.study import list_studies, run_study

    if name == "list":
        list_studies()
    else:
        run_study(name, absolute(data), config, dict_of(changes, store), seeds, out, verbose)


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Registered model, e.g. models:/heartbeat@challenger.", show_default="the only one besides the demo's"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write all columns to this file (.csv, .parquet or .json).")
    ] = None,
    explain: Annotated[
        Path | None, typer.Option(help="Also draw, into this folder, what speaks for each prediction.")
    ] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Classify audio files with a registered model: label, probability, and whether the model is unsure."""
    from flows.cli.predict import predict_files

    predict_files(paths, model, out, run_config(config=config, store=store), explain)


@app.command()
def score(
    data: Annotated[str, typer.Argument(help="Folder, or table of audio files; labels are not needed.")],
    out: Annotated[Path, typer.Option(help="File for the predictions (.csv, .parquet or .json).")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Registered model, e.g. models:/heartbeat@challenger.", show_default="the only one besides the demo's"
        ),
    ] = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Predict every recording of a folder or table; only those that are new to the model are computed."""
    from flows.cli.score import score_recordings

    found = str(absolute(data))
    score_recordings(found, run_config("table", found, config, changes, store), out, model, verbose)


ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Registered model, e.g. models:/heartbeat@champion.",
        show_default="champion of the only model but the demo's",
    ),
]


@app.command()
def calibrate(
    source: SourceOption = None,
    data: DataOption = None,
    model: ModelOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    store: StoreOption = None,
) -> None:
    """Fit a model's temperature, operating point and unsure bound to your own labelled recordings.

    The result is registered as a version of its own, with the same weights.
    """
    from flows.cli.calibrate import calibrate_model

    calibrate_model(
        model, run_config(source or ("table" if data and not config else None), data, config, changes, store)
    )


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder to write, new or empty.")],
    model: ModelOption = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also write model.onnx.")] = False,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Write a model to a folder: weights, configuration, model card, and its preprocessing described."""
    from flows.cli.export import export_model

    export_model(model, out, onnx, run_config(config=config, store=store))


@app.command()
def reproduce(
    model: Annotated[str, typer.Argument(help="Registered version, e.g. models:/heartbeat/3.")],
    data: Annotated[Path | None, typer.Option(help="Folder that the recordings have moved to.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the result as JSON.")] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Train a registered version again from its own recordings and settings, and compare.

    Exit status 0: the same weights, or predictions that hardly differ; 1: they differ.
    """
    from flows.cli.reproduce import reproduce_model

    reproduce_model(model, out, run_config(config=config, store=store), data)


@app.command()
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
    from flows.cli.up import nightly_settings, serve_all

    serve_all(run_config(source, data, config, changes, store, nightly_settings()), prefect_port, mlflow_port)


@app.command()
def serve(
    model: Annotated[
        str | None,
        typer.Option(help="Registered model, e.g. models:/heartbeat@champion.", show_default="the champion"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but the default lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page and the API.")] = 8000,
    max_mb: Annotated[float, typer.Option(min=0.001, help="Largest request, in megabytes.")] = 50,
    max_seconds: Annotated[float, typer.Option(min=1, help="Longest recording.")] = 300,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests at once; more are told to try again.")] = 32,
    upload_seconds: Annotated[float, typer.Option(min=1, help="Longest time that an upload may take.")] = 30,
    config: ConfigOption = None,
    store: StoreOption = None,
) -> None:
    """Serve a model over HTTP, with a page to try a recording, until Ctrl-C."""
    from flows.cli.serve import serve_model
    from flows.http.limits import Limits

    limits = Limits(round(max_mb * 1e6), max_seconds, max_requests, upload_seconds)
    serve_model(model, host, port, limits, run_config(config=config, store=store))


@app.command()
def settings(
    section: Annotated[str, typer.Argument(help="Only settings whose names begin with this, e.g. training.")] = "",
    source: SourceOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
) -> None:
    """Show every setting, its value for this source, and its meaning."""
    from flows.cli.settings import show_settings

    any_data = data or (None if source in (None, "demo", "mix") else ".")  # only the values are shown, nothing is read
    show_settings(run_config(source, any_data, config, changes), section)


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


@datasets.command()
def prune(
    store: StoreOption = None,
    config: ConfigOption = None,
    keep: Annotated[int, typer.Option(min=1, help="Number of newest data sets to keep spectrograms for.")] = 10,
    keep_versions: Annotated[int, typer.Option(min=1, help="Number of newest versions of each model to keep.")] = 10,
    yes: Annotated[bool, typer.Option("--yes", help="Remove what is listed; otherwise only list it.")] = False,
) -> None:
    """Remove old versions of models, and spectrograms that neither recent data sets nor kept versions need.

    Champions, former ones and versions with an alias are kept.
    """
    from flows.cli.prune import prune_store

    prune_store(run_config(config=config, store=store), keep, keep_versions, yes)


ModelNameOption = Annotated[
    str | None,
    typer.Option("--model", help="Name of the registered model.", show_default="the only one besides the demo's"),
]


@champions.command("show")
def show_champion(model: ModelNameOption = None, store: StoreOption = None, config: ConfigOption = None) -> None:
    """Show the champion, who chose it, when and why; and the challenger."""
    from flows.cli.champion import registered_model, show

    show(registered_model(model, config is not None, run_config(config=config, store=store)))


@champions.command()
def history(model: ModelNameOption = None, store: StoreOption = None, config: ConfigOption = None) -> None:
    """Show every change of the champion: when, from which version to which, by whom and why."""
    from flows.cli.champion import registered_model, show_history

    show_history(registered_model(model, config is not None, run_config(config=config, store=store)))


@champions.command()
def promote(
    version: Annotated[int, typer.Argument(help="Version of the model, such as 3.")],
    reason: Annotated[str, typer.Option(help="Why; it stays in the record.")],
    model: ModelNameOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a version the champion; nightly runs replace it only by a new version that is better."""
    from flows.cli.champion import promote, registered_model

    promote(registered_model(model, config is not None, run_config(config=config, store=store)), version, reason)


@champions.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why; it stays in the record.")] = "",
    model: ModelNameOption = None,
    store: StoreOption = None,
    config: ConfigOption = None,
) -> None:
    """Make the champion before the present one the champion again."""
    from flows.cli.champion import registered_model, roll_back

    roll_back(registered_model(model, config is not None, run_config(config=config, store=store)), reason)


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


def main() -> None:
    """Entry point. An error that the user can fix is one sentence on stderr and exit status 2, never a stack trace."""
    from flows.cli.encoding import replace_unknown_characters
    from heartdata.errors import HeartbeatError

    replace_unknown_characters()
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")  # a note says what that means
    try:
        app()
    except HeartbeatError as error:
        typer.secho("heartbeat: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(str(error), err=True)
        sys.stderr.flush()
        sys.exit(2)


if __name__ == "__main__":
    main()
