"""Two whole runs at once on one store register each version once and leave one champion."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fault_trials import shared_prefect_server
from benchmarks.processes import FINISHED, Command, Launcher
from benchmarks.small_pipeline import defects, make_recordings, outcome, query, write_config
from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.registry.champion import read_champion
from tasks.registry.client import connect

pytestmark = pytest.mark.slow

RULES = {  # every version becomes the champion; one whose champion changes while it is compared is compared again
    "registry": {"aliases": [], "first_champion": "always"},
    "promotion": {"min_subjects": 2, "min_difference": -1, "min_over_baselines": -1, "max_ece": 1, "max_slice_drop": 1},
}


class Pair:
    """Starts two runs of the small pipeline at once."""

    def __init__(self, launcher: Launcher, server: dict[str, str], folder: Path) -> None:
        self.launcher, self.server, self.folder = launcher, server, folder
        self.store, self.table = folder / "store", folder / "recordings" / "table.csv"
        make_recordings(folder / "recordings", 3).to_csv(self.table, index=False)
        self.options = ["--config", str(write_config(folder / "config.yaml", self.table, self.store, **RULES))]

    def run(self, *changes: list[str]) -> list[Command]:
        commands = [
            self.launcher.start(["run", *self.options, *options], self.folder / f"run-{number}.log", self.server)
            for number, options in enumerate(changes)
        ]
        statuses = [command.wait() for command in commands]
        for status, command in zip(statuses, commands, strict=True):
            assert status in FINISHED, command.output[-2000:]
            assert "Traceback" not in command.output
        return commands


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[tuple[Launcher, dict[str, str]]]:
    with shared_prefect_server(tmp_path_factory.mktemp("server")) as server, Launcher() as launcher:
        yield launcher, server


@pytest.fixture
def pair(service, tmp_path) -> Pair:
    return Pair(*service, tmp_path)


def test_two_runs_of_the_same_settings_register_one_version(pair: Pair):
    pair.run([], [])
    assert query(pair.store / "mlflow.db", "select version from model_versions") == [(1,)]
    once = outcome(pair.store)
    assert once.champion == once.versions == (once.manifest,)
    assert defects(pair.store, once) == []
    pair.run([])
    assert outcome(pair.store) == once


def test_two_runs_of_other_settings_register_a_version_each_and_one_is_the_champion(pair: Pair):
    pair.run(["--set", "training.seed=1"], ["--set", "training.seed=2"])
    assert query(pair.store / "mlflow.db", "select version from model_versions order by version") == [(1,), (2,)]
    both = outcome(pair.store)
    assert both.versions == (both.manifest, both.manifest)
    assert both.champion == (both.manifest,)
    assert defects(pair.store, both) == []
    champion = read_champion(connect(RegistryConfig(), Store(pair.store)), "heartbeat")
    first, *later = champion.moves
    assert first.before is None
    assert [move.before for move in later] == [move.after for move in champion.moves[:-1]]
    assert champion.moves[-1].after == champion.version
    assert champion.intended is None
