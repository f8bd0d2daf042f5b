"""Validation against recordings accepted earlier, and the refusal of tables that are unfit; by ``.fn``, without a server."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import beats, write_wav

from heartdata.audio.measurements import MeasureConfig
from heartdata.checks.suite import ValidationConfig
from heartdata.config import RegistryConfig
from heartdata.errors import DataRefused
from heartdata.sources import TableSource
from heartdata.storage.schemas import ACCEPTED
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store
from tasks.engine import progress
from tasks.inventory import inventory
from tasks.measure import file_shards, measure_shard
from tasks.registry.client import connect
from tasks.registry.previous import ACCEPTED_TAG, SERIES_TAG
from tasks.results import AcceptedRecord, PreviouslyAccepted
from tasks.validate import accept, last_accepted, record_name, validate


class Nightly:
    """A table of recordings that changes from run to run, and the stages up to validation."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.source = TableSource(data=folder / "recordings.csv")

    def table(self, labels: list[str]) -> None:
        rows = [{"path": f"{i}.wav", "label": label, "subject": i} for i, label in enumerate(labels)]
        for i in range(len(labels)):
            if not (self.folder / f"{i}.wav").exists():
                write_wav(self.folder / f"{i}.wav", beats(60 + 3 * i, 3.0, seed=i))
        pd.DataFrame(rows).to_csv(self.source.data, index=False)

    def inputs(self, config: ValidationConfig) -> tuple[Any, ...]:
        recordings = inventory.fn(self.source, self.store)
        files = tuple(file for shard in file_shards(recordings, self.store) for file in shard.recordings)
        return recordings, measure_shard.fn(Shard(0, files), MeasureConfig(), self.store), config, None

    def previous(self) -> PreviouslyAccepted:
        """What the next run's recordings are compared with, without the verdicts."""
        previous = last_accepted.fn(self.source, *self.inputs(ValidationConfig()), RegistryConfig(), self.store)
        return previous.model_copy(update={"verdicts": None})

    def run(self, pairs: int, **settings: Any) -> Artifact:
        """Validate a table with so many recordings of each of two classes; returns the accepted ones."""
        self.table(["normal", "murmur"] * pairs)
        return self.accept(**settings)

    def accept(self, **settings: Any) -> Artifact:
        inputs = self.inputs(ValidationConfig(**settings))
        previous = last_accepted.fn(self.source, *inputs, RegistryConfig(), self.store)
        return accept.fn(
            validate.fn(*inputs[:2], None, *inputs[2:], previous, self.store), inputs[0], self.source, None, self.store
        )


@pytest.fixture
def nightly(store: Store, tmp_path: Path) -> Nightly:
    return Nightly(store, tmp_path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["normal"] * 12, "at least two labels; these have: normal"),
        (["normal", "murmur"] * 2, "only 4 labelled recordings are left to train on, 10 are needed"),
    ],
)
def test_an_unfit_table_is_refused_in_a_sentence(nightly: Nightly, labels: list[str], message: str):
    nightly.table(labels)
    with pytest.raises(DataRefused, match=message) as refused:
        nightly.accept()
    assert Path(str(refused.value).rpartition(" ")[2]).is_file()  # the Data Docs
    assert nightly.store.workpath("latest/quarantine.csv").read_text().startswith("recording_id,")
    assert nightly.previous() == PreviouslyAccepted()


def test_a_note_says_where_copies_may_be_in_two_parts(nightly: Nightly):
    nightly.table(["normal", "murmur"] * 6)
    pd.read_csv(nightly.source.data).drop(columns="subject").to_csv(nightly.source.data, index=False)
    progress.clear_notes()
    nightly.accept(near_duplicates="off")
    assert "validation.near_duplicates=off, and 12 recordings have no subject: " in " ".join(progress.notes())


