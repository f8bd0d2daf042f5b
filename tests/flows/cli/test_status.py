"""`heartbeat status`: what is shown of a night, of an empty store, and that nothing is changed or loaded for it."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from helpers import free_port
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.cli.status import Status, gather, lines
from flows.local.observed import Up, answers, running_up
from heartdata.config import RegistryConfig, RunConfig
from heartdata.storage.store import Store
from heartdata.storage.usage import DAY_S, usage
from tasks.engine.flow_runs import NightlyRun, NightlySchedule, Nights
from tasks.registry.champion import Move
from tasks.registry.client import connect
from tasks.registry.standing import Standing

HEAVY = ("torch", "prefect", "mlflow", "scipy.cluster", "scipy.signal", "scipy.stats")
NOW = datetime(2026, 11, 30, 8, tzinfo=UTC)
NIGHT = datetime(2026, 11, 30, 2, tzinfo=UTC)
SCHEDULE = NightlySchedule("heartbeat/full-pipeline", "0 2 * * *", "Europe/Berlin", True)
MOVE = Move(when=NIGHT, who="me@here", by="rule", reason="better", before=2, after=3, newest=3)
MODEL = Standing("murmurs", 3, MOVE, "0.812", 4, "0.790", "kept: the champion stays: it is better")


def run(state: str, message: str = "", minutes: float | None = 12.5) -> NightlyRun:
    ended = None if minutes is None else NIGHT + timedelta(minutes=minutes)
    return NightlyRun("1", "wise-owl", "heartbeat", "full-pipeline", state, message, NIGHT, ended)


def shown(
    last: NightlyRun | None,
    completed: NightlyRun | None = None,
    up: Up | None = None,
    unfinished: tuple[NightlyRun, ...] = (),
    **others,
) -> dict[str, str]:
    nights = Nights(last, completed, unfinished, (SCHEDULE,))
    status = Status(
        **{
            "store": "/out", "store_exists": True, "time": NOW, "up": up, "prefect": up and up.api, "prefect_answers": bool(up),
            "mlflow": "http://127.0.0.1:5000", "mlflow_answers": bool(up), "nights": nights, "models": [MODEL],
            "disk": usage([], 0), "nightly_bytes": None, "free_bytes": 10**10, "problems": [], **others,
        }
    )  # fmt: skip
    return dict(lines(status))


def test_a_night_that_failed_is_shown_with_its_reason_and_the_last_that_did_not():
    texts = shown(run("FAILED", "no recording was accepted"), run("COMPLETED", "Nothing new"))
    assert texts["Last run"] == "2026-11-30 02:00 UTC, full-pipeline, 12 min 30 s, failed: no recording was accepted"
    assert texts["Last good"].endswith("completed: Nothing new")
    assert "Last good" not in shown(run("COMPLETED", "Nothing new"))
    assert shown(None)["Last run"] == "none"


def test_a_run_is_shown_beside_a_second_one_that_was_cancelled():
    running = replace(run("RUNNING", minutes=None), id="2")
    texts = shown(run("CANCELLED", "Deployment concurrency limit reached."), unfinished=(running,))
    assert texts["Running"].startswith("2026-11-30 02:00 UTC, full-pipeline, running for ")
    assert "cancelled: Deployment concurrency limit reached." in texts["Last run"]
    assert "Running" not in shown(running, unfinished=(running,))


def test_what_runs():
    up = Up(7, NIGHT, "http://127.0.0.1:4210/api")
    texts = shown(run("RUNNING", minutes=None), up=up)
    assert texts["Serving"] == "heartbeat up, process 7, since 2026-11-30 02:00 UTC"
    assert texts["Prefect"] == "http://127.0.0.1:4210/api answers"
    assert texts["MLflow"] == "http://127.0.0.1:5000 answers"
    assert texts["Schedule"].endswith("next Tue 2026-12-01 02:00 CET")
    assert texts["Last run"].endswith("running for 6 h 0 min")


def test_what_does_not_run():
    texts = shown(run("RUNNING", minutes=None))
    assert texts["Serving"] == "heartbeat up does not run on this store and machine"
    assert "Prefect" not in texts
    assert texts["Schedule"].endswith("CET, if `heartbeat up` runs then")
    assert texts["Last run"].endswith("running for 6 h 0 min; or it was killed: see `heartbeat doctor`")
    silent = shown(None, up=Up(7, None, None), prefect_answers=False)
    assert silent["Prefect"] == "server of heartbeat up does not answer: see `heartbeat doctor`"


def test_champion_and_challenger():
    texts = shown(None)
    assert texts["Champion"] == "murmurs version 3, macro-F1 0.812, since 2026-11-30 02:00 UTC by the rule"
    assert texts["Challenger"] == "murmurs version 4, macro-F1 0.790; kept: the champion stays: it is better"
    assert shown(None, models=[])["Champion"] == "no model is registered"
    long = replace(MODEL, decision="cannot decide: no champion: 8 of 20 subjects; also failed: ECE; choose it yourself")
    text = "murmurs version 4, macro-F1 0.790; cannot decide: no champion: 8 of 20 subjects"
    assert shown(None, models=[long])["Challenger"] == text


@pytest.mark.parametrize("exists", [True, False])
def test_of_an_empty_store_nothing_is_changed(exists: bool, heartbeat, tmp_path: Path):
    folder = tmp_path / "out"
    if exists:
        Store(folder).open()
    before = sorted(tmp_path.rglob("*"))
    status, err, out = heartbeat("status", "--store", folder)
    assert (status, err) == (0, "")
    assert "Last run    none" in out
    assert "Champion    no model is registered" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_as_json(heartbeat, tmp_path: Path):
    _, _, out = heartbeat("status", "--store", tmp_path / "out", "--json")
    values = json.loads(out)
    assert (values["store"], values["up"], values["models"]) == (str(tmp_path / "out"), None, [])


def test_what_cannot_be_read_is_said(heartbeat, store: Store):
    (store.root / "prefect").mkdir()
    (store.root / "prefect/prefect.db").write_bytes(b"no database" * 1000)
    store.workpath("mlflow.db").write_bytes(b"no database" * 1000)
    status, err, out = heartbeat("status", "--store", store.root)
    assert (status, err) == (0, "")
    assert "Unknown     runs: file is not a database" in out
    assert "Unknown     models: file is not a database" in out


def dead_server() -> str:
    return f"127.0.0.1:{free_port()}"


def test_servers_that_do_not_answer_are_named_without_their_passwords(heartbeat, store: Store, monkeypatch):
    prefect, mlflow = dead_server(), dead_server()
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:hunter/2@1@{prefect}/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:hunter2@{mlflow}")
    for options in ([], ["--json"]):
        with temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}):  # not the tests' own server
            status, err, out = heartbeat("status", "--store", store.root, *options)
        assert (status, err) == (0, "")
        assert "hunter" not in out
    values = json.loads(out)
    assert (values["prefect"], values["mlflow"]) == (f"http://{prefect}/api", f"http://{mlflow}")
    assert [problem.partition(":")[0] for problem in values["problems"]] == ["runs", "models"]


def test_an_address_of_prefect_that_is_none_is_a_line(heartbeat, store: Store, monkeypatch):
    assert not answers("http://[::1/api", "/api/health")
    monkeypatch.setenv("PREFECT_API_URL", "127.0.0.1:4200/api")
    with temporary_settings({PREFECT_API_URL: "127.0.0.1:4200/api"}):
        status, err, out = heartbeat("status", "--store", store.root)
    assert (status, err) == (0, "")
    assert "Unknown     runs: " in out


def test_an_error_of_prefect_is_a_line_and_not_the_end(store: Store, monkeypatch):
    def fail(*_: object) -> None:
        raise httpx.HTTPError("server error for url 'http://me:hunter2@127.0.0.1/api'")

    monkeypatch.setattr("flows.cli.status.nights_of", fail)
    status = gather(RunConfig(store=str(store.root)))
    assert status.problems == ["runs: server error for url 'http://127.0.0.1/api'"]


def test_a_server_of_heartbeat_up_that_is_silent_is_not_waited_for(store: Store, monkeypatch):
    monkeypatch.setattr("flows.local.observed.OBSERVER_TIMEOUT_S", 0.1)
    monkeypatch.setattr("flows.local.observed.holders", lambda path: [1])
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts and says nothing
        api = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        store.workpath("up.json").write_text(json.dumps({"api": api, "id": "ours", "store": store.uri}))
        assert running_up(store).api is None


def test_the_disk_that_fills_is_this_machines(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("HEARTBEAT_WORK")
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    store = Store(f"memory://{tmp_path.name}/store").open()
    for folder in (None, store.root):
        files = Store(folder or store.uri)
        for name in ("models/a", "models/b", "models/c"):
            with files.writing(name) as file:
                file.write(bytes(1000 if folder else 50_000))
    for days, name in enumerate("abc"):
        os.utime(store.workpath(f"models/{name}"), (time.time() - (3 - days) * DAY_S,) * 2)
    status = gather(RunConfig(store=store.uri))
    assert {kind.kind: kind.size_bytes for kind in status.disk}["weights"] > 150_000
    assert 0 < status.nightly_bytes < 3000


def test_it_loads_nothing_heavy():
    code = (
        "import sys; from flows.cli.options import run_config; from flows.cli.status import gather;"
        "gather(run_config(store=sys.argv[1])); print([m for m in sys.argv[2:] if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, "/nowhere/out", *HEAVY], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_store_that_is_not_there_and_one_that_was_moved_are_named(heartbeat, store: Store, tmp_path: Path):
    assert f"there is none at {tmp_path / 'none'}" in " ".join(
        heartbeat("status", "--store", tmp_path / "none")[2].split()
    )
    connect(RegistryConfig(), store).create_registered_model("murmurs")
    assert "Unknown" not in heartbeat("status", "--store", store.root)[2]
    moved = store.root.rename(tmp_path / "moved")
    assert f"heartbeat upgrade --store {moved}" in " ".join(heartbeat("status", "--store", moved)[2].split())
