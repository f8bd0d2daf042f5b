"""The aliases that runs give, and those that somebody has moved."""

from typing import Any

import pytest

from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.engine import progress
from tasks.registry.aliases import are_settled, give_aliases, run_aliases, same_series
from tasks.registry.client import connect
from tasks.registry.previous import SERIES_TAG

CONFIG = RegistryConfig(aliases=("production", "champion"))


@pytest.fixture
def versions(registry_store: Store) -> tuple[Any, list[Any]]:
    """A client, and two versions of one series, the second of which has all aliases, and a third of another."""
    client = connect(CONFIG, registry_store)
    client.create_registered_model("m")
    made = [
        client.create_model_version("m", source=str(registry_store.root), tags={SERIES_TAG: series})
        for series in ("a", "a", "b")
    ]
    for version in made[:2]:
        give_aliases(client, "m", version, True, CONFIG)
    progress.clear_notes()
    return client, made


def aliases(client: Any) -> dict[str, int]:
    return {alias: int(version) for alias, version in client.get_registered_model("m").aliases.items()}


def test_a_new_version_gets_every_alias_but_champion(versions: tuple[Any, list[Any]]):
    client, (_, _, third) = versions
    assert run_aliases(CONFIG) == ["challenger", "production"]
    assert aliases(client) == {"challenger": 2, "production": 2}
    assert are_settled(client, "m", 2, CONFIG)
    give_aliases(client, "m", third, True, CONFIG)
    assert aliases(client) == {"challenger": 3, "production": 3}
    (note,) = progress.notes()
    assert "was version 2, of another source or series than version 3" in note


def test_a_night_with_nothing_new_leaves_an_alias_where_somebody_put_it(versions: tuple[Any, list[Any]]):
    client, (_, second, third) = versions
    client.set_registered_model_alias("m", "challenger", "1")
    assert are_settled(client, "m", 2, CONFIG)  # so that the cached registration is used
    give_aliases(client, "m", second, False, CONFIG)
    assert aliases(client) == {"challenger": 1, "production": 2}
    assert "m@challenger stays on version 1, as it was set" in progress.notes()[0]
    give_aliases(client, "m", third, True, CONFIG)
    assert aliases(client)["challenger"] == 3


def test_data_sets_that_alternate_take_the_alias_from_one_another(versions: tuple[Any, list[Any]]):
    client, (first, _, _) = versions
    assert not are_settled(client, "m", 1, CONFIG)
    give_aliases(client, "m", first, False, CONFIG)
    assert aliases(client) == {"challenger": 1, "production": 1}
    assert "goes back from version 2 to 1" in progress.notes()[0]


def test_a_removed_alias_is_given_again(versions: tuple[Any, list[Any]]):
    client, (_, second, _) = versions
    client.delete_registered_model_alias("m", "production")
    assert not are_settled(client, "m", 2, CONFIG)
    give_aliases(client, "m", second, False, CONFIG)
    assert aliases(client)["production"] == 2


def test_a_version_without_a_series_is_not_of_another_one():
    assert same_series({SERIES_TAG: "a"}, {})
    assert not same_series({SERIES_TAG: "a"}, {SERIES_TAG: "b"})
