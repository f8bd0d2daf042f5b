"""Notices by webhook, and runs whose process has died, on a real Prefect server."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from helpers import free_port, tiny, wait_until

from flows import automations, deployments
from flows.cli.settings import show_settings
from flows.deployments import served_deployments
from heartdata.config import NoticeConfig, RegistryConfig, RunConfig
from heartdata.config_file import build_config, parse_yaml
from heartdata.errors import ConfigError, DataRefused, SourceError
from heartdata.storage.store import Store
from tasks.registry.champion import move_champion
from tasks.registry.client import connect

PROJECT = Path(__file__).parents[2]
TIMEOUT_S = 240
SECRET = "T0KEN-of-the-webhook"


SLEEPING = """
import time

from prefect import flow


@flow(name="heartbeat")
def heartbeat(sleep_s: int = 3600):
    time.sleep(sleep_s)
"""


@pytest.fixture
def receiver() -> Iterator[SimpleNamespace]:
    """A webhook on loopback: its ``url``, the notices it ``received``, and the ``status`` that it answers."""
    seen = SimpleNamespace(received=[], status=200)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            seen.received.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(seen.status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        seen.url = f"http://127.0.0.1:{server.server_port}/{SECRET}"
        yield seen
        server.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A Prefect server of its own: the address ``api``, the folder ``home`` with its database and log."""
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_UI_URL, temporary_settings

    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_API_URL": api}
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-ui",
    ]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=home)
    try:
        wait_until(lambda: process.poll() is not None or _healthy(api), "the Prefect server")
        assert process.poll() is None, (home / "server.log").read_text()
        with temporary_settings({PREFECT_API_URL: api, PREFECT_UI_URL: api.removesuffix("/api"), PREFECT_HOME: home}):
            EventsWorker.drain_all()  # the next one sends to this server, not to that of other tests
            yield SimpleNamespace(api=api, home=home, environment=environment)
    finally:
        EventsWorker.drain_all()
        process.terminate()
        process.wait()


