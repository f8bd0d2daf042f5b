"""A night on which too little is new prepares the data, says what waits, and trains nothing."""

from pathlib import Path
from typing import Any

import pytest

from heartdata.config import RunConfig
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Artifact, Store, table_from_rows
from tasks.registry.client import CHALLENGER, RECIPE_TAG, connect
from tasks.retrain import is_enough, recipe_digest, what_waits


def manifest(store: Store, subjects: dict[str, list[str]]) -> Artifact:
    """A data set of recordings (by subject, each named by its sha256), of which those that end in ! are murmurs."""
    rows = [
        {"recording_id": name, "sha256": name.rstrip("!"), "source": "s", "subject": subject,
         "label": "murmur" if name.endswith("!") else "normal", "part": "train"}
        for subject, names in subjects.items() for name in names
    ]  # fmt: skip
    return store.write_table("manifest", table_from_rows(rows, MANIFEST), MANIFEST)


def config(store: Store, **retrain: Any) -> RunConfig:
    return RunConfig.model_validate({"source": {"name": "demo"}, "store": store.uri, "retrain": retrain})


@pytest.fixture
def store(registry_store: Store, tmp_path: Path) -> Store:
    """A store whose challenger was trained on two recordings of one subject."""
    settings = config(registry_store)
    client = connect(settings.registry, registry_store)
    client.create_registered_model(settings.registry.model_name)
    digest = manifest(registry_store, {"p1": ["a", "b"]}).digest
    tags = {"dataset_version": digest, RECIPE_TAG: recipe_digest(settings)}
    version = client.create_model_version(settings.registry.model_name, source=str(tmp_path), tags=tags).version
    client.set_registered_model_alias(settings.registry.model_name, CHALLENGER, version)
    return registry_store


def test_too_few_new_recordings_or_subjects_wait_and_a_notice_says_so(store: Store):
    data = manifest(store, {"p1": ["a", "b!", "c"], "p2": ["d"]})
    assert what_waits.fn(data, config(store), store) is None  # by default any change
    assert not config(store).retrain.waits
    assert what_waits.fn(data, config(store, min_new_recordings=3), store) is None  # b has another label
    assert what_waits.fn(data, config(store, min_new_subjects=1), store) is None
    latest = store.workpath("latest")
    latest.mkdir()
    (latest / "summary.md").write_text("# summary")
    waiting = what_waits.fn(data, config(store, min_new_recordings=3, min_new_subjects=2), store)
    assert waiting is not None
    assert "3 recordings and 1 subjects are new and wait" in waiting.reason
    assert "retrain.min_new_recordings = 3, retrain.min_new_subjects = 2" in waiting.reason
    page = (latest / "summary.md").read_text()
    assert page.startswith("# The last run trained nothing: source demo, 2")
    assert page.endswith("# summary")


def test_the_same_data_other_settings_and_a_model_without_a_recipe_do_not_wait(store: Store):
    same, more = manifest(store, {"p1": ["a", "b"]}), manifest(store, {"p1": ["a", "b", "c"]})
    patient = config(store, min_new_recordings=10)
    assert what_waits.fn(more, patient, store) is not None
    assert what_waits.fn(same, patient, store) is None
    other = patient.model_copy(update={"training": patient.training.model_copy(update={"seed": 7})})
    assert what_waits.fn(more, other, store) is None
    client = connect(patient.registry, store)
    client.delete_model_version_tag(patient.registry.model_name, "1", RECIPE_TAG)
    assert what_waits.fn(more, patient, store) is None


@pytest.mark.parametrize(
    ("recordings", "subjects", "age_days", "enough"),
    [(5, 2, 0, True), (4, 2, 0, False), (5, 1, 0, False), (1, 0, 29, False), (1, 0, 30, True)],
)
def test_both_bounds_must_be_met_or_the_age(recordings: int, subjects: int, age_days: float, enough: bool):
    settings = RunConfig.model_validate(
        {"retrain": {"min_new_recordings": 5, "min_new_subjects": 2, "max_age_days": 30}}
    ).retrain
    assert is_enough(settings, recordings, subjects, age_days) is enough


def test_a_damaged_table_of_the_last_data_set_does_not_wait(store: Store):
    more = manifest(store, {"p1": ["a", "b", "c"]})
    (earlier,) = [e.name for e in store.entries("manifest") if e.name != more.name]
    store.workpath(earlier).write_bytes(b"damaged")
    assert what_waits.fn(more, config(store, min_new_recordings=10), store) is None
