"""What all stages share, without a server: keys see content and settings, never paths; retries; results verified."""

import errno
from pathlib import Path

import pyarrow as pa
import pytest
from prefect.states import Failed
from prefect.task_engine import TaskRunTimeoutError

from heartdata.audio.measurements import MeasureConfig
from heartdata.config_file import build_config
from heartdata.errors import DataRefused
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store
from tasks.engine.stage import artifacts_in, files_intact, fingerprint, is_transient
from tasks.results import InitialWeights, ValidationResult


def test_key_ignores_where_files_lie():
    here, there = Shard(3, (("ab" * 32, "/data/a.wav"),)), Shard(3, (("ab" * 32, "/moved/a.wav"),))
    other = Shard(3, (("cd" * 32, "/data/a.wav"),))
    assert fingerprint(here) == fingerprint(there) != fingerprint(other)


def test_key_sees_every_setting():
    assert fingerprint(MeasureConfig()) == fingerprint(MeasureConfig(clip_level=0.999))
    assert fingerprint(MeasureConfig()) != fingerprint(MeasureConfig(clip_level=0.99))


def test_key_ignores_words_for_people():
    offline, refused = (InitialWeights(kind="random", note=note) for note in ("no route", "HTTP 503"))
    assert fingerprint(offline) == fingerprint(refused) != fingerprint(InitialWeights(kind="imagenet"))


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError(errno.EIO, "the disk stutters"), True),
        (TimeoutError("the storage does not answer"), True),
        (OSError(errno.ENOSPC, "no space left"), False),
        (TaskRunTimeoutError("took longer than its stage may"), False),
        (DataRefused("too few recordings"), False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(error: Exception, again: bool):
    assert is_transient(None, None, Failed(data=error)) is again


def test_input_without_fingerprint_is_refused():
    with pytest.raises(TypeError, match="set has no fingerprint"):
        fingerprint({"a", "b"})


def test_result_is_intact_only_while_all_its_files_are(store: Store):
    schema = pa.schema([("x", pa.int64())])
    one, two = (store.write_table("t", pa.table({"x": [i]}), schema) for i in (1, 2))
    result = ValidationResult(accepted=one, quarantine=two, checks=two, docs="d", of="x")
    assert list(artifacts_in([result, {"a": one}])) == [one, two, two, one]
    assert files_intact(result, store)
    path = store.local(two.name)
    path.write_bytes(path.read_bytes()[:-10])
    assert not files_intact(result, store)
    assert not files_intact(Artifact(name="t/absent.parquet", digest="0", rows=0), store)


def test_run_configuration_fingerprint_is_stable(tmp_path: Path):
    assert build_config("demo").digest() == build_config("demo").digest()
    assert build_config("demo").digest() != build_config("demo", changes={"training.seed": 1}).digest()
