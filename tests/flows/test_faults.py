"""A short seed of `make faults`: nights disturbed at random points end as undisturbed ones once they are run again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fault_kinds import KINDS
from benchmarks.fault_trials import Trials, shared_prefect_server
from benchmarks.processes import Launcher

CHEAP = ("run killed", "checkpoint corrupted")  # they wait for nothing


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> Iterator[Trials]:
    """A store after its first night, and what an undisturbed second night makes of it."""
    work: Path = tmp_path_factory.mktemp("faults")
    with shared_prefect_server(work) as server, Launcher() as launcher:
        trials = Trials(work, launcher, server)
        trials.prepare()
        yield trials


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in CHEAP], ids=lambda kind: kind.name)
def test_a_disturbed_night_that_is_run_again_ends_as_an_undisturbed_one(trials: Trials, kind):
    trial = trials.run(kind, kind.name)
    assert trial.defects == [], f"disturbed after {trial.point}, it ended so: {trial.ended}"
