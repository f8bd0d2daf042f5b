"""A server that a run lost is named in one sentence."""

from pathlib import Path

import pytest
from helpers import free_port, http_server

from flows.cli.run import _errors_as_sentences
from heartdata.errors import HeartbeatError

LOST = "the {} does not answer any more: start it and run again; what was finished is kept; log: run.log"


def test_a_lost_prefect_server_is_named_without_its_password(monkeypatch):
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    address = f"127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:secret@{address}")
    with (
        pytest.raises(HeartbeatError) as raised,
        temporary_settings({PREFECT_API_URL: f"http://{address}"}),
        _errors_as_sentences(Path("run.log")),
        get_client(sync_client=True) as client,
    ):
        client.hello()
    assert str(raised.value) == LOST.format(f"Prefect server at http://{address}")


def test_a_lost_mlflow_server_is_named(monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(HeartbeatError) as raised, _errors_as_sentences(Path("run.log")):
        MlflowClient(f"http://127.0.0.1:{free_port()}").search_experiments()
    assert str(raised.value) == LOST.format("MLflow server")
    with pytest.raises(HeartbeatError, match="failed unexpectedly"), _errors_as_sentences(Path("run.log")):
        raise ValueError("something else")


def test_a_prefect_server_that_fails_itself_is_named():
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        http_server(lambda path: (500, b"{}")) as address,
        pytest.raises(HeartbeatError, match="the Prefect server failed .*500 .*: free some disk if that is full"),
        temporary_settings({PREFECT_API_URL: f"{address}/api", PREFECT_CLIENT_MAX_RETRIES: 0}),
        _errors_as_sentences(Path("run.log")),
        get_client(sync_client=True) as client,
    ):
        client.read_flow_run("0" * 32)
