"""The aliases that a run gives its version. One that somebody has moved since is left to a new version."""

from typing import Any

from heartdata.config import RegistryConfig
from tasks.engine.progress import add_note
from tasks.registry.client import CHALLENGER, CHAMPION
from tasks.registry.previous import SERIES_TAG

GIVEN = "heartbeat.given."  # tags of the registered model, by alias: the version that a run gave it to


def run_aliases(config: RegistryConfig) -> list[str]:
    """Those that every new version gets; the stage `promote` moves the champion."""
    return [CHALLENGER, *sorted({*config.aliases} - {CHALLENGER, CHAMPION})]


def are_settled(client: Any, name: str, version: int, config: RegistryConfig) -> bool:
    """Whether each alias is on ``version``, or where somebody has put it."""
    model = client.get_registered_model(name)
    return all(_holder(model, alias) == version or _was_moved(model, alias) for alias in run_aliases(config))


def give_aliases(client: Any, name: str, version: Any, is_new: bool, config: RegistryConfig) -> None:
    """Give ``version`` the aliases of a run; where it is not new, only those that nobody has moved."""
    number = int(version.version)
    model = client.get_registered_model(name)
    for alias in run_aliases(config):
        holder = _holder(model, alias)
        if holder == number:
            continue
        if not is_new and _was_moved(model, alias):
            add_note(f"models:/{name}@{alias} stays on version {holder}, as it was set: version {number} is not new")
            continue
        if alias == CHALLENGER and holder is not None:
            _note_on_change(name, client.get_model_version(name, str(holder)), version)
        client.set_registered_model_alias(name, alias, str(number))
        client.set_registered_model_tag(name, GIVEN + alias, str(number))


def _holder(model: Any, alias: str) -> int | None:
    """The version that has the alias."""
    return int(model.aliases[alias]) if alias in model.aliases else None


def _was_moved(model: Any, alias: str) -> bool:
    """Whether the alias exists and is not on the version that a run gave it to."""
    holder = _holder(model, alias)
    return holder is not None and str(holder) != model.tags.get(GIVEN + alias)


def _note_on_change(name: str, earlier: Any, version: Any) -> None:
    """A note when the challenger becomes an older version, or one of another source or series."""
    remedy = "give each a registry.model_name of its own"
    if int(earlier.version) > int(version.version):
        add_note(
            f"models:/{name}@{CHALLENGER} goes back from version {earlier.version} to {version.version}, which has the same "
            f"data set and settings; for data sets that alternate, {remedy}"
        )
    elif not same_series(earlier.tags, version.tags):
        add_note(
            f"models:/{name}@{CHALLENGER} was version {earlier.version}, of another source or series than version "
            f"{version.version}; if these are different data sets, {remedy}"
        )


def same_series(tags: dict[str, str], others: dict[str, str]) -> bool:
    """Whether two versions are of the same source configuration or series, as far as their tags say."""
    first, second = tags.get(SERIES_TAG), others.get(SERIES_TAG)
    return first == second or None in (first, second)
