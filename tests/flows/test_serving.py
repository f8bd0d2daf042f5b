"""`heartbeat up`: the servers, the nightly deployment, interrupted runs, Ctrl-C; and deploying to a work pool."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from helpers import free_port, wait_until
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_API_URL, temporary_settings

from flows.cli import up
from flows.local.servers import is_healthy, knows_run, port_is_free, running_api
from heartdata.config_file import build_config
from heartdata.errors import HeartbeatError
from heartdata.storage.store import Store

PROJECT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
TIMEOUT_S = 300


@contextlib.contextmanager
def client_of(api: str) -> Iterator[SyncPrefectClient]:
    """Prefect's client, which fetches the token without which the server refuses to be written to."""
    settings = {PREFECT_API_URL: api, PREFECT_API_REQUEST_TIMEOUT: TIMEOUT_S}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        yield client


def scheduled_runs(api: str) -> list[FlowRun]:
    wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}})
    with client_of(api) as client:
        return client.read_flow_runs(flow_run_filter=wanted)


def start_run(api: str, name: str = "heartbeat/full-pipeline", parameters: dict[str, Any] | None = None) -> FlowRun:
    """Ask until the server can answer: it returns 503 while its SQLite file is locked."""
    once = uuid.uuid4().hex

    def run():
        with contextlib.suppress(httpx.HTTPError, PrefectException), client_of(api) as client:
            deployed = client.read_deployment_by_name(name)
            return client.create_flow_run_from_deployment(deployed.id, parameters=parameters, idempotency_key=once)

    return wait_until(run, f"a run of {name}")


def deployment(api: str, name: str = "heartbeat/full-pipeline") -> dict | None:
    response = httpx.get(f"{api}/deployments/name/{name}", timeout=TIMEOUT_S)
    return response.json() if response.status_code == 200 else None


@contextlib.contextmanager
def serving(store: Path):
    """`heartbeat up` on free ports; yields the process, the addresses of the API and of MLflow, and the environment."""
    prefect_port, mlflow_port = free_port(), free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment["HEARTBEAT_WEBHOOK_URL"] = f"http://127.0.0.1:{free_port()}"
    log = (store / "up.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "up", "--store", str(store),
         "--set", "training.epochs=3", "--prefect-port", str(prefect_port), "--mlflow-port", str(mlflow_port)],
        stdout=log, stderr=log, cwd=PROJECT, env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # also where the tests run under nohup
    )  # fmt: skip
    api = f"http://127.0.0.1:{prefect_port}/api"
    environment |= {"PREFECT_API_URL": api, "PREFECT_HOME": str(store / "client"), "HEARTBEAT_PROJECT": str(PROJECT)}
    try:
        wait_until(lambda: process.poll() is not None or running_api(Store(store)) == api, "the deployments")
        assert process.poll() is None, (store / "up.log").read_text()
        yield process, api, f"http://127.0.0.1:{mlflow_port}", environment
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as up_and_running:
        yield up_and_running


def test_nightly_runs_are_scheduled(served):
    _, api, mlflow, _ = served
    runs = wait_until(lambda: scheduled_runs(api), "scheduled runs")
    full_pipeline = deployment(api)
    assert full_pipeline is not None
    assert {str(run.deployment_id) for run in runs} == {full_pipeline["id"]}
    assert all(f"{run.next_scheduled_start_time:%H:%M}" == "02:00" for run in runs)
    wait_until(lambda: is_healthy(f"{mlflow}/health"), "the MLflow UI")


def test_the_folder_of_the_runner_is_in_the_store(served):
    process, *_ = served
    store = Path(process.args[process.args.index("--store") + 1])
    wait_until(lambda: list((store / "prefect/runner_storage").glob("*")), "the runner")


def test_a_run_finds_the_server_of_its_store(served):
    process, api, _, _ = served
    store = Store(process.args[process.args.index("--store") + 1])
    assert running_api(store) == api
    up_file = store.workpath("up.json")
    written = up_file.read_text()
    try:
        up_file.write_text(written.replace(json.loads(written)["id"], "0" * 32))
        assert running_api(store) is None
    finally:
        up_file.write_text(written)


