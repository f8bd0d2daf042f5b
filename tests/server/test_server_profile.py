"""docs/server.md, carried out: the same results as in a folder, on several machines, and no password in any record."""

import contextlib
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from helpers import TINY, beats, write_wav
from server.profile_servers import SECRETS, Machine, Profile, commands, page_settings, parameter, running

from flows.cli.exit_codes import ExitCode

pytestmark = pytest.mark.unattended
ENDED = [ExitCode.DONE, ExitCode.NOTHING_NEW]
CHANGES = {**TINY, "registry.first_champion": "always"}
OPTIONS = " ".join(f"--set {name}={str(value).replace(' ', '')}" for name, value in CHANGES.items())
METRICS = """select key, value from latest_metrics join model_versions on run_id = run_uuid
where name = 'heartbeat-demo' and version = 1 and key like 'test%'"""
PREPARE = """python -c "
from flows.pipeline import prepare
from heartdata.config_file import build_config
changes = {changes!r}
print('data set', prepare(build_config('demo', changes=changes)).digest)
" """


@pytest.fixture(scope="module")
def first_run(profile: Profile) -> Profile:
    """The profile once its deployment has run on a worker."""
    admin = profile.machine("admin")
    for command in commands("once", profile):
        admin.run(command)
    worker = profile.machine("worker")
    (start,) = commands("worker", profile)
    with running(worker, start, worker.folder / "worker.log"):
        admin.run(f"prefect deployment run heartbeat/full-pipeline --watch -p '{parameter(CHANGES)}'")
    return profile


def data_set(profile: Profile) -> str:
    """The data set version of version 1."""
    (row,) = profile.database.rows(
        "mlflow",
        "select value from model_version_tags where name = 'heartbeat-demo' and key = 'dataset_version' and version = 1",
    )
    return row[0]


def test_a_worker_on_the_servers_gives_what_a_folder_gives(first_run: Profile, tmp_path: Path):
    alone = Machine(tmp_path, {name: value for name, value in first_run.machine("alone").environment.items()
                               if name not in page_settings("heartbeat.env")})  # fmt: skip
    alone.run(f"heartbeat run --store {tmp_path / 'out'} {OPTIONS}")
    on_servers = first_run.database.rows("mlflow", METRICS)
    assert len(on_servers) > 20
    with contextlib.closing(sqlite3.connect(tmp_path / "out" / "mlflow.db")) as own:
        assert sorted(on_servers) == sorted(own.execute(METRICS))
    manifest = tmp_path / "out" / "manifest" / f"{data_set(first_run)[:20]}.parquet"
    assert manifest.is_file()


def test_another_machine_computes_nothing_again_and_uses_the_champion(first_run: Profile, tmp_path: Path):
    laptop = first_run.machine("laptop")
    text = laptop.run(f"heartbeat run {OPTIONS}", [ExitCode.NOTHING_NEW])
    assert re.search(r"train +unchanged", text)
    assert "Nothing new since heartbeat-demo version 1" in text
    assert "heartbeat-demo version 1" in laptop.run("heartbeat champion show --model heartbeat-demo")
    write_wav(tmp_path / "a.wav", beats())
    model = "models:/heartbeat-demo@champion"
    laptop.run(f"heartbeat predict {tmp_path / 'a.wav'} --model {model} --out {tmp_path / 'predictions.csv'}")
    assert "models:/heartbeat-demo/1" in (tmp_path / "predictions.csv").read_text()


def test_two_machines_that_train_the_same_at_once_make_one_version(first_run: Profile):
    machines = [first_run.machine(name) for name in ("first", "second")]
    command = f"heartbeat run {OPTIONS} --set training.seed=1 --set registry.model_name=both"
    with running(machines[0], command, machines[0].folder / "run.log") as other:
        machines[1].run(command, ENDED)
        assert other.wait(300) in ENDED
    rows = first_run.database.rows("mlflow", "select version from model_versions where name = 'both'")
    assert rows == [(1,)]
    aliases = "select alias, version from registered_model_aliases where name = 'both'"
    assert sorted(first_run.database.rows("mlflow", aliases)) == [("challenger", 1), ("champion", 1)]


def test_dask_workers_of_another_machine_write_the_same_data_set(first_run: Profile):
    computing, asking = first_run.machine("dask"), first_run.machine("asking")
    scheduler, worker = commands("dask", first_run)
    address = first_run.filled("tcp://DASK_HOST:8786")
    changes = {**CHANGES, "store": "s3://bucket/dask", "engine.name": "dask", "engine.address": address}
    with (
        running(computing, scheduler, computing.folder / "scheduler.log"),
        running(computing, worker, computing.folder / "dask-worker.log"),
    ):
        text = asking.run(PREPARE.format(changes=changes))
    assert f"data set {data_set(first_run)}" in text
    assert list((computing.folder / "work").rglob("*.npy"))  # there, not where the flow ran


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_prune_removes_old_versions_and_shards_from_the_bucket(first_run: Profile):
    admin = first_run.machine("admin")
    admin.run("python -m server.small_versions")
    orphan = "store/spectrograms/v0-old/0000of0016-0000000000000000.npy"
    first_run.s3.put_object(Bucket="bucket", Key=orphan, Body=b"of a killed run")
    before = first_run.objects()
    options = "--set registry.model_name=small --set retention.versions=1 --set retention.data_sets=1"
    admin.run(f"faketime -f +3d heartbeat prune --yes {options}")
    gone = before - first_run.objects()
    assert orphan in gone
    query = "select name, version from model_versions where name = 'small' and current_stage <> 'Deleted_Internal'"
    versions = first_run.database.rows("mlflow", query)
    assert versions == [("small", 3)]
    assert len([key for key in gone if key.endswith("/artifacts/MLmodel")]) == 2
    assert not [key for key in gone if key.startswith("store/") and key != orphan]


def test_no_password_is_in_a_record_a_log_or_the_bucket(first_run: Profile):
    secrets = [form.encode() for value in SECRETS.values() for form in {value, value.replace("%40", "@")}]
    places = {f"database {name}": first_run.database.dump(name).encode() for name in ("prefect", "mlflow")}
    places |= {key: first_run.read(key) for key in first_run.objects()}
    places |= {str(path): path.read_bytes() for path in first_run.folder.rglob("*") if path.is_file()}
    assert len(places) > 100
    assert [place for place, content in places.items() if any(secret in content for secret in secrets)] == []
    results = [content for key, content in places.items() if key.startswith("results/")]
    assert results
    assert all(content.startswith(b"{") for content in results)  # JSON, no pickle
