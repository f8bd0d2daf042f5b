"""The command `heartbeat`. Each command loads its own file, so that `--help` is fast."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.cli.champion_commands import champions
from flows.cli.data_commands import datasets
from flows.cli.exit_codes import ExitCode, code_of, help_text
from flows.cli.operation_commands import operations
from flows.cli.options import (
    ConfigOption,
    DataOption,
    SetOption,
    SourceOption,
    StoreOption,
    VerboseOption,
    absolute,
    dict_of,
    options_typed,
    run_config,
)


class Stoppable(TyperGroup):
    """Commands that end with a sentence on Ctrl-C, and where an option or argument is missing or wrong."""

    def invoke(self, ctx: Any) -> Any:
        from heartdata.errors import ConfigError

        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            text = " ".join(error.format_message().split()).rstrip(".")
            command = error.ctx.command_path if error.ctx else "heartbeat"
            raise ConfigError(f"{text[0].lower()}{text[1:]}: see `{command} --help`") from error
        except KeyboardInterrupt:
            typer.echo(
                "heartbeat: stopped; run again to resume (training continues from its last complete epoch)", err=True
            )
            sys.stdout.flush()
            os._exit(ExitCode.STOPPED)  # a normal exit would wait for worker threads


app = typer.Typer(
    cls=Stoppable, name="heartbeat", no_args_is_help=True, pretty_exceptions_enable=False, epilog=help_text()
)
app.add_typer(datasets, name="data")
app.add_typer(champions, name="champion")
app.add_typer(operations)


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
    name: Annotated[str, typer.Argument(help="Name of a study; `list` shows them all, `results` those that were run.")],
    data: DataOption = None,
    config: ConfigOption = None,
    changes: SetOption = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=100, help="Number of repetitions.", show_default="the study's own")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Another data source, for learning-curve.", show_default="the study's own")
    ] = None,
    store: StoreOption = None,
    out: Annotated[Path | None, typer.Option(help="Also copy the report here, e.g. docs/results.")] = None,
    verbose: VerboseOption = False,
) -> None:
    """Cross-validate the training recipe under a published protocol, next to baselines."""
    from flows.cli.study import list_studies, run_study, write_results
    from heartdata.errors import ConfigError

    if name in ("list", "results"):
        unused = {"data": data, "config": config, "set": changes, "seeds": seeds, "source": source, "verbose": verbose}
        unused |= {"store": store, "out": out} if name == "list" else {}
        if refused := [f"--{option}" for option, value in unused.items() if value]:
            raise ConfigError(f"`heartbeat study {name}` takes no {refused[0]}: leave it out")
    if name == "list":
        list_studies()
    elif name == "results":
        from heartdata.storage.store import Store

        write_results(Store(run_config(store=store).store), out)
    else:
        run_study(name, absolute(data), config, dict_of(changes, store), seeds, out, verbose, source)


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

    Exit status 0: the same weights, or predictions that hardly differ; 5: they differ.
    """
    from flows.cli.reproduce import reproduce_model

    reproduce_model(model, out, run_config(config=config, store=store), data)


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
    from flows.cli.settings import show_settings, without_data

    show_settings(run_config(source, data, config, changes, base=without_data(source)), section)


def main() -> None:
    """Entry point. An error is one sentence on stderr, never a stack trace; see `ExitCode`."""
    from flows.cli.encoding import replace_unknown_characters
    from heartdata.errors import HeartbeatError

    replace_unknown_characters()
    warnings.filterwarnings("ignore", message=".*joblib will operate in serial mode")  # a note says what that means
    try:
        app(prog_name="heartbeat")
    except Exception as raised:
        from flows.cli.sentences import logged

        error = raised if isinstance(raised, HeartbeatError) else logged(raised)
        typer.secho("heartbeat: ", fg="red", bold=True, nl=False, err=True)
        typer.echo(str(error), err=True)
        sys.stderr.flush()
        sys.exit(code_of(error))


if __name__ == "__main__":
    main()