def test_the_nightly_run_gets_the_options_of_up(served):
    process, api, mlflow, _ = served
    full_pipeline = deployment(api)
    assert full_pipeline is not None
    config = full_pipeline["parameters"]["config"]
    assert config["store"] == process.args[process.args.index("--store") + 1]
    assert config["training"]["epochs"] == 3
    assert config["registry"]["ui_url"] == mlflow


def test_recordings_are_scored_when_asked_for(served):
    process, api, _, _ = served
    scoring = wait_until(lambda: deployment(api, "score/new-recordings"), "the deployment")
    assert set(scoring["parameters"]["config"]) == {"registry", "store"}
    assert scoring["parameters"]["config"]["store"] == process.args[process.args.index("--store") + 1]
    assert set(scoring["parameter_openapi_schema"]["required"]) == {"data", "out"}
    assert scoring["schedules"] == []


@pytest.mark.slow
def test_a_request_to_score_without_a_model_is_logged_as_a_sentence(served, tmp_path: Path):
    process, api, _, _ = served
    run = start_run(api, "score/new-recordings", {"data": str(tmp_path), "out": str(tmp_path / "p.csv")})
    log = Path(process.args[process.args.index("--store") + 1]) / "up.log"
    wait_until(lambda: f"Flow run '{run.name}' - Finished in state Failed" in log.read_text(), "the end of the run")
    assert f"no model is registered in {log.parent}" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_store_is_served_only_once(tmp_path: Path):
    store = Store(tmp_path).open()
    alias = tmp_path / "alias"
    alias.symlink_to(store.root, target_is_directory=True)
    for name in (store, Store(alias).open()):
        with (
            up.lock_store(store),
            pytest.raises(HeartbeatError, match="another `heartbeat up` serves"),
            up.lock_store(name),
        ):
            pass
    with up.lock_store(store):
        pass


def test_the_users_address_for_links_wins():
    config = build_config(changes={"registry.ui_url": "https://mlflow.example.org"})
    assert up.with_links_to("http://127.0.0.1:5001", config) == config
    assert up.with_links_to("http://127.0.0.1:5001", build_config()).registry.ui_url == "http://127.0.0.1:5001"


def test_an_mlflow_server_knows_only_its_own_runs(served):
    _, _, mlflow, _ = served
    wait_until(lambda: is_healthy(f"{mlflow}/health"), "the MLflow UI")
    created = httpx.post(f"{mlflow}/api/2.0/mlflow/runs/create", json={"experiment_id": "0"}, timeout=TIMEOUT_S)
    wait_until(lambda: knows_run(mlflow, created.json()["run"]["info"]["run_id"]), "an answer")
    assert not knows_run(mlflow, "0" * 32)
    assert not knows_run(f"http://127.0.0.1:{free_port()}", "0" * 32)


@pytest.mark.slow
def test_a_run_with_its_own_configuration_that_is_refused_is_logged_without_a_stack_trace(served):
    process, api, _, environment = served
    store = Path(process.args[process.args.index("--store") + 1])
    config = {"store": str(store), "source": {"subjects_per_class": 3}, "validation": {"min_recordings": 1000}}
    command = [
        *PREFECT,
        "deployment",
        "run",
        "heartbeat/full-pipeline",
        "--watch",
        "-p",
        f"config={json.dumps(config)}",
    ]
    watched = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert watched.returncode == 1
    name = re.search(r"flow run '([\w-]+)'", watched.stdout)[1]
    log = store / "up.log"
    wait_until(lambda: f"Flow run '{name}' - Finished in state Failed" in log.read_text(), "the end of the run")
    wait_until(lambda: not processes(process, "prefect.engine"), "the end of its process")
    assert f"Flow run '{name}' - nothing was trained: " in log.read_text()
    assert "Traceback" not in log.read_text()
    assert (store / "latest" / "summary.md").read_text().startswith("# The last run was refused: source demo, 2")
    with client_of(api) as client:
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"name": {"any_": [name]}}))
    wanted = LogFilter.model_validate({"flow_run_id": {"any_": [run.id]}})

    def logged() -> list[str]:
        with client_of(api) as client:
            return [line.message for line in client.read_logs(log_filter=wanted)]

    wait_until(lambda: any(line.startswith("nothing was trained: ") for line in logged()), "its logs")
    assert not any("Traceback" in line for line in logged())


