"""How long torch's idle threads wait in a loop is set, unless the user has chosen."""

import os

import pytest

from flows.local import environment
from heartdata.storage.store import Store


@pytest.mark.parametrize(
    ("variables", "spin_count"),
    [({}, environment.SPIN_COUNT), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_idle_threads_spin_briefly_unless_the_user_chose(
    store: Store, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], spin_count: str | None
):
    monkeypatch.setattr(environment, "_log_to_file", lambda folder: folder)
    monkeypatch.setattr(os, "environ", variables)
    environment.prepare_environment(store)
    assert os.environ.get("GOMP_SPINCOUNT") == spin_count