def test_accepted_recordings_are_compared_with_later_ones(nightly: Nightly):
    nightly.table(["normal", "murmur"] * 6)
    assert nightly.previous() == PreviouslyAccepted()
    first = nightly.accept()
    assert first.rows == 12
    assert (
        nightly.previous() == PreviouslyAccepted()
    )  # nothing new: the same comparison, so that the check stays cached
    nightly.table(["normal", "murmur"] * 7)
    assert nightly.previous() == PreviouslyAccepted(last=first, reference=first)


@pytest.mark.parametrize("fault", ["other schema", "damaged table", "damaged record"])
def test_unreadable_accepted_recordings_start_a_new_series_with_a_note(nightly: Nightly, fault: str):
    first, store = nightly.run(6), nightly.store
    record = store.workpath(record_name(nightly.source, None))
    if fault == "other schema":
        columns = store.read_table(first, ACCEPTED).drop_columns(["quality"])
        older = store.write_table("accepted", columns, columns.schema)
        record.write_text(AcceptedRecord(accepted=older, reference=older).model_dump_json())
    elif fault == "damaged table":
        store.local(first.name).write_bytes(b"damaged")
    else:
        record.write_text("{}")
    progress.clear_notes()
    tonight = nightly.run(7)
    (note,) = progress.notes()
    assert "cannot be read" in note
    progress.clear_notes()
    nightly.table(["normal", "murmur"] * 8)
    assert nightly.previous() == PreviouslyAccepted(last=tonight, reference=tonight)
    assert progress.notes() == []


def test_the_first_accepted_recordings_stay_the_reference_until_a_change_is_accepted(nightly: Nightly):
    first, second = nightly.run(6), nightly.run(7)
    nightly.table(["normal", "murmur"] * 8)
    assert nightly.previous() == PreviouslyAccepted(last=second, reference=first)
    third = nightly.run(8, accept_change=True)
    nightly.table(["normal", "murmur"] * 9)
    assert nightly.previous() == PreviouslyAccepted(last=third, reference=third)


def test_what_the_champion_was_trained_from_is_the_reference(registry_store: Store, tmp_path: Path):
    nightly = Nightly(registry_store, tmp_path)
    first, second = nightly.run(6), nightly.run(7)
    client = connect(RegistryConfig(), nightly.store)
    client.create_registered_model("heartbeat")

    def promote(accepted: Artifact, series: str) -> None:
        tags = {ACCEPTED_TAG: accepted.model_dump_json(), SERIES_TAG: series}
        version = client.create_model_version("heartbeat", source=str(tmp_path), tags=tags).version
        client.set_registered_model_alias("heartbeat", "champion", version)

    promote(second, record_name(nightly.source, None))
    nightly.table(["normal", "murmur"] * 8)
    assert nightly.previous() == PreviouslyAccepted(last=second, reference=second, champion=second.digest)
    third = nightly.accept()
    promote(first, "another series")
    nightly.table(["normal", "murmur"] * 9)
    assert nightly.previous() == PreviouslyAccepted(last=third, reference=second, champion=second.digest)


def test_a_gradual_loss_is_refused_though_no_night_loses_much(nightly: Nightly):
    for pairs in (9, 8, 7):
        nightly.run(pairs)
    with pytest.raises(DataRefused, match="33% of the 18 recordings of the reference"):
        nightly.run(6)
    assert nightly.previous().reference.rows == 18  # a refused night is not recorded


def test_verdicts_of_another_version_of_the_stage_are_not_used(nightly: Nightly, monkeypatch):
    def verdicts() -> Artifact | None:
        inputs = nightly.inputs(ValidationConfig())
        return last_accepted.fn(nightly.source, *inputs, RegistryConfig(), nightly.store).verdicts

    nightly.run(6)
    nightly.table(["normal", "murmur"] * 7)
    assert verdicts() is not None
    nightly.accept()
    assert verdicts() is not None  # with nothing new, those of the run before
    monkeypatch.setattr("tasks.validate.VERDICTS_FOLDER", "verdicts/v0")
    assert verdicts() is None
