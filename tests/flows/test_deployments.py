"""The deployments in prefect.yaml, as `heartbeat up` serves them."""

import json
from pathlib import Path

import pytest
from helpers import tiny

from flows import deployments
from flows.cli.options import run_config
from flows.deployments import nightly_settings, served_deployments
from heartdata.config_file import parse_yaml
from heartdata.errors import ConfigError, HeartbeatError
from heartdata.studies.protocols import STUDIES

PROJECT = Path(__file__).parents[2]


def served(store: Path, **changes) -> dict:
    return {deployment.flow_name: deployment for deployment in served_deployments(tiny(store, **changes))}


def test_every_deployment_has_a_slot_of_its_own_and_the_nightly_one_is_the_first(tmp_path: Path):
    by_flow = served(tmp_path)
    assert list(by_flow) == ["heartbeat", "score", "prepare", "study", "prune"]
    assert {each.concurrency_limit for each in by_flow.values()} == {1}
    assert by_flow["heartbeat"].concurrency_options.collision_strategy == "CANCEL_NEW"
    (nightly,) = by_flow["heartbeat"].schedules
    assert (nightly.schedule.cron, nightly.schedule.timezone, nightly.active) == ("0 2 * * *", "UTC", True)
    assert not any(by_flow[flow].schedules for flow in ("score", "prepare", "study"))


def test_pruning_is_scheduled_where_retention_asks_for_it(tmp_path: Path):
    assert [served(tmp_path)["prune"].schedules[0].active, served(tmp_path, retention__nightly=True)["prune"].schedules[0].active] == [False, True]


def test_each_deployment_has_the_settings_that_its_flow_uses(tmp_path: Path):
    by_flow = served(tmp_path, registry__model_name="mine")
    for flow in ("heartbeat", "prepare", "prune"):
        config = by_flow[flow].parameters["config"]
        assert (config["store"], config["training"]["epochs"], config["notice"]) == (str(tmp_path), 1, {})
    assert set(by_flow["score"].parameters["config"]) == {"registry", "store"}
    settings = by_flow["study"].parameters["settings"]
    assert (settings["store"], settings["registry.model_name"]) == (str(tmp_path), "mine")
    asked = by_flow["study"]._parameter_openapi_schema
    assert asked.properties["name"]["enum"] == list(STUDIES)
    assert asked.required == ["name", "data"]
