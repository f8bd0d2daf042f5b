"""Which version of a model is its champion, and the record of how it came to be.

The champion is an alias in MLflow. The record is in tags of the same registered model, so that it is wherever the alias
is: one tag a move, named by its time and written once. A move is noted as intended before the alias is set and recorded
after, so that one that was interrupted is completed by whoever looks next. A lock in the store lets one process of this
machine move the alias at a time.
"""

import getpass
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from socket import gethostname
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from heartdata.errors import HeartbeatError
from heartdata.settings import sha256_json
from heartdata.storage.locks import exclusive
from heartdata.storage.store import Store
from tasks.engine import events
from tasks.registry.client import CHAMPION

MOVE, INTENDED = "heartbeat.champion.", "heartbeat.champion_intended"  # tags of the registered model
REASON_LENGTH = 2000  # of the 5,000 characters that MLflow's databases keep of a tag
By = Literal["rule", "person", "rollback"]


class Move(BaseModel):
    """One change of the champion from one version to another; None: no champion.

    ``newest``: the newest version there was. A person's choice was made knowing the versions up to this one.
    """

    model_config = ConfigDict(frozen=True)

    when: datetime
    who: str
    by: By
    reason: str
    before: int | None
    after: int | None
    newest: int


@dataclass(frozen=True)
class Champion:
    """The champion of a model, all ``moves`` of the alias, oldest first, and one that was begun and not recorded."""

    version: int | None
    moves: tuple[Move, ...]
    intended: Move | None

    def choice_over(self, version: int) -> Move | None:
        """The last choice that a person made when ``version`` was registered already: the rule does not overrule it."""
        choices = [move for move in self.moves if move.by != "rule" and move.newest >= version]
        return choices[-1] if choices else None

    def previous(self, versions: Collection[int]) -> int | None:
        """The champion before the present one, of those ``versions``; one that was rolled back from does not count."""
        promoted = {move.after: move.before for move in self.moves if move.by != "rollback"}
        version = promoted.pop(self.version, None)
        while version not in versions and version in promoted:  # deleted since, or the alias was removed for a time
            version = promoted.pop(version)
        return version if version in versions else None


def read_champion(client: Any, name: str) -> Champion:
    """As the registry has it. Raises `HeartbeatError` when there is no such model, or its record cannot be read."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        raise HeartbeatError(f"there is no registered model {name!r} ({error.message})") from error
    version = model.aliases.get(CHAMPION)
    moves = {
        tag: _read_move(name, tag, text) for tag, text in sorted(model.tags.items()) if tag.startswith((MOVE, INTENDED))
    }
    intended = moves.pop(INTENDED, None)
    return Champion(None if version is None else int(version), tuple(moves.values()), intended)


def _read_move(name: str, tag: str, text: str) -> Move:
    try:
        return Move.model_validate_json(text)
    except ValidationError:
        raise HeartbeatError(
            f"the tag {tag} of the registered model {name!r}, of the record of its champions, cannot be read: correct or "
            "delete that tag in MLflow"
        ) from None


def settled_champion(client: Any, name: str, store: Store) -> Champion:
    """The champion, after an interrupted move was completed, and one that was made in MLflow itself recorded."""
    with model_lock(name, store):
        return _settle(client, name)


def move_champion(
    client: Any, name: str, after: int, by: By, reason: str, store: Store, compared_with: Champion | None = None
) -> bool:
    """Make ``after`` the champion and record it; whether that was done.

    Not done where the champion, or its record, is no longer the one that the decision ``compared_with``. Stores that share a
    registry do not share the lock: so the record is read again once it holds the intention.
    """
    with model_lock(name, store):
        while True:
            present = _settle(client, name)
            if compared_with is not None and present != compared_with:
                return False
            move = _move(client, name, present, after, by, reason)
            client.set_registered_model_tag(name, INTENDED, move.model_dump_json())
            seen = read_champion(client, name)
            if move in seen.moves:  # another store has completed it
                return True
            if seen == replace(present, intended=move):
                _complete(client, name, move)
                return True


def model_lock(name: str, store: Store) -> AbstractContextManager[None]:
    """Wait until no other process moves this model's champion or registers a version of it."""
    return exclusive(store.workpath(f"champions/{sha256_json(name)[:20]}.lock"))


def _settle(client: Any, name: str) -> Champion:
    present = read_champion(client, name)
    if move := present.intended:
        moved_since = move in present.moves or present.version not in (move.before, move.after)
        if not moved_since and move.after in _versions(client, name):
            _complete(client, name, move)
        else:
            client.delete_registered_model_tag(name, INTENDED)
        present = read_champion(client, name)
    recorded = present.moves[-1].after if present.moves else None
    if present.version != recorded:
        before = Champion(recorded, present.moves, None)
        reason = "the alias was set in MLflow" if present.version else "the alias or its version was removed in MLflow"
        _record(client, name, _move(client, name, before, present.version, "person", reason, who="somebody"))
        present = read_champion(client, name)
    return present


def _complete(client: Any, name: str, move: Move) -> None:
    client.set_registered_model_alias(name, CHAMPION, str(move.after))
    _record(client, name, move)
    client.delete_registered_model_tag(name, INTENDED)


def _record(client: Any, name: str, move: Move) -> None:
    client.set_registered_model_tag(name, f"{MOVE}{move.when:%Y-%m-%dT%H:%M:%S.%fZ}", move.model_dump_json())
    events.emit(events.CHAMPION_CHANGED, f"heartbeat.model.{name}", {"model": name, **move.model_dump(mode="json")})


def _move(
    client: Any, name: str, present: Champion, after: int | None, by: By, reason: str, who: str | None = None
) -> Move:
    earliest = present.moves[-1].when + timedelta(microseconds=1) if present.moves else datetime.min.replace(tzinfo=UTC)
    return Move(
        when=max(datetime.now(UTC), earliest),  # the record is in order even where the clock was set back
        who=who or user(),
        by=by,
        reason=reason[:REASON_LENGTH],
        before=present.version,
        after=after,
        newest=max(_versions(client, name), default=0),
    )


def _versions(client: Any, name: str) -> set[int]:
    return {int(version.version) for version in client.search_model_versions(f"name = '{name}'")}


def user() -> str:
    """Who runs this process, as ``user@host``."""
    try:
        return f"{getpass.getuser()}@{gethostname()}"
    except (KeyError, OSError):  # a container's user may have no name
        return f"unknown@{gethostname()}"
