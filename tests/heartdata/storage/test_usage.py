"""Bytes by kind and by night, of files with known times."""

import pytest

from heartdata.storage.remote import StoredFile
from heartdata.storage.usage import DAY_S, nightly_bytes, usage

NOW_S = 1_800_000_000.0


def file(name: str, size: int, days_ago: float) -> StoredFile:
    return StoredFile(name, size, NOW_S - days_ago * DAY_S)


def test_every_file_is_of_one_kind():
    files = [file("spectrograms/v1/0.npy", 100, 0), file("models/a.safetensors", 20, 0), file("initial/b", 2, 0),
             file("mlflow.db", 7, 0), file("prefect/prefect.db-wal", 3, 0), file("facts/a.parquet", 5, 0)]  # fmt: skip
    sizes = {kind.kind: kind.size_bytes for kind in usage(files, NOW_S)}
    assert {kind: size for kind, size in sizes.items() if size} == {
        "spectrograms": 100, "weights": 20, "initial weights": 2, "MLflow's database": 7, "Prefect's database": 3,
        "tables and plots": 5,
    }  # fmt: skip
    assert sum(sizes.values()) == sum(each.size_bytes for each in files)


def test_the_growth_of_a_night_is_that_of_the_last_week_without_the_first_day():
    files = [
        file("models/first", 1000, 10),
        *(file(f"models/{day}", 50, day) for day in range(7)),
        file("mlflow.db", 300, 0),
    ]
    growth = {kind.kind: kind.nightly_bytes for kind in usage(files, NOW_S)}
    assert growth["weights"] == 50
    assert growth["MLflow's database"] == 30
    assert growth["logs"] == 0
    assert nightly_bytes(usage(files, NOW_S)) == 80


@pytest.mark.parametrize("files", [[], [file("models/a", 1000, 1.5), file("models/b", 1000, 0.1)]])
def test_the_growth_of_a_young_store_is_unknown(files: list[StoredFile]):
    assert {kind.nightly_bytes for kind in usage(files, NOW_S)} == {None}
    assert nightly_bytes(usage(files, NOW_S)) is None


def test_a_young_store_counts_from_its_second_day():
    files = [file("models/first", 1000, 3), file("models/a", 60, 1.5), file("models/b", 60, 0.5)]
    growth = {kind.kind: kind.nightly_bytes for kind in usage(files, NOW_S)}
    assert growth["weights"] == 60
