"""The pipeline on an S3 bucket (moto's server on loopback): the same data set as in a folder; failures and messages."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from helpers import beats, tiny, write_wav
from mlflow.entities import ViewType
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from flows.pipeline import heartbeat
from heartdata.audio import decode
from heartdata.audio.measurements import MeasureConfig, measure_file
from heartdata.config import RunConfig
from heartdata.dataset.inventory import take_inventory
from heartdata.dataset.prune import DAY_S
from heartdata.errors import BadAudio, SourceError, StoreError
from heartdata.sources import TableSource
from heartdata.storage import hash_cache, remote
from heartdata.storage.store import Store, sha256_file
from tasks import prune
from tasks.engine import progress
from tasks.registry.client import KEY_TAG, connect

REWRITTEN = re.compile(r"(recordings|facts|spectrograms)/\w+\.parquet|accepted/last-\w+\.json|\.heartbeat")


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[object]:
    """A client of a server with two buckets, ``bucket`` and ``recordings``; to which the environment points s3fs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
        "HEARTBEAT_WORK": str(tmp_path_factory.mktemp("work")),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        for name in ("bucket", "recordings"):
            client.create_bucket(Bucket=name)
        yield client
    server.stop()


@pytest.fixture
def bucket(s3, request) -> Store:
    """An empty store in the bucket."""
    return Store(f"s3://bucket/{request.node.name}").open()


@pytest.fixture(scope="module")
def first_run(s3, prefect_server) -> tuple[Store, object]:
    """A store in the bucket after one run, and the run's summary."""
    progress.begin()
    store = Store("s3://bucket/some folder/run")
    return store, heartbeat(tiny(store.uri))


def contents(store: Store, *folders: str) -> dict[str, bytes]:
    return {e.name: store.local(e.name).read_bytes() for folder in folders for e in store.entries(folder)}


def test_a_bucket_holds_what_a_folder_would(first_run, tmp_path: Path):
    store, summary = first_run
    folder = Store(tmp_path / "folder")
    assert heartbeat(tiny(folder.root)).dataset_version == summary.dataset_version
    stages = ("spectrograms", "manifest", "splits", "facts", "quarantine", "initial")
    assert contents(store, *stages) == contents(folder, *stages)
    assert not list(store.root.glob(".unfinished*"))
    assert {path.name for path in store.root.iterdir()} >= {"latest", "mlflow.db", "data-docs", "objects"}
    assert (Path(summary.latest) / "manifest.parquet").is_file()


def test_a_second_run_writes_only_what_no_run_caches(first_run):
    store, summary = first_run
    before = set(store.entries(""))
    assert heartbeat(tiny(store.uri)).model_version == summary.model_version == 1
    assert [e.name for e in set(store.entries("")) - before if not REWRITTEN.fullmatch(e.name)] == []


def test_lost_and_damaged_objects_are_replaced(first_run, s3):
    store, summary = first_run
    shards = [e.name for e in store.entries("spectrograms") if e.name.endswith(".npy")]
    whole = contents(store, "spectrograms")
    keys = [store.address(name).removeprefix("s3://bucket/") for name in shards]
    s3.delete_object(Bucket="bucket", Key=keys[0])
    s3.put_object(Bucket="bucket", Key=keys[1], Body=whole[shards[1]][:-7] + b"damaged")
    assert heartbeat(tiny(store.uri)).dataset_version == summary.dataset_version
    assert contents(store, "spectrograms") == whole


def test_a_failed_upload_leaves_no_object(bucket: Store, monkeypatch):
    files, _ = remote.file_system(bucket.uri)
    monkeypatch.setattr(files, "put_file", lambda *args: (_ for _ in ()).throw(ConnectionResetError("gone")))
    with pytest.raises(OSError, match="gone"):
        bucket.write_bytes("x", ".npy", b"whole")
    assert bucket.entries("x") == []


def test_a_failed_multipart_upload_leaves_no_object(bucket: Store, s3, monkeypatch):
    files, _ = remote.file_system(bucket.uri)
    call, parts = files._call_s3, []

    async def failing(method, *args, **kwargs):
        if method == "upload_part":
            parts.append(method)
            if len(parts) > 1:
                raise ConnectionResetError("gone")
        return await call(method, *args, **kwargs)

    monkeypatch.setattr(files, "_call_s3", failing)
    with pytest.raises(OSError, match="gone"), bucket.writing("x/large.npy") as file:
        file.truncate(110 << 20)  # above what s3fs sends in one piece
    assert len(parts) > 1
    assert bucket.entries("x") == []
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")


def test_objects_of_other_writers_are_seen_at_once(bucket: Store, s3):
    key = bucket.address("x/a.bin").removeprefix("s3://bucket/")
    assert (bucket.exists("x/a.bin"), bucket.entries("x")) == (False, [])
    s3.put_object(Bucket="bucket", Key=key, Body=b"one")
    assert bucket.exists("x/a.bin")
    assert [e.size_bytes for e in bucket.entries("x")] == [3]
    assert bucket.local("x/a.bin").read_bytes() == b"one"
    s3.put_object(Bucket="bucket", Key=key, Body=b"two")
    assert bucket.local("x/a.bin").read_bytes() == b"two"
    (entry,) = bucket.entries("x")
    bucket.remove("x/a.bin", entry.modified_s - 10)
    assert bucket.exists("x/a.bin")
    bucket.remove("x/a.bin", entry.modified_s)
    assert not bucket.exists("x/a.bin")


