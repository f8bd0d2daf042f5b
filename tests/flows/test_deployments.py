"""The deployments in prefect.yaml, as `heartbeat up` serves them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tiny

import flows.study
from flows import deployments
from flows.cli.options import run_config
from flows.deployments import nightly_settings, served_deployments
from heartdata.config_file import parse_yaml
from heartdata.errors import ConfigError
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
    assert [
        served(tmp_path)["prune"].schedules[0].active,
        served(tmp_path, retention__nightly=True)["prune"].schedules[0].active,
    ] == [False, True]


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


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, ("table", 6, "/in_file")),
     ({"changes": ["training.epochs=8"]}, ("table", 8, "/in_file")),
     ({"source": "demo", "store": "/typed"}, ("demo", 6, "/typed"))],
)  # fmt: skip
def test_options_win_over_prefect_yaml(options: dict, expected: tuple, tmp_path: Path, monkeypatch):
    written = parse_yaml((PROJECT / "prefect.yaml").read_text())
    settings = {"source": {"name": "table", "data": "/x.csv"}, "training": {"epochs": 6}, "store": "/in_file"}
    written["deployments"][0]["parameters"] = {"config": settings}
    (tmp_path / "prefect.yaml").write_text(json.dumps(written))
    monkeypatch.setattr(deployments, "PROJECT", tmp_path)
    config = run_config(**options, base=nightly_settings())
    assert (config.source.name, config.training.epochs, config.store) == expected
    written["deployments"][0]["parameters"] = {"config": 5}
    (tmp_path / "prefect.yaml").write_text(json.dumps(written))
    with pytest.raises(ConfigError, match="parameters.config in prefect.yaml must be a mapping"):
        nightly_settings()
    (tmp_path / "prefect.yaml").write_text("deployments: [\n")
    with pytest.raises(ConfigError, match="prefect.yaml cannot be read: line 2: "):
        nightly_settings()


def test_a_study_that_is_asked_for_by_name_has_its_own_protocol(monkeypatch):
    asked = []
    monkeypatch.setattr(flows.study.study, "fn", asked.append)
    flows.study.named_study.fn("pascal-b", "/recordings", seeds=2, settings={"store": "/out", "training.epochs": 3})
    (config,) = asked
    assert (config.study.name, config.study.seeds) == ("pascal-b", (0, 1))
    assert (config.run.store, config.run.training.epochs, str(config.run.source.data)) == ("/out", 3, "/recordings")
    with pytest.raises(ConfigError, match="there is no study 'b'"):
        flows.study.named_study.fn("b", "/recordings")


def test_the_runner_loads_nothing_heavy_before_its_first_run():
    code = (
        "import sys; from flows.deployments import served_deployments; from heartdata.config import RunConfig;"
        "served_deployments(RunConfig()); print([m for m in sys.argv[1:] if m in sys.modules])"
    )
    heavy = ("torch", "fastai", "librosa", "mlflow", "great_expectations", "sklearn", "numba")
    ran = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, cwd=PROJECT)
    assert ran.stdout.strip() == "[]", ran.stderr
