"""The champion and the challenger of each registered model, read without changing anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heartdata.config import RegistryConfig
from heartdata.storage.sqlite import read_only
from heartdata.storage.store import Store
from tasks.registry.champion import MOVE, Move
from tasks.registry.client import CHALLENGER, CHAMPION, check_registry, connect, is_empty, is_own, pages

Tags = Mapping[str, str]


@dataclass(frozen=True)
class Standing:
    """Of one model: the versions, the champion's last move, the decision on the challenger, and macro-F1 of each."""

    model: str
    champion: int | None
    move: Move | None
    champion_score: str
    challenger: int | None
    challenger_score: str
    decision: str


def standings(config: RegistryConfig, store: Store) -> list[Standing]:
    """Of all models, by name: the store's own database is read as a file, another registry is asked by MLflow.

    Raises sqlite3.Error, `ConfigError` soon where a registry does not answer, or what MLflow raises.
    """
    if is_empty(config, store):
        return []
    if is_own(config, store):
        return _of_file(store.workpath("mlflow.db"))
    check_registry(config, store)
    return _of_client(connect(config, store))


def standing(model: str, aliases: Mapping[str, Any], tags: Tags, version_tags: Mapping[int, Tags]) -> Standing:
    """From the aliases and tags of a model, and the tags of its versions."""
    moves = [tags[name] for name in sorted(tags) if name.startswith(MOVE)]
    champion, challenger = (int(aliases[a]) if a in aliases else None for a in (CHAMPION, CHALLENGER))
    of_champion, of_challenger = (version_tags.get(number or 0, {}) for number in (champion, challenger))
    outcome = [of_challenger.get(f"promotion.{name}", "") for name in ("outcome", "reason")]
    return Standing(
        model=model,
        champion=champion,
        move=Move.model_validate_json(moves[-1]) if moves else None,
        champion_score=of_champion.get("macro_f1", ""),
        challenger=challenger,
        challenger_score=of_challenger.get("macro_f1", ""),
        decision=": ".join(filter(None, outcome)),
    )


def _of_file(path: Path) -> list[Standing]:
    with read_only(path) as database:

        def rows(query: str, model: str) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in database.execute(query, (model,))]

        standings = []
        for (name,) in database.execute("SELECT name FROM registered_models ORDER BY name").fetchall():
            aliases = dict(rows("SELECT alias, version FROM registered_model_aliases WHERE name = ?", name))
            tags = dict(rows("SELECT key, value FROM registered_model_tags WHERE name = ?", name))
            of_versions: dict[int, dict[str, str]] = {}
            for version, key, value in rows("SELECT version, key, value FROM model_version_tags WHERE name = ?", name):
                of_versions.setdefault(version, {})[key] = value
            standings.append(standing(name, aliases, tags, of_versions))
    return standings


def _of_client(client: Any) -> list[Standing]:
    standings = []
    for model in sorted(pages(client.search_registered_models), key=lambda model: model.name):
        numbers = {int(n) for alias, n in model.aliases.items() if alias in (CHAMPION, CHALLENGER)}
        of_versions = {number: client.get_model_version(model.name, str(number)).tags for number in numbers}
        standings.append(standing(model.name, model.aliases, model.tags, of_versions))
    return standings