def read_in_process(store: Store) -> bytes:
    return store.local("x/a.bin").read_bytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_store_works_in_another_process(bucket: Store, method: str):
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with bucket.writing("x/a.bin") as file:
        file.write(b"content")
    with ProcessPoolExecutor(1, get_context(method)) as pool:
        assert pool.submit(read_in_process, bucket).result(timeout=60) == b"content"


@pytest.fixture
def reconnect() -> Iterator[None]:
    """New connections, by the environment of the test."""
    S3FileSystem.clear_instance_cache()
    yield
    S3FileSystem.clear_instance_cache()


def test_a_missing_bucket_is_reported(s3):
    with pytest.raises(StoreError, match="bucket does not exist.*make the bucket, or choose another store"):
        Store("s3://absent/x").open()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "Could not connect to the endpoint URL.*AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, "Invalid endpoint: nonsense.*AWS_ENDPOINT_URL"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "Unable to locate credentials.*AWS_ACCESS_KEY_ID"),
        ({"AWS_PROFILE": "absent"}, "profile .absent. could not be found.*AWS_PROFILE"),
    ],
)
def test_a_wrong_environment_is_reported(s3, reconnect, monkeypatch, tmp_path: Path, changes, message: str):
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name, value in changes.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    with pytest.raises(StoreError, match=message):
        Store("s3://bucket/x").open()


def test_a_network_failure_is_an_os_error_and_so_retried(s3, reconnect, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="Could not connect"):
        Store("s3://bucket/x").exists("a")


def test_recordings_may_be_in_a_bucket(bucket: Store, s3, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(hash_cache, "SETTLED_NS", -1)
    sounds = {f"{i}.wav": write_wav(tmp_path / f"{i}.wav", beats(60 + i, 3.0)) for i in range(2)}
    for name, path in sounds.items():
        s3.upload_file(str(path), "recordings", name)
    names = [f"s3://recordings/{name}" for name in (*sounds, "absent.wav")]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(names)))

    def hashes() -> tuple[dict[str, str], int]:
        """Hash, or why there is none, by recording; and how many were computed."""
        cache = hash_cache.HashCache(bucket.workpath("seen.parquet"))
        table, _ = take_inventory(TableSource(data=tmp_path / "t.csv"), tmp_path, seen=cache)
        cache.save()
        return {row["recording_id"]: row["sha256"] or row["missing"] for row in table.to_pylist()}, cache.hashed

    first, hashed = hashes()
    assert hashed == 2
    assert first[names[2]].startswith(f"{names[2]} cannot be read")
    assert [first[name] for name in names[:2]] == [sha256_file(path) for path in sounds.values()]
    assert measure_file(names[0], first[names[0]], MeasureConfig())["duration_s"] == 3.0
    assert hashes() == (first, 0)
    s3.upload_file(str(sounds["1.wav"]), "recordings", "0.wav")
    assert hashes() == ({**first, names[0]: first[names[1]]}, 1)
    with pytest.raises(SourceError, match="changed during the run"):
        decode.read_bytes(names[0], first[names[0]])
    monkeypatch.setattr(decode, "MAX_BYTES", 100)
    with pytest.raises(BadAudio, match="more than a recording can be"):
        decode.read_bytes(names[0])


def test_a_password_in_a_table_is_refused(tmp_path: Path):
    (tmp_path / "t.csv").write_text("path,label\ns3://key:secret@bucket/a.wav,x\n")
    with pytest.raises(SourceError, match="password") as error:
        TableSource(data=tmp_path / "t.csv").listing(tmp_path)
    assert "secret" not in str(error.value)


def test_a_bucket_is_pruned_with_its_working_folder_and_artifacts_in_mlflow(bucket: Store, monkeypatch, tmp_path: Path):
    monkeypatch.setattr(prune, "_results_folder", lambda: tmp_path / "none")
    monkeypatch.setattr(prune, "remove_old_runs", lambda days: "")
    config = RunConfig.model_validate({"store": bucket.uri})
    client = connect(config.registry, bucket)
    experiment = client.create_experiment("heartbeat", f"{bucket.uri}-mlflow")
    run = client.create_run(experiment, tags={KEY_TAG: "k"}).info
    client.log_text(run.run_id, "text", "tables/t.txt")
    client.set_terminated(run.run_id, "FAILED")
    shard = "spectrograms/v0-old/0000of0016-0000000000000000.npy"
    for name in (shard, shard, "splits/a.parquet", "accepted/last-0.json"):
        with bucket.writing(name) as file:
            file.write(b"{}")
    log = bucket.workpath("logs/20260101-000000-1.log")
    log.parent.mkdir()
    log.write_text("x")
    later_s = time.time() + 100 * DAY_S
    plan = prune.plan_store(config, bucket, later_s)
    assert plan.version_bytes == (4,)
    assert {entry.name for entry in plan.files.files} == {shard, "logs/20260101-000000-1.log"}
    assert prune.remove(plan, config, bucket, lambda *_: None) == [prune.RESULTS_ELSEWHERE]
    kept = [".heartbeat", "accepted/last-0.json", "splits/a.parquet"]  # another machine's results may name the table
    assert [entry.name for entry in bucket.entries("")] == kept
    assert not log.exists()
    assert Store(f"{bucket.uri}-mlflow").entries("") == []
    assert client.search_runs([experiment], run_view_type=ViewType.ALL) == []
    assert sum(path.is_file() for path in bucket.root.joinpath("objects").rglob("*")) == 2  # of what is kept
