"""Champion and challenger read from the database's file are what MLflow says, and nothing is changed by it."""

from typing import Any

from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.registry.champion import move_champion
from tasks.registry.client import connect
from tasks.registry.standing import _of_client, standings


def model(client: Any, name: str, store: Store, scores: list[str]) -> None:
    client.create_registered_model(name)
    for score in scores:
        client.create_model_version(name, source=str(store.root), tags={"macro_f1": score})


def test_both_ways_say_the_same(registry_store: Store):
    client = connect(RegistryConfig(), registry_store)
    model(client, "murmurs", registry_store, ["0.7", "0.8"])
    model(client, "backbone", registry_store, ["0.5"])
    move_champion(client, "murmurs", 1, "person", "heard both", registry_store)
    client.set_registered_model_alias("murmurs", "challenger", "2")
    for name, value in {"outcome": "kept", "reason": "the champion stays: it is better"}.items():
        client.set_model_version_tag("murmurs", "2", f"promotion.{name}", value)
    before = registry_store.workpath("mlflow.db").read_bytes()
    backbone, murmurs = standings(RegistryConfig(), registry_store)
    assert [backbone, murmurs] == _of_client(client)
    assert registry_store.workpath("mlflow.db").read_bytes() == before
    assert (backbone.champion, backbone.move, backbone.challenger) == (None, None, None)
    assert (murmurs.champion, murmurs.champion_score, murmurs.move.by) == (1, "0.7", "person")
    assert (murmurs.challenger, murmurs.challenger_score) == (2, "0.8")
    assert murmurs.decision == "kept: the champion stays: it is better"


def test_an_empty_store_has_no_models(store: Store):
    assert standings(RegistryConfig(), store) == []
    assert not store.workpath("mlflow.db").exists()
