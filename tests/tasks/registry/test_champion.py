"""The champion's alias and its record: interrupted moves, two processes at once, moves made in MLflow."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heartdata.config import RegistryConfig
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store
from tasks.registry.champion import Champion, move_champion, read_champion, settled_champion
from tasks.registry.client import connect

NAME = "heartbeat"


@pytest.fixture
def client(registry_store: Store) -> Any:
    """A registry with three versions of a model, none of them champion."""
    client = connect(RegistryConfig(), registry_store)
    client.create_registered_model(NAME)
    for _ in range(3):
        client.create_model_version(NAME, source=str(registry_store.root))
    return client


def moves(champion: Champion) -> list[tuple[int | None, int | None, str]]:
    return [(move.before, move.after, move.by) for move in champion.moves]


def test_every_move_is_recorded_once_and_in_order(client: Any, registry_store: Store):
    assert settled_champion(client, NAME, registry_store) == Champion(None, (), None)
    assert move_champion(client, NAME, 1, "rule", "the first", registry_store)
    assert move_champion(client, NAME, 2, "person", "heard both", registry_store)
    champion = settled_champion(client, NAME, registry_store)
    assert champion.version == 2
    assert moves(champion) == [(None, 1, "rule"), (1, 2, "person")]
    assert champion.moves[1].reason == "heard both"
    assert "@" in champion.moves[1].who
    assert champion.moves[0].when < champion.moves[1].when
    assert champion.moves[1].newest == 3
    assert settled_champion(client, NAME, registry_store) == champion


def test_a_long_reason_is_cut_so_that_a_database_keeps_the_record(client: Any, registry_store: Store):
    move_champion(client, NAME, 1, "person", "why " * 5000, registry_store)
    (move,) = settled_champion(client, NAME, registry_store).moves
    assert move.reason.startswith("why why")
    assert len(move.model_dump_json()) < 5000


def test_a_choice_stands_against_the_versions_of_its_time_only(client: Any, registry_store: Store):
    move_champion(client, NAME, 3, "rule", "better", registry_store)
    assert settled_champion(client, NAME, registry_store).choice_over(3) is None
    move_champion(client, NAME, 1, "rollback", "too many alarms", registry_store)
    champion = settled_champion(client, NAME, registry_store)
    assert champion.choice_over(3) == champion.choice_over(2) == champion.moves[-1]
    assert champion.choice_over(4) is None


def test_rolling_back_goes_down_the_champions(client: Any, registry_store: Store):
    for version in (1, 2, 3):
        move_champion(client, NAME, version, "rule", "better", registry_store)
    assert settled_champion(client, NAME, registry_store).previous({1, 3}) == 1  # version 2 was deleted
    for expected in (2, 1, None):
        previous = settled_champion(client, NAME, registry_store).previous({1, 2, 3})
        assert previous == expected
        if previous:
            move_champion(client, NAME, previous, "rollback", "worse", registry_store)


def test_only_the_champion_that_was_compared_with_is_replaced(client: Any, registry_store: Store):
    compared_with = settled_champion(client, NAME, registry_store)
    assert move_champion(client, NAME, 1, "rule", "first to finish", registry_store, compared_with)
    assert not move_champion(client, NAME, 2, "rule", "second to finish", registry_store, compared_with)
    move_champion(client, NAME, 2, "person", "a", registry_store)
    compared_with = settled_champion(client, NAME, registry_store)
    move_champion(client, NAME, 3, "person", "b", registry_store)
    move_champion(client, NAME, 2, "person", "c", registry_store)  # the same champion, but a person chose meanwhile
    assert not move_champion(client, NAME, 3, "rule", "better", registry_store, compared_with)


def test_rolling_back_passes_over_a_time_without_champion(client: Any, registry_store: Store):
    for version in (1, 2):
        move_champion(client, NAME, version, "rule", "better", registry_store)
    client.delete_model_version(NAME, "2")  # and with it the alias
    assert settled_champion(client, NAME, registry_store).version is None
    move_champion(client, NAME, 3, "rule", "the first again", registry_store)
    assert settled_champion(client, NAME, registry_store).previous({1, 3}) == 1
    assert settled_champion(client, NAME, registry_store).previous({3}) is None


@pytest.mark.parametrize("tag", ["heartbeat.champion.2026-01-01T00:00:00.000000Z", "heartbeat.champion_intended"])
def test_a_record_that_cannot_be_read_names_the_tag_to_delete(tag: str, client: Any, registry_store: Store):
    move_champion(client, NAME, 1, "rule", "the first", registry_store)
    client.set_registered_model_tag(NAME, tag, '{"when": ')
    with pytest.raises(HeartbeatError, match=f"the tag {tag} of the registered model 'heartbeat'.* delete that tag"):
        settled_champion(client, NAME, registry_store)
    client.delete_registered_model_tag(NAME, tag)
    assert settled_champion(client, NAME, registry_store).version == 1


class Killed(BaseException):
    """The process ends at this call."""


@pytest.mark.parametrize("before_call", [True, False])
@pytest.mark.parametrize(
    ("call", "number"),
    [("set_registered_model_tag", 1), ("set_registered_model_alias", 1), ("set_registered_model_tag", 2),
     ("delete_registered_model_tag", 1)],
)  # fmt: skip
def test_a_killed_move_is_completed_or_was_never_begun(
    call: str, number: int, before_call: bool, client: Any, registry_store: Store, monkeypatch
):
    move_champion(client, NAME, 1, "rule", "the first", registry_store)
    original, calls = getattr(client, call), []

    def killed(*args: Any) -> None:
        calls.append(args)
        if len(calls) == number and before_call:
            raise Killed
        original(*args)
        if len(calls) == number:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(client, call, killed)
        with pytest.raises(Killed):
            move_champion(client, NAME, 2, "rule", "better", registry_store)
    champion = settled_champion(client, NAME, registry_store)
    never_begun = (call, number, before_call) == ("set_registered_model_tag", 1, True)
    assert champion.version == (1 if never_begun else 2)
    assert moves(champion) == [(None, 1, "rule"), (1, 2, "rule")][: 1 if never_begun else 2]
    assert champion.intended is None


def test_a_killed_move_to_a_version_that_is_gone_is_undone(client: Any, registry_store: Store, monkeypatch):
    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(client, "set_registered_model_alias", killed)
        with pytest.raises(Killed):
            move_champion(client, NAME, 2, "rule", "better", registry_store)
    client.delete_model_version(NAME, "2")
    assert settled_champion(client, NAME, registry_store) == Champion(None, (), None)


def test_a_recorded_move_is_not_repeated_over_a_later_choice(client: Any, registry_store: Store):
    move_champion(client, NAME, 2, "rule", "better", registry_store)
    (move,) = settled_champion(client, NAME, registry_store).moves
    client.set_registered_model_tag(
        NAME, "heartbeat.champion_intended", move.model_dump_json()
    )  # killed before this went
    client.delete_registered_model_alias(NAME, "champion")
    assert moves(settled_champion(client, NAME, registry_store)) == [(None, 2, "rule"), (2, None, "person")]


def test_an_alias_that_was_set_in_mlflow_is_recorded_as_a_persons_choice(client: Any, registry_store: Store):
    move_champion(client, NAME, 3, "rule", "better", registry_store)
    client.set_registered_model_alias(NAME, "champion", "1")
    champion = settled_champion(client, NAME, registry_store)
    assert moves(champion) == [(None, 3, "rule"), (3, 1, "person")]
    assert champion.choice_over(3) == champion.moves[-1]
    client.delete_registered_model_alias(NAME, "champion")
    assert moves(settled_champion(client, NAME, registry_store))[2:] == [(1, None, "person")]


def test_a_clock_that_was_set_back_does_not_change_the_order(client: Any, registry_store: Store, monkeypatch):
    from tasks.registry import champion

    class Clock(champion.datetime):  # type: ignore[name-defined, misc]
        year_now = 2030

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(cls.year_now, 1, 1, tzinfo=tz)

    monkeypatch.setattr(champion, "datetime", Clock)
    move_champion(client, NAME, 1, "rule", "a", registry_store)
    Clock.year_now = 2029
    move_champion(client, NAME, 2, "rule", "b", registry_store)
    assert moves(settled_champion(client, NAME, registry_store)) == [(None, 1, "rule"), (1, 2, "rule")]


def test_a_drive_without_locks_is_named_and_nothing_is_moved(client: Any, registry_store: Store, monkeypatch):
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr("heartdata.storage.locks.fcntl.flock", no_locks)
        with pytest.raises(HeartbeatError, match=r"\.lock cannot be locked \(No locks available\): use a store on"):
            move_champion(client, NAME, 1, "rule", "better", registry_store)
    assert settled_champion(client, NAME, registry_store).version is None


def test_a_model_that_does_not_exist_is_named(client: Any):
    with pytest.raises(HeartbeatError, match="no registered model 'absent'"):
        read_champion(client, "absent")


RACE = """
import sys, time
from pathlib import Path
from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.registry.champion import move_champion, settled_champion
from tasks.registry.client import connect
store, version = Store(sys.argv[1]), int(sys.argv[2])
client = connect(RegistryConfig(), store)
compared_with = settled_champion(client, "heartbeat", store)
Path(sys.argv[1], f"ready {version}").touch()
while len(list(Path(sys.argv[1]).glob("ready *"))) < 2:
    time.sleep(0.001)
