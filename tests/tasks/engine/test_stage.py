"""Cache keys of contents and settings, which errors are retried, and whether a result's files are intact; no server."""

import errno

import pytest
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed
from prefect.task_engine import TaskRunTimeoutError

from heartdata.audio.measurements import MeasureConfig
from heartdata.errors import DataRefused
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store
from tasks.engine.stage import artifacts_in, files_intact, fingerprint, is_transient
from tasks.measure import find_facts, gather_facts
from tasks.results import InitialWeights, ValidationResult
from tasks.spectrograms import gather_spectrograms
from tasks.train import initial_weights
from tasks.validate import last_accepted


def test_keys_ignore_paths():
    shard, moved = Shard(3, (("ab" * 32, "/data/a.wav"),)), Shard(3, (("ab" * 32, "/moved/a.wav"),))
    assert fingerprint(shard) == fingerprint(moved) != fingerprint(Shard(3, (("cd" * 32, "/data/a.wav"),)))


def test_keys_include_every_setting():
    assert fingerprint(MeasureConfig()) == fingerprint(MeasureConfig(clip_level=0.999))
    assert fingerprint(MeasureConfig()) != fingerprint(MeasureConfig(clip_level=0.99))


def test_keys_ignore_notes_for_people():
    offline, refused = (InitialWeights(kind="random", note=note) for note in ("no route", "HTTP 503"))
    assert fingerprint(offline) == fingerprint(refused) != fingerprint(InitialWeights(kind="imagenet"))


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (OSError(errno.EIO, "the disk stutters"), True),
        (TimeoutError("the storage does not answer"), True),
        (OSError(errno.ENOSPC, "no space left"), False),
        (TaskRunTimeoutError("took longer than its stage may"), False),
        (DataRefused("too few recordings"), False),
    ],
)
def test_only_transient_errors_are_retried(error: Exception, retried: bool):
    assert is_transient(None, None, Failed(data=error)) is retried


@pytest.mark.parametrize("task", [find_facts, gather_facts, gather_spectrograms, initial_weights, last_accepted])
def test_uncached_tasks_too_retry_only_transient_errors(task: Task):
    assert task.cache_policy == NO_CACHE
    assert task.retries > 0
    assert task.retry_condition_fn is is_transient


def test_a_result_is_intact_only_while_all_its_files_are(store: Store):
    one, two = (store.write_bytes("t", ".txt", content) for content in (b"one", b"two"))
    result = ValidationResult(accepted=one, quarantine=two, checks=two, data_docs="d", inputs="x")
    assert list(artifacts_in([result, {"a": one}])) == [one, two, two, one]
    assert files_intact(result, store)
    store.local(two.name).write_bytes(b"tw")
    assert not files_intact(result, store)
    assert not files_intact(Artifact(name="t/absent.parquet", digest="0", rows=0), store)
