"""`heartbeat champion`: choices are recorded and shown; what cannot be done is said in one sentence."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.cli import champion
from heartdata.config import RegistryConfig
from heartdata.storage.store import Store
from tasks.registry.client import connect
from tasks.registry.locations import relocate


@pytest.fixture(scope="module")
def three_versions(tmp_path_factory) -> Path:
    """A store whose registry has three versions of one model, the last of which is the challenger."""
    store = Store(tmp_path_factory.mktemp("registry")).open()
    client = connect(RegistryConfig(), store)
    client.create_registered_model("murmurs")
    for _ in range(3):
        client.create_model_version("murmurs", source=store.uri)
    client.set_registered_model_alias("murmurs", "challenger", "3")
    client.set_model_version_tag("murmurs", "3", "promotion.outcome", "kept")
    client.set_model_version_tag("murmurs", "3", "promotion.reason", "macro-F1 .61 against .60")
    return store.root


@pytest.fixture
def heartbeat(heartbeat, three_versions: Path, tmp_path: Path, monkeypatch):
    """The command, on a store of its own."""
    shutil.copytree(three_versions, tmp_path / "store")
    relocate(Store(tmp_path / "store"))
    monkeypatch.setenv("HEARTBEAT_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(champion, "prepare_environment", lambda store: None)  # this process is prepared

    def run(*arguments: object) -> tuple[int, str]:
        status, err, out = heartbeat("champion", *arguments)
        return status, " ".join((err + out).split())

    return run


def test_choices_are_made_taken_back_and_shown(heartbeat: Any):
    assert heartbeat("history") == (0, "murmurs has had no champion")
    assert (
        "murmurs has no champion Challenger murmurs version 3 Decision of the rule on version 3: kept: macro"
        in heartbeat("show")[1]
    )
    assert heartbeat("promote", 2, "--reason", "heard [both]\n twice")[0] == 0
    status, shown = heartbeat("promote", "3", "--reason", "newer", "--model", "models:/murmurs@challenger")
    assert (status, "is version 3, before: version 2." in shown) == (0, True)
    assert "is version 2, before: version 3." in heartbeat("rollback", "--reason", "false alarms")[1]
    _, shown = heartbeat("show")
    assert "Champion murmurs version 2" in shown
    assert "UTC, by rollback of " in shown
    assert "Reason false alarms" in shown
    _, shown = heartbeat("history")
    assert [shown.index(text) for text in ("heard [both] twice", "newer", "false alarms")] == sorted(
        shown.index(text) for text in ("heard [both] twice", "newer", "false alarms")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "9", "--reason", "x"], "murmurs has no version 9; there are: 3, 2, 1"),
        (["promote", "1", "--reason", " "], "say why with --reason"),
        (["promote", "1", "--reason", "x", "--model", "other"], "no registered model 'other'; there are: murmurs"),
        (["rollback"], "murmurs has no champion: there is nothing to take back"),
        (["show", "--store", "{folder}/new"], "no model is registered in {folder}/new: run `heartbeat run` first"),
        (["promote", "1"], "heartbeat: missing option '--reason': see `heartbeat champion promote --help`"),
        (["promote", "x", "--reason", "y"], "heartbeat: invalid value for 'version': "),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], message: str, heartbeat: Any, tmp_path: Path):
    status, shown = heartbeat(*(a.format(folder=tmp_path) for a in arguments))
    assert status == 2
    assert message.format(folder=tmp_path) in shown


def test_nothing_is_recorded_where_nothing_changes(heartbeat: Any):
    heartbeat("promote", "1", "--reason", "x")
    status, shown = heartbeat("promote", "1", "--reason", "y")
    assert (status, "murmurs version 1 is the champion already" in shown) == (2, True)
    status, shown = heartbeat("rollback")
    assert (status, "murmurs had no champion before version 1 (versions rolled back from do not count)" in shown) == (
        2,
        True,
    )
    assert "y" not in heartbeat("history")[1].split()


def test_a_choice_by_hand_is_told_from_the_rules_decision(heartbeat: Any):
    assert "after that" not in heartbeat("show")[1]
    heartbeat("promote", "3", "--reason", "few subjects")
    _, shown = heartbeat("show")
    assert (
        "Decision of the rule on version 3: kept: macro-F1 .61 against .60 after that the champion was chosen by hand, 20"
        in shown
    )


def test_the_chosen_model_is_named_where_there_are_several(heartbeat: Any, tmp_path: Path):
    client = connect(RegistryConfig(), Store(tmp_path / "store").open())
    client.create_registered_model("heartbeat-demo")
    assert "note this is murmurs, of 2 models; --model chooses another" in heartbeat("show")[1]
    assert "of 2 models" not in heartbeat("show", "--model", "murmurs")[1]
