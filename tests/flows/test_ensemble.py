"""Ensembles of several networks, through whole flows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import registry, tiny
from prefect import flow

import heartdata.scoring.calibration
import heartdata.training.train
from flows.pipeline import heartbeat, ingest, prepare_dataset, train_model
from heartdata.config import RunConfig
from heartdata.serving.predictor import Predictor, predict_probabilities
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Store
from heartdata.training.recipe import TrainingConfig
from tasks import register
from tasks.results import TrainedModel
from tasks.train import initial_weights, training_history

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture
def trainings(monkeypatch) -> list[int]:
    """The seeds of the networks that are trained."""
    seeds: list[int] = []
    original = heartdata.training.train.train

    def recording(manifest, initial, config, *rest):
        seeds.append(config.seed)
        return original(manifest, initial, config, *rest)

    monkeypatch.setattr(heartdata.training.train, "train", recording)
    return seeds


def ensemble_of(count: int, config: RunConfig) -> RunConfig:
    training = TrainingConfig.model_validate({**config.training.model_dump(), "members": count})
    return config.model_copy(update={"training": training})


@flow
def trained(config: RunConfig) -> TrainedModel:
    """The pipeline up to training."""
    store = Store(config.store)
    initial = initial_weights(config.training.init, config.registry, store)
    return train_model(
        prepare_dataset(ingest(config, store), config, store), initial, config.training, config.spectrogram, store
    )


def test_an_ensemble_is_trained_calibrated_registered_and_served(tmp_path: Path, monkeypatch, trainings: list[int]):
    calibrated_on: list[np.ndarray] = []
    models: list[TrainedModel] = []
    fit_calibration, log_model = heartdata.scoring.calibration.fit_calibration, register.log_model

    def recording_fit(probabilities, *rest):
        calibrated_on.append(probabilities)
        return fit_calibration(probabilities, *rest)

    def recording_log(model, store):
        models.append(model)
        return log_model(model, store)

    monkeypatch.setattr(heartdata.scoring.calibration, "fit_calibration", recording_fit)
    monkeypatch.setattr(register, "log_model", recording_log)
    config = tiny(tmp_path, source__plant_faults=False)
    summary = heartbeat(ensemble_of(2, config))
    store, (model,) = Store(tmp_path), models
    assert len(trainings) == 2

    table = pd.read_parquet(tmp_path / "latest" / "manifest.parquet")
    each = [Predictor.load(store.local(m.weights.name), store.local(m.config.name)) for m in model.members]
    together = Predictor.load(store.local(model.weights.name), store.local(model.config.name))
    for part in ("valid", "test"):
        rows = table[table["part"] == part][MANIFEST.names]
        means = np.mean([predict_probabilities(predictor, rows, store) for predictor in each], axis=0)
        assert np.allclose(predict_probabilities(together, rows, store), means, atol=1e-5)
        assert not np.allclose(predict_probabilities(each[0], rows, store), means, atol=1e-3)
        if part == "valid":  # the calibration is fitted to what is served
            assert np.allclose(calibrated_on[0], means, atol=1e-5)

    history = training_history(model, store)
    assert list(zip(history["member"], history["epoch"], history["step"], strict=True)) == [(0, 0, 0), (1, 0, 1)]
    logged = registry(tmp_path).get_metric_history(summary.run_id, "train/train_loss")
    assert sorted(metric.step for metric in logged) == [1, 2]

    trained(ensemble_of(3, config))
    assert len(set(trainings)) == len(trainings) == 3  # only the third is new
    assert trained(config).weights == model.members[0].weights
    assert len(trainings) == 3  # a lone network is the first member
