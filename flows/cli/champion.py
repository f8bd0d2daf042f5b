"""`heartbeat champion`: show, choose and take back the champion of a model, and the record of its moves."""

import os
import re
from dataclasses import dataclass
from typing import Any

from rich.markup import escape

from flows.cli.console import note, plain_console, rich_table
from flows.local.environment import prepare_environment
from flows.local.servers import API_VARIABLE, OBSERVER_TIMEOUT_S, running_api
from heartdata.config import RunConfig
from heartdata.errors import HeartbeatError
from heartdata.sources.text import enumerated
from heartdata.storage.store import Store
from tasks.registry.champion import Move, move_champion, settled_champion
from tasks.registry.client import CHALLENGER, check_registry, connect, only_model, pages, refuse_empty_registry

BY = {"rule": "the rule", "person": "choice", "rollback": "rollback"}


@dataclass(frozen=True)
class Model:
    """A registered model, and the store whose lock guards its champion."""

    client: Any
    name: str
    store: Store


def registered_model(name: str | None, configured: bool, config: RunConfig) -> Model:
    """The model of that name; None: the one of ``config`` if that was ``configured`` by the user, else the only one.

    Raises `HeartbeatError`.
    """
    store = Store(config.store)
    refuse_empty_registry(config.registry, store)
    prepare_environment(store.open())
    if running := running_api(store, OBSERVER_TIMEOUT_S):
        os.environ.setdefault(API_VARIABLE, running)  # which sends notices of a move
    check_registry(config.registry, store)
    client = connect(config.registry, store)
    names = sorted(model.name for model in pages(client.search_registered_models))
    if name is None and configured:
        name = config.registry.model_name
    elif name is None:
        name = only_model(client, store)
        if len(names) > 1:
            plain_console().print(note(f"this is {name}, of {len(names)} models; --model chooses another"))
    if name.startswith("models:/"):  # as other commands are given it, with a version or an alias
        name = re.split("[/@]", name)[1]
    if name not in names:
        raise HeartbeatError(f"there is no registered model {name!r}; there are: {', '.join(names) or 'none'}")
    return Model(client, name, store)


def show(model: Model) -> None:
    """Print the champion and the challenger, each with what was decided on it."""
    champion = settled_champion(model.client, model.name, model.store)
    aliases = model.client.get_registered_model(model.name).aliases
    console = plain_console()
    if champion.version is None:
        console.print(f"{model.name} has no champion", markup=False)
    else:
        last = champion.moves[-1]
        console.print(f"Champion    {model.name} version {champion.version}", markup=False)
        console.print(f"Since       {last.when:%Y-%m-%d %H:%M} UTC, by {BY[last.by]} of {last.who}", markup=False)
        console.print(f"Reason      {last.reason}", markup=False, soft_wrap=True)
    if (challenger := aliases.get(CHALLENGER)) is None:
        return
    tags = model.client.get_model_version(model.name, str(challenger)).tags
    decided = ": ".join(filter(None, [tags.get("promotion.outcome"), tags.get("promotion.reason")]))
    is_champion = " (the champion)" if int(challenger) == champion.version else ""
    console.print(f"Challenger  {model.name} version {challenger}{is_champion}", markup=False)
    if decided:
        console.print(f"Decision    of the rule on version {challenger}: {decided}", markup=False, soft_wrap=True)
    choice = champion.choice_over(int(challenger))
    if decided and choice and choice == champion.moves[-1]:
        chosen = "champion was chosen by hand" if choice.after else "alias was removed by hand"
        console.print(f"            after that the {chosen}, {choice.when:%Y-%m-%d %H:%M} UTC", markup=False)


def show_history(model: Model) -> None:
    """Print every move of the champion, oldest first."""
    moves = settled_champion(model.client, model.name, model.store).moves
    console = plain_console()
    if not moves:
        console.print(f"{model.name} has had no champion", markup=False)
        return
    console.print(rich_table(f"Champions of {model.name}", [_row(move) for move in moves]))


def _row(move: Move) -> dict[str, Any]:
    return {
        "when (UTC)": f"{move.when:%Y-%m-%d %H:%M:%S}",
        "from": move.before or "none",
        "to": move.after or "none",
        "by": BY[move.by],
        "who": move.who,
        "why": move.reason,
    }


def promote(model: Model, version: int, reason: str) -> None:
    """Make a version the champion. Raises `HeartbeatError`."""
    if not _one_line(reason):
        raise HeartbeatError('say why with --reason "...": the record keeps it')
    champion = settled_champion(model.client, model.name, model.store)
    versions = sorted(int(v.version) for v in model.client.search_model_versions(f"name = '{model.name}'"))
    if version not in versions:
        there_are = enumerated([str(number) for number in reversed(versions)]) or "none"
        raise HeartbeatError(f"{model.name} has no version {version}; there are: {there_are}")
    if champion.version == version:
        raise HeartbeatError(f"{model.name} version {version} is the champion already: nothing was changed")
    move_champion(model.client, model.name, version, "person", _one_line(reason), model.store)
    _say_moved(model, champion.version, version)


def roll_back(model: Model, reason: str) -> None:
    """Make the champion before the present one the champion. Raises `HeartbeatError`."""
    champion = settled_champion(model.client, model.name, model.store)
    if champion.version is None:
        raise HeartbeatError(f"{model.name} has no champion: there is nothing to take back")
    versions = {int(v.version) for v in model.client.search_model_versions(f"name = '{model.name}'")}
    previous = champion.previous(versions)
    if previous is None:
        raise HeartbeatError(
            f"{model.name} had no champion before version {champion.version} (versions rolled back from do not count): choose "
            "one with `heartbeat champion promote`"
        )
    move_champion(model.client, model.name, previous, "rollback", _one_line(reason) or "taken back", model.store)
    _say_moved(model, champion.version, previous)


def _say_moved(model: Model, before: int | None, after: int) -> None:
    from_ = f", before: version {before}" if before else ""
    text = f"The champion of {model.name} is version {after}{from_}. Nightly runs replace it only by a new version that is better."
    plain_console().print(escape(text), soft_wrap=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())
