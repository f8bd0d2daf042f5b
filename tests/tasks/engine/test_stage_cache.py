"""What a stage believes of its cached results: only what can be decoded, has the declared type and has its files."""

import errno
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from prefect import Task, flow
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

import tasks
from heartdata.storage.store import Artifact, Store
from tasks.engine.stage import StageKey, has_type, stage
from tasks.engine.versions import STAGES
from tasks.results import ValidationResult

pytestmark = pytest.mark.usefixtures("prefect_server")


class Counted:
    """A stage that counts how often its body ran."""

    def __init__(self, store: Store) -> None:
        self.ran, self.store = 0, store

        @stage("subjects apart")
        def body(of: str, store: Store) -> ValidationResult:
            self.ran += 1
            file = store.write_bytes("t", ".txt", of.encode())
            return ValidationResult(accepted=file, quarantine=file, checks=file, docs="", of=of)

        self.task: Task = body.with_options(retry_delay_seconds=0)

    def run(self) -> ValidationResult:
        return flow(lambda: self.task(str(self.store.root), self.store), name="counted", validate_parameters=False)()


@pytest.fixture
def counted(store: Store) -> Counted:
    """A stage whose result is cached."""
    stage_run = Counted(store)
    stage_run.run()
    stage_run.run()
    assert stage_run.ran == 1
    return stage_run


def edit_record(change: Callable[[str], str], store: Store) -> None:
    """Change the text of the stage's records in Prefect's result storage."""
    files = [p for p in Path(PREFECT_LOCAL_STORAGE_PATH.value()).iterdir() if str(store.root) in p.read_text()]
    assert files
    for path in files:
        path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("tasks.results.Checked", "tasks.gone.Checked"),  # decoded as a dict
        lambda text: text.replace("quarantine", "renamed"),  # of another schema
        lambda text: text[: len(text) // 2],  # torn
        lambda text: text + "x",
    ],
)
def test_a_record_that_is_no_result_of_the_stage_is_made_again_once(counted: Counted, change: Callable[[str], str]):
    edit_record(change, counted.store)
    assert [type(counted.run()) for _ in range(3)] == [ValidationResult] * 3
    assert counted.ran == 2


def test_an_io_error_in_the_check_is_retried_and_nothing_made_again(counted: Counted, monkeypatch):
    intact, calls = Store.intact, []

    def stutters(store: Store, artifact: Artifact) -> bool:
        calls.append(artifact)
        if len(calls) == 1:
            raise OSError(errno.EIO, "the network drive stutters")
        return intact(store, artifact)

    monkeypatch.setattr(Store, "intact", stutters)
    assert isinstance(counted.run(), ValidationResult)
    assert (counted.ran, len(calls)) == (1, 1 + 3)


def test_a_lasting_io_error_in_the_check_fails_the_stage(counted: Counted, monkeypatch):
    def fails(store: Store, artifact: Artifact) -> bool:
        raise OSError(errno.EIO, "the network drive is gone")

    with monkeypatch.context() as broken:
        broken.setattr(Store, "intact", fails)
        with pytest.raises(OSError, match="the network drive is gone"):
            counted.run()
    counted.run()
    assert counted.ran == 1


def test_a_record_that_cannot_be_read_now_fails_the_stage(counted: Counted, monkeypatch):
    from prefect.results import ResultStore

    def fails(store: ResultStore, key: str, holder: str | None = None) -> None:
        raise PermissionError(errno.EACCES, "the results are not readable")

    monkeypatch.setattr(ResultStore, "read", fails)
    with pytest.raises(PermissionError, match="not readable"):
        counted.run()
    assert counted.ran == 1


def test_an_input_without_fingerprint_fails_the_stage(counted: Counted):
    with pytest.raises(TypeError, match="set has no fingerprint"):
        flow(lambda: counted.task({"a"}, counted.store), name="unkeyed")()
    assert counted.ran == 1


def test_what_stages_return_has_names_that_stay():
    modules = [import_module(f"tasks.{path.stem}") for path in Path(tasks.__file__).parent.glob("[a-z]*.py")]
    policies = [getattr(value, "cache_policy", None) for module in modules for value in vars(module).values()]
    returned = {policy.stage: policy.returns for policy in policies if isinstance(policy, StageKey)}
    assert returned.keys() == STAGES.keys() - {"demo recordings"}
    assert {kind.__module__ for kind in returned.values()} == {"tasks.results", "heartdata.storage.store"}


@pytest.mark.parametrize(
    ("declared", "as_declared"),
    [
        (Artifact, True),
        (Artifact | None, True),
        (ValidationResult, False),
        (list[Artifact], False),
        (dict, False),
        (tuple[Artifact, ...], False),
    ],
)
def test_a_result_has_the_declared_type_or_not(declared: type, as_declared: bool):
    artifact = Artifact(name="a", digest="b", rows=0)
    assert has_type(artifact, declared) is as_declared
    assert has_type([artifact], list[declared]) is as_declared
    assert has_type([artifact], tuple[declared, ...]) is as_declared
    assert not has_type(artifact.model_dump(), declared) or declared is dict