def _healthy(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def client(server: SimpleNamespace) -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


def deploy_nightly(config: RunConfig) -> Any:
    """The id of the deployment heartbeat/full-pipeline, as `heartbeat up` makes it, with nothing that executes runs."""
    return served_deployments(config)[0].apply()


def run_of(deployment: Any, client: Any, *states: Any) -> Any:
    """A run of a deployment that goes through these states; returns its name."""
    run = client.create_flow_run_from_deployment(deployment)
    for state in states:
        client.set_flow_run_state(run.id, state, force=True)
    return run


def failed(error: Exception) -> Any:
    """The state of a run whose flow raises ``error``."""
    from prefect.states import exception_to_failed_state

    return asyncio.run(exception_to_failed_state(error, message="Flow run encountered an exception:"))


@pytest.fixture
def installed(server: SimpleNamespace, receiver: SimpleNamespace, tmp_path: Path) -> Iterator[Any]:
    """heartbeat's automations with the receiver as webhook; yields the id of the nightly deployment."""
    automations.install(NoticeConfig(webhook_url=receiver.url))
    yield deploy_nightly(tiny(tmp_path))
    automations.install(NoticeConfig(webhook_url=None))


def test_each_end_of_a_run_that_needs_a_person_is_one_notice(
    installed: Any, receiver: SimpleNamespace, client: Any, server: SimpleNamespace
):
    from prefect.states import Cancelled, Completed, Crashed

    refusal = 'nothing was trained: 3 recordings with label "a<!channel>" & more'
    runs = [
        run_of(installed, client, state)
        for state in (Completed(), Cancelled(message="no"), failed(DataRefused(refusal)),
                      failed(SourceError("fix it")), Crashed(message="no heartbeat"), failed(ZeroDivisionError("a bug")))
    ]  # fmt: skip
    wait_until(lambda: len(receiver.received) >= 4, "four notices")
    time.sleep(2)
    by_run = {notice["flow_run"]: notice for _, notice in receiver.received}
    assert len(by_run) == len(receiver.received) == 4
    refused, stopped, crashed, fault = (by_run[run.name] for run in runs[2:])
    assert refused == {
        "event": "data refused",
        "flow_run": runs[2].name,
        "reason": refusal,
        "link": f"{server.api.removesuffix('/api')}/runs/flow-run/{runs[2].id}",
        "text": f"heartbeat: data refused ({runs[2].name}): nothing was trained: 3 recordings with label "
        f'"a&lt;!channel&gt;" &amp; more {refused["link"]}',
    }
    assert (stopped["event"], stopped["reason"]) == ("run failed", "fix it")
    assert (crashed["event"], crashed["reason"]) == ("run crashed", "no heartbeat")
    assert (fault["event"], fault["reason"]) == ("run failed", "ZeroDivisionError: a bug")


def test_a_new_champion_is_a_notice_whoever_chose_it(
    installed: Any, receiver: SimpleNamespace, server: SimpleNamespace, store: Store, monkeypatch
):
    monkeypatch.setenv("PREFECT_API_URL", server.api)
    registry = connect(RegistryConfig(), store)
    registry.create_registered_model("murmurs")
    for _ in range(2):
        registry.create_model_version("murmurs", source=str(store.root))
    move_champion(registry, "murmurs", 1, "rule", "the first that passes the gates", store)
    move_champion(registry, "murmurs", 2, "person", "fewer alarms", store)
    wait_until(lambda: len(receiver.received) >= 2, "two notices")
    assert sorted(notice["reason"] for _, notice in receiver.received) == [
        "murmurs version 1 in place of none, by rule: the first that passes the gates",
        "murmurs version 2 in place of 1, by person: fewer alarms",
    ]
    assert {(n["event"], n["flow_run"], n["link"]) for _, n in receiver.received} == {("champion changed", None, None)}


@pytest.mark.unattended
def test_no_completed_run_for_long_is_one_notice(
    receiver: SimpleNamespace, client: Any, tmp_path: Path, monkeypatch, server: SimpleNamespace
):
    from prefect.states import Completed

    monkeypatch.setattr(automations, "NO_RUN", timedelta(seconds=20))
    nightly = deploy_nightly(tiny(tmp_path))
    automations.install(NoticeConfig(webhook_url=receiver.url))
    try:
        missing = wait_until(lambda: receiver.received, "a notice though no run was ever completed")[0][1]
        assert missing["event"] == "no run"
        assert missing["reason"].startswith("heartbeat/full-pipeline has not completed a run since 20")
        receiver.received.clear()
        last = [run_of(nightly, client, Completed()) for _ in range(2)][-1]
        ((_, missing),) = wait_until(lambda: list(receiver.received), "a notice")
        assert (missing["event"], missing["flow_run"]) == ("no run", last.name)
    finally:
        automations.install(NoticeConfig(webhook_url=None))


def test_the_schedule_of_pruning_follows_the_setting(server: SimpleNamespace, client: Any, tmp_path: Path):
    active = []
    for nightly in (False, True, False):
        pruning = served_deployments(tiny(tmp_path, retention__nightly=nightly))[-1].apply()
        active.append([schedule.active for schedule in client.read_deployment(pruning).schedules])
    assert active == [[False], [True], [False]]


def present(client: Any) -> dict[str, Any]:
    return {automation.name: automation for automation in client.read_automations()}


def test_installing_again_changes_only_what_is_different(
    server: SimpleNamespace, receiver: SimpleNamespace, client: Any
):
    from prefect.blocks.webhook import Webhook

    automations.install(NoticeConfig(webhook_url="http://127.0.0.1:1/old"))
    first = present(client)
    assert set(first) == {automations.crash_zombies().name, *automations.NOTICES}
    automations.install(NoticeConfig(webhook_url=receiver.url))
    assert present(client) == first
    assert Webhook.load(automations.BLOCK, _sync=True).url.get_secret_value() == receiver.url
    changed, *_ = automations.notices(first[automations.NOTICES[0]].actions[0].block_document_id)
    automations._put(changed.model_copy(update={"actions": changed.actions * 2}), client)
    automations.install(NoticeConfig(webhook_url=receiver.url))
    assert {name: each.actions for name, each in present(client).items()} == {n: a.actions for n, a in first.items()}
    assert "no notices" in automations.install(NoticeConfig(webhook_url=None))
    assert set(present(client)) == {automations.crash_zombies().name}
    assert automations.BLOCK not in [document.name for document in client.read_block_documents()]
    automations.install(NoticeConfig(webhook_url=None))  # with nothing to remove


def test_a_webhook_that_does_not_answer_disturbs_nothing(installed: Any, receiver: SimpleNamespace, client: Any):
    receiver.status = 500
    first = run_of(installed, client, failed(ValueError("first")))
    wait_until(lambda: receiver.received, "the refused notice")
    automations.install(NoticeConfig(webhook_url="http://127.0.0.1:1/closed"))
    second = run_of(installed, client, failed(ValueError("second")))
    assert {client.read_flow_run(run.id).state_name for run in (first, second)} == {"Failed"}
    time.sleep(3)
    automations.install(NoticeConfig(webhook_url=receiver.url))
    run_of(installed, client, failed(ValueError("third")))
    wait_until(lambda: [n for _, n in receiver.received if n["reason"] == "ValueError: third"], "the third notice")


def test_the_address_is_in_no_record_log_or_parameter(
    installed: Any, receiver: SimpleNamespace, client: Any, server: SimpleNamespace, monkeypatch, capsys
):
    run = run_of(installed, client, failed(ValueError("once")))
    wait_until(lambda: receiver.received, "the notice")
    time.sleep(2)
    monkeypatch.setenv("HEARTBEAT_WEBHOOK_URL", receiver.url)
    config = RunConfig()
    assert config.notice.webhook_url.get_secret_value() == receiver.url
    show_settings(config, "notice")
    shown = capsys.readouterr().out
    assert "notice.webhook_url" in shown
    texts = [
        shown,
        str(config),
        config.model_dump_json(),
        str(client.read_deployment(installed)),
        str(client.read_flow_run(run.id)),
    ]
    for path in server.home.rglob("*"):
        with contextlib.suppress(OSError):  # a folder, or a file that has gone
            texts.append(path.read_bytes().decode("latin-1"))
    assert any("heartbeat-notices" in text for text in texts)  # the database
    assert not [text for text in texts if SECRET in text]


def test_the_runner_reads_its_settings_with_an_address_in_the_environment(monkeypatch):
    monkeypatch.setenv("HEARTBEAT_WEBHOOK_URL", f"http://127.0.0.1/{SECRET}")
    written = json.dumps(RunConfig().model_dump(mode="json"))
    assert SECRET not in written
    assert RunConfig.model_validate_json(written) == RunConfig()


def test_an_address_in_prefect_yaml_or_of_another_kind_is_refused_and_not_shown(tmp_path: Path, monkeypatch):
    with pytest.raises(ConfigError, match=r"notice\.webhook_url must be an address that begins with http") as refusal:
        build_config(changes={"notice.webhook_url": SECRET})
    assert SECRET not in str(refusal.value)
    written = parse_yaml((PROJECT / "prefect.yaml").read_text())
    written["deployments"][0]["parameters"] = {"config": {"notice": {"webhook_url": f"http://{SECRET}"}}}
    (tmp_path / "prefect.yaml").write_text(json.dumps(written))
    monkeypatch.setattr(deployments, "PROJECT", tmp_path)
    with pytest.raises(ConfigError, match="set HEARTBEAT_WEBHOOK_URL") as refusal:
        automations.deploy()
    assert SECRET not in str(refusal.value)


@contextlib.contextmanager
def worker(environment: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """A worker of the pool ``heartbeat``, killed at the end with all that it has started."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "heartbeat"]
    with log.open("ab") as output:
        process = psutil.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()


@pytest.mark.unattended
def test_a_run_killed_with_its_worker_is_marked_as_crashed_and_frees_the_slot(
    server: SimpleNamespace, client: Any, tmp_path: Path, monkeypatch
):
    from prefect.states import Pending

    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "pipeline.py").write_text(SLEEPING)
    written = parse_yaml((PROJECT / "prefect.yaml").read_text())
    (tmp_path / "prefect.yaml").write_text(json.dumps({**written, "deployments": written["deployments"][:1]}))
    environment = {**server.environment, "HEARTBEAT_PROJECT": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] = "30"
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    for command in (["work-pool", "create", "heartbeat", "--type", "process"], ["deploy", "--all"]):
        done = subprocess.run([*prefect, *command], capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "no notices are sent" in done.stdout
    nightly = client.read_deployment_by_name("heartbeat/full-pipeline").id

    monkeypatch.setattr(automations, "SILENCE", timedelta(seconds=45))
    automations.install(NoticeConfig(webhook_url=None))  # in place of the one that `prefect deploy` installed

    def state_of(run: Any) -> str:
        return client.read_flow_run(run.id).state_name

    with worker(environment, tmp_path / "worker.log"):
        run = client.create_flow_run_from_deployment(nightly)
        wait_until(lambda: state_of(run) == "Running", "the run")
        time.sleep(5)  # its first heartbeat
    blocked = client.create_flow_run_from_deployment(nightly)
    client.set_flow_run_state(blocked.id, Pending())
    assert (state_of(run), state_of(blocked)) == ("Running", "Cancelled")  # one at a time
    wait_until(lambda: state_of(run) == "Crashed", "the end of the run whose process was killed")
    with worker(environment, tmp_path / "worker.log"):
        following = client.create_flow_run_from_deployment(nightly, parameters={"sleep_s": 40})
        wait_until(lambda: state_of(following) in ("Completed", "Cancelled", "Crashed"), "the next run")
        assert state_of(following) == "Completed"  # with its heartbeats, it is no zombie
    for automation in client.read_automations():
        client.delete_automation(automation.id)