def test_a_second_up_on_the_same_port_is_refused(served):
    _, api, _, environment = served
    port = api.split(":")[2].split("/")[0]
    second = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "up", "--store", environment["PREFECT_HOME"], "--prefect-port", port],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert second.returncode == 2
    assert f"port {port} is taken" in second.stderr


def test_prefect_yaml_deploys_to_a_work_pool(served):
    _, api, _, environment = served
    for command in (["work-pool", "create", "heartbeat", "--type", "process"], ["deploy", "--all"]):
        done = subprocess.run([*PREFECT, *command], capture_output=True, text=True, env=environment, cwd=PROJECT)
        assert done.returncode == 0, done.stdout + done.stderr
    full_pipeline = deployment(api)
    assert full_pipeline is not None
    assert full_pipeline["work_pool_name"] == "heartbeat"
    assert full_pipeline["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
    (pull,) = full_pipeline["pull_steps"]
    assert pull["prefect.deployments.steps.set_working_directory"]["directory"] == str(PROJECT)
    wait_until(lambda: [r for r in scheduled_runs(api) if r.work_pool_name == "heartbeat"], "runs for the work pool")


def test_ctrl_c_stops_the_servers(served):
    process, api, mlflow, _ = served
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 0
    assert not Path(process.args[process.args.index("--store") + 1], "up.json").exists()
    assert all(port_is_free(int(url.split(":")[2].split("/")[0])) for url in (api, mlflow))


def state_of(api: str, run: uuid.UUID) -> str:
    """Nothing while the server cannot answer, as its SQLite file is locked."""
    response = httpx.get(f"{api}/flow_runs/{run}", timeout=TIMEOUT_S)
    return response.json()["state"]["type"] if response.status_code == 200 else ""


def processes(up: subprocess.Popen, argument: str) -> set[psutil.Process]:
    """The processes with this argument, without the guards, whose own arguments name it, too."""
    found = set()
    for each in psutil.Process(up.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if argument in each.cmdline() and "flows.local.guard" not in each.cmdline():
                found.add(each)
    return found


def see_it_come_back(up: subprocess.Popen, argument: str, url: str) -> None:
    """Kill the process with this argument and wait for the next."""
    (victim,) = wait_until(lambda: processes(up, argument), argument)
    victim.kill()
    wait_until(lambda: processes(up, argument) - {victim} and is_healthy(url), f"the next {argument}")


@pytest.mark.slow
def test_what_dies_is_started_again_and_no_run_keeps_the_slot(tmp_path: Path):
    with serving(tmp_path) as (process, api, mlflow, _):
        for argument, url in {
            "prefect.server.api.server:create_app": f"{api}/health",
            "mlflow.server.fastapi_app:app": f"{mlflow}/health",
            "flows.local.runner": f"{api}/health",
        }.items():
            see_it_come_back(process, argument, url)
        said = (tmp_path / "up.log").read_text()
        for name in ("Prefect server", "MLflow UI", "runner"):
            assert f"the {name} ended (" in said

        first = start_run(api).id
        wait_until(lambda: state_of(api, first) == "RUNNING", "the first run")
        for each in wait_until(lambda: processes(process, "prefect.engine"), "its process"):
            each.kill()
        wait_until(lambda: state_of(api, first) == "CRASHED", "the end of the first run")

        second = start_run(api).id
        wait_until(lambda: state_of(api, second) == "RUNNING", "the second run")  # the slot was free
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        wait_until(lambda: not any(each.is_running() for each in family), "the end of all processes")
    with serving(tmp_path) as (process, api, _, _):
        wait_until(lambda: state_of(api, second) == "CRASHED", "the end of the interrupted run")
        third = start_run(api).id
        wait_until(lambda: state_of(api, third) == "RUNNING", "the third run")
        process.send_signal(signal.SIGHUP)
        assert process.wait(TIMEOUT_S) == 0
    with serving(tmp_path) as (_, api, _, _):
        wait_until(lambda: state_of(api, third) == "CRASHED", "the end of the third run")
