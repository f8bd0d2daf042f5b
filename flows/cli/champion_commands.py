"""The commands `heartbeat champion ...`."""

from typing import Annotated

import typer

from flows.cli.options import ConfigOption, StoreOption, run_config

champions = typer.Typer(help="Show, choose and take back the champion of a model.", no_args_is_help=True)
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