print(move_champion(client, "heartbeat", version, "rule", "better", store, compared_with))
"""


def test_of_two_processes_that_finish_at_once_one_wins(client: Any, registry_store: Store):
    project = Path(__file__).parents[3]
    runs = [
        subprocess.Popen([sys.executable, "-c", RACE, registry_store.uri, str(version)], cwd=project,
                         stdout=subprocess.PIPE, text=True)
        for version in (2, 3)
    ]  # fmt: skip
    won = [run.communicate(timeout=120)[0].strip() == "True" for run in runs]
    assert sorted(won) == [False, True]
    champion = settled_champion(client, NAME, registry_store)
    assert champion.version == (2 if won[0] else 3)
    assert moves(champion) == [(None, champion.version, "rule")]


@pytest.mark.parametrize(("compared", "version", "record"), [(True, 3, [(1, 3)]), (False, 2, [(1, 3), (3, 2)])])
def test_a_move_from_another_store_on_the_same_registry_is_not_overruled_unseen(
    compared: bool, version: int, record: list, client: Any, registry_store: Store, tmp_path: Path, monkeypatch
):
    """The lock is one store's; between our look at the record and our move, another machine makes its own."""
    move_champion(client, NAME, 1, "rule", "the first", registry_store)
    compared_with = settled_champion(client, NAME, registry_store) if compared else None
    original, other = client.set_registered_model_tag, Store(tmp_path / "other").open()

    def interrupted(*args: Any) -> None:
        monkeypatch.undo()
        assert move_champion(client, NAME, 3, "rule", "faster", other)
        original(*args)

    monkeypatch.setattr(client, "set_registered_model_tag", interrupted)
    assert move_champion(client, NAME, 2, "person", "better", registry_store, compared_with) is not compared
    champion = settled_champion(client, NAME, registry_store)
    assert (champion.version, champion.intended) == (version, None)
    assert [(move.before, move.after) for move in champion.moves[1:]] == record


def test_a_move_that_another_store_completes_is_made_once(
    client: Any, registry_store: Store, tmp_path: Path, monkeypatch
):
    original, other = client.set_registered_model_tag, Store(tmp_path / "other").open()

    def looked_at(*args: Any) -> None:
        monkeypatch.undo()
        original(*args)
        assert settled_champion(client, NAME, other).version == 2

    monkeypatch.setattr(client, "set_registered_model_tag", looked_at)
    assert move_champion(client, NAME, 2, "rule", "better", registry_store, Champion(None, (), None))
    assert moves(settled_champion(client, NAME, registry_store)) == [(None, 2, "rule")]
