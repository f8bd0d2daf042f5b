"""The stage that trains: what it says of a training that was interrupted."""

from typing import Any

import pytest
from prefect.logging import disable_run_logger

from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Store
from heartdata.training import train as training
from heartdata.training.recipe import NetworkConfig
from tasks.engine import progress
from tasks.results import InitialWeights
from tasks.train import train


class FarEnough(Exception):
    """In place of the training."""


def test_a_training_that_resumes_says_after_which_epoch(store: Store, monkeypatch):
    done = 0

    def resume(*arguments: Any) -> None:
        *_, on_resume = arguments
        if done:
            on_resume(done)
        raise FarEnough

    monkeypatch.setattr(training, "train", resume)
    manifest = store.write_table("manifest", MANIFEST.empty_table(), MANIFEST)
    arguments = (manifest, InitialWeights(kind="random"), NetworkConfig(epochs=8), SpectrogramConfig(), store)
    said = []
    for done in (0, 3):  # noqa: B007 (read by `resume`)
        progress.clear_notes()
        with disable_run_logger(), pytest.raises(FarEnough):
            train.fn(*arguments)
        said.append(progress.notes())
    assert said == [[], ["Training was interrupted earlier: it resumes after epoch 3 of 8, with the same result"]]
