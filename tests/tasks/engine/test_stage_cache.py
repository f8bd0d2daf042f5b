"""Which cached results a stage uses: those that can be decoded, have the declared type, and whose files are intact."""

import errno
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from prefect import Task, flow
from prefect.results import ResultStore
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
        def body(inputs: str, store: Store) -> ValidationResult:
            self.ran += 1
            file = store.write_bytes("t", ".txt", inputs.encode())
            return ValidationResult(accepted=file, quarantine=file, checks=file, data_docs="", inputs=inputs)

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


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("tasks.results.Validation", "tasks.gone.Validation"),  # decoded as a dict
        lambda text: text.replace("quarantine", "renamed"),  # of another schema
        lambda text: text[: len(text) // 2],  # torn
        lambda text: text + "x",
    ],
)
def test_a_record_that_is_not_a_result_of_the_stage_is_replaced_once(counted: Counted, change: Callable[[str], str]):
    root = str(counted.store.root)
    (record,) = (p for p in Path(PREFECT_LOCAL_STORAGE_PATH.value()).iterdir() if root in p.read_text())
    text = record.read_text()
    assert change(text) != text
    record.write_text(change(text))
    assert [type(counted.run()) for _ in range(3)] == [ValidationResult] * 3
    assert counted.ran == 2


def test_an_io_error_in_the_check_is_retried_and_nothing_computed_again(counted: Counted, monkeypatch):
    intact, calls = Store.intact, []

    def fails_once(store: Store, artifact: Artifact) -> bool:
        calls.append(artifact)
        if len(calls) == 1:
            raise OSError(errno.EIO, "the network drive stutters")
        return intact(store, artifact)

    monkeypatch.setattr(Store, "intact", fails_once)
    assert isinstance(counted.run(), ValidationResult)
    assert (counted.ran, len(calls)) == (1, 1 + 3)


@pytest.mark.parametrize(
    ("owner", "method", "error"),
    [
        (Store, "intact", OSError(errno.EIO, "the network drive is gone")),
        (ResultStore, "read", PermissionError(errno.EACCES, "the results are not readable")),
    ],
)
def test_a_lasting_io_error_fails_the_stage(counted: Counted, monkeypatch, owner: type, method: str, error: OSError):
    def fails(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(owner, method, fails)
        with pytest.raises(type(error), match=error.strerror):
            counted.run()
    counted.run()
    assert counted.ran == 1


def test_an_input_without_fingerprint_fails_the_stage(counted: Counted):
    with pytest.raises(TypeError, match="set has no fingerprint"):
        flow(lambda: counted.task({"a"}, counted.store), name="unkeyed")()
    assert counted.ran == 1


def test_the_classes_of_stages_results_are_in_modules_that_stay():
    modules = [import_module(f"tasks.{path.stem}") for path in Path(tasks.__file__).parent.glob("[a-z]*.py")]
    policies = [getattr(value, "cache_policy", None) for module in modules for value in vars(module).values()]
    returned = {policy.stage: policy.returns for policy in policies if isinstance(policy, StageKey)}
    assert returned.keys() == STAGES.keys() - {"champion predictions", "demo recordings", "scores"}
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
